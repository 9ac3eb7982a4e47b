/* DOC: SPIFFE bundles: which documents give roots, and which are refused as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/pki/pki.h"
#include "tests/unit/pki/test_certificate.h"

struct fixture {
	struct arena *a;
	const char *one, *two, *leaf; /* PEM */
};

static const char *certificate(struct arena *a, const char *organization, bool ca)
{
	char *pem cleanup(free_p) = test_certificate(organization, ca);
	assert_non_null(pem);
	return arena_strdup(a, pem);
}

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));
	f->a = arena_new();
	f->one = certificate(f->a, "one", true);
	f->two = certificate(f->a, "two", true);
	f->leaf = certificate(f->a, "leaf", false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	arena_free(f->a);
	free(f);
	return 0;
}

/* A key of the set, with its certificate as x5c has it. */
static const char *key(struct fixture *f, const char *use, const char *pem)
{
	struct pki_cert *certs;
	struct strbuf text = {0};
	struct err e = {0};
	size_t n;
	assert_true(pki_certs_parse(f->a, str_of(pem), &certs, &n, &e) && n == 1);
	base64_write(certs[0].der, &text);
	const char *out = arena_printf(
		f->a, "{\"use\":\"%s\",\"kty\":\"EC\",\"x5c\":[\"" STR_FMT "\"]}", use, STR_ARG(strbuf_str(&text)));
	strbuf_done(&text);
	return out;
}

static void C05_roots_are_those_of_use_x509_svid(void **state)
{
	struct fixture *f = *state;
	struct str pem = {0};
	struct err e = {0};
	const char *json = arena_printf(f->a,
		"{\"keys\":[%s,{\"use\":\"jwt-svid\",\"kid\":\"x\"},{},%s],\"spiffe_sequence\":3,\"spiffe_refresh_"
		"hint\":300}",
		key(f, "x509-svid", f->one), key(f, "x509-svid", f->two));
	assert_true(pki_spiffe_bundle(f->a, str_of(json), &pem, &e));
	assert_true(str_eqc(pem, arena_printf(f->a, "%s%s", f->one, f->two)));
}

static void refuses(struct fixture *f, const char *json, const char *words)
{
	struct str pem = {0};
	struct err e = {0};
	assert_false(pki_spiffe_bundle(f->a, str_of(json), &pem, &e));
	assert_null(pem.ptr);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, e.text);
}

static void C05_a_bundle_is_taken_whole_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	const char *good = key(f, "x509-svid", f->one);
	refuses(f, "", "no JSON");
	refuses(f, "{\"keys\":{}}", "list \"keys\"");
	refuses(f, "<html>not here</html>", "no JSON");
	refuses(f, "{\"keys\":[]}", "no key is for x509-svid");
	refuses(f, arena_printf(f->a, "{\"keys\":[%s]}", key(f, "jwt-svid", f->one)), "no key is for x509-svid");
	refuses(f, arena_printf(f->a, "{\"keys\":[%s,%s]}", good, key(f, "x509-svid", f->leaf)),
		"keys[1]: \"O=leaf\" is not a CA's");
	refuses(f, arena_printf(f->a, "{\"keys\":[%s,{\"use\":\"x509-svid\"}]}", good), "keys[1]: x5c must be one");
	refuses(f, "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[\"AAAA\",\"AAAA\"]}]}", "x5c must be one certificate");
	refuses(f, "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[\"not base64!\"]}]}", "x5c is no base64");
	refuses(f, "{\"keys\":[{\"use\":\"x509-svid\",\"x5c\":[\"AAAA\"]}]}", "keys[0]: x5c");
	struct strbuf many = {0};
	strbuf_adds(&many, "{\"keys\":[");
	for (size_t i = 0; i < 1500; i++)
		strbuf_addf(&many, "%s%s", i ? "," : "", good);
	strbuf_adds(&many, "]}");
	refuses(f, many.ptr, "bytes of roots");
	strbuf_done(&many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(C05_roots_are_those_of_use_x509_svid, setup, teardown),
		cmocka_unit_test_setup_teardown(C05_a_bundle_is_taken_whole_or_not_at_all, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
