/*
 * DOC: A SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4): a JWK set in which each key of use "x509-svid" carries one root in x5c. Keys of other
 * uses are passed over. A bundle without a root is refused: it would mean that nobody of the trust domain is to be believed.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/limits.h"
#include "common/pki/pki.h"

static bool add_root(struct arena *a, const json_t *key, struct strbuf *out, struct err *e)
{
	const json_t *x5c = json_object_get(key, "x5c");
	const char *text = json_string_value(json_array_get(x5c, 0));
	struct str der = {0};
	struct pki_cert *certs = NULL;
	size_t n = 0;
	if (!text || json_array_size(x5c) != 1)
		return err_set(e, ERR_PEER, "x5c must be one certificate");
	if (!base64_read(a, str_of(text), &der))
		return err_set(e, ERR_PEER, "x5c is no base64");
	char *pem cleanup(free_p) = pki_pem("CERTIFICATE", (const unsigned char *)der.ptr, der.len);
	if (!pki_certs_parse(a, str_of(pem), &certs, &n, e))
		return err_in(e, "x5c");
	if (!certs[0].ca)
		return err_set(e, ERR_PEER, "\"%.200s\" is not a CA's certificate", certs[0].subject);
	strbuf_adds(out, pem);
	return true;
}

static bool add_roots(struct arena *a, const json_t *keys, struct strbuf *out, struct err *e)
{
	const json_t *key;
	size_t i;
	json_array_foreach(keys, i, key)
	{
		if (!streq(json_string_value(json_object_get(key, "use")), "x509-svid"))
			continue;
		if (!add_root(a, key, out, e))
			return err_in(e, "keys[%zu]", i);
		if (out->len > LIMIT_PEM_BYTES / 2)
			return err_set(e, ERR_LIMIT, "more than %u bytes of roots", LIMIT_PEM_BYTES / 2);
	}
	return out->len || err_set(e, ERR_PEER, "no key is for x509-svid");
}

bool pki_spiffe_bundle(struct arena *a, struct str json, struct str *out_pem, struct err *e)
{
	struct strbuf pem cleanup(strbuf_done) = {0};
	json_t *j = json_loadb(json.ptr ? json.ptr : "", json.len, 0, NULL);
	const json_t *keys = json_object_get(j, "keys");
	const bool ok = json_is_array(keys) ? add_roots(a, keys, &pem, e)
					    : err_set(e, ERR_PEER, "is no JSON with a list \"keys\"");
	json_decref(j);
	if (ok)
		*out_pem = arena_str(a, strbuf_str(&pem));
	return ok;
}
