/* DOC: Pilot's answer about the mesh's roots: what is taken, what is refused and leaves the old ones, what is found after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/mesh_roots.h"
#include "cfg/mesh_proxy.pb-c.h"
#include "common/io/file.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"
#include "tests/unit/pki/test_certificate.h"

struct fixture {
	struct arena *a;
	char folder[32], *file;
	char *one, *two, *leaf; /* PEM */
};

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));
	f->a = arena_new();
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/mesh-roots-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	f->file = arena_printf(f->a, "%s/roots.pem", f->folder);
	f->one = test_certificate("one", true);
	f->two = test_certificate("two", true);
	f->leaf = test_certificate("leaf", false);
	assert_true(f->one && f->two && f->leaf);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	(void)unlink(f->file);
	assert_int_equal(rmdir(f->folder), 0);
	free(f->one);
	free(f->two);
	free(f->leaf);
	arena_free(f->a);
	free(f);
	return 0;
}

static const Ads__DeltaDiscoveryResponse *answer(struct fixture *f, const char *first, const char *second)
{
	Ads__DeltaDiscoveryResponse *r = PB_NEW(f->a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	Mesh__ProxyConfig *c = PB_NEW(f->a, Mesh__ProxyConfig, mesh__proxy_config);
	Ads__Resource *item = PB_NEW(f->a, Ads__Resource, ads__resource);
	if (first)
		pb_add(f->a, c, ca_certificates_pem, arena_strdup(f->a, first));
	if (second)
		pb_add(f->a, c, ca_certificates_pem, arena_strdup(f->a, second));
	item->resource = pb_any(f->a, c);
	pb_add(f->a, r, resources, item);
	return r;
}

static const Ads__DeltaDiscoveryResponse *removal(struct fixture *f)
{
	Ads__DeltaDiscoveryResponse *r = PB_NEW(f->a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	pb_add(f->a, r, removed_resources, arena_strdup(f->a, "default"));
	return r;
}

static bool takes(struct mesh_roots *r, const Ads__DeltaDiscoveryResponse *in)
{
	struct err e = {0};
	bool changed = false;
	if (!mesh_roots_take(r, in, &changed, &e))
		fail_msg("%s", e.text);
	return changed;
}

static void refuses(struct mesh_roots *r, const Ads__DeltaDiscoveryResponse *in, const char *words)
{
	struct err e = {0};
	bool changed = false;
	assert_false(mesh_roots_take(r, in, &changed, &e));
	assert_false(changed);
	assert_non_null(strstr(e.text, words));
}

static void C05_an_answer_replaces_what_was_there(void **state)
{
	struct fixture *f = *state;
	struct mesh_roots *r = mesh_roots_new(f->file);
	const Ads__DeltaDiscoveryResponse nothing = ADS__DELTA_DISCOVERY_RESPONSE__INIT;
	assert_string_equal(mesh_roots_pem(r), "");
	assert_true(takes(r, answer(f, f->one, f->two)));
	assert_string_equal(mesh_roots_pem(r), arena_printf(f->a, "%s%s", f->one, f->two));
	assert_int_equal(mesh_roots_count(r), 2);
	assert_false(takes(r, answer(f, f->one, f->two)));
	assert_false(takes(r, &nothing)); /* an answer that says nothing */
	assert_int_equal(mesh_roots_count(r), 2);
	assert_true(takes(r, answer(f, arena_printf(f->a, "words\n%s\nwords", f->two), NULL)));
	assert_string_equal(mesh_roots_pem(r), f->two);
	assert_true(takes(r, removal(f)));
	assert_string_equal(mesh_roots_pem(r), "");
	assert_true(takes(r, answer(f, f->one, NULL)));
	assert_true(takes(r, answer(f, NULL, NULL)));
	assert_int_equal(mesh_roots_count(r), 0);
	mesh_roots_free(r);
}

static void C05_a_bad_root_is_refused_and_the_old_ones_stay(void **state)
{
	struct fixture *f = *state;
	struct mesh_roots *r = mesh_roots_new(f->file);
	Ads__DeltaDiscoveryResponse *other;
	assert_true(takes(r, answer(f, f->one, NULL)));
	refuses(r, answer(f, f->two, "no certificate"), "caCertificatesPem[1]");
	refuses(r, answer(f, f->two, f->leaf), "\"O=leaf\" is not a CA's certificate");
	other = (Ads__DeltaDiscoveryResponse *)answer(f, f->two, NULL);
	other->resources[0]->resource->type_url = arena_strdup(f->a, "type.googleapis.com/x.Y");
	refuses(r, other, "resource 0 is no ProxyConfig");
	other->resources[0]->resource = NULL;
	refuses(r, other, "resource 0 is no ProxyConfig");
	assert_string_equal(mesh_roots_pem(r), f->one);
	mesh_roots_free(r);
}

static void C05_a_bundle_larger_than_envoy_is_given_is_refused(void **state)
{
	struct fixture *f = *state;
	struct mesh_roots *r = mesh_roots_new(f->file);
	struct strbuf many = {0};
	while (many.len < 600000)
		strbuf_adds(&many, f->one);
	refuses(r, answer(f, many.ptr, many.ptr), "the roots are larger than");
	strbuf_done(&many);
	mesh_roots_free(r);
}

static void C05_a_restart_finds_the_roots_and_passes_over_a_spoilt_file(void **state)
{
	struct fixture *f = *state;
	struct mesh_roots *r = mesh_roots_new(f->file);
	struct err e = {0};
	assert_true(takes(r, answer(f, f->one, NULL)));
	mesh_roots_free(r);
	r = mesh_roots_new(f->file);
	assert_string_equal(mesh_roots_pem(r), f->one);
	mesh_roots_free(r);
	assert_true(file_write_atomic(f->file, STR("spoilt"), 0600, &e));
	r = mesh_roots_new(f->file);
	assert_string_equal(mesh_roots_pem(r), "");
	assert_true(takes(r, answer(f, f->two, NULL)));
	assert_true(takes(r, removal(f)));
	mesh_roots_free(r);
	r = mesh_roots_new(f->file);
	assert_int_equal(mesh_roots_count(r), 0);
	mesh_roots_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(C05_an_answer_replaces_what_was_there, setup, teardown),
		cmocka_unit_test_setup_teardown(C05_a_bad_root_is_refused_and_the_old_ones_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(C05_a_bundle_larger_than_envoy_is_given_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			C05_a_restart_finds_the_roots_and_passes_over_a_spoilt_file, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
