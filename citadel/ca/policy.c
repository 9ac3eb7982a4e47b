/* DOC: The rules of SPIFFE X.509-SVID and of Istio's CA: one URI name, never a CA, keys of at least 2048 bits RSA or on P-256 / P-384. */
#include "citadel/ca/policy.h"

#include "common/mesh/spiffe.h"

static bool listed(const char *const *list, const char *name)
{
	for (size_t i = 0; list && list[i]; i++)
		if (streq(list[i], name))
			return true;
	return false;
}

static bool key_is_strong(const struct pki_csr *csr, struct err *e)
{
	bool ec = streq(csr->key_type, "EC P-256") || streq(csr->key_type, "EC P-384");
	bool rsa = str_starts(str_of(csr->key_type), STR("RSA")) && csr->key_bits >= 2048;
	return ec || rsa ||
	       err_set(e, ERR_PEER,
		       "the CSR's key (%s, %u bits) is too weak or of another kind; P-256, P-384 and RSA from 2048 "
		       "bits are accepted",
		       csr->key_type, csr->key_bits);
}

bool policy_csr(const struct pki_csr *csr, const char *identity, const char *const *dns, struct err *e)
{
	if (csr->wants_ca)
		return err_set(e, ERR_PEER, "the CSR asks for a CA certificate");
	if (!key_is_strong(csr, e))
		return false;
	if (csr->other_sans[0])
		return err_set(e, ERR_DENIED, "the CSR has a name of kind %s; only the caller's SPIFFE id is allowed",
			csr->other_sans[0]);
	for (size_t i = 0; csr->uris[i]; i++)
		if (!streq(csr->uris[i], identity))
			return err_set(e, ERR_DENIED, "the CSR asks for \"%.200s\", the caller is \"%s\"", csr->uris[i],
				identity);
	for (size_t i = 0; csr->dns[i]; i++)
		if (!listed(dns, csr->dns[i]))
			return err_set(e, ERR_DENIED, "the CSR asks for DNS name \"%.200s\", which \"%s\" may not have",
				csr->dns[i], identity);
	return true;
}

bool policy_names(const struct policy *p, const char *identity, const char *const *dns, struct err *e)
{
	struct spiffe_id id;
	if (!spiffe_parse(str_of(identity), &id, e))
		return false;
	if (!str_eqc(id.trust_domain, p->trust_domain))
		return err_set(e, ERR_DENIED, "\"%.200s\" is not of trust domain %s", identity, p->trust_domain);
	for (size_t i = 0; dns && dns[i]; i++)
		if (!listed(p->dns, dns[i]))
			return err_set(e, ERR_DENIED, "DNS name \"%.200s\" is not on the list", dns[i]);
	return true;
}
