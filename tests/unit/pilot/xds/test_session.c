/*
 * DOC: Sessions of both protocols over a fake model of eight numbers per type (0: the resource does not exist), with clients that do
 * what a proxy does. The model functions that the engine needs are defined here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/pb/pb.h"
#include "pilot/xds/engine.h"
#include "pilot/xds/session.h"
#include "xds/cluster.pb-c.h"
#include "xds/discovery.pb-c.h"
#include "xds/endpoint.pb-c.h"
#include "xds/listener.pb-c.h"
#include "xds/route.pb-c.h"
#include "xds/tls.pb-c.h"

#define N 8
#define TYPES XDS_VHDS /* those that every proxy has */

struct model {
	unsigned refs;
	uint64_t version;
	unsigned value[TYPES][N];
};

struct model *model_ref(struct model *m)
{
	m->refs++;
	return m;
}

void model_unref(struct model *m)
{
	if (!--m->refs)
		free(m);
}

bool model_has(const struct model *m, const struct hidden *h)
{
	return false;
}

uint64_t model_version(const struct model *m)
{
	return m->version;
}

static const char *const names[N] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"};

static uint64_t key_of(unsigned type, unsigned i)
{
	return 1 + type * 100 + i;
}

static void fake_names(enum xds_type t, struct view *v, struct arena *a, struct str **out, size_t *n)
{
	*out = ARENA_ARRAY(a, struct str, N);
	*n = 0;
	read_keys_add(v->reads, 1000u + t);
	for (unsigned i = 0; v->scope->kind == SCOPE_SHARED && i < N; i++) {
		if (v->model->value[t][i])
			(*out)[(*n)++] = str_of(names[i]);
	}
}

static unsigned ask(enum xds_type t, struct view *v, struct str name)
{
	unsigned i = (unsigned)(name.ptr[1] - '0');
	if (v->reads)
		read_keys_add(v->reads, key_of(t, i));
	if (v->on_source)
		v->on_source(v->ctx, &(struct source_ref){.object = names[i], .origin = "fake.yaml:1", .since = 1000});
	return v->model->value[t][i];
}

static enum scope_kind fake_scope(struct str name)
{
	return SCOPE_SHARED;
}

#define FAKE(id, Type, lower, name_field, set) \
	static void id##_names(struct view *v, struct arena *a, struct str **out, size_t *n) \
	{ \
		fake_names(XDS_##id, v, a, out, n); \
	} \
	static const ProtobufCMessage *id##_build(struct view *v, struct str name, struct arena *a) \
	{ \
		unsigned value = ask(XDS_##id, v, name); \
		Type *m = PB_NEW(a, Type, lower); \
		if (!value) \
			return NULL; \
		m->name_field = arena_cstr(a, name); \
		set; \
		return &m->base; \
	} \
	static const struct translator id##_fake = {id##_names, id##_build, fake_scope};

static void set_priority(struct arena *a, Eds__ClusterLoadAssignment *m, unsigned value)
{
	Eds__LocalityLbEndpoints *l = PB_NEW(a, Eds__LocalityLbEndpoints, eds__locality_lb_endpoints);
	l->priority = value;
	pb_add(a, m, endpoints, l);
}

FAKE(CDS, Cds__Cluster, cds__cluster, name, m->alt_stat_name = arena_printf(a, "%u", value))
FAKE(EDS, Eds__ClusterLoadAssignment, eds__cluster_load_assignment, cluster_name, set_priority(a, m, value))
FAKE(LDS, Lds__Listener, lds__listener, name, m->stat_prefix = arena_printf(a, "%u", value))
FAKE(RDS, Rds__RouteConfiguration, rds__route_configuration, name,
	pb_add(a, m, response_headers_to_remove, arena_printf(a, "x-%u", value)))

static void set_secret(struct arena *a, Tls__Secret *m, unsigned value)
{
	m->generic_secret = PB_NEW(a, Tls__GenericSecret, tls__generic_secret);
	m->generic_secret->secret = PB_NEW(a, Core__DataSource, core__data_source);
	m->generic_secret->secret->inline_string = arena_printf(a, "%u", value);
	m->generic_secret->secret->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_STRING;
	m->type_case = TLS__SECRET__TYPE_GENERIC_SECRET;
}

FAKE(SDS, Tls__Secret, tls__secret, name, set_secret(a, m, value))

static const struct scope *fake_scope_of(
	struct arena *a, const struct model *m, const struct proxy *p, enum scope_kind kind, struct read_keys *reads)
{
	struct scope *s = ARENA_NEW(a, struct scope);
	s->kind = kind;
	s->key = STR("all");
	return s;
}

static const struct engine_source source = {{&CDS_fake, &EDS_fake, &LDS_fake, &RDS_fake, &SDS_fake}, fake_scope_of};

/* ---- a client */
struct client {
	enum xds_mode mode;
	struct xds_session *session;
	struct xds_response out;
	uint64_t held[TYPES][N]; /* hash of what the client has; 0: nothing */
	char has[TYPES][N][20]; /* delta: its version */
	char nonce[TYPES][48], version[TYPES][20];
	unsigned responses[TYPES];
	enum xds_type order[64];
	size_t n_order;
	bool silent; /* does not answer */
	unsigned nacks;
};

static void on_nack(void *ctx, const struct xds_nack *n)
{
	struct client *c = ctx;
	if (!n->text.len) /* taken back */
		return;
	assert_int_equal(n->n_resources, 1);
	assert_int_equal(n->n_objects, 1);
	c->nacks++;
}

static const struct session_ops ops = {.on_nack = on_nack};

static void add_initial(struct arena *a, Ads__DeltaDiscoveryRequest *r, const char *name, const char *version)
{
	Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry *i = PB_NEW(a,
		Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry,
		ads__delta_discovery_request__initial_resource_versions_entry);
	i->key = arena_strdup(a, name);
	i->value = arena_strdup(a, version);
	pb_add(a, r, initial_resource_versions, i);
}

static void send_request(struct client *c, enum xds_type t, bool first, const char *error)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	Core__Node *node = PB_NEW(a, Core__Node, core__node);
	Rpc__Status status = RPC__STATUS__INIT;
	struct err e = {0};
	struct str packed;
	bool named = !xds_type_info(t)->wildcard;

	node->id = arena_strdup(a, "sidecar~10.0.0.1~a.default~default.svc.cluster.local");
	status.message = arena_strdup(a, error ? error : "");
	if (c->mode == XDS_SOTW) {
		Ads__DiscoveryRequest *r = PB_NEW(a, Ads__DiscoveryRequest, ads__discovery_request);
		r->node = node;
		r->type_url = arena_strdup(a, xds_type_info(t)->url);
		r->response_nonce = c->nonce[t];
		r->version_info = c->version[t];
		for (unsigned i = 0; named && i < N; i++)
			pb_add(a, r, resource_names, arena_strdup(a, names[i]));
		r->error_detail = error ? &status : NULL;
		packed = pb_pack(a, r);
	} else {
		Ads__DeltaDiscoveryRequest *r = PB_NEW(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
		r->node = node;
		r->type_url = arena_strdup(a, xds_type_info(t)->url);
		r->response_nonce = c->nonce[t];
		for (unsigned i = 0; first && named && i < N; i++)
			pb_add(a, r, resource_names_subscribe, arena_strdup(a, names[i]));
		for (unsigned i = 0; first && i < N; i++)
			if (c->held[t][i])
				add_initial(a, r, names[i], c->has[t][i]);
		r->error_detail = error ? &status : NULL;
		packed = pb_pack(a, r);
	}
	assert_true(session_recv(c->session, packed.ptr, packed.len, 1, &e));
}

static uint64_t hash_any(const Wkt__Any *any)
{
	uint64_t h = 14695981039346656037ull;
	for (size_t i = 0; i < any->value.len; i++)
		h = (h ^ any->value.data[i]) * 1099511628211ull;
	return h;
}

/* All four messages have their name as the first field, except that a listener's and a route's have it there, too. */
static unsigned index_of(const Wkt__Any *any)
{
	for (size_t i = 0; i + 1 < any->value.len; i++) {
		if (any->value.data[i] == 'r' && any->value.data[i + 1] >= '0' && any->value.data[i + 1] < '0' + N)
			return any->value.data[i + 1] - '0';
	}
	fail_msg("no name");
	return 0;
}

static void take_response(struct client *c)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct strbuf b = {0};
	struct err e = {0};
	enum xds_type t = c->out.type;

	for (size_t i = 0; i < c->out.n_pieces; i++)
		strbuf_add(&b, str_n(c->out.pieces[i].ptr, c->out.pieces[i].len));
	assert_int_equal(b.len, c->out.bytes);
	if (c->mode == XDS_SOTW) {
		const Ads__DiscoveryResponse *r = PB_UNPACK(
			a, Ads__DiscoveryResponse, ads__discovery_response, b.ptr, b.len, &e);
		assert_non_null(r);
		if (xds_type_info(t)->wildcard)
			memset(c->held[t], 0, sizeof(c->held[t]));
		for (size_t i = 0; i < r->n_resources; i++)
			c->held[t][index_of(r->resources[i])] = hash_any(r->resources[i]);
		(void)snprintf(c->nonce[t], sizeof(c->nonce[t]), "%s", r->nonce);
		(void)snprintf(c->version[t], sizeof(c->version[t]), "%s", r->version_info);
	} else {
		const Ads__DeltaDiscoveryResponse *r = PB_UNPACK(
			a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, b.ptr, b.len, &e);
		assert_non_null(r);
		for (size_t i = 0; i < r->n_resources; i++) {
			unsigned at = index_of(r->resources[i]->resource);
			assert_string_equal(r->resources[i]->name, names[at]);
			c->held[t][at] = hash_any(r->resources[i]->resource);
			(void)snprintf(c->has[t][at], sizeof(c->has[t][at]), "%s", r->resources[i]->version);
		}
		for (size_t i = 0; i < r->n_removed_resources; i++)
			c->held[t][r->removed_resources[i][1] - '0'] = 0;
		(void)snprintf(c->nonce[t], sizeof(c->nonce[t]), "%s", r->nonce);
	}
	strbuf_done(&b);
	c->responses[t]++;
	if (c->n_order < ARRAY_LEN(c->order))
		c->order[c->n_order++] = t;
}

static void pump(struct client *c)
{
	while (session_next(c->session, 1, &c->out)) {
		take_response(c);
		if (!c->silent)
			send_request(c, c->out.type, false, NULL);
	}
}

static void client_start(struct client *c, struct engine *e, enum xds_mode mode)
{
	*c = (struct client){.mode = mode};
	c->session = session_new(e, mode, &ops, c);
	for (unsigned t = 0; t < TYPES; t++) {
		send_request(c, (enum xds_type)t, true, NULL);
		pump(c);
	}
}

static void client_stop(struct client *c)
{
	session_free(c->session, 1);
	xds_response_done(&c->out);
}

static struct model *first_model(struct engine *e)
{
	struct model *m = xzalloc(sizeof(*m));
	struct read_keys none = {0};
	m->refs = 1;
	m->version = 1;
	for (unsigned t = 0; t < TYPES; t++)
		m->value[t][0] = m->value[t][1] = 1;
	engine_update(e, m, &none, 1);
	return m;
}

static struct model *edit(struct engine *e, struct model *m, unsigned n, const unsigned (*edits)[3])
{
	struct model *next = xzalloc(sizeof(*next));
	struct read_keys touched = {0};
	*next = *m;
	next->refs = 1;
	next->version++;
	for (unsigned i = 0; i < n; i++) {
		unsigned *v = &next->value[edits[i][0]][edits[i][1]];
		if (!*v != !edits[i][2])
			read_keys_add(&touched, 1000u + edits[i][0]);
		*v = edits[i][2];
		read_keys_add(&touched, key_of(edits[i][0], edits[i][1]));
	}
	read_keys_seal(&touched);
	engine_update(e, next, &touched, next->version);
	read_keys_done(&touched);
	model_unref(m);
	return next;
}

/* What exists is held; of clusters and listeners nothing else is. Endpoints and routes that are gone stay with a SotW client. */
static void assert_holds(const struct client *c, const struct client *fresh, const struct model *m)
{
	for (unsigned t = 0; t < TYPES; t++) {
		for (unsigned i = 0; i < N; i++) {
			if (m->value[t][i] || c->mode == XDS_DELTA || xds_type_info((enum xds_type)t)->wildcard)
				assert_int_equal(c->held[t][i], fresh->held[t][i]);
			assert_int_equal(fresh->held[t][i] != 0, m->value[t][i] != 0);
		}
	}
}

static void P97_two_hundred_random_edits_end_equal_in_both_protocols_and_fresh(void **state)
{
	struct engine *e = engine_new(&source);
	struct model *m = first_model(e);
	struct client delta, sotw, fresh;
	uint32_t seed = 7;

	client_start(&delta, e, XDS_DELTA);
	client_start(&sotw, e, XDS_SOTW);
	for (unsigned n = 0; n < 200; n++) {
		unsigned edits[3][3];
		for (unsigned i = 0; i < 3; i++) {
			seed = seed * 1664525u + 1013904223u;
			edits[i][0] = (seed >> 24) % TYPES;
			edits[i][1] = (seed >> 16) % N;
			edits[i][2] = (seed >> 10) % 4;
		}
		m = edit(e, m, 1 + (seed >> 8) % 3, edits);
		pump(&delta);
		pump(&sotw);
		struct engine *other = engine_new(&source);
		struct read_keys none = {0};
		engine_update(other, m, &none, 1);
		client_start(&fresh, other, XDS_SOTW);
		assert_holds(&delta, &fresh, m);
		assert_holds(&sotw, &fresh, m);
		client_stop(&fresh);
		engine_free(other);
	}
	client_stop(&delta);
	client_stop(&sotw);
	engine_free(e);
	model_unref(m);
}

static void order_of(enum xds_mode mode)
{
	struct engine *e = engine_new(&source);
	struct model *m = first_model(e);
	struct client c;

	client_start(&c, e, mode);
	c.n_order = 0;
	m = edit(e, m, 4, (const unsigned[][3]){{XDS_CDS, 2, 1}, {XDS_EDS, 2, 1}, {XDS_RDS, 0, 2}, {XDS_CDS, 1, 0}});
	c.silent = true;
	pump(&c);
	assert_int_equal(c.n_order, 2); /* routes wait until the clusters are taken */
	assert_int_equal(c.order[0], XDS_CDS);
	assert_int_equal(c.order[1], XDS_EDS);
	assert_int_not_equal(c.held[XDS_CDS][1], 0); /* what goes is still there */
	send_request(&c, XDS_CDS, false, NULL);
	pump(&c);
	assert_int_equal(c.order[2], XDS_RDS);
	assert_int_not_equal(c.held[XDS_CDS][1], 0);
	send_request(&c, XDS_RDS, false, NULL);
	pump(&c);
	assert_int_equal(c.order[3], XDS_CDS);
	assert_int_equal(c.held[XDS_CDS][1], 0);
	client_stop(&c);
	engine_free(e);
	model_unref(m);
}

static void P97_make_before_break_delta(void **state)
{
	order_of(XDS_DELTA);
}

static void P97_make_before_break_sotw(void **state)
{
	order_of(XDS_SOTW);
}

/* The client goes on with another pilot, which has an engine of its own. */
static void reconnect(struct client *c, struct engine *to)
{
	session_free(c->session, 1);
	c->session = session_new(to, c->mode, &ops, c);
	c->n_order = 0;
	for (unsigned t = 0; t <= XDS_RDS; t++) {
		c->nonce[t][0] = 0;
		send_request(c, (enum xds_type)t, true, NULL);
		pump(c);
	}
}

/* Configuration changed while pilot was away: a route moved from a cluster that is gone to one that is new. */
static void P97_make_before_break_after_a_restart(void **state)
{
	struct engine *e = engine_new(&source), *after = engine_new(&source);
	struct model *m = first_model(e);
	struct read_keys none = {0};
	struct client c;

	client_start(&c, e, XDS_DELTA);
	m = edit(e, m, 4, (const unsigned[][3]){{XDS_CDS, 2, 1}, {XDS_EDS, 2, 1}, {XDS_RDS, 0, 2}, {XDS_CDS, 1, 0}});
	engine_update(after, m, &none, 1);
	c.silent = true;
	reconnect(&c, after);
	assert_int_equal(c.n_order, 2); /* no routes before the new cluster is taken, and the old one stays */
	assert_int_equal(c.order[0], XDS_CDS);
	assert_int_equal(c.order[1], XDS_EDS);
	assert_int_not_equal(c.held[XDS_CDS][1], 0);
	send_request(&c, XDS_CDS, false, NULL);
	pump(&c);
	assert_int_equal(c.n_order, 3);
	assert_int_equal(c.order[2], XDS_RDS);
	assert_int_not_equal(c.held[XDS_CDS][1], 0);
	send_request(&c, XDS_RDS, false, NULL);
	pump(&c);
	assert_int_equal(c.n_order, 4);
	assert_int_equal(c.held[XDS_CDS][1], 0);
	client_stop(&c);
	engine_free(e);
	engine_free(after);
	model_unref(m);
}

/* A client that lists clusters and never asks for routes gets the removal after the hold. */
static void removal_after_a_restart_does_not_wait_for_ever(void **state)
{
	struct engine *e = engine_new(&source), *after = engine_new(&source);
	struct model *m = first_model(e);
	struct read_keys none = {0};
	struct client c;

	client_start(&c, e, XDS_DELTA);
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_CDS, 1, 0}});
	engine_update(after, m, &none, 1);
	session_free(c.session, 1);
	c.session = session_new(after, XDS_DELTA, &ops, &c);
	c.nonce[XDS_CDS][0] = 0;
	send_request(&c, XDS_CDS, true, NULL);
	pump(&c);
	assert_int_not_equal(c.held[XDS_CDS][1], 0);
	uint64_t wake_us = session_wake_us(c.session);
	assert_true(wake_us > 1);
	assert_true(session_next(c.session, wake_us, &c.out));
	take_response(&c);
	assert_int_equal(c.held[XDS_CDS][1], 0);
	client_stop(&c);
	engine_free(e);
	engine_free(after);
	model_unref(m);
}

static void changed_cluster_is_followed_by_its_endpoints(void **state)
{
	struct engine *e = engine_new(&source);
	struct model *m = first_model(e);
	struct client c;

	client_start(&c, e, XDS_DELTA);
	unsigned before = c.responses[XDS_EDS];
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_CDS, 0, 2}});
	pump(&c);
	assert_int_equal(c.responses[XDS_EDS], before + 1);
	client_stop(&c);
	engine_free(e);
	model_unref(m);
}

static void P105_refusal_names_the_object_and_is_not_repeated(void **state)
{
	struct engine *e = engine_new(&source);
	struct model *m = first_model(e);
	struct client c;

	client_start(&c, e, XDS_SOTW);
	c.silent = true;
	m = edit(e, m, 2, (const unsigned[][3]){{XDS_RDS, 0, 2}, {XDS_RDS, 1, 2}});
	pump(&c);
	unsigned before = c.responses[XDS_RDS];
	send_request(&c, XDS_RDS, false, "route r1 is bad");
	pump(&c);
	assert_int_equal(c.nacks, 1);
	assert_int_equal(c.responses[XDS_RDS], before);
	client_stop(&c);
	engine_free(e);
	model_unref(m);
}

static void is_as_far_as_its_oldest_unanswered_change(enum xds_mode mode)
{
	struct engine *e = engine_new(&source);
	struct model *m = first_model(e);
	struct client c;

	client_start(&c, e, mode);
	assert_int_equal(session_level(c.session), 1);
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_RDS, 0, 2}});
	c.silent = true;
	pump(&c);
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_RDS, 0, 3}});
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_EDS, 0, 2}});
	pump(&c);
	assert_int_equal(session_level(c.session), 1);
	send_request(&c, XDS_RDS, false, NULL); /* takes version 2; what came in 3 is sent now */
	pump(&c);
	assert_int_equal(session_level(c.session), 2);
	send_request(&c, XDS_RDS, false, NULL);
	assert_int_equal(session_level(c.session), 3);
	send_request(&c, XDS_EDS, false, "endpoints are bad");
	assert_int_equal(session_level(c.session), 3);
	c.silent = false;
	m = edit(e, m, 1, (const unsigned[][3]){{XDS_EDS, 0, 4}});
	pump(&c);
	assert_int_equal(session_level(c.session), 5);
	client_stop(&c);
	engine_free(e);
	model_unref(m);
}

static void N08_a_client_is_as_far_as_its_oldest_unanswered_change(void **state)
{
	is_as_far_as_its_oldest_unanswered_change(XDS_SOTW);
	is_as_far_as_its_oldest_unanswered_change(XDS_DELTA);
}

static void unchanged_state_is_resumed_without_a_response(void **state)
{
	struct engine *e = engine_new(&source), *after = engine_new(&source);
	struct model *m = first_model(e);
	struct read_keys none = {0};
	struct client c;

	engine_update(after, m, &none, 1);
	client_start(&c, e, XDS_SOTW);
	session_free(c.session, 1);
	c.session = session_new(after, XDS_SOTW, &ops, &c);
	memset(c.responses, 0, sizeof(c.responses));
	for (unsigned t = 0; t < TYPES; t++) {
		c.nonce[t][0] = 0;
		send_request(&c, (enum xds_type)t, true, NULL);
		pump(&c);
		assert_int_equal(c.responses[t], 0);
	}
	assert_int_equal(session_level(c.session), 1);
	client_stop(&c);
	engine_free(e);
	engine_free(after);
	model_unref(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P97_two_hundred_random_edits_end_equal_in_both_protocols_and_fresh),
		cmocka_unit_test(P97_make_before_break_delta),
		cmocka_unit_test(P97_make_before_break_sotw),
		cmocka_unit_test(P97_make_before_break_after_a_restart),
		cmocka_unit_test(removal_after_a_restart_does_not_wait_for_ever),
		cmocka_unit_test(changed_cluster_is_followed_by_its_endpoints),
		cmocka_unit_test(P105_refusal_names_the_object_and_is_not_repeated),
		cmocka_unit_test(N08_a_client_is_as_far_as_its_oldest_unanswered_change),
		cmocka_unit_test(unchanged_state_is_resumed_without_a_response),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
