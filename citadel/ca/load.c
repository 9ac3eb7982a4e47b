/*
 * DOC: Loading a CA: the key decides. Our own root is made step by step with files that only the first of several replicas can create
 * (once.h): first ca-key.pem, then ca-cert.pem signed by whatever key is there, then the copies in Istio's names. A crash between two steps
 * is repaired by the next start. A plugged-in CA is checked before it is believed: CA bit, key fits, chain leads to the root.
 */
#include "citadel/ca/load.h"

#include <stdlib.h>

#include "citadel/ca/once.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/file.h"

#define SKEW_MS (2 * 60 * 1000)

bool ca_make_key(const char *path, const struct ca_options *o, struct err *e)
{
	enum pki_key_type type = PKI_P256;
	if (!pki_key_type_parse(o->root_key, &type, e))
		return err_in(e, "--root-key");
	struct pki_key *k = pki_key_new(type, e);
	char *pem = NULL;
	bool ok = k && pki_key_pem(k, &pem, e) && once_write(path, str_of(pem), 0600, e);
	secret_free(pem);
	pki_key_free(k);
	return ok;
}

bool ca_make_cert(struct arena *a, const char *path, const struct ca_options *o, const struct pki_key *k, struct err *e)
{
	int64_t now_ms = clock_wall_ms();
	struct pki_cert_request r = {.organization = o->trust_domain,
		.not_before_ms = now_ms - SKEW_MS,
		.not_after_ms = now_ms + (int64_t)o->root_ttl_ms,
		.ca = true,
		.path_len = -1};
	char *pem cleanup(free_p) = NULL;
	return pki_spki_of(k, a, &r.spki_der, e) && pki_issue(k, (struct str){0}, &r, &pem, e) &&
	       once_write(path, str_of(pem), 0644, e);
}

static bool own_root(struct arena *a, const struct ca_options *o, struct ca *out, struct err *e)
{
	const char *key = path_in(a, o->state_dir, "ca-key.pem"), *cert = path_in(a, o->state_dir, "ca-cert.pem");
	if (!file_mkdirs(o->state_dir, 0700, e) || (!file_exists(key) && !ca_make_key(key, o, e)))
		return false;
	out->key = read_key(key, e);
	if (!out->key || (!file_exists(cert) && !ca_make_cert(a, cert, o, out->key, e)) ||
		!read_text(a, cert, &out->cert, e))
		return false;
	const char *roots = path_in(a, o->state_dir, "root-cert.pem");
	/* While the root is rotated there are two. */
	return once_write(roots, out->cert, 0644, e) &&
	       once_write(path_in(a, o->state_dir, "cert-chain.pem"), out->cert, 0644, e) &&
	       read_text(a, roots, &out->roots, e);
}

static bool plugged_in(struct arena *a, const struct ca_options *o, struct ca *out, struct err *e)
{
	bool tls = !file_exists(path_in(a, o->ca_dir, "ca-cert.pem")) && file_exists(path_in(a, o->ca_dir, "tls.crt"));
	struct str above = {0};
	out->key = read_key(path_in(a, o->ca_dir, tls ? "tls.key" : "ca-key.pem"), e);
	if (!out->key || !read_text(a, path_in(a, o->ca_dir, tls ? "tls.crt" : "ca-cert.pem"), &out->cert, e) ||
		!read_text(a, path_in(a, o->ca_dir, tls ? "ca.crt" : "root-cert.pem"), &out->roots, e))
		return false;
	const char *chain = path_in(a, o->ca_dir, "cert-chain.pem");
	if (!tls && !(file_exists(chain) && read_text(a, chain, &above, e)))
		return err_in(e, "cert-chain.pem is needed in Istio's layout");
	out->cert = str_of(arena_printf(a, STR_FMT "\n" STR_FMT, STR_ARG(out->cert), STR_ARG(above)));
	return true;
}

/* cert becomes the issuer alone; chain what leads from it (inclusive) towards the roots, each once. */
static bool sort_chain(struct arena *a, struct ca *ca, struct err *e)
{
	struct pki_cert *certs = NULL, *roots = NULL;
	size_t n = 0, n_roots = 0;
	struct strbuf chain cleanup(strbuf_done) = {0};
	if (!pki_certs_parse(a, ca->cert, &certs, &n, e) || !pki_certs_parse(a, ca->roots, &roots, &n_roots, e))
		return false;
	for (size_t i = 0; i < n; i++) {
		bool seen = pki_cert_listed(&certs[i], certs, i) || pki_cert_listed(&certs[i], roots, n_roots);
		char *pem = pki_cert_pem(&certs[i]);
		if (!seen)
			strbuf_adds(&chain, pem);
		if (i == 0)
			ca->cert = str_of(arena_strdup(a, pem));
		free(pem);
	}
	if (!certs[0].ca)
		return err_set(e, ERR_PEER, "the CA certificate has no CA bit (basicConstraints)");
	ca->chain = arena_str(a, strbuf_str(&chain));
	ca->not_after_ms = certs[0].not_after_ms;
	return true;
}

bool ca_load(struct arena *a, const struct ca_options *o, struct ca *out, struct err *e)
{
	struct ca ca = {0};
	bool ok = (o->ca_dir ? plugged_in(a, o, &ca, e) : own_root(a, o, &ca, e)) && sort_chain(a, &ca, e) &&
		  pki_key_fits(ca.key, ca.cert, e);
	if (ok) {
		struct str chain = str_of(arena_printf(a, STR_FMT STR_FMT, STR_ARG(ca.cert), STR_ARG(ca.chain)));
		ok = pki_verify(chain, ca.roots, clock_wall_ms(), e);
	}
	if (!ok) {
		pki_key_free(ca.key);
		return err_in(e, "CA in %s", o->ca_dir ? o->ca_dir : o->state_dir);
	}
	*out = ca;
	return true;
}
