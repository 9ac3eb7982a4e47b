/* DOC: Virtual hosts as resources: together they are the hosts of the RouteConfiguration that other proxies get, domain by domain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/pb/pb.h"
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

static void virtual_hosts_as_resources_are_those_of_the_route_configuration(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct world w;
	struct str *names;
	size_t n, built = 0;

	world_init(&w);
	world_put(&w, "a.yaml", mesh);
	world_commit(&w);
	struct view plain = {.model = w.model, .scope = scope_for(a, &w, false), .scratch = a};
	struct view apart = {.model = w.model, .scope = scope_for(a, &w, true), .scratch = a};
	assert_false(str_eq(plain.scope->key, apart.scope->key));
	const struct translator *vhds = translator_get(XDS_VHDS), *rds = translator_get(XDS_RDS);
	const Rds__RouteConfiguration *whole = (const void *)rds->build(&plain, STR("80"), a);
	const Rds__RouteConfiguration *rest = (const void *)rds->build(&apart, STR("80"), a);
	assert_non_null(rest->vhds);
	assert_null(whole->vhds);
	assert_int_equal(rest->n_virtual_hosts, 1); /* "*" stays inline */
	vhds->names(&plain, a, &names, &n);
	assert_int_equal(n, 0);
	vhds->names(&apart, a, &names, &n);
	for (size_t i = 0; i < n; i++) {
		Rds__VirtualHost *host = (void *)(uintptr_t)vhds->build(&apart, names[i], a);
		const Rds__VirtualHost *same = find(whole, str_from(names[i], strlen("80/")));
		assert_int_equal(host != NULL, same != NULL);
		if (!host)
			continue;
		assert_true(str_eqc(names[i], host->name)); /* Envoy adds by the one and removes by the other */
		host->name = same->name;
		assert_true(pb_equal(host, same));
		built++;
	}
	assert_int_equal(built, whole->n_virtual_hosts - 1);
	assert_int_equal(built, 5);
	assert_null(vhds->build(&apart, STR("80/-"), a));
	assert_null(vhds->build(&apart, STR("80/nobody.example:80"), a));
	assert_null(vhds->build(&apart, STR("81/cart.shop.svc.cluster.local:80"), a));
	assert_null(vhds->build(&plain, names[0], a));
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(virtual_hosts_as_resources_are_those_of_the_route_configuration),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
