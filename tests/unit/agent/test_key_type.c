/* DOC: The workload's key by the variables of Istio's agent. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "agent/agent.h"
#include "common/pki/pki.h"

static const struct {
	struct key_variables given;
	const char *wanted; /* NULL: refused */
	const char *why;
} rows[] = {
	{{NULL, NULL, NULL}, "p256", NULL},
	{{"", "", ""}, "p256", NULL},
	{{"ECDSA", NULL, NULL}, "p256", NULL},
	{{"ECDSA", "P256", NULL}, "p256", NULL},
	{{"ECDSA", "P384", "2048"}, "p384", NULL},
	{{NULL, "P384", NULL}, "p384", NULL},
	{{NULL, NULL, "2048"}, "rsa2048", NULL},
	{{NULL, NULL, "3072"}, "rsa3072", NULL},
	{{NULL, NULL, "4096"}, "rsa4096", NULL},
	{{"ED25519", NULL, NULL}, NULL, "ECC_SIGNATURE_ALGORITHM: \"ED25519\" is not ECDSA"},
	{{"ECDSA", "P521", NULL}, NULL, "ECC_CURVE: \"P521\" is neither P256 nor P384"},
	{{NULL, NULL, "1024"}, NULL, "WORKLOAD_RSA_KEY_SIZE: \"1024\" is none of 2048, 3072, 4096"},
};

static void C09_istios_variables_choose_the_key(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *got = NULL;
		enum pki_key_type type;
		struct err e = {0};
		bool ok = agent_key_type(&rows[i].given, &got, &e);
		assert_int_equal(ok, rows[i].wanted != NULL);
		assert_string_equal(ok ? got : e.text, ok ? rows[i].wanted : rows[i].why);
		assert_true(!ok || pki_key_type_parse(got, &type, NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(C09_istios_variables_choose_the_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
