/*
 * DOC: Trials of refused objects, with galley, the model and the translators as they are, and clients that refuse routes which add the
 * header "x-bad": which object it was must be found, hidden from that client alone, and come back when it changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/pb/pb.h"
#include "pilot/translate/translate.h"
#include "pilot/xds/engine.h"
#include "pilot/xds/session.h"
#include "tests/unit/pilot/world.h"
#include "xds/discovery.pb-c.h"
#include "xds/route.pb-c.h"

#define OBJECTS 6
#define NODE "sidecar~10.1.0.1~a-1.default~default.svc.cluster.local"

struct client {
	enum xds_mode mode;
	struct xds_session *session;
	struct xds_response out;
	char nonce[64], version[32];
	bool tolerant, stubborn; /* takes everything; refuses everything but the first */
	unsigned responses, refused, taken_back;
	char isolated[256]; /* objects, in order of isolation */
	char text[128];
	struct arena *arena;
	const Rds__RouteConfiguration *routes; /* as last accepted */
};

struct fixture {
	struct world w;
	struct engine_source source;
	struct engine *engine;
};

/* ---- the mesh: services s0..s5 on port 9080, a VirtualService each */
static void put_service(struct fixture *f, unsigned i)
{
	char file[32], yaml[512];

	(void)snprintf(file, sizeof(file), "s%u.yaml", i);
	(void)snprintf(yaml, sizeof(yaml),
		"apiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: default}\n"
		"spec: {clusterIP: 10.96.0.%u, selector: {app: s%u}, ports: [{name: http, port: 9080}]}\n",
		i, i + 1, i);
	world_put(&f->w, file, yaml);
}

static void put_rules(struct fixture *f, unsigned i, unsigned version, bool bad)
{
	char file[32], yaml[512];

	(void)snprintf(file, sizeof(file), "vs%u.yaml", i);
	(void)snprintf(yaml, sizeof(yaml),
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs%u, namespace: default}\n"
		"spec: {hosts: [s%u], http: [{timeout: %us, headers: {request: {set: {%s: '1'}}}, route: "
		"[{destination: {host: "
		"s%u}}]}]}\n",
		i, i, version, bad ? "x-bad" : "x-good", i);
	world_put(&f->w, file, yaml);
}

static void commit(struct fixture *f)
{
	world_commit(&f->w);
	engine_update(f->engine, f->w.model, &f->w.touched, 1);
}

static int set_up(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));

	world_init(&f->w);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		f->source.translators[t] = translator_get((enum xds_type)t);
	f->source.scope_of = scope_of;
	f->engine = engine_new(&f->source);
	for (unsigned i = 0; i < OBJECTS; i++) {
		put_service(f, i);
		put_rules(f, i, 1, false);
	}
	commit(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	engine_free(f->engine);
	world_done(&f->w);
	free(f);
	return 0;
}

/* ---- the client */
static void on_nack(void *ctx, const struct xds_nack *n)
{
	struct client *c = ctx;
	size_t len = strlen(c->isolated);

	if (!n->text.len)
		c->taken_back++;
	if (!n->isolated)
		return;
	assert_int_equal(n->n_objects, 1);
	(void)snprintf(c->isolated + len, sizeof(c->isolated) - len, "%s%s", len ? ", " : "", n->objects[0].object);
	(void)snprintf(c->text, sizeof(c->text), STR_FMT, STR_ARG(n->text));
}

static void ask(struct client *c, bool first, const char *error)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	Core__Node *node = PB_NEW(a, Core__Node, core__node);
	Rpc__Status status = RPC__STATUS__INIT;
	struct err e = {0};
	struct str packed;

	node->id = arena_strdup(a, NODE);
	status.message = arena_strdup(a, error ? error : "");
	if (c->mode == XDS_SOTW) {
		Ads__DiscoveryRequest *r = PB_NEW(a, Ads__DiscoveryRequest, ads__discovery_request);
		r->node = node;
		r->type_url = arena_strdup(a, xds_type_info(XDS_RDS)->url);
		r->response_nonce = c->nonce;
		r->version_info = c->version;
		pb_add(a, r, resource_names, arena_strdup(a, "9080"));
		r->error_detail = error ? &status : NULL;
		packed = pb_pack(a, r);
	} else {
		Ads__DeltaDiscoveryRequest *r = PB_NEW(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
		r->node = node;
		r->type_url = arena_strdup(a, xds_type_info(XDS_RDS)->url);
		r->response_nonce = c->nonce;
		if (first)
			pb_add(a, r, resource_names_subscribe, arena_strdup(a, "9080"));
		r->error_detail = error ? &status : NULL;
		packed = pb_pack(a, r);
	}
	assert_true(session_recv(c->session, packed.ptr, packed.len, 1, &e));
}

static const Wkt__Any *resource_of(struct client *c, struct arena *a, struct str bytes)
{
	struct err e = {0};

	if (c->mode == XDS_SOTW) {
		const Ads__DiscoveryResponse *r = PB_UNPACK(
			a, Ads__DiscoveryResponse, ads__discovery_response, bytes.ptr, bytes.len, &e);
		assert_non_null(r);
		(void)snprintf(c->nonce, sizeof(c->nonce), "%s", r->nonce);
		(void)snprintf(c->version, sizeof(c->version), "%s", r->version_info);
		assert_int_equal(r->n_resources, 1);
		return r->resources[0];
	}
	const Ads__DeltaDiscoveryResponse *r = PB_UNPACK(
		a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, bytes.ptr, bytes.len, &e);
	assert_non_null(r);
	(void)snprintf(c->nonce, sizeof(c->nonce), "%s", r->nonce);
	assert_int_equal(r->n_resources, 1);
	return r->resources[0]->resource;
}

static bool is_bad(const Rds__RouteConfiguration *rc)
{
	for (size_t i = 0; i < rc->n_virtual_hosts; i++)
		for (size_t j = 0; j < rc->virtual_hosts[i]->n_routes; j++) {
			const Rds__Route *r = rc->virtual_hosts[i]->routes[j];

			for (size_t k = 0; k < r->n_request_headers_to_add; k++)
				if (streq(r->request_headers_to_add[k]->header->key, "x-bad"))
					return true;
		}
	return false;
}

static void receive(struct client *c)
{
	cleanup(strbuf_done) struct strbuf b = {0};
	struct arena *a = arena_new();
	struct err e = {0};
	const Rds__RouteConfiguration *rc;

	assert_int_equal(c->out.type, XDS_RDS);
	for (size_t i = 0; i < c->out.n_pieces; i++)
		strbuf_add(&b, str_n((const char *)c->out.pieces[i].ptr, c->out.pieces[i].len));
	const Wkt__Any *any = resource_of(c, a, strbuf_str(&b));
	rc = PB_UNPACK(a, Rds__RouteConfiguration, rds__route_configuration, any->value.data, any->value.len, &e);
	assert_non_null(rc);
	if ((is_bad(rc) && !c->tolerant) || (c->stubborn && c->responses)) {
		c->refused++;
		arena_free(a);
		c->responses++;
		ask(c, false, "Envoy says: no x-bad here");
		return;
	}
	c->responses++;
	arena_free(c->arena);
	c->arena = a;
	c->routes = rc;
	ask(c, false, NULL);
}

static void run(struct client *c)
{
	for (unsigned i = 0; session_next(c->session, 1, &c->out); i++) {
		assert_true(i < 100);
		receive(c);
	}
}

static void connect(struct client *c, struct fixture *f, enum xds_mode mode)
{
	static const struct session_ops ops = {.on_nack = on_nack};

	c->mode = mode;
	c->session = session_new(f->engine, mode, &ops, c);
	ask(c, true, NULL);
	run(c);
}

static void disconnect(struct client *c)
{
	session_free(c->session, 1);
	xds_response_done(&c->out);
	arena_free(c->arena);
}

/* The timeout of the route to s<i> as the client has it: which version of its rules is in force; 0: none. */
static unsigned version_of(const struct client *c, unsigned i)
{
	char host[64];

	(void)snprintf(host, sizeof(host), "s%u.default.svc.cluster.local:9080", i);
	for (size_t k = 0; k < c->routes->n_virtual_hosts; k++)
		if (streq(c->routes->virtual_hosts[k]->name, host))
			return (unsigned)c->routes->virtual_hosts[k]->routes[0]->route->timeout->seconds;
	fail_msg("no virtual host");
	return 0;
}

static void assert_versions(const struct client *c, const char *want)
{
	char got[OBJECTS + 1] = {0};

	for (unsigned i = 0; i < OBJECTS; i++)
		got[i] = (char)('0' + version_of(c, i));
	assert_string_equal(got, want);
}

/* ---- tests */
static void one_of_many(void **state, enum xds_mode mode)
{
	struct fixture *f = *state;
	struct client picky = {0}, other = {.tolerant = true};

	connect(&picky, f, mode);
	connect(&other, f, mode);
	assert_versions(&picky, "111111");
	for (unsigned i = 0; i < OBJECTS; i++)
		put_rules(f, i, 2, i == 3);
	commit(f);
	run(&picky);
	run(&other);
	assert_versions(&picky, "222122");
	assert_versions(&other, "222222");
	assert_string_equal(picky.isolated, "VirtualService default/vs3");
	assert_string_equal(picky.text, "Envoy says: no x-bad here");
	assert_string_equal(other.isolated, "");
	assert_int_equal(picky.taken_back, 0); /* the refusal stands while the object is hidden */
	put_rules(f, 3, 3, false);
	put_rules(f, 0, 4, false);
	commit(f);
	run(&picky);
	assert_versions(&picky, "422322");
	assert_int_equal(picky.taken_back, 1);
	assert_int_equal(other.taken_back, 0);
	disconnect(&picky);
	disconnect(&other);
}

static void N01_N02_the_refused_object_is_found_among_many_and_hidden_from_that_client(void **state)
{
	one_of_many(state, XDS_DELTA);
}

static void N01_N02_the_same_with_states_of_the_world(void **state)
{
	one_of_many(state, XDS_SOTW);
}

static void N02_several_bad_objects_are_all_found(void **state)
{
	struct fixture *f = *state;
	struct client picky = {0};

	connect(&picky, f, XDS_DELTA);
	for (unsigned i = 0; i < OBJECTS; i++)
		put_rules(f, i, 2, i == 0 || i == 4 || i == 5);
	commit(f);
	run(&picky);
	assert_versions(&picky, "122211");
	assert_string_equal(
		picky.isolated, "VirtualService default/vs0, VirtualService default/vs4, VirtualService default/vs5");
	disconnect(&picky);
}

static void N02_one_changed_object_needs_no_search(void **state)
{
	struct fixture *f = *state;
	struct client picky = {0};

	connect(&picky, f, XDS_DELTA);
	put_rules(f, 2, 2, true);
	commit(f);
	run(&picky);
	assert_versions(&picky, "111111");
	assert_int_equal(picky.refused, 1);
	assert_int_equal(picky.responses, 3);
	/* What changes later reaches the client, and the object stays hidden. */
	put_rules(f, 1, 5, false);
	commit(f);
	run(&picky);
	assert_versions(&picky, "151111");
	assert_int_equal(picky.refused, 1);
	disconnect(&picky);
}

static void N02_a_client_that_begins_with_a_bad_object_gets_the_rest(void **state)
{
	struct fixture *f = *state;
	struct client picky = {0};

	world_remove(&f->w, "vs1.yaml");
	commit(f);
	put_rules(f, 1, 2, true);
	commit(f);
	connect(&picky, f, XDS_DELTA);
	assert_versions(&picky, "101111"); /* there was no version before: the route without rules */
	assert_string_equal(picky.isolated, "VirtualService default/vs1");
	disconnect(&picky);
}

static void N02_a_bad_version_before_does_not_stand_in(void **state)
{
	struct fixture *f = *state;
	struct client picky = {0};

	put_rules(f, 1, 2, true);
	commit(f);
	put_rules(f, 1, 3, true);
	commit(f);
	connect(&picky, f, XDS_DELTA);
	assert_versions(&picky, "101111");
	disconnect(&picky);
}

static void N02_a_client_that_refuses_everything_is_not_asked_for_ever(void **state)
{
	struct fixture *f = *state;
	struct client c = {.stubborn = true};

	connect(&c, f, XDS_DELTA);
	put_rules(f, 1, 2, false);
	put_rules(f, 2, 2, false);
	commit(f);
	run(&c);
	assert_string_equal(c.isolated, "");
	assert_in_range(c.refused, 1, 4);
	disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			N01_N02_the_refused_object_is_found_among_many_and_hidden_from_that_client, set_up, tear_down),
		cmocka_unit_test_setup_teardown(N01_N02_the_same_with_states_of_the_world, set_up, tear_down),
		cmocka_unit_test_setup_teardown(N02_several_bad_objects_are_all_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(N02_one_changed_object_needs_no_search, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			N02_a_client_that_begins_with_a_bad_object_gets_the_rest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(N02_a_bad_version_before_does_not_stand_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			N02_a_client_that_refuses_everything_is_not_asked_for_ever, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
