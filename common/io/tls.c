/*
 * DOC: TLS contexts. A context is a row of replaceable parts; the first connection after a change freezes them into a setup (an
 * mbedTLS configuration and counted parts), which connections share until the next change. So rotating a certificate costs one
 * setup, and connections that exist are not touched.
 */
#include "common/io/tls.h"

#include <mbedtls/error.h>
#include <mbedtls/platform_util.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/scopes.h"
#include "common/io/tls_impl.h"

struct tls_context {
	unsigned refs;
	bool server;
	enum tls_peer_auth peer_auth;
	char *trust_domain;
	struct tls_identity *identity;
	struct tls_roots *roots;
	char **names;
	struct tls_setup *setup; /* NULL after a change */
};

/* AES-128-GCM first: measured against ChaCha20 it costs half with AES instructions, and Istio's proxies prefer it too. */
static const int suites[] = {
	MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	0,
};
/*
 * P-256 first, whose arithmetic is common/p256's: mbedTLS by itself would take the longest, P-521. A peer's key may be on any of these, and a key
 * agreement too.
 */
static const mbedtls_ecp_group_id curves[] = {
	MBEDTLS_ECP_DP_SECP256R1,
	MBEDTLS_ECP_DP_CURVE25519,
	MBEDTLS_ECP_DP_SECP384R1,
	MBEDTLS_ECP_DP_SECP521R1,
	MBEDTLS_ECP_DP_NONE,
};
static const char *alpn[] = {"h2", NULL};

bool tls_error(struct err *e, const char *what, int code)
{
	char text[160];
	mbedtls_strerror(code, text, sizeof(text));
	return err_set(e, ERR_LIBRARY, "%s: %s (-0x%04x)", what, text, (unsigned)-code);
}

static int rng(void *ctx, unsigned char *out, size_t len)
{
	(void)ctx;
	random_bytes(out, len);
	return 0;
}

/* ---- counted parts */

static void identity_unref(struct tls_identity *i)
{
	if (!i || --i->refs)
		return;
	mbedtls_x509_crt_free(&i->chain);
	mbedtls_pk_free(&i->key); /* wipes */
	free(i);
}

static void identity_unref_p(struct tls_identity **i)
{
	identity_unref(*i);
}

static void roots_unref(struct tls_roots *r)
{
	if (!r || --r->refs)
		return;
	mbedtls_x509_crt_free(&r->certs);
	free(r);
}

static void roots_unref_p(struct tls_roots **r)
{
	roots_unref(*r);
}

static void free_names(char **names)
{
	for (char **p = names; p && *p; p++)
		free(*p);
	free(names);
}

static char **copy_names(const char *const *names)
{
	size_t n = 0;
	while (names && names[n])
		n++;
	if (!n)
		return NULL;
	char **copy = xzalloc((n + 1) * sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(names[i]);
	return copy;
}

/* ---- setups */

void tls_setup_unref(struct tls_setup *s)
{
	if (!s || --s->refs)
		return;
	mbedtls_ssl_config_free(&s->conf);
	identity_unref(s->identity);
	roots_unref(s->roots);
	free_names(s->names);
	free(s->trust_domain);
	free(s);
}

static bool setup_configure(struct tls_setup *s, struct err *e)
{
	int endpoint = s->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT;
	int bad = mbedtls_ssl_config_defaults(
		&s->conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
	if (bad)
		return tls_error(e, "TLS configuration", bad);
	mbedtls_ssl_conf_rng(&s->conf, rng, NULL);
	mbedtls_ssl_conf_min_version(&s->conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
	mbedtls_ssl_conf_ciphersuites(&s->conf, suites);
	mbedtls_ssl_conf_curves(&s->conf, curves);
	mbedtls_ssl_conf_session_tickets(&s->conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
	bad = mbedtls_ssl_conf_alpn_protocols(&s->conf, alpn);
	if (!bad && s->identity)
		bad = mbedtls_ssl_conf_own_cert(&s->conf, &s->identity->chain, &s->identity->key);
	if (bad)
		return tls_error(e, "TLS configuration", bad);
	if (s->roots)
		mbedtls_ssl_conf_ca_chain(&s->conf, &s->roots->certs, NULL);
	const int mode[] = {[TLS_PEER_NONE] = MBEDTLS_SSL_VERIFY_NONE,
		[TLS_PEER_OPTIONAL] = MBEDTLS_SSL_VERIFY_OPTIONAL,
		[TLS_PEER_REQUIRED] = MBEDTLS_SSL_VERIFY_REQUIRED};
	mbedtls_ssl_conf_authmode(&s->conf, mode[s->peer_auth]);
	return true;
}

static bool complete(const struct tls_context *c, struct err *e)
{
	if (c->server && !c->identity)
		return err_set(e, ERR_DENIED, "the TLS server has no certificate yet");
	if (c->peer_auth != TLS_PEER_NONE && !c->roots)
		return err_set(e, ERR_DENIED, "there are no trust roots yet to verify the peer with");
	return true;
}

static void setup_unref_p(struct tls_setup **s)
{
	tls_setup_unref(*s);
}

struct tls_setup *tls_context_setup(struct tls_context *c, struct err *e)
{
	if (c->setup) {
		c->setup->refs++;
		return c->setup;
	}
	if (!complete(c, e))
		return NULL;
	cleanup(setup_unref_p) struct tls_setup *s = xzalloc(sizeof(*s));
	*s = (struct tls_setup){
		.refs = 1, .server = c->server, .peer_auth = c->peer_auth, .identity = c->identity, .roots = c->roots};
	mbedtls_ssl_config_init(&s->conf);
	if (s->identity)
		s->identity->refs++;
	if (s->roots)
		s->roots->refs++;
	s->names = copy_names((const char *const *)c->names);
	s->trust_domain = c->trust_domain ? xstrdup(c->trust_domain) : NULL;
	if (!setup_configure(s, e))
		return NULL;
	c->setup = s;
	s->refs++;
	return take(s);
}

/* ---- contexts */

struct tls_context *tls_context_new(const struct tls_options *o)
{
	struct tls_context *c = xzalloc(sizeof(*c));
	c->refs = 1;
	c->server = o->server;
	c->peer_auth = o->server ? o->peer_auth : TLS_PEER_REQUIRED;
	c->trust_domain = o->trust_domain ? xstrdup(o->trust_domain) : NULL;
	return c;
}

void tls_context_ref(struct tls_context *c)
{
	c->refs++;
}

void tls_context_free(struct tls_context *c)
{
	if (!c || --c->refs)
		return;
	tls_setup_unref(c->setup);
	identity_unref(c->identity);
	roots_unref(c->roots);
	free_names(c->names);
	free(c->trust_domain);
	free(c);
}

static void changed(struct tls_context *c)
{
	tls_setup_unref(c->setup);
	c->setup = NULL;
}

static bool parse_certs(mbedtls_x509_crt *out, struct str pem, const char *what, struct err *e)
{
	if (pem.len > LIMIT_PEM_BYTES)
		return err_set(e, ERR_LIMIT, "%s: %zu bytes of PEM, the limit is %u", what, pem.len, LIMIT_PEM_BYTES);
	cleanup(free_p) char *text = xstrndup(pem.ptr, pem.len); /* mbedTLS wants the NUL */
	int bad = mbedtls_x509_crt_parse(out, (const unsigned char *)text, strlen(text) + 1);
	if (bad > 0)
		return err_set(e, ERR_PEER, "%s: %d certificates cannot be read", what, bad);
	return bad ? tls_error(e, what, bad) : true;
}

static bool parse_key(mbedtls_pk_context *out, struct str pem, struct err *e)
{
	if (pem.len > LIMIT_PEM_BYTES)
		return err_set(
			e, ERR_LIMIT, "private key: %zu bytes of PEM, the limit is %u", pem.len, LIMIT_PEM_BYTES);
	char *text = xstrndup(pem.ptr, pem.len);
	int bad = mbedtls_pk_parse_key(out, (const unsigned char *)text, pem.len + 1, NULL, 0);
	mbedtls_platform_zeroize(text, pem.len);
	free(text);
	return bad ? tls_error(e, "private key", bad) : true;
}

bool tls_context_set_identity(struct tls_context *c, struct str chain_pem, struct str key_pem, struct err *e)
{
	if (!chain_pem.ptr && !key_pem.ptr)
		return true;
	if (!chain_pem.ptr || !key_pem.ptr)
		return err_set(e, ERR_BUG, "a certificate chain and its key are set together");
	cleanup(identity_unref_p) struct tls_identity *i = xzalloc(sizeof(*i));
	i->refs = 1;
	mbedtls_x509_crt_init(&i->chain);
	mbedtls_pk_init(&i->key);
	if (!parse_certs(&i->chain, chain_pem, "certificate chain", e) || !parse_key(&i->key, key_pem, e))
		return false;
	int bad = mbedtls_pk_check_pair(&i->chain.pk, &i->key);
	if (bad)
		return tls_error(e, "the private key does not belong to the certificate", bad);
	identity_unref(c->identity);
	c->identity = take(i);
	changed(c);
	return true;
}

bool tls_context_set_roots(struct tls_context *c, struct str roots_pem, struct err *e)
{
	if (!roots_pem.ptr)
		return true;
	cleanup(roots_unref_p) struct tls_roots *r = xzalloc(sizeof(*r));
	r->refs = 1;
	mbedtls_x509_crt_init(&r->certs);
	if (!parse_certs(&r->certs, roots_pem, "trust roots", e))
		return false;
	roots_unref(c->roots);
	c->roots = take(r);
	changed(c);
	return true;
}

bool tls_context_set_server_names(struct tls_context *c, const char *const *dns_or_uri, struct err *e)
{
	if (c->server)
		return err_set(e, ERR_BUG, "server names belong to a client's TLS context");
	free_names(c->names);
	c->names = copy_names(dns_or_uri);
	changed(c);
	return true;
}
