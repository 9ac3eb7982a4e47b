/* DOC: Virtual hosts as resources: together they are the hosts of the RouteConfiguration that other proxies get, domain by domain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "common/pb/pb.h"
#include "pilot/model/entry.h"
#include "tests/unit/pilot/world.h"
#include "xds/route.pb-c.h"

/* Short names, a shared address, a headless service, a host without a service, a name that is another's short name. */
static const char mesh[] = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIP: "
			   "10.96.0.1, ports: [{name: http, port: "
			   "80}]}}\n"
			   "---\n{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: bank}, spec: "
			   "{clusterIP: None, ports: [{name: http, port: "
			   "80}]}}\n"
			   "---\n{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: short, "
			   "namespace: shop}, spec: {hosts: [cart.shop], "
			   "addresses: [10.96.0.9], ports: [{number: 80, name: http, protocol: HTTP}], resolution: "
			   "STATIC, endpoints: [{address: 10.0.0.1}]}}\n"
			   "---\n{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: twin, "
			   "namespace: shop}, spec: {hosts: "
			   "[twin.example.com], addresses: [10.96.0.9], ports: [{number: 80, name: http, protocol: "
			   "HTTP}], resolution: STATIC, endpoints: "
			   "[{address: 10.0.0.2}]}}\n"
			   "---\n{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: lone, "
			   "namespace: shop}, spec: {hosts: "
			   "[lone.example.com, cart.shop.svc.cluster.local], http: [{route: [{destination: {host: "
			   "cart.shop.svc.cluster.local}}]}]}}\n";

static const struct scope *scope_for(struct arena *a, const struct world *w, bool vhds)
{
	struct proxy *p = world_proxy(a, "sidecar", "10.1.0.1", "probe", "shop", "{}");
	p->vhds = vhds;
	return scope_of(a, w->model, p, SCOPE_SHARED, NULL);
}

static const Rds__VirtualHost *find(const Rds__RouteConfiguration *rc, struct str name)
{
	for (size_t i = 0; i < rc->n_virtual_hosts; i++)
		if (str_eqc(name, rc->virtual_hosts[i]->name))
			return rc->virtual_hosts[i];
	return NULL;
}

#define ENTRY(name, ns, made, spec) \
	"{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: " name ", namespace: " ns \
	", creationTimestamp: \"" made "\"}, spec: {ports: [{number: 9080, name: http, protocol: HTTP}], resolution: " \
	"STATIC, endpoints: [{address: 10.0.0.9}], " spec "}}\n"
#define RULES(name, hosts) \
	"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: " name \
	", namespace: shop}, spec: {hosts: [" hosts "], http: [{route: [{destination: {host: a.example.com}}]}]}}\n"
#define OLD "2020-01-01T00:00:00Z"
#define YOUNG "2024-01-01T00:00:00Z"

/* On another port: names and addresses that older services have, one host twice, rules that hosts without a service share with services
 * by name and by wildcard, or with none. */
static const char *const other_port[] = {
	"{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop, creationTimestamp: \"" YOUNG
	"\"}, spec: {clusterIP: 10.96.1.1, ports: [{name: http, port: 9080}]}}\n",
	"{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: shop}, spec: {clusterIP: None, ports: "
	"[{name: http, port: 9080}]}}\n",
	ENTRY("short", "shop", OLD, "hosts: [cart.shop]"),
	ENTRY("shorter", "shop", OLD, "hosts: [cart.shop.svc]"),
	ENTRY("a", "shop", OLD, "hosts: [a.example.com], addresses: [10.96.1.1]"),
	ENTRY("b", "shop", YOUNG, "hosts: [b.example.com], addresses: [10.96.1.1]"),
	ENTRY("twice", "bank", OLD, "hosts: [twice.example.com], addresses: [10.96.1.2]"),
	ENTRY("twice", "shop", YOUNG, "hosts: [twice.example.com]"),
	ENTRY("at-two", "shop", YOUNG, "hosts: [two.test], addresses: [10.96.1.2]"),
	RULES("by-name", "two.test, named.test"),
	RULES("by-wildcard", "\"*.example.com\", covered.test"),
	RULES("alone", "alone.test, nobody.test"),
};

static void world_of_other_port(struct world *w)
{
	world_init(w);
	for (size_t i = 0; i < ARRAY_LEN(other_port); i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "%zu.yaml", i);
		world_put(w, name, other_port[i]);
	}
	world_commit(w);
}

static size_t compare(struct world *w, struct arena *a, struct str rc, const Rds__RouteConfiguration **whole)
{
	struct view plain = {.model = w->model, .scope = scope_for(a, w, false), .scratch = a};
	struct view apart = {.model = w->model, .scope = scope_for(a, w, true), .scratch = a};
	const struct translator *vhds = translator_get(XDS_VHDS), *rds = translator_get(XDS_RDS);
	const Rds__RouteConfiguration *rest = (const void *)rds->build(&apart, rc, a);
	struct str *names;
	size_t n, built = 0;

	*whole = (const void *)rds->build(&plain, rc, a);
	assert_non_null(rest->vhds);
	assert_null((*whole)->vhds);
	assert_int_equal(rest->n_virtual_hosts, 1); /* "*" stays inline */
	vhds->names(&plain, a, &names, &n);
	assert_int_equal(n, 0);
	vhds->names(&apart, a, &names, &n);
	assert_null(vhds->build(&plain, names[0], a));
	for (size_t i = 0; i < n; i++) {
		Rds__VirtualHost *host = (void *)(uintptr_t)vhds->build(&apart, names[i], a);
		const Rds__VirtualHost *same = find(*whole, str_from(names[i], rc.len + 1));
		if (!str_starts(names[i], rc))
			continue;
		assert_int_equal(host != NULL, same != NULL);
		if (!host)
			continue;
		assert_true(str_eqc(names[i], host->name)); /* Envoy adds by the one and removes by the other */
		host->name = same->name;
		if (!pb_equal(host, same))
			fail_msg(STR_FMT " differs", STR_ARG(names[i]));
		built++;
	}
	assert_int_equal(built, (*whole)->n_virtual_hosts - 1);
	return built;
}

static void virtual_hosts_as_resources_are_those_of_the_route_configuration(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct world w;
	const Rds__RouteConfiguration *whole;

	world_init(&w);
	world_put(&w, "a.yaml", mesh);
	world_commit(&w);
	struct view apart = {.model = w.model, .scope = scope_for(a, &w, true), .scratch = a};
	const struct translator *vhds = translator_get(XDS_VHDS);
	assert_false(str_eq(scope_for(a, &w, false)->key, apart.scope->key));
	assert_int_equal(compare(&w, a, STR("80"), &whole), 5);
	assert_null(vhds->build(&apart, STR("80/-"), a));
	assert_null(vhds->build(&apart, STR("80/nobody.example:80"), a));
	assert_null(vhds->build(&apart, STR("81/cart.shop.svc.cluster.local:80"), a));
	world_done(&w);
}

static void hosts_of_another_port_are_the_same_too(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct world w;
	const Rds__RouteConfiguration *whole;

	world_of_other_port(&w);
	/* Eight services, and three hosts that share their rules: a wildcard is one. */
	assert_int_equal(compare(&w, a, STR("9080"), &whole), 11);
	assert_non_null(find(whole, STR("named.test:9080")));
	assert_non_null(find(whole, STR("covered.test:9080")));
	assert_null(find(whole, STR("nobody.test:9080")));
	const Rds__VirtualHost *cart = find(whole, STR("cart.shop.svc.cluster.local:9080"));
	assert_int_equal(cart->n_domains,
		4); /* its own name and the shortest: the other two and the address are older services' */
	world_done(&w);
}

/* With thousands of services on a port a host must not be made anew because one of them changed. */
static void a_host_asks_for_nothing_that_all_services_answer(void **state)
{
	static const char *const hosts[] = {"9080/b.example.com:9080", "9080/named.test:9080"};
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct world w;

	world_of_other_port(&w);
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct read_keys reads = {0};
		struct view v = {.model = w.model, .scope = scope_for(a, &w, true), .scratch = a, .reads = &reads};
		assert_non_null(translator_get(XDS_VHDS)->build(&v, str_of(hosts[i]), a));
		read_keys_seal(&reads);
		assert_false(read_keys_has(&reads, question_key(Q_SERVICE_PORT, STR("*:9080"))));
		assert_false(read_keys_has(&reads, question_key(Q_SERVICE_LIST, STR("*"))));
		assert_true(read_keys_has(&reads, question_key(Q_SERVICE_NAME, STR("*:two.test"))) == (i == 1));
		/* Who comes with its address takes it. */
		assert_true(read_keys_has(&reads, question_key(Q_SERVICE_NAME, STR("*:10.96.1.1"))) == (i == 0));
		read_keys_done(&reads);
	}
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(virtual_hosts_as_resources_are_those_of_the_route_configuration),
		cmocka_unit_test(hosts_of_another_port_are_the_same_too),
		cmocka_unit_test(a_host_asks_for_nothing_that_all_services_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
