/* DOC: Networks: who shares what, what a change of a gateway touches, and what the gateway itself is sent. How endpoints look is in the golden files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/pb/json.h"
#include "tests/unit/pilot/world.h"
#include "xds/endpoint.pb-c.h"

#define NETWORK(name, address) name ": {gateways: [{address: " address ", port: 15443}]}"
#define NETWORKS(text) \
	"apiVersion: fairlead.dev/v1\nkind: MeshNetworks\nmetadata: {name: default}\nspec: {networks: {" text "}}\n"
#define ENTRY(name, endpoints) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: {hosts: [" name \
	".test], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], " \
	"endpoints: [" endpoints "]}\n---\n"
#define ENDPOINT(address, network) "{address: " address ", network: " network ", serviceAccount: s}"

static const char entries[] = ENTRY("near", ENDPOINT("10.1.0.1", "near"))
	ENTRY("far", ENDPOINT("10.1.0.2", "near") ", " ENDPOINT("10.2.0.1", "far"))
		ENTRY("third", ENDPOINT("10.3.0.1", "third"))
			ENTRY("both", ENDPOINT("10.2.0.2", "far") ", " ENDPOINT("10.3.0.2", "third"))
				ENTRY("none", "{address: 10.9.0.1}, {address: 10.9.0.2, network: near}");

struct net {
	struct arena *a;
	struct world w;
	struct proxy *p;
	struct cache c;
};

static void init(struct net *x, const char *type, const char *network, const char *networks)
{
	*x = (struct net){.a = arena_new()};
	x->p = world_proxy(x->a, type, "10.8.0.1", "p", "default", "{\"istio\":\"gw\"}");
	x->p->network = str_of(network);
	world_init(&x->w);
	world_put(&x->w, "entries.yaml", entries);
	world_put(&x->w, "networks.yaml", networks);
	world_commit(&x->w);
	cache_update(&x->c, x->w.model, x->p, NULL);
}

static void done(struct net *x)
{
	cache_done(&x->c);
	world_done(&x->w);
	arena_free(x->a);
}

static unsigned builds(const struct net *x, const char *host)
{
	return cache_get(&x->c, XDS_EDS, arena_printf(x->a, "outbound|80||%s.test", host))->builds;
}

static void put(struct net *x, const char *file, const char *text)
{
	struct cache fresh = {0};

	world_put(&x->w, file, text);
	world_commit(&x->w);
	cache_update(&x->c, x->w.model, x->p, &x->w.touched);
	cache_update(&fresh, x->w.model, x->p, NULL);
	assert_true(cache_equal(&x->c, &fresh));
	cache_done(&fresh);
}

static void P88_a_changed_gateway_touches_the_endpoints_behind_it(void **state)
{
	struct net x;

	(void)state;
	init(&x, "sidecar", "near", NETWORKS(NETWORK("far", "192.0.2.2")));
	put(&x, "networks.yaml", NETWORKS(NETWORK("far", "192.0.2.3")));
	assert_int_equal(x.c.rebuilt, 2);
	assert_int_equal(builds(&x, "far"), 2);
	assert_int_equal(builds(&x, "both"), 2);
	/* A first gateway is an answer to a question that was asked before. */
	put(&x, "networks.yaml", NETWORKS(NETWORK("far", "192.0.2.3") ", " NETWORK("third", "192.0.2.4")));
	assert_int_equal(x.c.rebuilt, 2);
	assert_int_equal(builds(&x, "third"), 2);
	assert_int_equal(builds(&x, "both"), 3);
	/* Its own network's gateways are for others, and those of a network without endpoints for nobody. */
	put(&x, "networks.yaml",
		NETWORKS(NETWORK("far", "192.0.2.3") ", " NETWORK("third", "192.0.2.4") ", " NETWORK(
			"near", "192.0.2.1") ", " NETWORK("empty", "192.0.2.5")));
	assert_int_equal(x.c.rebuilt, 0);
	put(&x, "networks.yaml", NETWORKS(""));
	assert_int_equal(x.c.rebuilt, 3);
	done(&x);
}

static void P88_a_gateway_service_touches_the_same(void **state)
{
	static const char head[] =
		"apiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: istio-system, labels: "
		"{topology.istio.io/network: far}}\nspec: {type: LoadBalancer, ports: [{name: tls, port: 15443}]}\n";
	struct net x;

	(void)state;
	init(&x, "sidecar", "near", NETWORKS(""));
	put(&x, "gw.yaml", arena_printf(x.a, "%s", head));
	assert_int_equal(builds(&x, "far"), 1);
	put(&x, "gw.yaml", arena_printf(x.a, "%sstatus: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}\n", head));
	assert_int_equal(builds(&x, "far"), 2);
	assert_int_equal(builds(&x, "both"), 2);
	assert_int_equal(builds(&x, "third"), 1);
	assert_int_equal(builds(&x, "none"), 1);
	done(&x);
}

static const char *scope_key(struct net *x, const char *network, enum scope_kind kind)
{
	x->p->network = str_of(network);
	return arena_cstr(x->a, scope_of(x->a, x->w.model, x->p, kind, NULL)->key);
}

static void P88_proxies_of_different_networks_share_all_but_endpoints(void **state)
{
	struct net x;

	(void)state;
	init(&x, "sidecar", "near", NETWORKS("far: {endpoints: [{fromCidr: 10.8.0.0/16}]}"));
	assert_string_equal(scope_key(&x, "near", SCOPE_MESH), scope_key(&x, "far", SCOPE_MESH));
	assert_string_equal(scope_key(&x, "near", SCOPE_SHARED), scope_key(&x, "far", SCOPE_SHARED));
	assert_string_not_equal(scope_key(&x, "near", SCOPE_PLACE), scope_key(&x, "far", SCOPE_PLACE));
	/* One that does not say its network is where its address is. */
	assert_string_equal(scope_key(&x, "", SCOPE_PLACE), scope_key(&x, "far", SCOPE_PLACE));
	/* Clusters of DNS hold their endpoints. */
	world_put(&x.w, "dns.yaml",
		"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: dns}\nspec: {hosts: "
		"[dns.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n");
	world_commit(&x.w);
	assert_string_not_equal(scope_key(&x, "near", SCOPE_MESH), scope_key(&x, "far", SCOPE_MESH));
	done(&x);
}

static void P88_a_proxy_follows_the_network_of_its_address(void **state)
{
	struct net x;

	(void)state;
	init(&x, "sidecar", "", NETWORKS("near: {endpoints: [{fromCidr: 10.9.0.0/16}]}, " NETWORK("far", "192.0.2.2")));
	put(&x, "networks.yaml",
		NETWORKS("near: {endpoints: [{fromCidr: 10.8.0.0/16}]}, " NETWORK("far", "192.0.2.2")));
	assert_string_equal(x.c.scope_key[SCOPE_PLACE], scope_key(&x, "near", SCOPE_PLACE));
	x.p->network = STR("");
	put(&x, "root.yaml",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: "
		"far}}\n");
	assert_string_equal(x.c.scope_key[SCOPE_PLACE], scope_key(&x, "far", SCOPE_PLACE));
	done(&x);
}

/* Addresses of an assignment with their weights: "10.1.0.1:80=1 ...". */
static const char *endpoints(struct net *x, const char *name)
{
	struct view v = {.model = x->w.model, .scratch = x->a};
	const Eds__ClusterLoadAssignment *cla;
	struct strbuf text cleanup(strbuf_done) = {0};

	v.scope = scope_of(x->a, x->w.model, x->p, SCOPE_PLACE, NULL);
	cla = (const Eds__ClusterLoadAssignment *)translator_get(XDS_EDS)->build(&v, str_of(name), x->a);
	assert_non_null(cla);
	for (size_t i = 0; i < cla->n_endpoints; i++)
		for (size_t k = 0; k < cla->endpoints[i]->n_lb_endpoints; k++) {
			const Eds__LbEndpoint *e = cla->endpoints[i]->lb_endpoints[k];
			const Core__SocketAddress *at = e->endpoint->address->socket_address;

			strbuf_addf(&text, "%s%s:%u=%u", text.len ? " " : "", at->address, at->port_value,
				e->load_balancing_weight->value);
		}
	return arena_cstr(x->a, strbuf_str(&text));
}

static void P88_server_names_lead_to_what_serves_mutual_tls(void **state)
{
	struct net x;

	(void)state;
	init(&x, "router", "far", NETWORKS(NETWORK("near", "192.0.2.1")));
	assert_string_equal(endpoints(&x, "outbound_.80_._.far.test"), "10.2.0.1:80=1 192.0.2.1:15443=1");
	assert_string_equal(endpoints(&x, "outbound|80||none.test"), "10.9.0.1:80=1");
	assert_string_equal(endpoints(&x, "outbound_.80_._.none.test"), "");
	/* It asked for its own network alone, so that nothing is sent back to where it came from. */
	x.p->network_view = &(struct str){"far", 3};
	x.p->n_network_view = 1;
	assert_string_equal(endpoints(&x, "outbound_.80_._.far.test"), "10.2.0.1:80=1");
	done(&x);
}

static void P88_what_is_unhealthy_counts_for_nothing_behind_a_gateway(void **state)
{
	static const char pod[] =
		"apiVersion: v1\nkind: Pod\nmetadata: {name: q%d, labels: {app: q, topology.istio.io/network: far}}\n"
		"spec: {serviceAccountName: q, containers: [{name: c}]}\n"
		"status: {phase: Running, podIP: 10.2.1.%d, conditions: [{type: Ready, status: \"%s\"}]}\n";
	struct net x;

	(void)state;
	init(&x, "sidecar", "near", NETWORKS(NETWORK("far", "192.0.2.2")));
	put(&x, "q.yaml",
		"apiVersion: v1\nkind: Service\nmetadata: {name: q}\nspec: {clusterIP: 10.96.0.1, selector: {app: q}, "
		"ports: [{name: http, port: 80}]}\n");
	put(&x, "q1.yaml", arena_printf(x.a, pod, 1, 1, "True"));
	put(&x, "q2.yaml", arena_printf(x.a, pod, 2, 2, "True"));
	assert_string_equal(endpoints(&x, "outbound|80||q.default.svc.cluster.local"), "192.0.2.2:15443=2");
	put(&x, "q2.yaml", arena_printf(x.a, pod, 2, 2, "False"));
	assert_string_equal(endpoints(&x, "outbound|80||q.default.svc.cluster.local"), "192.0.2.2:15443=1");
	put(&x, "q1.yaml", arena_printf(x.a, pod, 1, 1, "False"));
	assert_string_equal(endpoints(&x, "outbound|80||q.default.svc.cluster.local"), "");
	done(&x);
}

static void P88_weights_stay_within_their_range(void **state)
{
	struct net x;

	(void)state;
	init(&x, "sidecar", "near",
		NETWORKS("far: {gateways: [{address: 192.0.2.1, port: 1}, {address: 192.0.2.2, port: 1}, {address: "
			 "192.0.2.3, port: 1}]}"));
	put(&x, "big.yaml",
		ENTRY("big", "{address: 10.1.0.9, network: near, serviceAccount: s, weight: 2147483647}, {address: "
			     "10.2.0.9, network: far, serviceAccount: s, weight: 2}"));
	assert_string_equal(endpoints(&x, "outbound|80||big.test"),
		"10.1.0.9:80=2147483647 192.0.2.1:1=1 192.0.2.2:1=1 192.0.2.3:1=1");
	done(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P88_a_changed_gateway_touches_the_endpoints_behind_it),
		cmocka_unit_test(P88_a_gateway_service_touches_the_same),
		cmocka_unit_test(P88_proxies_of_different_networks_share_all_but_endpoints),
		cmocka_unit_test(P88_a_proxy_follows_the_network_of_its_address),
		cmocka_unit_test(P88_server_names_lead_to_what_serves_mutual_tls),
		cmocka_unit_test(P88_what_is_unhealthy_counts_for_nothing_behind_a_gateway),
		cmocka_unit_test(P88_weights_stay_within_their_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
