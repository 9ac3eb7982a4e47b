/*
 * DOC: The oracle of the model: after any edit, resources that are kept up by touched questions equal those that are built from
 * nothing, and a model that grew by edits equals one made at once. And how much an edit may touch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/pilot/certificate.h"
#include "tests/unit/pilot/world.h"
#include "tests/unit/slots.h"

#define META(name, ns) "metadata: {name: " name ", namespace: " ns "}\n"

#define SERVICE(name, ip, port, portname) \
	"apiVersion: v1\nkind: Service\n" META(name, "default") "spec: {clusterIP: " ip ", selector: {app: " name \
								"}, ports: [{name: " portname ", port: " port "}]}\n"
#define POD(name, app, version, ip, account) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: default, labels: {app: " app \
	", version: " version ", security.istio.io/tlsMode: istio}}\nspec: {serviceAccountName: " account \
	", containers: [{name: c}]}\n" \
	"status: {phase: Running, podIP: " ip ", conditions: [{type: Ready, status: \"True\"}]}\n"
#define VS(name, host, body) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\n" META(name, "default") "spec:\n  hosts: [" host \
											   "]\n" body
#define DELEGATE(export_to, prefix) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\n" META( \
		"leaf", "default") "spec:\n  exportTo: " export_to "\n  http: [{match: [{uri: {prefix: " prefix \
				   "}}], route: [{destination: {host: a}}]}]\n"
#define DR(name, host, body) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\n" META(name, "default") "spec:\n  host: " host \
											    "\n" body
#define PA(name, ns, body) "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n" META(name, ns) "spec:\n" body

#define SIDECAR(name, spec) \
	"apiVersion: networking.istio.io/v1\nkind: Sidecar\n" META(name, "default") "spec: " spec "\n"
#define ENTRY(name, host, port, protocol, resolution) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n" META( \
		name, "default") "spec: {hosts: [" host "], resolution: " resolution ", ports: [{number: " port \
				 ", name: x, protocol: " protocol "}]}\n"
#define MESH(spec) "apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: " spec "\n"
#define GATEWAY(server) \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\n" META( \
		"web", "default") "spec: {selector: {istio: gw}, servers: [" server "]}\n"
#define SECRET(name, ns) \
	"apiVersion: v1\nkind: Secret\n" META( \
		name, ns) "stringData:\n  cacert: |\n    -----BEGIN CERTIFICATE-----\n    " CERTIFICATE \
			  "\n    -----END CERTIFICATE-----\n"

#define NETWORKS(text) \
	"apiVersion: fairlead.dev/v1\nkind: MeshNetworks\nmetadata: {name: default}\nspec: {networks: {" text "}}\n"
#define EAST_WEST(network, ip) \
	"apiVersion: v1\nkind: Service\nmetadata: {name: east-west, namespace: istio-system, labels: " \
	"{topology.istio.io/network: " network "}}\nspec: {externalIPs: [" ip \
	"], ports: [{name: tls, port: 15443}]}\n"

static const struct slot slots[] = {
	{"a.yaml", {SERVICE("a", "10.96.0.1", "9080", "http"), SERVICE("a", "10.96.0.1", "9081", "http"),
			   SERVICE("a", "10.96.0.1", "9080", "tcp-x"), NULL}},
	{"b.yaml", {SERVICE("b", "10.96.0.2", "9080", "http"), SERVICE("b", "10.96.0.2", "80", "http"), NULL}},
	{"c.yaml", {SERVICE("c", "10.96.0.3", "7000", "\"\""), SERVICE("c", "None", "7000", "tcp"), NULL}},
	{"pod-a1.yaml", {POD("a-1", "a", "v1", "10.1.0.1", "sa-a"), POD("a-1", "a", "v2", "10.1.0.1", "sa-a"),
				POD("a-1", "b", "v1", "10.1.0.1", "sa-b"), NULL}},
	{"pod-a2.yaml",
		{POD("a-2", "a", "v2", "10.1.0.2", "sa-a"), POD("a-2", "a", "v2", "10.1.0.2", "sa-other"), NULL}},
	{"pod-c.yaml", {POD("c-1", "c", "v1", "10.1.0.3", "sa-c"), NULL}},
	{"vs-a.yaml", {VS("a", "a", "  http: [{route: [{destination: {host: a, subset: v1}}]}]\n"),
			      VS("a", "a",
				      "  http: [{match: [{sourceLabels: {app: a}}], route: [{destination: {host: "
				      "b}}]}, {route: "
				      "[{destination: {host: a}}]}]\n"),
			      VS("a", "\"*.default.svc.cluster.local\"",
				      "  http: [{timeout: 3s, route: [{destination: {host: a}}]}]\n"),
			      NULL}},
	{"vs-b.yaml",
		{VS("b", "b, orphan.example.com", "  http: [{route: [{destination: {host: b}}]}]\n"),
			VS("b", "b",
				"  gateways: [default/web, mesh]\n  http: [{route: [{destination: {host: a}}]}]\n"),
			NULL}},
	{"vs-root.yaml",
		{VS("root", "b",
			 "  http: [{match: [{uri: {prefix: /r}}], delegate: {name: leaf}}, {route: [{destination: "
			 "{host: b}}]}]\n"),
			VS("root", "c",
				"  tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], route: "
				"[{destination: {host: a}}]}]\n"),
			NULL}},
	{"vs-leaf.yaml", {DELEGATE("[\"*\"]", "/r/a"), DELEGATE("[default]", "/r/b"), DELEGATE("[elsewhere]", "/r/a"),
				 VS("leaf", "a", "  http: [{route: [{destination: {host: b}}]}]\n"), NULL}},
	{"dr-a.yaml",
		{DR("a", "a", "  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n"),
			DR("a", "a", "  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n"),
			DR("a", "a", "  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}\n"),
			DR("a", "a",
				"  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n"
				"  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: "
				"{consistentHash: {useSourceIp: true}}}}, {name: v2, labels: {version: v2}}]\n"),
			DR("a", "\"*.default.svc.cluster.local\"", "  subsets: [{name: v1, labels: {version: v1}}]\n"),
			NULL}},
	{"pa.yaml", {PA("default", "istio-system", "  mtls: {mode: STRICT}\n"),
			    PA("default", "default", "  mtls: {mode: DISABLE}\n"),
			    PA("a", "default",
				    "  selector: {matchLabels: {app: a}}\n  mtls: {mode: STRICT}\n  portLevelMtls: "
				    "{9080: {mode: "
				    "DISABLE}}\n"),
			    NULL}},
	{"mesh.yaml",
		{"apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: "
		 "{accessLogFile: /dev/stdout}\n",
			"apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: "
			"{outboundTrafficPolicy: {mode: "
			"REGISTRY_ONLY}}\n",
			MESH("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}"),
			MESH("{proxyHttpPort: 15007, proxyListenPort: 16001}"),
			MESH("{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 8}}}, "
			     "inboundTrafficPolicy: {mode: LOCALHOST}}"),
			MESH("{discoverySelectors: [{matchLabels: {kubernetes.io/metadata.name: default}}]}"), NULL}},
	{"sidecar.yaml", {"apiVersion: networking.istio.io/v1\nkind: Sidecar\n" META(
				  "default", "default") "spec: {egress: [{hosts: "
							"[\"./a.default.svc.cluster.local\"]}]}\n",
				 SIDECAR("default", "{egress: [{port: {number: 9080, protocol: HTTP, name: x}, hosts: "
						    "[\"./a.default.svc.cluster.local\"]}, "
						    "{hosts: [\"./*\", \"~/b.default.svc.cluster.local\"]}]}"),
				 SIDECAR("default", "{egress: [{port: {number: 9000, protocol: TCP, name: x}, bind: "
						    "127.0.0.1, captureMode: NONE, hosts: [\"./*\"]}], "
						    "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: "
						    "b.default.svc.cluster.local, port: {number: 80}}}}"),
				 SIDECAR("default", "{workloadSelector: {labels: {app: a}}, ingress: [{port: {number: "
						    "9080, protocol: HTTP, name: x}, "
						    "defaultEndpoint: \"0.0.0.0:8000\"}], inboundConnectionPool: {tcp: "
						    "{maxConnections: 3}}}"),
				 NULL}},
	{"names.yaml", {ENTRY("names", "\"*.example.com\"", "80", "HTTP", "DYNAMIC_DNS"),
			       ENTRY("names", "\"*.example.com\"", "443", "TLS", "DYNAMIC_DNS"),
			       ENTRY("names", "one.example.com", "80", "HTTP", "DNS"), NULL}},
	/* It has a short name of a service, and comes before it. */
	{"alias.yaml",
		{ENTRY("alias", "a.default", "9080", "HTTP", "DNS"), ENTRY("alias", "b", "80", "HTTP", "DNS"), NULL}},
	{"secret.yaml",
		{SECRET("web", "istio-system"), SECRET("web", "default"), SECRET("other", "istio-system"), NULL}},
	{"dr-b.yaml", {DR("b", "b",
			       "  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: "
			       "{localityLbSetting: {failoverPriority: [app, version]}}}\n"),
			      DR("b", "b",
				      "  trafficPolicy: {connectionPool: {tcp: {maxConnections: 3, idleTimeout: 3s}}, "
				      "tunnel: {protocol: CONNECT, targetHost: x.example.com, targetPort: 1}}\n"),
			      DR("b", "b",
				      "  workloadSelector: {matchLabels: {app: c}}\n  trafficPolicy: {tls: {mode: "
				      "SIMPLE, credentialName: web}}\n"),
			      NULL}},
	{"gateway.yaml",
		{"apiVersion: networking.istio.io/v1\nkind: Gateway\n" META(
			 "web", "default") "spec: {selector: {istio: gw}, servers: [{port: {number: 8080, "
					   "name: http, protocol: HTTP}, hosts: [\"*\"]}]}\n",
			GATEWAY("{port: {number: 8443, name: https, protocol: HTTPS}, hosts: [\"a.example.com\"], "
				"tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertCredentialName: "
				"web}}"),
			GATEWAY("{port: {number: 15443, name: tls, protocol: TLS}, hosts: [\"*.local\"], tls: {mode: "
				"AUTO_PASSTHROUGH}}"),
			NULL}},
	{"networks.yaml",
		{NETWORKS("far: {endpoints: [{fromCidr: 10.1.0.2}], gateways: [{address: 192.0.2.1, port: 1}]}"),
			NETWORKS("near: {endpoints: [{fromCidr: 10.1.0.0/24}], gateways: [{address: 192.0.2.2, port: "
				 "1}, {address: 192.0.2.3, port: 1}]}, far: {endpoints: [{fromCidr: 10.1.0.3}]}"),
			NETWORKS("near: {endpoints: [{fromRegistry: Kubernetes}], gateways: [{registryServiceName: "
				 "east-west.istio-system.svc.cluster.local, port: 2}]}"),
			NULL}},
	{"east-west.yaml",
		{EAST_WEST("far", "192.0.2.4"), EAST_WEST("near", "192.0.2.5"), EAST_WEST("\"\"", "192.0.2.6"), NULL}},
	{"root.yaml", {"apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: "
		       "{topology.istio.io/network: far}}\n",
			      "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n", NULL}},
};
#define N_SLOTS ARRAY_LEN(slots)

struct proxies {
	struct arena *a;
	struct proxy *list[5];
};

static struct proxies proxies_new(void)
{
	struct proxies p = {.a = arena_new()};

	p.list[0] = world_proxy(p.a, "sidecar", "10.1.0.1", "a-1", "default", "{\"app\":\"a\"}");
	p.list[1] = world_proxy(p.a, "sidecar", "10.1.0.3", "c-1", "default", "{\"app\":\"c\"}");
	p.list[2] = world_proxy(p.a, "sidecar", "10.1.9.9", "x", "other", "{}");
	p.list[3] = world_proxy(p.a, "router", "10.1.8.8", "gw", "istio-system", "{\"istio\":\"gw\"}");
	p.list[4] = world_proxy(p.a, "sidecar", "10.1.0.4", "v", "default", "{}");
	p.list[4]->vhds = true;
	for (size_t i = 0; i < ARRAY_LEN(p.list); i++)
		p.list[i]->verified_ns = p.list[i]->ns;
	p.list[2]->network = STR("near");
	return p;
}

static void put_slot(struct world *w, size_t slot, size_t variant)
{
	if (variant == n_variants(&slots[slot]))
		world_remove(w, slots[slot].file);
	else
		world_put(w, slots[slot].file, slots[slot].variants[variant]);
}

static void compare_with_fresh(
	const struct world *grown, const size_t *state, struct cache *caches, const struct proxies *p)
{
	struct world fresh;

	world_init(&fresh);
	for (size_t i = 0; i < N_SLOTS; i++)
		put_slot(&fresh, i, state[i]);
	world_commit(&fresh);
	assert_int_equal(model_hash(grown->model), model_hash(fresh.model));
	for (size_t i = 0; i < ARRAY_LEN(p->list); i++) {
		struct cache built = {0};

		cache_update(&built, fresh.model, p->list[i], NULL);
		assert_true(cache_equal(&caches[i], &built));
		cache_done(&built);
	}
	world_done(&fresh);
}

static void incremental_equals_rebuilt_after_random_edits(void **state)
{
	struct proxies p = proxies_new();
	struct cache caches[5] = {0};
	size_t variant[N_SLOTS];
	struct world w;
	uint32_t seed = 20260801;

	(void)state;
	world_init(&w);
	for (size_t i = 0; i < N_SLOTS; i++)
		variant[i] = n_variants(&slots[i]);
	for (size_t i = 0; i < ARRAY_LEN(caches); i++)
		cache_update(&caches[i], w.model, p.list[i], NULL);
	for (unsigned round = 0; round < 300; round++) {
		unsigned edits = 1 + next_random(&seed) % 3;

		while (edits--) {
			size_t slot = next_random(&seed) % N_SLOTS;

			variant[slot] = next_random(&seed) % (n_variants(&slots[slot]) + 1);
			put_slot(&w, slot, variant[slot]);
		}
		world_commit(&w);
		for (size_t i = 0; i < ARRAY_LEN(caches); i++)
			cache_update(&caches[i], w.model, p.list[i], &w.touched);
		compare_with_fresh(&w, variant, caches, &p);
	}
	for (size_t i = 0; i < ARRAY_LEN(caches); i++)
		cache_done(&caches[i]);
	world_done(&w);
	arena_free(p.a);
}

/* ---- how much an edit touches */
static void base(struct world *w, struct cache *c, const struct proxy *p)
{
	world_init(w);
	for (size_t i = 0; i < 6; i++)
		put_slot(w, i, 0);
	put_slot(w, 8, 0);
	put_slot(w, 6, 0);
	world_commit(w);
	cache_update(c, w->model, p, NULL);
}

static unsigned builds_of(const struct cache *c, enum xds_type type, const char *name)
{
	const struct built *b = cache_get(c, type, name);

	assert_non_null(b);
	return b->builds;
}

static void P102_virtual_service_touches_only_its_route(void **state)
{
	struct proxies p = proxies_new();
	struct cache c = {0};
	struct world w;

	(void)state;
	base(&w, &c, p.list[0]);
	world_put(&w, "vs-a.yaml", VS("a", "a", "  http: [{route: [{destination: {host: a, subset: v2}}]}]\n"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	assert_int_equal(c.rebuilt, 1);
	assert_int_equal(builds_of(&c, XDS_RDS, "9080"), 2);
	cache_done(&c);
	world_done(&w);
	arena_free(p.a);
}

static void P102_endpoint_touches_only_its_assignments(void **state)
{
	struct proxies p = proxies_new();
	struct cache c = {0};
	struct world w;

	(void)state;
	base(&w, &c, p.list[2]);
	world_put(&w, "pod-a2.yaml", POD("a-2", "a", "v2", "10.1.0.22", "sa-a"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[2], &w.touched);
	/* a itself: the subsets are the rule of another namespace's, which applies to the service. */
	assert_int_equal(builds_of(&c, XDS_EDS, "outbound|9080||a.default.svc.cluster.local"), 2);
	assert_int_equal(builds_of(&c, XDS_EDS, "outbound|9080||b.default.svc.cluster.local"), 1);
	assert_int_equal(builds_of(&c, XDS_CDS, "outbound|9080||a.default.svc.cluster.local"), 1);
	assert_int_equal(builds_of(&c, XDS_RDS, "9080"), 1);
	assert_int_equal(builds_of(&c, XDS_LDS, "virtualInbound"), 1);
	cache_done(&c);
	world_done(&w);
	arena_free(p.a);
}

static void P102_limits_of_a_rule_touch_no_route_and_its_hash_does(void **state)
{
	struct proxies p = proxies_new();
	struct cache c = {0};
	struct world w;

	(void)state;
	base(&w, &c, p.list[0]);
	world_put(&w, "dr-a.yaml", DR("a", "a", "  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	unsigned before = builds_of(&c, XDS_RDS, "9080");
	world_put(&w, "dr-a.yaml",
		DR("a", "a",
			"  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {maxConnections: "
			"3}}}\n"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	assert_int_equal(builds_of(&c, XDS_RDS, "9080"), before);
	world_put(&w, "dr-a.yaml",
		DR("a", "a", "  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	assert_int_equal(builds_of(&c, XDS_RDS, "9080"), before + 1);
	cache_done(&c);
	world_done(&w);
	arena_free(p.a);
}

static void P95_new_account_touches_the_cluster(void **state)
{
	struct proxies p = proxies_new();
	struct cache c = {0};
	struct world w;

	(void)state;
	base(&w, &c, p.list[2]);
	world_put(&w, "pod-a2.yaml", POD("a-2", "a", "v2", "10.1.0.2", "sa-new"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[2], &w.touched);
	assert_int_equal(builds_of(&c, XDS_CDS, "outbound|9080||a.default.svc.cluster.local"), 2);
	assert_int_equal(builds_of(&c, XDS_CDS, "outbound|9080||b.default.svc.cluster.local"), 1);
	cache_done(&c);
	world_done(&w);
	arena_free(p.a);
}

static void P66_sidecars_of_a_namespace_share_a_scope_until_labels_matter(void **state)
{
	struct proxies p = proxies_new();
	struct arena *a = arena_new();
	const struct scope *x, *y;
	struct world w;

	(void)state;
	world_init(&w);
	put_slot(&w, 0, 0);
	world_commit(&w);
	x = scope_of(a, w.model, p.list[0], SCOPE_SHARED, NULL);
	y = scope_of(a, w.model, p.list[1], SCOPE_SHARED, NULL);
	assert_true(str_eq(x->key, y->key));
	x = scope_of(a, w.model, p.list[2], SCOPE_SHARED, NULL);
	assert_false(str_eq(x->key, y->key));
	put_slot(&w, 6, 1);
	world_commit(&w);
	x = scope_of(a, w.model, p.list[0], SCOPE_SHARED, NULL);
	y = scope_of(a, w.model, p.list[1], SCOPE_SHARED, NULL);
	assert_false(str_eq(x->key, y->key));
	world_done(&w);
	arena_free(a);
	arena_free(p.a);
}

static void P62_a_sidecar_that_names_hosts_is_not_asked_about_others(void **state)
{
	struct proxies p = proxies_new();
	struct cache c = {0};
	struct world w;

	(void)state;
	base(&w, &c, p.list[0]);
	world_put(&w, "one.yaml", SIDECAR("one", "{egress: [{hosts: [./a.default.svc.cluster.local]}]}"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], NULL);
	world_put(&w, "d.yaml", SERVICE("d", "10.96.0.4", "9080", "http"));
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	assert_int_equal(c.rebuilt, 0);
	put_slot(&w, 0, 1);
	world_commit(&w);
	cache_update(&c, w.model, p.list[0], &w.touched);
	assert_non_null(cache_get(&c, XDS_CDS, "outbound|9081||a.default.svc.cluster.local"));
	cache_done(&c);
	world_done(&w);
	arena_free(p.a);
}

static void undecodable_values_are_left_out(void **state)
{
	struct bus_change bad = {.topic = 3, .key = STR("default/x"), .value = STR("\xff\xff\xff")};
	struct read_keys touched = {0};
	struct model *empty = model_empty(), *m;

	(void)state;
	m = model_apply(empty, &bad, 1, &touched);
	assert_int_equal(touched.len, 0);
	assert_int_equal(model_hash(m), model_hash(empty));
	assert_int_equal(model_version(m), 1);
	model_unref(m);
	model_unref(empty);
	read_keys_done(&touched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(incremental_equals_rebuilt_after_random_edits),
		cmocka_unit_test(P102_virtual_service_touches_only_its_route),
		cmocka_unit_test(P102_endpoint_touches_only_its_assignments),
		cmocka_unit_test(P102_limits_of_a_rule_touch_no_route_and_its_hash_does),
		cmocka_unit_test(P95_new_account_touches_the_cluster),
		cmocka_unit_test(P66_sidecars_of_a_namespace_share_a_scope_until_labels_matter),
		cmocka_unit_test(P62_a_sidecar_that_names_hosts_is_not_asked_about_others),
		cmocka_unit_test(undecodable_values_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
