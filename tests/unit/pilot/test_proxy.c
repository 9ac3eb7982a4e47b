/* DOC: Reading of Core.Node: Istio's node ids and metadata, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/pb/json.h"
#include "pilot/model/model.h"
#include "pilot/model/proxy.h"
#include "pilot/model/view.h"

static bool parse(struct arena *a, const char *json, struct proxy **p, struct err *e)
{
	Core__Node *n = pb_from_json_text(a, &core__node__descriptor, str_of(json), e);

	assert_non_null(n);
	return proxy_parse(a, n, p, e);
}

static void P106_node_metadata_of_istio_agents(void **state)
{
	struct arena *a = arena_new();
	struct proxy *p;
	struct err e = {0};

	(void)state;
	assert_true(parse(a,
		"{\"id\":\"sidecar~10.0.0.1~web-1.default~default.svc.cluster.local\",\"locality\":{\"region\":\"r\","
		"\"zone\":\"z\"},\"extensions\":[{\"name\":\"b\"},{\"name\":\"a\"},{\"name\":\"c\",\"disabled\":true}],"
		"\"metadata\":{\"LABELS\":{\"b\":\"2\",\"a\":\"1\"},\"INSTANCE_IPS\":\"10.0.0.1,fd00::1\","
		"\"SERVICE_ACCOUNT\":\"web\",\"CLUSTER_ID\":\"c1\",\"INTERCEPTION_MODE\":\"NONE\"}}",
		&p, &e));
	assert_int_equal(p->type, PROXY_SIDECAR);
	assert_true(str_eqc(p->name, "web-1") && str_eqc(p->ns, "default") && str_eqc(p->ip, "10.0.0.1"));
	assert_true(str_eqc(p->domain, "default.svc.cluster.local") && str_eqc(p->locality, "r/z"));
	assert_int_equal(p->n_ips, 2);
	assert_int_equal(p->n_extensions, 2);
	assert_true(str_eqc(p->extensions[0], "a"));
	assert_true(str_eqc(*proxy_label(p, STR("b")), "2"));
	assert_null(proxy_label(p, STR("c")));
	assert_true(p->no_capture && !p->transparent);
	assert_true(str_eqc(p->workload, "web-1") && str_eqc(p->cluster_id, "c1"));
	arena_free(a);
}

static void scribble(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		((char *)(uintptr_t)s.ptr)[i] = '?';
}

/* Proxies share a scope, and it waits for them to come back: the one that made it may be gone. */
static void a_scope_holds_nothing_of_the_proxy_that_made_it(void **state)
{
	static const char node[] =
		"{\"id\":\"sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local\",\"extensions\":[{\"name\":\"envoy.x\"}]"
		","
		"\"metadata\":{\"LABELS\":{\"app\":\"web\"},\"CLUSTER_ID\":\"c1\",\"NETWORK\":\"n1\",\"REQUESTED_"
		"NETWORK_VIEW\":\"n2, "
		"n1\"}}";
	struct model *m = model_empty();

	(void)state;
	for (unsigned kind = 0; kind < SCOPE_KIND_COUNT; kind++) {
		struct arena *session = arena_new(), *a = arena_new();
		struct read_keys reads = {0};
		struct proxy *p;
		struct err e = {0};
		assert_true(parse(session, node, &p, &e));
		const struct scope *s = scope_of(a, m, p, (enum scope_kind)kind, &reads);
		struct str parts[] = {p->ns, p->domain, p->cluster_id, p->network, p->extensions[0], p->labels[0].key,
			p->labels[0].value, p->network_view[0], p->network_view[1]};
		bool own = kind == SCOPE_OWN; /* in an empty mesh nothing singles out a namespace */
		for (size_t i = 0; i < ARRAY_LEN(parts); i++)
			scribble(parts[i]);
		assert_true(str_eqc(s->attributes->ns, own ? "shop" : ""));
		assert_true(str_eqc(s->domain_suffix, "cluster.local"));
		assert_true(str_eqc(s->attributes->cluster_id, "c1"));
		/* Networks are part of where there are endpoints. */
		bool seen = own || kind == SCOPE_PLACE;
		assert_true(str_eqc(s->attributes->network, seen ? "n1" : ""));
		assert_int_equal(s->attributes->n_network_view, seen ? 2 : 0);
		if (seen)
			assert_true(str_eqc(s->attributes->network_view[0], "n1") &&
				    str_eqc(s->attributes->network_view[1], "n2"));
		assert_true(str_eqc(s->attributes->extensions[0], "envoy.x"));
		if (own)
			assert_true(str_eqc(*proxy_label(s->attributes, STR("app")), "web"));
		read_keys_done(&reads);
		arena_free(session);
		arena_free(a);
	}
	model_unref(m);
}

static void P106_wrong_node_ids_are_refused_by_name(void **state)
{
	static const char *const ids[] = {
		"", "sidecar", "sidecar~1.2.3.4~x~d", "pony~1.2.3.4~x.y~d", "sidecar~~x.y~d", "sidecar~1.2.3.4~~d"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct arena *a = arena_new();
		struct err e = {0};
		struct proxy *p;

		assert_false(parse(a, arena_printf(a, "{\"id\":\"%s\"}", ids[i]), &p, &e));
		assert_int_equal(e.kind, ERR_PEER);
		assert_non_null(strstr(e.text, "node"));
		arena_free(a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_scope_holds_nothing_of_the_proxy_that_made_it),
		cmocka_unit_test(P106_node_metadata_of_istio_agents),
		cmocka_unit_test(P106_wrong_node_ids_are_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
