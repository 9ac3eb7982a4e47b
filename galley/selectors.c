#include "galley/selectors.h"

/*
 * DOC: Selection of namespaces. The label kubernetes.io/metadata.name is every namespace's, also where nobody wrote it down: a directory
 * need not define its namespaces.
 */

static const char *label_of(struct label_set labels, const char *key, const char *ns)
{
	const char *value = label_get(labels, key);
	return !value && streq(key, "kubernetes.io/metadata.name") ? ns : value;
}

static bool is_one_of(const char *value, char *const *values, size_t n)
{
	for (size_t i = 0; value && i < n; i++)
		if (streq(value, values[i]))
			return true;
	return false;
}

static bool expression(const Mesh__LabelSelectorRequirement *r, struct label_set labels, const char *ns)
{
	const char *value = label_of(labels, r->key, ns);
	if (streq(r->operator_, "In"))
		return is_one_of(value, r->values, r->n_values);
	if (streq(r->operator_, "NotIn"))
		return !is_one_of(value, r->values, r->n_values);
	if (streq(r->operator_, "Exists"))
		return value != NULL;
	return streq(r->operator_, "DoesNotExist") && !value;
}

bool selector_matches(const Mesh__LabelSelector *s, struct label_set labels, const char *ns)
{
	for (size_t i = 0; i < s->n_matchlabels; i++) {
		const char *value = label_of(labels, s->matchlabels[i]->key, ns);
		if (!value || !streq(value, s->matchlabels[i]->value))
			return false;
	}
	for (size_t i = 0; i < s->n_matchexpressions; i++)
		if (!expression(s->matchexpressions[i], labels, ns))
			return false;
	return true;
}

bool namespace_selected(const Mesh__MeshConfig *mesh, struct label_set labels, const char *ns)
{
	if (!mesh->n_discovery_selectors || streq(ns, mesh->root_namespace))
		return true;
	for (size_t i = 0; i < mesh->n_discovery_selectors; i++)
		if (selector_matches(mesh->discovery_selectors[i], labels, ns))
			return true;
	return false;
}

static bool policy_matches(const Mesh__ServiceEntryVisibility__Policy *p, struct label_set labels, const char *ns)
{
	for (size_t i = 0; i < p->n_matching_rules; i++)
		if (p->matching_rules[i]->namespace_selector &&
			selector_matches(p->matching_rules[i]->namespace_selector, labels, ns))
			return true;
	return false;
}

Mesh__ServiceEntryVisibility__Visibility namespace_visibility(
	const Mesh__MeshConfig *mesh, struct label_set labels, const char *ns)
{
	const Mesh__ServiceEntryVisibility *v = mesh->service_entry_visibility;
	Mesh__ServiceEntryVisibility__Visibility found = MESH__SERVICE_ENTRY_VISIBILITY__VISIBILITY__PUBLIC;
	if (!v || !v->apply_to_sidecars)
		return found;
	if (v->default_visibility)
		found = v->default_visibility;
	for (size_t i = 0; i < v->n_policies; i++)
		if (policy_matches(v->policies[i], labels, ns))
			return v->policies[i]->visibility ? v->policies[i]->visibility
							  : MESH__SERVICE_ENTRY_VISIBILITY__VISIBILITY__PUBLIC;
	return found;
}
