#include "common/mesh/credential.h"

/* DOC: Names of certificates. A row per scheme; what is behind it is [namespace/]name. */

static const struct scheme {
	const char *prefix;
	enum credential_source source;
	bool qualified; /* the namespace is not left out */
} schemes[] = {
	{"kubernetes://", CREDENTIAL_SECRET, false}, /* first: of names without a scheme */
	{"kubernetes-gateway://", CREDENTIAL_GATEWAY_SECRET, true},
	{"configmap://", CREDENTIAL_CONFIG_MAP, true},
};

static const struct scheme *scheme_of(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (str_starts(name, str_of(schemes[i].prefix)))
			return &schemes[i];
	return NULL;
}

char *credential_with_scheme(struct arena *a, struct str name)
{
	return arena_printf(a, "%s" STR_FMT, scheme_of(name) ? "" : schemes[0].prefix, STR_ARG(name));
}

bool credential_parse(struct str sds_name, struct credential_ref *out)
{
	static const struct str suffix = {CREDENTIAL_CA_SUFFIX, sizeof(CREDENTIAL_CA_SUFFIX) - 1};
	const struct scheme *s = scheme_of(sds_name);
	struct credential_ref r = {0};
	struct str rest;
	size_t at;

	if (!s)
		return false;
	r.source = s->source;
	rest = str_from(sds_name, strlen(s->prefix));
	if (!str_cut(rest, '/', &r.ns, &r.name)) {
		r.ns = STR("");
		r.name = rest;
	} else if (!r.ns.len) {
		return false;
	}
	if (s->qualified && !r.ns.len)
		return false;
	r.ca = str_ends(r.name, suffix);
	if (r.source == CREDENTIAL_CONFIG_MAP) {
		r.name = str_sub(r.name, 0, r.name.len - (r.ca ? suffix.len : 0));
		r.ca = true;
	}
	if (!r.name.len || str_find(r.name, '/', &at))
		return false;
	*out = r;
	return true;
}
