/*
 * DOC: The file is kept as it was read, a tree of JSON; this file checks it and looks things up in it. The names `sidecar` and `gateway` belong to
 * the templates that are part of the program. Each template is made once here, with the values of no pod in particular, which finds what is not
 * supported. Istio's ConfigMap has built-in templates as text: a file of Istio's own is therefore refused, not half understood.
 */
#include "galley/webhook/inject_settings.h"

#include <stdlib.h>

#include "common/io/file.h"
#include "galley/webhook/inject_template.h"

struct inject_settings {
	json_t *root;
};

static const char *const built_in[] = {"sidecar", "gateway"};

static bool is_built_in(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(built_in); i++)
		if (streq(name, built_in[i]))
			return true;
	return false;
}

/* ---- lookups */

static const json_t *field(const struct inject_settings *s, const char *name)
{
	return s ? json_object_get(s->root, name) : NULL;
}

const char *inject_settings_template(const struct inject_settings *s, const char *name)
{
	return json_string_value(json_object_get(field(s, "templates"), name));
}

const json_t *inject_settings_annotations(const struct inject_settings *s)
{
	return field(s, "injectedAnnotations");
}

const json_t *inject_settings_defaults(const struct inject_settings *s)
{
	return field(s, "defaultAnnotations");
}

static void add_name(const struct inject_settings *s, json_t *names, struct str word)
{
	char *name cleanup(free_p) = xstrndup(word.ptr ? word.ptr : "", word.len);
	const json_t *alias = json_object_get(field(s, "aliases"), name);
	if (alias)
		(void)json_array_extend(names, (json_t *)(uintptr_t)alias);
	else
		(void)json_array_append_new(names, json_string(name));
}

json_t *inject_settings_names(const struct inject_settings *s, const char *annotation)
{
	json_t *names = json_array(), *item;
	const json_t *defaults = field(s, "defaultTemplates");
	struct str rest = str_of(annotation), part;
	size_t at;
	if (annotation && !*annotation)
		add_name(s, names, STR("")); /* a name that no template has */
	while (str_split(&rest, ',', &part))
		add_name(s, names, str_trim(part));
	if (annotation)
		return names;
	json_array_foreach((json_t *)(uintptr_t)defaults, at, item) add_name(s, names, str_of(json_string_value(item)));
	if (!json_array_size(defaults))
		add_name(s, names, STR("sidecar"));
	return names;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *inject_settings_known(const struct inject_settings *s)
{
	const json_t *maps[] = {field(s, "templates"), field(s, "aliases")};
	size_t n = 0, most = ARRAY_LEN(built_in) + json_object_size(maps[0]) + json_object_size(maps[1]);
	const char **names = xmalloc(most * sizeof(*names)), *name;
	struct strbuf out = {0};
	json_t *value;
	for (size_t i = 0; i < ARRAY_LEN(built_in); i++)
		names[n++] = built_in[i];
	for (size_t m = 0; m < ARRAY_LEN(maps); m++)
		json_object_foreach((json_t *)(uintptr_t)maps[m], name, value) names[n++] = name;
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n && out.len < 300; i++)
		strbuf_addf(&out, "%s%.60s", i ? ", " : "", names[i]);
	free(names);
	return strbuf_take(&out);
}

/* ---- selectors */

static bool is_one_of(const json_t *values, const json_t *label)
{
	for (size_t i = 0; i < json_array_size(values); i++)
		if (json_equal(json_array_get(values, i), label))
			return true;
	return false;
}

static bool fits(const json_t *expression, const json_t *labels)
{
	const char *operator= json_string_value(json_object_get(expression, "operator"));
	const json_t *label = json_object_get(labels, json_string_value(json_object_get(expression, "key")));
	bool among = label && is_one_of(json_object_get(expression, "values"), label);
	return streq(operator, "In")       ? among
	       : streq(operator, "NotIn")  ? !among
	       : streq(operator, "Exists") ? label != NULL
					   : label == NULL;
}

static bool selects(const json_t *selector, const json_t *labels)
{
	const json_t *equal = json_object_get(selector, "matchLabels");
	const json_t *expressions = json_object_get(selector, "matchExpressions");
	const char *key;
	json_t *value;
	bool ok = json_object_size(equal) || json_array_size(expressions); /* an empty one selects nothing */
	json_object_foreach((json_t *)(uintptr_t)equal, key, value)
		ok = ok && json_object_get(labels, key) && json_equal(value, json_object_get(labels, key));
	for (size_t i = 0; i < json_array_size(expressions); i++)
		ok = ok && fits(json_array_get(expressions, i), labels);
	return ok;
}

static bool any_selects(const json_t *selectors, const json_t *labels)
{
	for (size_t i = 0; i < json_array_size(selectors); i++)
		if (selects(json_array_get(selectors, i), labels))
			return true;
	return false;
}

enum inject_choice inject_settings_choice(const struct inject_settings *s, const json_t *labels)
{
	if (any_selects(field(s, "neverInjectSelector"), labels))
		return INJECT_NEVER;
	if (any_selects(field(s, "alwaysInjectSelector"), labels))
		return INJECT_ALWAYS;
	return streq(json_string_value(field(s, "policy")), "disabled") ? INJECT_NEVER : INJECT_DEFAULT;
}

/* ---- checks: true, or why not */

static bool check_policy(const struct inject_settings *s, const json_t *v, struct err *e)
{
	(void)s;
	return streq(json_string_value(v), "enabled") || streq(json_string_value(v), "disabled") ||
	       err_set(e, ERR_PEER, "enabled or disabled is expected");
}

static bool check_texts(const struct inject_settings *s, const json_t *v, struct err *e)
{
	const char *key;
	json_t *item;
	bool ok = json_is_object(v);
	(void)s;
	json_object_foreach((json_t *)(uintptr_t)v, key, item) ok = ok && *key && json_is_string(item);
	return ok || err_set(e, ERR_PEER, "an object of texts is expected");
}

static bool check_defaults(const struct inject_settings *s, const json_t *v, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct diags warnings;
	const char *name;
	json_t *item;
	diags_init(&warnings, a);
	if (!check_texts(s, v, e) || !annotations_check((json_t *)(uintptr_t)v, &warnings, e))
		return false;
	json_object_foreach((json_t *)(uintptr_t)v, name, item) if (!annotation_is_setting(name)) return err_set(
		e, ERR_PEER, "%.100s is not an annotation of injection with an effect", name);
	return true;
}

/* The names of one pod: all there are, and one built-in template at the most. */
static bool check_names(const struct inject_settings *s, const json_t *v, struct err *e)
{
	json_t *item;
	size_t at;
	if (!json_is_array(v))
		return err_set(e, ERR_PEER, "a list of names is expected");
	json_array_foreach((json_t *)(uintptr_t)v, at, item)
	{
		const char *name = json_string_value(item);
		const json_t *alias = json_object_get(field(s, "aliases"), name ? name : "");
		char *known cleanup(free_p) = inject_settings_known(s);
		if (!name || (!is_built_in(name) && !inject_settings_template(s, name) && (!alias || alias == v)))
			return err_set(e, ERR_PEER, "template \"%.60s\" does not exist; there are %s", name ? name : "",
				known);
	}
	return true;
}

static bool check_aliases(const struct inject_settings *s, const json_t *v, struct err *e)
{
	const char *key;
	json_t *item;
	if (!json_is_object(v))
		return err_set(e, ERR_PEER, "an object of lists of names is expected");
	json_object_foreach((json_t *)(uintptr_t)v, key, item)
	{
		size_t at;
		json_t *name;
		if (!check_names(s, item, e))
			return err_in(e, "%.60s", key);
		json_array_foreach(item, at,
			name) if (json_object_get(v, json_string_value(name)) &&
				  !is_built_in(json_string_value(name)) &&
				  !inject_settings_template(s, json_string_value(name))) return err_set(e, ERR_PEER,
			"%.60s: \"%.60s\" is an alias itself: aliases are resolved once", key, json_string_value(name));
	}
	return true;
}

static json_t *example(void)
{
	return json_pack("{s:{s:s, s:s, s:s, s:{}, s:{}}, s:{s:s, s:s}, s:{s:s}, s:{s:s}, s:s, s:i, s:i, s:s}",
		"ObjectMeta", "Name", "name", "GenerateName", "name-", "Namespace", "namespace", "Labels",
		"Annotations", "DeploymentMeta", "Name", "name", "Namespace", "namespace", "Spec", "ServiceAccountName",
		"default", "MeshConfig", "TrustDomain", "cluster.local", "ProxyImage", "image", "ProxyUID", PROXY_USER,
		"ProxyGID", PROXY_USER, "Revision", "default");
}

static bool check_templates(const struct inject_settings *s, const json_t *v, struct err *e)
{
	const char *name;
	json_t *item, *patch, *data;
	if (!check_texts(s, v, e))
		return false;
	json_object_foreach((json_t *)(uintptr_t)v, name, item)
	{
		if (is_built_in(name))
			return err_set(e, ERR_PEER,
				"template \"%s\" is part of the program and cannot be replaced; another name may be "
				"listed behind it (inject.istio.io/templates: \"%s,custom\")",
				name, name);
		data = example();
		bool ok = template_patch(name, json_string_value(item), data, &patch, e);
		json_decref(data);
		if (!ok)
			return false;
		json_decref(patch);
	}
	return true;
}

static bool check_expression(const json_t *v, struct err *e)
{
	const char *operator= json_string_value(json_object_get(v, "operator"));
	const json_t *values = json_object_get(v, "values"), *item;
	size_t at;
	bool valued = streq(operator, "In") || streq(operator, "NotIn");
	if (str_empty(json_string_value(json_object_get(v, "key"))))
		return err_set(e, ERR_PEER, "key: a label's name is expected");
	if (!valued && !streq(operator, "Exists") && !streq(operator, "DoesNotExist"))
		return err_set(e, ERR_PEER, "operator: In, NotIn, Exists or DoesNotExist is expected");
	if (valued ? json_array_size(values) == 0 : json_array_size(values) > 0)
		return err_set(e, ERR_PEER, "values: %s", valued ? "at least one is expected" : "none is expected");
	json_array_foreach(values, at, item) if (!json_is_string(item)) return err_set(
		e, ERR_PEER, "values[%zu]: a text is expected", at);
	return true;
}

static bool check_selector(const struct inject_settings *s, const json_t *v, struct err *e)
{
	const json_t *labels = json_object_get(v, "matchLabels"), *list = json_object_get(v, "matchExpressions");
	const char *key;
	json_t *value;
	if (!json_is_object(v) || (list && !json_is_array(list)))
		return err_set(e, ERR_PEER, "a label selector is expected: matchLabels, matchExpressions");
	json_object_foreach((json_t *)(uintptr_t)v, key,
		value) if (!streq(key, "matchLabels") && !streq(key, "matchExpressions")) return err_set(e, ERR_PEER,
		"%.60s: unknown field", key);
	if (labels && !check_texts(s, labels, e))
		return err_in(e, "matchLabels");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!check_expression(json_array_get(list, i), e))
			return err_in(e, "matchExpressions[%zu]", i);
	return true;
}

static bool check_selectors(const struct inject_settings *s, const json_t *v, struct err *e)
{
	if (!json_is_array(v))
		return err_set(e, ERR_PEER, "a list of label selectors is expected");
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!check_selector(s, json_array_get(v, i), e))
			return err_in(e, "[%zu]", i);
	return true;
}

static bool has_name(const json_t *names, const char *name)
{
	for (size_t i = 0; i < json_array_size(names); i++)
		if (streq(json_string_value(json_array_get(names, i)), name))
			return true;
	return false;
}

/* ---- reading; in the order in which one check relies on another */

static const struct {
	const char *name;
	bool (*check)(const struct inject_settings *s, const json_t *v, struct err *e);
} fields[] = {
	{"templates", check_templates}, {"aliases", check_aliases}, {"defaultTemplates", check_names},
	{"policy", check_policy}, {"neverInjectSelector", check_selectors}, {"alwaysInjectSelector", check_selectors},
	{"injectedAnnotations", check_texts},
	{"defaultAnnotations", check_defaults}, /* not Istio's: what its charts put into its templates */
};

static bool check(const struct inject_settings *s, struct err *e)
{
	const char *name;
	json_t *value;
	void *next;
	json_object_foreach_safe(s->root, next, name, value)
	{
		bool known = false;
		for (size_t i = 0; i < ARRAY_LEN(fields); i++)
			known = known || streq(fields[i].name, name);
		if (!known)
			return err_set(e, ERR_PEER, "%.60s: unknown field", name);
		if (json_is_null(value))
			(void)json_object_del(s->root, name);
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (field(s, fields[i].name) && !fields[i].check(s, field(s, fields[i].name), e))
			return err_in(e, "%s", fields[i].name);
	json_t *names = inject_settings_names(s, NULL);
	bool both = has_name(names, built_in[0]) && has_name(names, built_in[1]);
	json_decref(names);
	return !both || err_set(e, ERR_PEER, "defaultTemplates: one of gateway and sidecar is expected");
}

bool inject_settings_parse(const char *yaml, struct inject_settings **out, struct err *e)
{
	struct inject_settings *s = xzalloc(sizeof(*s));
	if (yaml_object(yaml, &s->root, e) && check(s, e)) {
		*out = s;
		return true;
	}
	inject_settings_free(s);
	return false;
}

void inject_settings_free(struct inject_settings *s)
{
	if (!s)
		return;
	json_decref(s->root);
	free(s);
}

bool inject_settings_read(const char *path, struct inject_settings **out, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	if (!file_read(path, LIMIT_INJECT_SETTINGS_BYTES, &text, &len, e))
		return false;
	return inject_settings_parse(text, out, e) || err_in(e, "%s", path);
}
