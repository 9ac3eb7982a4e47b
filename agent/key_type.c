/*
 * DOC: Which key the workload gets, by the variables of Istio's agent, as they stand in proxyMetadata. Istio makes RSA keys of 2048 bits
 * unless ECC_SIGNATURE_ALGORITHM is there; here the default is P-256, which everything that speaks mutual TLS today takes and which costs a
 * handshake a tenth, so RSA needs its size to be said. A value that Istio's agent would pass over without a word is an error.
 */
#include "agent/agent.h"

struct choice {
	const char *value, *key_type;
};

static const struct choice curves[] = {{"P256", "p256"}, {"P384", "p384"}};
static const struct choice sizes[] = {{"2048", "rsa2048"}, {"3072", "rsa3072"}, {"4096", "rsa4096"}};

static bool choose(const struct choice *rows, size_t n, const char *value, const char **out)
{
	for (size_t i = 0; i < n; i++)
		if (streq(rows[i].value, value)) {
			*out = rows[i].key_type;
			return true;
		}
	return false;
}

bool agent_key_type(const struct key_variables *v, const char **out, struct err *e)
{
	const char *curve = str_empty(v->curve) ? "P256" : v->curve;
	if (!str_empty(v->algorithm) && !streq(v->algorithm, "ECDSA"))
		return err_set(e, ERR_PEER, "ECC_SIGNATURE_ALGORITHM: \"%.40s\" is not ECDSA", v->algorithm);
	if (!str_empty(v->algorithm) || str_empty(v->rsa_size))
		return choose(curves, ARRAY_LEN(curves), curve, out) ||
		       err_set(e, ERR_PEER, "ECC_CURVE: \"%.40s\" is neither P256 nor P384", curve);
	return choose(sizes, ARRAY_LEN(sizes), v->rsa_size, out) ||
	       err_set(e, ERR_PEER, "WORKLOAD_RSA_KEY_SIZE: \"%.40s\" is none of 2048, 3072, 4096", v->rsa_size);
}
