/*
 * DOC: Writes the CSRs that tests need, on mbedTLS directly, because common/pki rightly cannot make most of them.
 */
#include "tests/unit/pki/csr_maker.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/oid.h>
#include <mbedtls/rsa.h>

#include "common/pki/pki_internal.h"

static void make_key(mbedtls_pk_context *pk, const struct csr_recipe *r)
{
	static const mbedtls_ecp_group_id curves[] = {[CSR_P256] = MBEDTLS_ECP_DP_SECP256R1,
		[CSR_P384] = MBEDTLS_ECP_DP_SECP384R1,
		[CSR_SECP256K1] = MBEDTLS_ECP_DP_SECP256K1,
		[CSR_P521] = MBEDTLS_ECP_DP_SECP521R1};
	bool rsa = r->key == CSR_RSA1024 || r->key == CSR_RSA2048;
	mbedtls_pk_init(pk);
	int rc = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECKEY));
	if (!rc && rsa)
		rc = mbedtls_rsa_gen_key(
			mbedtls_pk_rsa(*pk), pki_random, NULL, r->key == CSR_RSA1024 ? 1024 : 2048, 65537);
	else if (!rc)
		rc = mbedtls_ecp_gen_key(curves[r->key], mbedtls_pk_ec(*pk), pki_random, NULL);
	assert(rc == 0);
}

static void add_extensions(mbedtls_x509write_csr *csr, const struct csr_recipe *r)
{
	static const unsigned char ca_true[] = {0x30, 0x03, 0x01, 0x01, 0xff};
	unsigned char *san = NULL;
	size_t len = 0;
	int rc = 0;
	if (r->wants_ca)
		rc = mbedtls_x509write_csr_set_extension(csr, MBEDTLS_OID_BASIC_CONSTRAINTS,
			MBEDTLS_OID_SIZE(MBEDTLS_OID_BASIC_CONSTRAINTS), ca_true, sizeof(ca_true));
	assert(rc == 0);
	if (r->email) {
		size_t n = strlen(r->email);
		san = xmalloc(n + 4);
		san[0] = 0x30;
		san[1] = (unsigned char)(n + 2);
		san[2] = 0x81; /* [1] rfc822Name */
		san[3] = (unsigned char)n;
		memcpy(san + 4, r->email, n);
		len = n + 4;
	} else if (r->uris || r->dns) {
		bool ok = pki_sans_write(r->uris, r->dns, &san, &len, NULL);
		assert(ok);
	}
	if (san)
		rc = mbedtls_x509write_csr_set_extension(
			csr, MBEDTLS_OID_SUBJECT_ALT_NAME, MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), san, len);
	assert(rc == 0);
	free(san);
}

char *csr_make(const struct csr_recipe *r)
{
	mbedtls_pk_context pk;
	mbedtls_x509write_csr csr;
	unsigned char der[8192];
	make_key(&pk, r);
	mbedtls_x509write_csr_init(&csr);
	mbedtls_x509write_csr_set_key(&csr, &pk);
	mbedtls_x509write_csr_set_md_alg(&csr, r->sha1 ? MBEDTLS_MD_SHA1 : MBEDTLS_MD_SHA256);
	int rc = mbedtls_x509write_csr_set_subject_name(&csr, "O=test");
	assert(rc == 0);
	add_extensions(&csr, r);
	int n = mbedtls_x509write_csr_der(&csr, der, sizeof(der), pki_random, NULL);
	assert(n > 0);
	unsigned char *start = der + sizeof(der) - n;
	if (r->break_signature)
		der[sizeof(der) - 1] ^= 1;
	mbedtls_x509write_csr_free(&csr);
	mbedtls_pk_free(&pk);
	return pki_pem("CERTIFICATE REQUEST", start, (size_t)n);
}
