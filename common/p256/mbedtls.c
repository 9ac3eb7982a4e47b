/* DOC: P-256 by mbedTLS itself, for builds that want no second library: 20 to 80 times slower. Nonces are by RFC 6979. */
#include "common/p256/p256_internal.h"

#include <mbedtls/ecdsa.h>
#include <mbedtls/version.h>

#include "common/base/clock.h"
#include "common/base/util.h"

struct work {
	mbedtls_ecp_group group;
	mbedtls_ecp_point p, q;
	mbedtls_mpi key, r, s;
};

static int work_init(struct work *w)
{
	mbedtls_ecp_group_init(&w->group);
	mbedtls_ecp_point_init(&w->p);
	mbedtls_ecp_point_init(&w->q);
	mbedtls_mpi_init(&w->key);
	mbedtls_mpi_init(&w->r);
	mbedtls_mpi_init(&w->s);
	return mbedtls_ecp_group_load(&w->group, MBEDTLS_ECP_DP_SECP256R1);
}

static void work_done(struct work *w)
{
	mbedtls_ecp_group_free(&w->group);
	mbedtls_ecp_point_free(&w->p);
	mbedtls_ecp_point_free(&w->q);
	mbedtls_mpi_free(&w->key); /* these wipe */
	mbedtls_mpi_free(&w->r);
	mbedtls_mpi_free(&w->s);
}

static int rng(void *unused, unsigned char *out, size_t len)
{
	(void)unused;
	random_bytes(out, len);
	return 0;
}

static int read_point(struct work *w, const uint8_t *bytes)
{
	int rc = mbedtls_ecp_point_read_binary(&w->group, &w->p, bytes, P256_POINT_BYTES);
	return rc ? rc : mbedtls_ecp_check_pubkey(&w->group, &w->p);
}

bool p256_backend_multiply(const uint8_t *key, const uint8_t *peer, uint8_t *out)
{
	cleanup(work_done) struct work w;
	size_t len = 0;
	int rc = work_init(&w);
	rc = rc ? rc : peer ? read_point(&w, peer) : mbedtls_ecp_copy(&w.p, &w.group.G);
	rc = rc ? rc : mbedtls_mpi_read_binary(&w.key, key, P256_KEY_BYTES);
	rc = rc ? rc : mbedtls_ecp_mul(&w.group, &w.q, &w.key, &w.p, rng, NULL);
	rc = rc ? rc
		: mbedtls_ecp_point_write_binary(
			  &w.group, &w.q, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, out, P256_POINT_BYTES);
	return rc == 0 && len == P256_POINT_BYTES;
}

bool p256_backend_sign(const uint8_t *key, const uint8_t *hash, size_t len, uint8_t *out)
{
	cleanup(work_done) struct work w;
	int rc = work_init(&w);
	rc = rc ? rc : mbedtls_mpi_read_binary(&w.key, key, P256_KEY_BYTES);
	rc = rc ? rc
		: mbedtls_ecdsa_sign_det_ext(&w.group, &w.r, &w.s, &w.key, hash, len, MBEDTLS_MD_SHA256, rng, NULL);
	rc = rc ? rc : mbedtls_mpi_write_binary(&w.r, out, 32);
	rc = rc ? rc : mbedtls_mpi_write_binary(&w.s, out + 32, 32);
	return rc == 0;
}

bool p256_backend_verify(const uint8_t *point, const uint8_t *hash, size_t len, const uint8_t *signature)
{
	cleanup(work_done) struct work w;
	int rc = work_init(&w);
	rc = rc ? rc : read_point(&w, point);
	rc = rc ? rc : mbedtls_mpi_read_binary(&w.r, signature, 32);
	rc = rc ? rc : mbedtls_mpi_read_binary(&w.s, signature + 32, 32);
	rc = rc ? rc : mbedtls_ecdsa_verify(&w.group, hash, len, &w.p, &w.r, &w.s);
	return rc == 0;
}

const char *p256_library(void)
{
	return MBEDTLS_VERSION_STRING_FULL;
}
