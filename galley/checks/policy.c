#include "galley/checks/policy.h"

#include "galley/checks/names.h"
#include "galley/checks/values.h"

/*
 * DOC: Policies. They are attached by a selector, by targetRefs, or by neither, never by two of them; a target is in the policy's own
 * namespace and of a kind that policies can be attached to. The texts of rules (ports, paths, accounts, key servers) have forms of
 * their own, which the API documents per field.
 */

/* ---- attachment */

static const struct {
	const char *group, *kind;
} targets[] = {{"", "Service"}, {"core", "Service"}, {"gateway.networking.k8s.io", "Gateway"},
	{"gateway.networking.k8s.io", "GatewayClass"}, {"networking.istio.io", "ServiceEntry"}};

static void target(struct check *c, const IType__PolicyTargetReference *t, const char *path, const char *source)
{
	bool known = false;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		known |= streq(t->group, targets[i].group) && streq(t->kind, targets[i].kind);
	if (!known)
		check_error(c, "target-kind", source, path,
			"%s of group \"%s\": a policy is attached to Service, Gateway or GatewayClass "
			"(gateway.networking.k8s.io), or ServiceEntry (networking.istio.io)",
			str_empty(t->kind) ? "a reference without a kind" : t->kind, t->group);
	if (str_empty(t->name))
		check_error(c, "required", source, path_at(c, "%s.name", path), "is required");
	if (!str_empty(t->namespace_))
		check_error(c, "target-namespace", source, path_at(c, "%s.namespace", path),
			"a target is in the policy's own namespace: leave this out");
}

#define TARGETS_MAX 16 /* api: targetRefs */

void check_attachment(struct check *c, const struct attachment *a, const char *source)
{
	if ((a->selector != NULL) + (a->ref != NULL) + (a->n_refs > 0) > 1)
		check_error(
			c, "attachment", source, "spec", "only one of selector, targetRef and targetRefs may be set");
	if (a->selector)
		check_selector(c, LABEL_VIEW(a->selector, match_labels), "spec.selector.matchLabels", source);
	if (a->ref)
		target(c, a->ref, "spec.targetRef", source);
	for (size_t i = 0; i < a->n_refs; i++)
		target(c, a->refs[i], path_at(c, "spec.targetRefs[%zu]", i), source);
	if (a->n_refs > TARGETS_MAX)
		check_error(
			c, "length", source, "spec.targetRefs", "%zu items are more than %d", a->n_refs, TARGETS_MAX);
}

/* ---- texts */

void check_length(struct check *c, const struct rule *r, const struct pb_place *p)
{
	size_t max = (size_t)r->max;
	bool list = p->field->label == PROTOBUF_C_LABEL_REPEATED && !str_ends(str_of(r->path), STR("[]"));
	size_t n = list ? *(const size_t *)((const char *)p->message + p->field->quantifier_offset) : place_str(p).len;
	if (n > max)
		check_error(
			c, "length", r->source, p->path, "%zu %s are more than %zu", n, list ? "items" : "bytes", max);
}

void check_header_name(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!header_name_ok(s))
		check_error(c, "header-name", r->source, p->path, "\"" STR_FMT "\" is no name of a header", STR_ARG(s));
}

void check_port_text(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	uint32_t port;
	if (!str_u32(s, 65535, &port))
		check_error(
			c, "port", r->source, p->path, "port \"" STR_FMT "\" is not in the range 0..65535", STR_ARG(s));
}

/* RFC 3986: pchar. */
static bool is_path_literal(struct str s)
{
	return name_has_only(s, "-._~%!$&'()+,;:@=");
}

static struct str without_slashes(struct str s)
{
	while (str_starts(s, STR("/")))
		s = str_from(s, 1);
	while (str_ends(s, STR("/")))
		s.len--;
	return s;
}

static const char *path_template_problem(struct str path)
{
	size_t at;
	bool any = false, template = false;
	struct str whole = without_slashes(path), rest = whole, part;
	while (str_split(&rest, '/', &part))
		template |= str_eqc(part, "{*}") || str_eqc(part, "{**}");
	rest = whole;
	while (str_split(&rest, '/', &part)) {
		bool one = str_eqc(part, "{*}"), all = str_eqc(part, "{**}");
		if ((one || all) && any)
			return "nothing may be asked for after {**}";
		any |= all;
		if (one || all)
			continue;
		if (str_find(part, '{', &at) || str_find(part, '}', &at))
			return "braces are for a part that is {*} or {**} as a whole";
		if (template && !is_path_literal(part))
			return "beside {*} and {**} stand literal parts only";
	}
	return NULL;
}

void check_path_template(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	const char *problem = s.len ? path_template_problem(s) : "a path must not be empty";
	if (problem)
		check_error(c, "path-template", r->source, p->path, "\"" STR_FMT "\": %s", STR_ARG(s), problem);
}

#define ACCOUNT_MAX 320 /* api: Source.serviceAccounts */

void check_service_account(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p), ns, name;
	size_t at;
	if (!str_cut(s, '/', &ns, &name))
		ns = name = s;
	if (ns.len == 0 || name.len == 0 || str_find(name, '*', &at) || str_find(ns, '*', &at) || s.len > ACCOUNT_MAX ||
		(name.len < s.len && str_find(name, '/', &at)))
		check_error(c, "service-account", r->source, p->path,
			"\"" STR_FMT
			"\" is neither a service account nor namespace/account (no wildcards, at most %d bytes)",
			STR_ARG(s), ACCOUNT_MAX);
}

void check_key_uri(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p), rest = {0}, host, path, name, port;
	uint32_t number;
	if (str_starts(s, STR("https://")))
		rest = str_from(s, 8);
	else if (str_starts(s, STR("http://")))
		rest = str_from(s, 7);
	if (!str_cut(rest, '/', &host, &path))
		host = rest;
	bool bracket = str_starts(host, STR("["));
	if (!bracket && str_cut(host, ':', &name, &port)) {
		host = name;
		if (!str_u32(port, 65535, &number) || number == 0)
			host.len = 0;
	}
	if (host.len == 0)
		check_error(c, "key-uri", r->source, p->path,
			"\"" STR_FMT "\" is no address of the form http://host or https://host", STR_ARG(s));
}
