/* DOC: Whose Gateways a gateway's pods serve: those that select them, from everywhere, or from their own namespace when pilot is told so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/pilot/world.h"

static const char *gateway(struct arena *a, const char *ns, unsigned port)
{
	return arena_printf(a,
		"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: web, namespace: %s}\nspec:\n"
		"  selector: {app: gw}\n  servers: [{port: {number: %u, name: http, protocol: HTTP}, hosts: ['*']}]\n",
		ns, port);
}

static size_t listeners(struct arena *a, const struct world *w, const char *ns, bool own)
{
	struct proxy *p = world_proxy(a, "router", "10.0.0.9", "gw-1", ns, "{\"app\":\"gw\"}");
	struct view v = {.model = w->model, .scratch = a};
	struct str *names = NULL;
	size_t n = 0;

	p->own_gateways = own;
	v.scope = scope_of(a, w->model, p, SCOPE_MESH, NULL);
	translator_get(XDS_LDS)->names(&v, a, &names, &n);
	return n;
}

static void P45_gateways_of_every_namespace_or_of_the_own_one(void **state)
{
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "a.yaml", gateway(a, "edge", 8080));
	world_put(&w, "b.yaml", gateway(a, "team", 8081));
	world_commit(&w);
	assert_int_equal(listeners(a, &w, "edge", false), 2);
	assert_int_equal(listeners(a, &w, "edge", true), 1);
	assert_int_equal(listeners(a, &w, "team", true), 1);
	assert_int_equal(listeners(a, &w, "third", true), 0);
	world_done(&w);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(P45_gateways_of_every_namespace_or_of_the_own_one)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
