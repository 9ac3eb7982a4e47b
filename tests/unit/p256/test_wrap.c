/*
 * DOC: That mbedTLS's own paths come through the seam: each call is made as TLS and X.509 make it, and the seam's counter must move; calls on
 * another curve must not move it. Built only where the linker wraps. (Whole handshakes: tests/unit/io/test_tls.c.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <mbedtls/ecdh.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/pk.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/p256/p256.h"

static const unsigned char hash[32] = {1, 2, 3};

static int rng(void *unused, unsigned char *out, size_t len)
{
	(void)unused;
	random_bytes(out, len);
	return 0;
}

static int count(const char *operation)
{
	return (int)metric_get(metric_find("fairlead_p256_operations_total"), operation);
}

static int all(void)
{
	return count("sign") + count("verify") + count("public") + count("multiply");
}

static void make(mbedtls_pk_context *pk, mbedtls_ecp_group_id curve)
{
	mbedtls_pk_init(pk);
	assert_int_equal(mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
	assert_int_equal(mbedtls_ecp_gen_key(curve, mbedtls_pk_ec(*pk), rng, NULL), 0);
}

static void signing_and_verifying_by_pk(void **state)
{
	mbedtls_pk_context pk;
	unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
	size_t len = 0;
	(void)state;
	int made = count("public"), signs = count("sign"), verifies = count("verify");
	make(&pk, MBEDTLS_ECP_DP_SECP256R1);
	assert_int_equal(count("public"), made + 1);
	assert_int_equal(mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, &len, rng, NULL), 0);
	assert_int_equal(count("sign"), signs + 1);
	assert_int_equal(mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, len), 0);
	assert_int_equal(count("verify"), verifies + 1);
	/* mbedTLS's own check of the same signature, which is not wrapped. */
	mbedtls_mpi r, s;
	uint8_t raw[P256_SIGNATURE_BYTES];
	mbedtls_ecp_keypair *ec = mbedtls_pk_ec(pk);
	mbedtls_mpi_init(&r);
	mbedtls_mpi_init(&s);
	assert_true(p256_der_read(sig, len, raw));
	assert_int_equal(mbedtls_mpi_read_binary(&r, raw, 32), 0);
	assert_int_equal(mbedtls_mpi_read_binary(&s, raw + 32, 32), 0);
	assert_int_equal(mbedtls_ecdsa_verify(&ec->grp, hash, 32, &ec->Q, &r, &s), 0);
	mbedtls_mpi_free(&r);
	mbedtls_mpi_free(&s);
	sig[len - 1] ^= 1;
	assert_int_equal(mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, len), MBEDTLS_ERR_ECP_VERIFY_FAILED);
	assert_int_equal(
		mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, len - 1), MBEDTLS_ERR_ECP_BAD_INPUT_DATA);
	mbedtls_pk_free(&pk);
}

static void pairs_are_compared(void **state)
{
	mbedtls_pk_context a, b;
	(void)state;
	make(&a, MBEDTLS_ECP_DP_SECP256R1);
	make(&b, MBEDTLS_ECP_DP_SECP256R1);
	int before = count("public");
	assert_int_equal(mbedtls_pk_check_pair(&a, &a), 0);
	assert_int_not_equal(mbedtls_pk_check_pair(&a, &b), 0);
	assert_int_equal(count("public"), before + 2);
	mbedtls_pk_free(&a);
	mbedtls_pk_free(&b);
}

/* As the handshake does it: parameters out, the peer's point in, the secret. */
static void agree(mbedtls_ecp_group_id curve, int by_seam)
{
	mbedtls_ecdh_context server, client;
	unsigned char params[256], point[256], one[80], two[80];
	size_t n_params = 0, n_point = 0, n_one = 0, n_two = 0;
	const unsigned char *p = params;
	int before = all();
	mbedtls_ecdh_init(&server);
	mbedtls_ecdh_init(&client);
	assert_int_equal(mbedtls_ecdh_setup(&server, curve), 0);
	assert_int_equal(mbedtls_ecdh_make_params(&server, &n_params, params, sizeof(params), rng, NULL), 0);
	assert_int_equal(mbedtls_ecdh_read_params(&client, &p, params + n_params), 0);
	assert_int_equal(mbedtls_ecdh_make_public(&client, &n_point, point, sizeof(point), rng, NULL), 0);
	assert_int_equal(mbedtls_ecdh_read_public(&server, point, n_point), 0);
	assert_int_equal(mbedtls_ecdh_calc_secret(&server, &n_one, one, sizeof(one), rng, NULL), 0);
	assert_int_equal(mbedtls_ecdh_calc_secret(&client, &n_two, two, sizeof(two), rng, NULL), 0);
	assert_int_equal(n_one, n_two);
	assert_memory_equal(one, two, n_one);
	assert_int_equal(all(), before + by_seam);
	mbedtls_ecdh_free(&server);
	mbedtls_ecdh_free(&client);
}

static void key_agreement_of_handshakes(void **state)
{
	(void)state;
	agree(MBEDTLS_ECP_DP_SECP256R1, 4);
	agree(MBEDTLS_ECP_DP_SECP384R1, 0);
	agree(MBEDTLS_ECP_DP_CURVE25519, 0);
}

static void other_curves_stay_with_mbedtls(void **state)
{
	mbedtls_pk_context pk;
	unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
	size_t len = 0;
	(void)state;
	int before = all();
	make(&pk, MBEDTLS_ECP_DP_SECP384R1);
	assert_int_equal(mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, &len, rng, NULL), 0);
	assert_int_equal(mbedtls_pk_verify(&pk, MBEDTLS_MD_SHA256, hash, 32, sig, len), 0);
	assert_int_equal(mbedtls_pk_check_pair(&pk, &pk), 0);
	assert_int_equal(all(), before);
	mbedtls_pk_free(&pk);
}

static void wrong_numbers_are_errors(void **state)
{
	mbedtls_ecp_group g;
	mbedtls_ecp_point r, infinity;
	mbedtls_mpi m;
	(void)state;
	mbedtls_ecp_group_init(&g);
	mbedtls_ecp_point_init(&r);
	mbedtls_ecp_point_init(&infinity);
	mbedtls_mpi_init(&m);
	assert_int_equal(mbedtls_ecp_group_load(&g, MBEDTLS_ECP_DP_SECP256R1), 0);
	assert_int_equal(mbedtls_ecp_set_zero(&infinity), 0);
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &m, &g.G, rng, NULL), MBEDTLS_ERR_ECP_INVALID_KEY); /* zero */
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &g.N, &g.G, rng, NULL), MBEDTLS_ERR_ECP_INVALID_KEY);
	assert_int_equal(mbedtls_mpi_lset(&m, -1), 0);
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &m, &g.G, rng, NULL), MBEDTLS_ERR_ECP_INVALID_KEY);
	assert_int_equal(mbedtls_mpi_copy(&m, &g.N), 0);
	assert_int_equal(mbedtls_mpi_shift_l(&m, 8), 0);
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &m, &g.G, rng, NULL), MBEDTLS_ERR_ECP_INVALID_KEY);
	assert_int_equal(mbedtls_mpi_lset(&m, 1), 0);
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &m, &infinity, rng, NULL), MBEDTLS_ERR_ECP_BAD_INPUT_DATA);
	assert_int_equal(mbedtls_ecp_mul(&g, &r, &m, &g.G, rng, NULL), 0);
	assert_int_equal(mbedtls_ecp_point_cmp(&r, &g.G), 0);
	mbedtls_ecp_group_free(&g);
	mbedtls_ecp_point_free(&r);
	mbedtls_ecp_point_free(&infinity);
	mbedtls_mpi_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signing_and_verifying_by_pk),
		cmocka_unit_test(pairs_are_compared),
		cmocka_unit_test(key_agreement_of_handshakes),
		cmocka_unit_test(other_curves_stay_with_mbedtls),
		cmocka_unit_test(wrong_numbers_are_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
