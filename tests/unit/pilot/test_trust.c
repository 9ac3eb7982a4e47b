/* DOC: The roots that agents are told: citadel's from the bus and the mesh config's, each once; touched when they change and not otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/pb/pb.h"
#include "common/mesh/kinds.h"
#include "pilot/model/query.h"
#include "tests/unit/pilot/certificate.h"
#include "tests/unit/pilot/world.h"

#define ARMOUR(text) "-----BEGIN CERTIFICATE-----\n" text "\n-----END CERTIFICATE-----\n"

static const char mesh_config[] =
	"apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec:\n caCertificates:\n"
	" - pem: |\n    -----BEGIN CERTIFICATE-----\n    " CERTIFICATE "\n    -----END CERTIFICATE-----\n";

/* True: somebody who asked for the roots has to look again. */
static bool put_bundle(struct world *w, const char *key, int64_t generation, const char *root, const char *other)
{
	struct arena *a = arena_new();
	Fl__TrustBundle *b = PB_NEW(a, Fl__TrustBundle, fl__trust_bundle);
	struct bus_change change = {.topic = TOPIC_TRUST, .key = str_of(key)};
	bool touched;

	b->generation = generation;
	if (root)
		pb_add(a, b, roots_pem, arena_strdup(a, root));
	if (other)
		pb_add(a, b, roots_pem, arena_strdup(a, other));
	if (root)
		change.value = pb_pack(a, b);
	read_keys_done(&w->touched);
	struct model *next = model_apply(w->model, &change, 1, &w->touched);
	touched = read_keys_has(&w->touched, question_key(Q_TRUST, STR("")));
	model_unref(w->model);
	w->model = next;
	arena_free(a);
	return touched;
}

static const Mesh__ProxyConfig *told(struct arena *a, const struct world *w)
{
	struct proxy *p = world_proxy(a, "sidecar", "10.0.0.9", "a-1", "default", "{}");
	struct view v = {.model = w->model, .scratch = a};
	const struct translator *t = translator_get(XDS_PCDS);
	struct str *names;
	size_t n;

	v.scope = scope_of(a, w->model, p, SCOPE_SHARED, NULL);
	t->names(&v, a, &names, &n);
	assert_int_equal(n, 1);
	assert_null(t->build(&v, STR("another"), a));
	return (const Mesh__ProxyConfig *)t->build(&v, names[0], a);
}

static void C05_both_sources_sorted_each_root_once(void **state)
{
	static const char own[] = ARMOUR("QQ=="), next[] = ARMOUR("QUE=");
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	/* There is an answer before there is a root, so that the last one that goes is told. */
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 0);
	assert_true(put_bundle(&w, "cluster.local", 1, next, own));
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 2);
	assert_string_equal(told(a, &w)->ca_certificates_pem[0], own);
	assert_string_equal(told(a, &w)->ca_certificates_pem[1], next);
	assert_true(put_bundle(&w, "two.example", 1, own, NULL));
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 2);
	world_put(&w, "mesh.yaml", mesh_config);
	world_commit(&w);
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 3);
	assert_non_null(strstr(told(a, &w)->ca_certificates_pem[0], "MIIBfDCCASGgAwIBAgIURQDkV3xpW82bEiIVky72"));
	/* Citadel has taken it over: one entry. */
	assert_true(put_bundle(&w, "cluster.local", 2, told(a, &w)->ca_certificates_pem[0], NULL));
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 2);
	world_remove(&w, "mesh.yaml");
	world_commit(&w);
	assert_true(put_bundle(&w, "cluster.local", 2, NULL, NULL));
	assert_true(put_bundle(&w, "two.example", 2, NULL, NULL));
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 0);
	world_done(&w);
	arena_free(a);
}

static void C05_a_restarted_citadel_with_the_same_roots_touches_nothing(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	assert_true(put_bundle(&w, "cluster.local", 7, ARMOUR("QQ=="), NULL));
	assert_false(put_bundle(&w, "cluster.local", 1, ARMOUR("QQ=="), NULL));
	assert_true(put_bundle(&w, "cluster.local", 2, ARMOUR("QQ=="), ARMOUR("QUE=")));
	world_done(&w);
}

/* One text with several certificates and words around them, and one that is cut off. */
static void C05_texts_are_taken_apart(void **state)
{
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	(void)put_bundle(&w, "cluster.local", 1,
		"\n" ARMOUR("QQ==") "\n\n" ARMOUR("QUE=") "-----BEGIN CERTIFICATE-----\nQQ", "");
	assert_int_equal(told(a, &w)->n_ca_certificates_pem, 2);
	assert_string_equal(told(a, &w)->ca_certificates_pem[0], ARMOUR("QQ=="));
	assert_string_equal(told(a, &w)->ca_certificates_pem[1], ARMOUR("QUE="));
	world_done(&w);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(C05_both_sources_sorted_each_root_once),
		cmocka_unit_test(C05_a_restarted_citadel_with_the_same_roots_touches_nothing),
		cmocka_unit_test(C05_texts_are_taken_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
