/*
 * DOC: How mbedTLS's TLS and X.509 get the seam's arithmetic. The linker sends each call of the functions below, from our code and from one
 * object of mbedTLS's static libraries to another, to __wrap_<name> (ld --wrap; meson.build has the list), and what is not of P-256 goes on
 * to __real_<name>, mbedTLS's own. So a signature or key agreement is done whole by the other library, and mbedTLS goes on with its result.
 * Calls within one object of mbedTLS are not redirected: that is why mbedtls_ecp_gen_key and mbedtls_ecp_check_pub_priv are here although
 * they only multiply. tests/unit/p256/test_wrap.c counts that handshakes and certificates come through here.
 */
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <string.h>

#include "common/base/util.h"
#include "common/base/wrap.h"
#include "common/p256/p256.h"

typedef int random_fn(void *, unsigned char *, size_t);

WRAPPED(mbedtls_ecdsa_write_signature);
WRAPPED(mbedtls_ecdsa_read_signature);
WRAPPED(mbedtls_ecp_mul);
WRAPPED(mbedtls_ecp_mul_restartable);
WRAPPED(mbedtls_ecp_gen_key);
WRAPPED(mbedtls_ecp_check_pub_priv);

struct secret {
	uint8_t key[P256_KEY_BYTES];
};

static void wipe(struct secret *s)
{
	p256_wipe(s, sizeof(*s));
}

static bool ours(const mbedtls_ecp_group *g)
{
	return g->id == MBEDTLS_ECP_DP_SECP256R1;
}

static int read_key(const mbedtls_mpi *m, struct secret *out)
{
	return m->s == 1 && mbedtls_mpi_write_binary(m, out->key, sizeof(out->key)) == 0 ? 0
											 : MBEDTLS_ERR_ECP_INVALID_KEY;
}

/* Refuses infinity, which is written as one byte. */
static int read_point(const mbedtls_ecp_group *g, const mbedtls_ecp_point *p, uint8_t out[P256_POINT_BYTES])
{
	size_t len = 0;
	int rc = mbedtls_ecp_point_write_binary(g, p, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, out, P256_POINT_BYTES);
	return rc == 0 && len == P256_POINT_BYTES ? 0 : MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
}

int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context *ctx, mbedtls_md_type_t md, const unsigned char *hash,
	size_t hash_len, unsigned char *sig, size_t *sig_len, random_fn *f_rng, void *p_rng)
{
	cleanup(wipe) struct secret s;
	uint8_t raw[P256_SIGNATURE_BYTES];
	if (!ours(&ctx->grp))
		return __real_mbedtls_ecdsa_write_signature(ctx, md, hash, hash_len, sig, sig_len, f_rng, p_rng);
	int rc = read_key(&ctx->d, &s);
	if (rc)
		return rc;
	if (!p256_sign(s.key, hash, hash_len, raw))
		return MBEDTLS_ERR_ECP_INVALID_KEY;
	*sig_len = p256_der_write(raw, sig);
	return 0;
}

int __wrap_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context *ctx, const unsigned char *hash, size_t hash_len,
	const unsigned char *sig, size_t sig_len)
{
	uint8_t point[P256_POINT_BYTES], raw[P256_SIGNATURE_BYTES];
	if (!ours(&ctx->grp))
		return __real_mbedtls_ecdsa_read_signature(ctx, hash, hash_len, sig, sig_len);
	int rc = read_point(&ctx->grp, &ctx->Q, point);
	if (rc)
		return rc;
	if (!p256_der_read(sig, sig_len, raw))
		return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
	return p256_verify(point, hash, hash_len, raw) ? 0 : MBEDTLS_ERR_ECP_VERIFY_FAILED;
}

/* R = m * P. R may be P. */
static int multiply(mbedtls_ecp_group *g, mbedtls_ecp_point *r, const mbedtls_mpi *m, const mbedtls_ecp_point *p)
{
	cleanup(wipe) struct secret s;
	uint8_t from[P256_POINT_BYTES], to[P256_POINT_BYTES];
	int rc = read_key(m, &s);
	rc = rc ? rc : read_point(g, p, from);
	if (rc)
		return rc;
	bool base = mbedtls_ecp_point_cmp(p, &g->G) == 0;
	if (!(base ? p256_public(s.key, to) : p256_multiply(s.key, from, to)))
		return MBEDTLS_ERR_ECP_INVALID_KEY;
	rc = mbedtls_ecp_point_read_binary(g, r, to, sizeof(to));
	p256_wipe(to, sizeof(to)); /* of ECDH it is the secret */
	return rc;
}

int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *g, mbedtls_ecp_point *r, const mbedtls_mpi *m, const mbedtls_ecp_point *p,
	random_fn *f_rng, void *p_rng)
{
	return ours(g) ? multiply(g, r, m, p) : __real_mbedtls_ecp_mul(g, r, m, p, f_rng, p_rng);
}

int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *g, mbedtls_ecp_point *r, const mbedtls_mpi *m,
	const mbedtls_ecp_point *p, random_fn *f_rng, void *p_rng, mbedtls_ecp_restart_ctx *restart)
{
	return ours(g) ? multiply(g, r, m, p) : __real_mbedtls_ecp_mul_restartable(g, r, m, p, f_rng, p_rng, restart);
}

int __wrap_mbedtls_ecp_gen_key(mbedtls_ecp_group_id id, mbedtls_ecp_keypair *key, random_fn *f_rng, void *p_rng)
{
	cleanup(wipe) struct secret s;
	uint8_t point[P256_POINT_BYTES];
	if (id != MBEDTLS_ECP_DP_SECP256R1)
		return __real_mbedtls_ecp_gen_key(id, key, f_rng, p_rng);
	int rc = mbedtls_ecp_group_load(&key->grp, id);
	if (rc)
		return rc;
	if (!p256_generate(s.key, point))
		return MBEDTLS_ERR_ECP_INVALID_KEY;
	rc = mbedtls_mpi_read_binary(&key->d, s.key, sizeof(s.key));
	return rc ? rc : mbedtls_ecp_point_read_binary(&key->grp, &key->Q, point, sizeof(point));
}

int __wrap_mbedtls_ecp_check_pub_priv(const mbedtls_ecp_keypair *pub, const mbedtls_ecp_keypair *key)
{
	cleanup(wipe) struct secret s;
	uint8_t want[P256_POINT_BYTES], made[P256_POINT_BYTES];
	if (!ours(&pub->grp) || !ours(&key->grp))
		return __real_mbedtls_ecp_check_pub_priv(pub, key);
	int rc = read_key(&key->d, &s);
	rc = rc ? rc : read_point(&pub->grp, &pub->Q, want);
	if (rc)
		return rc;
	bool fits = p256_public(s.key, made) && memcmp(want, made, sizeof(want)) == 0 &&
		    mbedtls_ecp_point_cmp(&pub->Q, &key->Q) == 0;
	return fits ? 0 : MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
}
