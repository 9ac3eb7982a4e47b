/*
 * DOC: Private keys. A key is an mbedtls_pk_context with the random generator that its operations need; keys are made on P-256 by default.
 * PEM text of a key exists only while it is handed over, and is wiped by secret_free().
 */
#include "common/pki/pki_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/rsa.h>

#include "common/base/clock.h"

bool pki_library_error(struct err *e, int code, const char *what)
{
	char text[160];
	mbedtls_strerror(code, text, sizeof(text));
	return err_set(e, ERR_LIBRARY, "%s: %s (mbedTLS -0x%04x)", what, text, (unsigned)-code);
}

int pki_random(void *unused, unsigned char *out, size_t len)
{
	(void)unused;
	random_bytes(out, len);
	return 0;
}

void secret_free(char *secret)
{
	if (!secret)
		return;
	mbedtls_platform_zeroize(secret, strlen(secret));
	free(secret);
}

void pki_key_free(struct pki_key *k)
{
	if (!k)
		return;
	mbedtls_pk_free(&k->pk); /* wipes its numbers */
	free(k);
}

void pki_key_free_p(struct pki_key **k)
{
	pki_key_free(*k);
}

static const struct {
	const char *name;
	mbedtls_ecp_group_id curve; /* NONE: RSA of `bits` */
	unsigned bits;
} key_types[] = {
	[PKI_P256] = {"p256", MBEDTLS_ECP_DP_SECP256R1, 256},
	[PKI_P384] = {"p384", MBEDTLS_ECP_DP_SECP384R1, 384},
	[PKI_RSA2048] = {"rsa2048", MBEDTLS_ECP_DP_NONE, 2048},
	[PKI_RSA3072] = {"rsa3072", MBEDTLS_ECP_DP_NONE, 3072},
	[PKI_RSA4096] = {"rsa4096", MBEDTLS_ECP_DP_NONE, 4096},
};

bool pki_key_type_parse(const char *name, enum pki_key_type *out, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(key_types); i++) {
		if (streq(name, key_types[i].name)) {
			*out = (enum pki_key_type)i;
			return true;
		}
	}
	return err_set(e, ERR_PEER, "key \"%.40s\" is none of " PKI_KEY_TYPES, name ? name : "");
}

static int generate(mbedtls_pk_context *pk, enum pki_key_type type)
{
	mbedtls_ecp_group_id curve = key_types[type].curve;
	bool ec = curve != MBEDTLS_ECP_DP_NONE;
	int rc = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(ec ? MBEDTLS_PK_ECKEY : MBEDTLS_PK_RSA));
	if (rc)
		return rc;
	if (ec)
		return mbedtls_ecp_gen_key(curve, mbedtls_pk_ec(*pk), pki_random, NULL);
	return mbedtls_rsa_gen_key(mbedtls_pk_rsa(*pk), pki_random, NULL, key_types[type].bits, 65537);
}

struct pki_key *pki_key_new(enum pki_key_type type, struct err *e)
{
	struct pki_key *k cleanup(pki_key_free_p) = xzalloc(sizeof(*k));
	mbedtls_pk_init(&k->pk);
	int rc = generate(&k->pk, type);
	if (rc) {
		(void)pki_library_error(e, rc, "make a private key");
		return NULL;
	}
	return take(k);
}

struct pki_key *pki_key_parse(struct str pem, struct err *e)
{
	struct pki_key *k cleanup(pki_key_free_p) = xzalloc(sizeof(*k));
	mbedtls_pk_init(&k->pk);
	if (pem.len > LIMIT_PEM_BYTES) {
		(void)err_set(e, ERR_LIMIT, "private key of %zu bytes; the limit is %u", pem.len, LIMIT_PEM_BYTES);
		return NULL;
	}
	char *text = xstrndup(pem.ptr, pem.len); /* mbedTLS wants the NUL counted in */
	int rc = mbedtls_pk_parse_key(&k->pk, (const unsigned char *)text, strlen(text) + 1, NULL, 0);
	secret_free(text);
	if (rc) {
		(void)pki_library_error(e, rc, "parse a PEM private key");
		return NULL;
	}
	return take(k);
}

bool pki_key_pem(const struct pki_key *k, char **out, struct err *e)
{
	unsigned char buf[8192];
	int rc = mbedtls_pk_write_key_pem((mbedtls_pk_context *)&k->pk, buf, sizeof(buf));
	if (rc)
		return pki_library_error(e, rc, "write a private key");
	*out = xstrdup((char *)buf);
	mbedtls_platform_zeroize(buf, sizeof(buf));
	return true;
}

bool pki_spki_of(const struct pki_key *k, struct arena *a, struct str *out_der, struct err *e)
{
	unsigned char buf[2048];
	int n = mbedtls_pk_write_pubkey_der((mbedtls_pk_context *)&k->pk, buf, sizeof(buf));
	if (n < 0)
		return pki_library_error(e, n, "write a public key");
	/* mbedTLS writes at the end of the buffer. */
	*out_der = str_n(arena_dup(a, buf + sizeof(buf) - n, (size_t)n), (size_t)n);
	return true;
}

const char *pki_pk_name(const mbedtls_pk_context *pk, unsigned *bits)
{
	*bits = (unsigned)mbedtls_pk_get_bitlen(pk);
	if (mbedtls_pk_can_do(pk, MBEDTLS_PK_ECKEY)) {
		/* By curve, not by size: secp256k1 and brainpoolP256r1 have 256 bits too. */
		mbedtls_ecp_group_id curve = mbedtls_pk_ec(*pk)->grp.id;
		return curve == MBEDTLS_ECP_DP_SECP256R1   ? "EC P-256"
		       : curve == MBEDTLS_ECP_DP_SECP384R1 ? "EC P-384"
							   : "EC";
	}
	if (!mbedtls_pk_can_do(pk, MBEDTLS_PK_RSA))
		return "unknown";
	return *bits == 2048 ? "RSA 2048" : *bits == 3072 ? "RSA 3072" : *bits == 4096 ? "RSA 4096" : "RSA";
}

bool pki_key_fits(const struct pki_key *k, struct str cert_pem, struct err *e)
{
	mbedtls_x509_crt crt;
	if (!pki_crt_parse(&crt, cert_pem, e))
		return false;
	int rc = mbedtls_pk_check_pair(&crt.pk, &k->pk);
	mbedtls_x509_crt_free(&crt);
	return rc == 0 || err_set(e, ERR_PEER, "the private key does not belong to the certificate");
}
