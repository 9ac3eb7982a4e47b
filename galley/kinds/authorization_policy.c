#include "cfg/security.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: AuthorizationPolicy. A rule's source and operation say at least one thing each, conditions have a known key and values of its
 * form; a DENY or CUSTOM policy without rules would never apply, which its author did not mean. What a rule asks for is normal form
 * already: principals, paths and hosts have their wildcards at the ends, which is pilot's to translate.
 */

#define SOURCE "rules[].from[].source."
#define OPERATION "rules[].to[].operation."

static const struct rule rules[] = {
	{"rules", check_length, .max = 512, .source = "api: AuthorizationPolicy.rules"},
	{"rules[].from", check_length, .max = 512, .source = "api: Rule.from"},
	{"rules[].from[].source", NULL, .required = true, .source = "api: Rule.From.source"},
	{SOURCE "principals[]", check_non_empty, .source = "api: Source.principals"},
	{SOURCE "notPrincipals[]", check_non_empty, .source = "api: Source.notPrincipals"},
	{SOURCE "requestPrincipals[]", check_non_empty, .source = "api: Source.requestPrincipals"},
	{SOURCE "notRequestPrincipals[]", check_non_empty, .source = "api: Source.notRequestPrincipals"},
	{SOURCE "namespaces[]", check_non_empty, .source = "api: Source.namespaces"},
	{SOURCE "notNamespaces[]", check_non_empty, .source = "api: Source.notNamespaces"},
	{SOURCE "serviceAccounts", check_length, .max = 16, .source = "api: Source.serviceAccounts"},
	{SOURCE "serviceAccounts[]", check_service_account, .source = "api: Source.serviceAccounts"},
	{SOURCE "notServiceAccounts", check_length, .max = 16, .source = "api: Source.notServiceAccounts"},
	{SOURCE "notServiceAccounts[]", check_service_account, .source = "api: Source.notServiceAccounts"},
	{SOURCE "ipBlocks[]", check_cidr, .source = "api: Source.ipBlocks"},
	{SOURCE "notIpBlocks[]", check_cidr, .source = "api: Source.notIpBlocks"},
	{SOURCE "remoteIpBlocks[]", check_cidr, .source = "api: Source.remoteIpBlocks"},
	{SOURCE "notRemoteIpBlocks[]", check_cidr, .source = "api: Source.notRemoteIpBlocks"},
	{SOURCE "trustDomains[]", check_non_empty, .source = "api: Source.trustDomains"},
	{SOURCE "notTrustDomains[]", check_non_empty, .source = "api: Source.notTrustDomains"},
	{"rules[].to[].operation", NULL, .required = true, .source = "api: Rule.To.operation"},
	{OPERATION "hosts[]", check_non_empty, .source = "api: Operation.hosts"},
	{OPERATION "notHosts[]", check_non_empty, .source = "api: Operation.notHosts"},
	{OPERATION "ports[]", check_port_text, .source = "api: Operation.ports"},
	{OPERATION "notPorts[]", check_port_text, .source = "api: Operation.notPorts"},
	{OPERATION "methods[]", check_non_empty, .source = "api: Operation.methods"},
	{OPERATION "notMethods[]", check_non_empty, .source = "api: Operation.notMethods"},
	{OPERATION "paths[]", check_path_template, .source = "api: Operation.paths"},
	{OPERATION "notPaths[]", check_path_template, .source = "api: Operation.notPaths"},
	{"rules[].when[].key", NULL, .required = true, .source = "api: Condition.key"},
};

/* ---- conditions */

enum values { VALUES_TEXT, VALUES_ADDRESS, VALUES_PORT, VALUES_ACCOUNT };

static const struct attribute {
	const char *name;
	bool keyed; /* "name[key]" */
	enum values values;
} attributes[] = {
	{"request.headers", true, VALUES_TEXT},
	{"request.experimental.inline.headers", true, VALUES_TEXT},
	{"request.auth.claims", true, VALUES_TEXT},
	{"request.auth.principal", false, VALUES_TEXT},
	{"request.auth.audiences", false, VALUES_TEXT},
	{"request.auth.presenter", false, VALUES_TEXT},
	{"source.ip", false, VALUES_ADDRESS},
	{"remote.ip", false, VALUES_ADDRESS},
	{"source.namespace", false, VALUES_TEXT},
	{"source.serviceAccount", false, VALUES_ACCOUNT},
	{"source.principal", false, VALUES_TEXT},
	{"destination.ip", false, VALUES_ADDRESS},
	{"destination.port", false, VALUES_PORT},
	{"connection.sni", false, VALUES_TEXT},
	{"experimental.envoy.filters.", true, VALUES_TEXT},
};

static const struct attribute *attribute(struct str key)
{
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		struct str name = str_of(attributes[i].name);
		if (attributes[i].keyed ? str_starts(key, name) : str_eq(key, name))
			return &attributes[i];
	}
	return NULL;
}

static void one_value(struct check *c, enum values kind, char **text, const char *path)
{
	static check_fn *const forms[] = {check_non_empty, check_cidr, check_port_text, check_service_account};
	static const ProtobufCFieldDescriptor field = {.type = PROTOBUF_C_TYPE_STRING};
	const struct rule rule = {.path = "", .source = "docs: Authorization Policy Conditions"};
	const struct pb_place place = {.field = &field, .value = text, .present = true, .path = path};
	if (kind != VALUES_TEXT && str_empty(*text))
		kind = VALUES_TEXT;
	forms[kind](c, &rule, &place);
}

static void condition(struct check *c, const Sec__Condition *w, const char *path)
{
	static const char source[] = "docs: Authorization Policy Conditions";
	struct str key = str_of(w->key ? w->key : "");
	const struct attribute *a = attribute(key);
	size_t open = 0;
	if (key.len == 0)
		return;
	if (w->n_values + w->n_not_values == 0)
		check_error(c, "condition-values", source, path, "needs values or notValues");
	if (!a) {
		check_error(c, "condition-key", source, path_at(c, "%s.key", path), "\"%s\" is no attribute", w->key);
		return;
	}
	if (a->keyed && !(str_ends(key, STR("]")) && str_find(key, '[', &open) && open + 2 < key.len))
		check_error(c, "condition-key", source, path_at(c, "%s.key", path),
			"\"%s\" is not of the form attribute[name]", w->key);
	for (size_t i = 0; i < w->n_values; i++)
		one_value(c, a->values, &w->values[i], path_at(c, "%s.values[%zu]", path, i));
	for (size_t i = 0; i < w->n_not_values; i++)
		one_value(c, a->values, &w->not_values[i], path_at(c, "%s.notValues[%zu]", path, i));
}

/* ---- rules */

static bool says_nothing(const ProtobufCMessage *m)
{
	return protobuf_c_message_get_packed_size(m) == 0;
}

static void source_of(struct check *c, const Sec__Source *s, const char *path)
{
	if (says_nothing(&s->base))
		check_error(c, "empty", "api: Source", path, "says nothing: at least one field is needed");
	if ((s->n_service_accounts || s->n_not_service_accounts) &&
		(s->n_principals || s->n_not_principals || s->n_namespaces || s->n_not_namespaces))
		check_error(c, "service-account", "api: Source.serviceAccounts", path_at(c, "%s.serviceAccounts", path),
			"cannot be with principals or namespaces");
}

static void rule(struct check *c, const Sec__Rule *r, size_t i)
{
	for (size_t k = 0; k < r->n_from; k++)
		if (r->from[k]->source)
			source_of(c, r->from[k]->source, path_at(c, "spec.rules[%zu].from[%zu].source", i, k));
	for (size_t k = 0; k < r->n_to; k++)
		if (r->to[k]->operation && says_nothing(&r->to[k]->operation->base))
			check_error(c, "empty", "api: Operation", path_at(c, "spec.rules[%zu].to[%zu].operation", i, k),
				"says nothing: at least one field is needed");
	for (size_t k = 0; k < r->n_when; k++)
		condition(c, r->when[k], path_at(c, "spec.rules[%zu].when[%zu]", i, k));
}

static void action(struct check *c, const Sec__AuthorizationPolicy *p)
{
	static const char source[] = "api: AuthorizationPolicy.action";
	bool custom = p->action == SEC__AUTHORIZATION_POLICY__ACTION__CUSTOM;
	bool provider = p->action_detail_case == SEC__AUTHORIZATION_POLICY__ACTION_DETAIL_PROVIDER;
	if ((custom || p->action == SEC__AUTHORIZATION_POLICY__ACTION__DENY) && p->n_rules == 0)
		check_error(c, "action-without-rules", source, "spec.rules",
			"%s without rules never applies; an empty rule ({}) is for every request",
			custom ? "CUSTOM" : "DENY");
	if (custom && (!provider || str_trim(str_of(p->provider->name)).len == 0))
		check_error(c, "required", "api: AuthorizationPolicy.provider", "spec.provider.name",
			"is required: the provider decides about CUSTOM");
	if (!custom && provider)
		check_error(c, "provider", "api: AuthorizationPolicy.provider", "spec.provider",
			"is for the action CUSTOM only");
}

static void validate(struct check *c, const void *message)
{
	const Sec__AuthorizationPolicy *p = message;
	const struct attachment a = ATTACHMENT(p);
	check_attachment(c, &a, "api: AuthorizationPolicy.selector");
	action(c, p);
	for (size_t i = 0; i < p->n_rules; i++)
		rule(c, p->rules[i], i);
}

extern const struct kind_ops authorization_policy_ops;
const struct kind_ops authorization_policy_ops = {RULES(rules), .validate = validate, .not_applied = true};
