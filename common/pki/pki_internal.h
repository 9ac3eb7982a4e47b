/* What the files of common/pki share; nobody else includes this. */
#pragma once

#include <mbedtls/asn1write.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>

#include "common/base/limits.h"
#include "common/pki/pki.h"

struct pki_key {
	mbedtls_pk_context pk;
};

void pki_key_free_p(struct pki_key **k);
bool pki_library_error(struct err *e, int code, const char *what); /* false, as err_set() */
int pki_random(void *unused, unsigned char *out, size_t len); /* mbedTLS's f_rng on the kernel's generator */
const char *pki_pk_name(const mbedtls_pk_context *pk, unsigned *bits);
/* Initialises and fills crt; on error it is freed already. */
bool pki_crt_parse(mbedtls_x509_crt *crt, struct str pem, struct err *e);

/* The first armour with this label in text; *out is in the arena. False: there is none, or it is no base64. */
bool pki_unarmour(struct arena *a, struct str text, const char *label, struct str *out) MUST_CHECK;

/* GeneralName tags of RFC 5280, context specific. */
#define SAN_OTHER 0
#define SAN_EMAIL 1
#define SAN_DNS 2
#define SAN_DIRECTORY 4
#define SAN_URI 6
#define SAN_IP 7

struct pki_sans {
	const char **uris;
	const char **dns;
	const char **other;
};
/* Parses the DER of a SubjectAltName extension's value (a SEQUENCE OF GeneralName). */
bool pki_sans_parse(
	struct arena *a, const unsigned char *der, size_t len, struct pki_sans *out, struct err *e) MUST_CHECK;
/* Writes the value of a SubjectAltName extension; the caller frees *out. */
bool pki_sans_write(
	const char *const *uris, const char *const *dns, unsigned char **out, size_t *len, struct err *e) MUST_CHECK;
/* SANs of a parsed certificate; empty lists when it has none. */
bool pki_cert_sans(struct arena *a, const mbedtls_x509_crt *crt, struct pki_sans *out, struct err *e) MUST_CHECK;

/* One public key of a set. A key without kid (PEM) may verify any token. */
struct jwk {
	char *kid;
	mbedtls_pk_context pk;
	const char *alg; /* "ES256" or "RS256", by the key's type */
};
struct jwks {
	struct jwk *items;
	size_t len;
	size_t cap;
};
/* base64url without padding (RFC 7515, 2). Decoding gives arena memory and refuses every other character. */
bool pki_b64url_decode(struct arena *a, struct str text, struct str *out) MUST_CHECK;
void pki_b64url_encode(struct strbuf *out, const void *data, size_t len);
/* "ES256" for P-256, "RS256" for RSA of at least 2048 bits, else NULL. */
const char *pki_jws_alg(const mbedtls_pk_context *pk);
