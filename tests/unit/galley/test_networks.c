/* DOC: Names of networks' gateways: who asks for them, what an answer publishes, and what is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cfg/model.pb-c.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "galley/galley.h"

#define NETWORKS(gateways) \
	"apiVersion: fairlead.dev/v1\nkind: MeshNetworks\nmetadata: {name: default}\nspec: {networks: {far: " \
	"{gateways: [" gateways "]}}}\n"
#define NAMED "{address: gw.example.com, port: 15443}"

static void put(struct galley *g, const char *text)
{
	galley_put(g, STR("networks.yaml"), str_of(text));
}

/* What a commit publishes of network far: "address host ..."; "gone"; "" when nothing. */
static char *published(struct galley *g)
{
	size_t n;
	const struct bus_change *changes = galley_commit(g, &n);
	struct strbuf text = {0};

	for (size_t i = 0; i < n; i++) {
		struct arena *a cleanup(arena_free_p) = arena_new();
		struct err e = {0};
		const Fl__Network *network;

		if (changes[i].topic != TOPIC_NETWORK)
			continue;
		if (!changes[i].value.ptr) {
			strbuf_adds(&text, "gone");
			continue;
		}
		network = PB_UNPACK(a, Fl__Network, fl__network, changes[i].value.ptr, changes[i].value.len, &e);
		assert_non_null(network);
		for (size_t k = 0; k < network->n_gateways; k++)
			strbuf_addf(&text, "[%s %s]", network->gateways[k]->address, network->gateways[k]->host);
	}
	return strbuf_take(&text);
}

static void assert_published(struct galley *g, const char *wanted)
{
	char *text cleanup(free_p) = published(g);

	assert_string_equal(text, wanted);
}

static void add_host(void *ctx, const char *host)
{
	strbuf_addf(ctx, "%s ", host);
}

static void assert_asked(const struct galley *g, const char *wanted)
{
	struct strbuf text cleanup(strbuf_done) = {0};

	galley_gateway_hosts(g, add_host, &text);
	assert_string_equal(text.ptr ? text.ptr : "", wanted);
}

static void P88_names_of_gateways_become_addresses(void **state)
{
	char *answer[] = {(char[]){"192.0.2.9"}, (char[]){"192.0.2.1"}};
	struct galley *g = galley_new(NULL);

	(void)state;
	assert_false(galley_gateway_found(g, "gw.example.com", answer, 2));
	put(g, NETWORKS("{address: 192.0.2.5, port: 1}, " NAMED));
	assert_published(g, "[ gw.example.com][192.0.2.5 ]");
	assert_asked(g, "gw.example.com ");
	assert_true(galley_gateway_found(g, "gw.example.com", answer, 2));
	assert_published(g, "[192.0.2.1 gw.example.com][192.0.2.5 ][192.0.2.9 gw.example.com]");
	/* The same in another order is nothing new. */
	assert_false(galley_gateway_found(g, "gw.example.com", (char *[]){answer[1], answer[0]}, 2));
	assert_published(g, "");
	/* The answer holds for another change, and goes with the last gateway of the name. */
	put(g, NETWORKS(NAMED));
	assert_published(g, "[192.0.2.1 gw.example.com][192.0.2.9 gw.example.com]");
	put(g, NETWORKS("{address: 192.0.2.5, port: 1}"));
	assert_published(g, "[192.0.2.5 ]");
	assert_asked(g, "");
	put(g, NETWORKS(NAMED));
	assert_published(g, "[ gw.example.com]");
	galley_remove(g, STR("networks.yaml"));
	assert_published(g, "gone");
	galley_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(P88_names_of_gateways_become_addresses)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
