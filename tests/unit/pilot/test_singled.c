/*
 * DOC: Scopes without a namespace are right if every namespace that has such a scope would get the same bytes for itself. Random meshes of
 * everything by which the caller's namespace can matter are translated both ways, for every namespace. And what each rule is there for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/pb/pb.h"
#include "pilot/model/query.h"
#include "pilot/model/singled.h"
#include "tests/unit/pilot/world.h"
#include "tests/unit/slots.h"

#define OBJECT(kind, name, ns, spec) \
	"apiVersion: networking.istio.io/v1\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns \
	"}\nspec: " spec "\n"
#define ENTRY(ns, host, more) \
	OBJECT("ServiceEntry", "e", ns, \
		"{hosts: [" host "], resolution: STATIC, location: MESH_INTERNAL, addresses: [10.9.0.1], ports: " \
		"[{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}], " \
		"endpoints: [{address: 10.1.0.1, locality: r/z1, serviceAccount: " ns \
		"}, {address: 10.1.0.2, locality: r/z2}]" more "}")
#define RULE(ns, host, more) \
	OBJECT("DestinationRule", "r", ns, "{host: " host ", trafficPolicy: {tls: {mode: DISABLE}}" more "}")
#define ROUTES(ns, more) \
	OBJECT("VirtualService", "v", ns, \
		"{hosts: [x.shop.test], " more "http: [{match: [{uri: {prefix: /a}" \
		"}], route: [{destination: " \
		"{host: x.shop.test}}]}, {timeout: 3s, route: [{destination: {host: x.shop.test}}]}]}")
#define SERVICE(ns) \
	"apiVersion: v1\nkind: Service\nmetadata: {name: k, namespace: " ns \
	"}\nspec: {clusterIP: 10.9.0.2, selector: {app: k}, ports: " \
	"[{name: http, port: 80}]}\n"

static const struct slot slots[] = {
	{"entry-a.yaml",
		{ENTRY("a", "x.shop.test", ""), ENTRY("a", "x.shop.test", ", exportTo: [\".\"]"),
			ENTRY("a", "x.shop.test", ", exportTo: [b]"), ENTRY("a", "\"*.shop.test\"", ""), NULL}},
	{"entry-b.yaml",
		{ENTRY("b", "y.shop.test", ""), ENTRY("b", "x.shop.test", ""), ENTRY("b", "k.a.svc.cluster.local", ""),
			ENTRY("b", "y.shop.test", ", exportTo: [c, istio-system]"), NULL}},
	{"service.yaml", {SERVICE("a"), SERVICE("c"), NULL}},
	{"rule-a.yaml", {RULE("a", "x.shop.test", ""), RULE("a", "k.a.svc.cluster.local", ""),
				RULE("a", "\"*.shop.test\"", ""), RULE("a", "x.shop.test", ", exportTo: [\".\"]"),
				RULE("a", "x.shop.test", ", workloadSelector: {matchLabels: {app: a}}"), NULL}},
	{"rule-b.yaml", {RULE("b", "x.shop.test", ", subsets: [{name: v1, labels: {version: v1}}]"),
				RULE("b", "y.shop.test", ""), RULE("b", "unknown.shop.test", ""), NULL}},
	{"rule-root.yaml", {RULE("istio-system", "\"*.test\"", ", subsets: [{name: v2, labels: {version: v2}}]"),
				   RULE("istio-system", "x.shop.test", ""), NULL}},
	{"routes.yaml", {ROUTES("a", ""), ROUTES("b", "exportTo: [\".\"], "), ROUTES("c", "exportTo: [a, b], "),
				OBJECT("VirtualService", "v", "a",
					"{hosts: [x.shop.test], http: [{match: [{sourceNamespace: c}], timeout: 9s, "
					"route: [{destination: {host: "
					"x.shop.test}}]}, {route: [{destination: {host: x.shop.test}}]}]}"),
				OBJECT("VirtualService", "v", "a",
					"{hosts: [x.shop.test], tcp: [{match: [{sourceNamespace: b}], route: "
					"[{destination: {host: "
					"y.shop.test, port: {number: 90}}}]}, {route: [{destination: {host: "
					"unknown.shop.test, port: {number: 90}}}]}]}"),
				NULL}},
	{"orphan.yaml",
		{OBJECT("VirtualService", "o", "b",
			 "{hosts: [o.c.svc.cluster.local], http: [{route: [{destination: {host: x.shop.test}}]}]}"),
			NULL}},
	{"dns.yaml", {OBJECT("ServiceEntry", "d", "a",
			      "{hosts: [d.shop.test], resolution: DNS, ports: [{number: 80, name: http, protocol: "
			      "HTTP}], endpoints: "
			      "[{address: one.test, locality: r/z1}, {address: two.test, locality: r/z2}]}"),
			     NULL}},
	{"outlier.yaml",
		{OBJECT("DestinationRule", "d", "a",
			 "{host: d.shop.test, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}"),
			OBJECT("DestinationRule", "d", "a",
				"{host: x.shop.test, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}"),
			NULL}},
	{"sidecar.yaml",
		{OBJECT("Sidecar", "default", "istio-system", "{egress: [{hosts: [\"./*\", \"istio-system/*\"]}]}"),
			OBJECT("Sidecar", "s", "c", "{egress: [{hosts: [\"*/x.shop.test\"]}]}"), NULL}},
};

static const char *const namespaces[] = {"a", "b", "c", "other", "istio-system"};

static struct proxy *proxy_of(struct arena *a, const char *ns)
{
	struct proxy *p = world_proxy(a, "sidecar", "10.1.0.9", "p", ns, "{\"app\":\"a\"}");

	p->locality = STR("r/z1/");
	return p;
}

/* All resources of one type, one after another. */
static struct str bytes_of(struct arena *a, const struct model *m, const struct scope *scope, enum xds_type type)
{
	struct view v = {.model = m, .scope = scope, .scratch = a};
	struct strbuf out = {0};
	struct str *names;
	size_t n;

	translator_get(type)->names(&v, a, &names, &n);
	for (size_t i = 0; i < n; i++) {
		const ProtobufCMessage *message = translator_get(type)->build(&v, names[i], a);

		strbuf_addf(&out, "\n" STR_FMT "\n", STR_ARG(names[i]));
		if (message)
			strbuf_add(&out, pb_pack(a, message));
	}
	struct str all = arena_str(a, strbuf_str(&out));
	strbuf_done(&out);
	return all;
}

/* True: the namespace is not part of the scope. Nor is the place, in most. */
static bool same_as_with_namespace(const struct model *m, const char *ns, enum scope_kind kind)
{
	struct arena *a = arena_new();
	const struct proxy *p = proxy_of(a, ns);
	const struct scope *without = scope_of(a, m, p, kind, NULL);
	struct proxy attributes = *without->attributes;
	struct scope with = *without;
	bool shared = attributes.ns.len == 0;

	attributes.ns = p->ns;
	attributes.locality = p->locality;
	with.attributes = &attributes;
	for (unsigned t = 0; shared && t < XDS_TYPE_COUNT; t++)
		assert_true(str_eq(bytes_of(a, m, without, (enum xds_type)t), bytes_of(a, m, &with, (enum xds_type)t)));
	arena_free(a);
	return shared;
}

static void P66_a_scope_without_namespace_is_right_for_all_that_share_it(void **state)
{
	size_t shared[SCOPE_KIND_COUNT] = {0}, total = 0;
	struct world w;
	uint32_t seed = 20261127;

	(void)state;
	world_init(&w);
	for (unsigned step = 0; step < 600; step++) {
		const struct slot *s = &slots[next_random(&seed) % ARRAY_LEN(slots)];
		size_t variant = next_random(&seed) % (n_variants(s) + 1);

		if (s->variants[variant])
			world_put(&w, s->file, s->variants[variant]);
		else
			world_remove(&w, s->file);
		world_commit(&w);
		for (size_t i = 0; i < ARRAY_LEN(namespaces); i++, total++)
			for (unsigned k = 0; k < SCOPE_OWN; k++)
				shared[k] += same_as_with_namespace(w.model, namespaces[i], (enum scope_kind)k);
	}
	/* Both happen often enough to mean something. */
	assert_in_range(shared[SCOPE_MESH], total / 10, total * 8 / 10);
	assert_in_range(shared[SCOPE_SHARED], total / 20, shared[SCOPE_MESH]);
	world_done(&w);
}

static unsigned why(const char *yaml, const char *ns)
{
	struct world w;

	world_init(&w);
	world_put(&w, "base.yaml", ENTRY("a", "x.shop.test", "") "---\n" SERVICE("c"));
	world_put(&w, "case.yaml", yaml);
	world_commit(&w);
	unsigned bits = singled_get(w.model->singled, str_of(ns));
	world_done(&w);
	return bits;
}

static void P66_what_singles_a_namespace_out(void **state)
{
	(void)state;
	assert_int_equal(why("", "a"), 0);
	assert_int_equal(why("", "c"), SINGLED_NAMES);
	assert_int_equal(why(ENTRY("b", "y.shop.test", ", exportTo: [\"*\"]"), "b"), 0);
	assert_int_equal(why(ENTRY("b", "y.shop.test", ", exportTo: [\".\"]"), "b"), SINGLED_VIEW);
	assert_int_equal(why(ENTRY("b", "y.shop.test", ", exportTo: [a]"), "a"), SINGLED_VIEW);
	assert_int_equal(why(ENTRY("b", "y.shop.test", ", exportTo: [a]"), "b"), 0);
	assert_int_equal(why(ENTRY("b", "x.shop.test", ""), "a"), SINGLED_VIEW); /* two of one host */
	assert_int_equal(why(ENTRY("b", "x.shop.test", ""), "b"), SINGLED_VIEW);
	assert_int_equal(why(RULE("a", "x.shop.test", ""), "a"), 0); /* its own service's */
	assert_int_equal(why(RULE("b", "x.shop.test", ""), "b"), SINGLED_VIEW);
	assert_int_equal(why(RULE("a", "\"*.shop.test\"", ""), "a"), SINGLED_VIEW);
	assert_int_equal(why(RULE("a", "unknown.test", ""), "a"), SINGLED_VIEW);
	assert_int_equal(
		why(RULE("a", "x.shop.test", ", workloadSelector: {matchLabels: {app: a}}"), "a"), SINGLED_VIEW);
	assert_int_equal(why(ROUTES("b", "exportTo: [\".\"], "), "b"), SINGLED_VIEW);
	assert_int_equal(why(ROUTES("b", ""), "b"), 0);
	assert_int_equal(why(OBJECT("VirtualService", "v", "a",
				     "{hosts: [x.shop.test], http: [{match: [{sourceNamespace: b}], route: "
				     "[{destination: {host: x.shop.test}}]}]}"),
				 "b"),
		SINGLED_VIEW);
}

static void P66_a_namespace_that_becomes_special_is_touched_alone(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "base.yaml", ENTRY("a", "x.shop.test", ""));
	world_commit(&w);
	world_put(&w, "rule.yaml", RULE("b", "x.shop.test", ""));
	world_commit(&w);
	assert_true(read_keys_has(&w.touched, question_key(Q_SINGLED, STR("b"))));
	assert_false(read_keys_has(&w.touched, question_key(Q_SINGLED, STR("a"))));
	world_put(&w, "rule.yaml", RULE("b", "x.shop.test", ", subsets: [{name: v1, labels: {version: v1}}]"));
	world_commit(&w);
	assert_false(read_keys_has(&w.touched, question_key(Q_SINGLED, STR("b"))));
	world_remove(&w, "rule.yaml");
	world_commit(&w);
	assert_true(read_keys_has(&w.touched, question_key(Q_SINGLED, STR("b"))));
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P66_a_scope_without_namespace_is_right_for_all_that_share_it),
		cmocka_unit_test(P66_what_singles_a_namespace_out),
		cmocka_unit_test(P66_a_namespace_that_becomes_special_is_touched_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
