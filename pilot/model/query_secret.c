/*
 * DOC: Secrets and ConfigMaps as the scope may have them: the namespace that its proxies have proved is part of the scope, and so is whether
 * their account may list Secrets there, by the API server's word (galley's topic `access`).
 */
#include "pilot/model/query_secret.h"

#include "pilot/model/ask.h"

static const Fl__Credential *credential(
	struct view *v, enum topic_id topic, enum question q, struct str ns, struct str name)
{
	const char *key = arena_printf(v->scratch, STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name));
	struct rows rows = ask(v, topic, q, str_of(key));

	if (!rows.n)
		return NULL;
	ask_source(v, rows.items[0].entry);
	return rows.items[0].entry->value;
}

const Fl__Credential *view_secret(struct view *v, struct str ns, struct str name)
{
	struct str own = v->scope->attributes->verified_ns;

	if (!own.len || (ns.len && !str_eq(ns, own)))
		return NULL;
	return credential(v, TOPIC_SECRET, Q_SECRET, own, name);
}

const Fl__Credential *view_config_map(struct view *v, struct str ns, struct str name)
{
	return v->scope->attributes->verified_ns.len ? credential(v, TOPIC_CONFIG_MAP, Q_CONFIG_MAP, ns, name) : NULL;
}

bool view_withheld(const struct view *v, const Fl__Credential *secret)
{
	return secret->guarded && !v->scope->attributes->lists_secrets;
}

const Fl__Access *view_access(struct view *v, const struct proxy *p)
{
	const char *key = arena_printf(
		v->scratch, STR_FMT "/" STR_FMT, STR_ARG(p->verified_ns), STR_ARG(p->verified_account));
	struct rows rows;

	if (!p->verified_ns.len || !p->verified_account.len)
		return NULL;
	rows = ask(v, TOPIC_ACCESS, Q_ACCESS, str_of(key));
	return rows.n ? rows.items[0].entry->value : NULL;
}
