/*
 * Keys, certificate signing requests and X.509 certificates on mbedTLS. Private keys are struct secret-like: no printer, wiped when
 * freed. PEM in and out. Pure computation: no files, no network; time is an argument.
 * Sources of rules: RFC 5280, RFC 2986, SPIFFE X.509-SVID (one URI SAN; no CA bit in leaves; key usages).
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"

struct pki_key;

enum pki_key_type { PKI_P256, PKI_P384, PKI_RSA2048, PKI_RSA3072, PKI_RSA4096 };
#define PKI_KEY_TYPES "p256, p384, rsa2048, rsa3072, rsa4096"
bool pki_key_type_parse(const char *name, enum pki_key_type *out, struct err *e) MUST_CHECK;

struct pki_key *pki_key_new(enum pki_key_type type, struct err *e);
struct pki_key *pki_key_parse(struct str pem, struct err *e); /* PKCS#8, SEC1, PKCS#1 */
void pki_key_free(struct pki_key *k);
bool pki_key_pem(const struct pki_key *k, char **out, struct err *e) MUST_CHECK; /* wipe with secret_free() */
#define PKI_SHA256_BYTES 32
void pki_sha256(struct str bytes, char out[PKI_SHA256_BYTES]);
void secret_free(char *secret); /* wipes and frees a NUL-terminated string; NULL is fine */

/* Certificate signing request with SANs: URIs ("spiffe://...") and DNS names, NULL-terminated lists or NULL. */
bool pki_csr_new(const struct pki_key *k, const char *const *uris, const char *const *dns, char **out_pem,
	struct err *e) MUST_CHECK;

struct pki_csr {
	const char **uris; /* NULL-terminated, in the arena */
	const char **dns;
	const char **other_sans; /* kinds of SAN that are neither, by name ("email", "ip") */
	bool wants_ca;
	const char *key_type; /* "EC P-256", "RSA 2048" ... */
	unsigned key_bits;
	struct str spki_der;
};
/* Parses, verifies the proof of possession (signature). Wrong input is ERR_PEER with what is wrong. Limit: LIMIT_CSR_BYTES. */
bool pki_csr_parse(struct arena *a, struct str pem, struct pki_csr *out, struct err *e) MUST_CHECK;
/* The same in steps: armour off; what it says, without proof (for who hands it on to one that verifies it); with proof. */
bool pki_csr_der(struct arena *a, struct str pem, struct str *out_der, struct err *e) MUST_CHECK;
bool pki_csr_read(struct arena *a, struct str der, struct pki_csr *out, struct err *e) MUST_CHECK;
bool pki_csr_verify(struct arena *a, struct str der, struct pki_csr *out, struct err *e) MUST_CHECK;

struct pki_cert_request {
	struct str spki_der; /* subject's public key */
	const char *common_name; /* "" for workloads: then SAN is critical */
	const char *organization;
	const char *const *uris;
	const char *const *dns;
	int64_t not_before_ms;
	int64_t not_after_ms;
	bool ca;
	int path_len; /* ca: -1 none */
};
/* Signs with issuer_key; issuer_cert_pem NULL = self-signed. Serial: 127 random bits. */
bool pki_issue(const struct pki_key *issuer_key, struct str issuer_cert_pem, const struct pki_cert_request *r,
	char **out_pem, struct err *e) MUST_CHECK;

/* An issuer taken apart once, for who issues often. The key is borrowed and must live longer; cert_pem.ptr NULL = self-signed. */
struct pki_issuer;
struct pki_issuer *pki_issuer_new(const struct pki_key *key, struct str cert_pem, struct err *e) MUST_CHECK;
void pki_issuer_free(struct pki_issuer *i);
struct pki_issued {
	struct str der; /* in the arena, as the serial number */
	struct str serial_hex;
	int64_t not_after_ms;
};
bool pki_issuer_sign(struct arena *a, const struct pki_issuer *i, const struct pki_cert_request *r,
	struct pki_issued *out, struct err *e) MUST_CHECK;

struct pki_cert {
	const char *subject, *issuer;
	const char **uris, **dns;
	const char *serial_hex;
	int64_t not_before_ms, not_after_ms;
	bool ca;
	struct str der;
	const char *sha256_hex;
	const char *key_type;
};
/* All certificates of a PEM bundle, leaf first. */
bool pki_certs_parse(struct arena *a, struct str pem, struct pki_cert **out, size_t *n, struct err *e) MUST_CHECK;
/* Chain (leaf first) verifies up to one of the roots at now_ms. */
bool pki_verify(struct str chain_pem, struct str roots_pem, int64_t now_ms, struct err *e) MUST_CHECK;
/* The certificates of both bundles, each once: those of the first in their order, then the others. In the arena. */
bool pki_bundle_join(struct arena *a, struct str first, struct str second, struct str *out, struct err *e) MUST_CHECK;
/* The roots in a SPIFFE bundle (a JWK set), at least one, as PEM in the arena. */
bool pki_spiffe_bundle(struct arena *a, struct str json, struct str *out_pem, struct err *e) MUST_CHECK;
char *pki_pem(const char *label, const unsigned char *der, size_t len); /* armour; the caller frees it */
char *pki_cert_pem(const struct pki_cert *c); /* the same of a certificate */
bool pki_cert_listed(const struct pki_cert *c, const struct pki_cert *list, size_t n); /* byte for byte */
bool pki_key_fits(const struct pki_key *k, struct str cert_pem, struct err *e) MUST_CHECK;
bool pki_spki_of(const struct pki_key *k, struct arena *a, struct str *out_der, struct err *e) MUST_CHECK;

/* JOSE (RFC 7515, 7519): compact JWS with ES256 / RS256 only; "none" and HMAC are refused by name. */
struct jwt {
	const char *kid, *alg;
	const char *issuer, *subject;
	const char **audiences; /* NULL-terminated */
	int64_t expires_ms, not_before_ms, issued_ms; /* 0: absent */
	const char *payload_json;
};
struct jwks; /* keys by kid, from a JWKS document or PEM public keys */
bool jwks_parse(struct str json, struct jwks **out, struct err *e) MUST_CHECK;
void jwks_free(struct jwks *k);
/* Signature only; times and audience are the caller's to check. */
bool jwt_verify(struct arena *a, struct str token, const struct jwks *keys, struct jwt *out, struct err *e) MUST_CHECK;
/* What it says, without verification: nothing to rely on. */
bool jwt_read(struct arena *a, struct str token, struct jwt *out, struct err *e) MUST_CHECK;
bool jwt_sign(
	const struct pki_key *k, const char *kid, const char *payload_json, char **out_token, struct err *e) MUST_CHECK;
bool jwks_of_key(const struct pki_key *k, const char *kid, char **out_json, struct err *e) MUST_CHECK;
