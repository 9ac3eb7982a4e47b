/*
 * DOC: See the header. First whether the pod gets a proxy, as Istio's webhook decides it: the namespace's label was the API server's to look at, by
 * the selectors of the webhook's configuration; here are the pod's own word (label over annotation), the options' selectors, and what can never be
 * injected. Then everything that the pod says is checked, and only then is the result made. The order of containers is Istio's: the proxy last, so
 * that commands which take the first container find the application; first when the application is to wait for it; as a native sidecar in front
 * of the application's init containers, behind istio-init, which otherwise is the last of them: those before it run without the proxy.
 */
#include "galley/webhook/inject.h"

#include <stdlib.h>

#include "galley/webhook/inject_internal.h"

#define ENV_VALUE_MAX 100000u /* the kernel takes 128 KiB */

static const char *const system_namespaces[] = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"};

const char *text_at(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

/* ---- whether */

static bool selects(const char *selector, const json_t *labels)
{
	struct str key, value;
	bool valued = str_cut(str_of(selector), '=', &key, &value);
	char *name cleanup(free_p) = xstrndup(key.ptr, key.len);
	const json_t *label = json_object_get(labels, name);
	return label && (!valued || str_eqc(value, json_string_value(label)));
}

static bool any_selects(const char *const *selectors, const json_t *labels)
{
	for (; selectors && *selectors; selectors++)
		if (selects(*selectors, labels))
			return true;
	return false;
}

static bool is_yes(struct str word)
{
	static const char *const yes[] = {"y", "yes", "true", "on"};
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (str_ieq(word, str_of(yes[i])))
			return true;
	return false;
}

/* What is neither is told: it was perhaps meant otherwise. */
static bool said(const struct injection *i, const char *word)
{
	bool yes = is_yes(str_of(word));
	if (!streq(word, "true") && !streq(word, "false"))
		(void)diag_add(i->warnings, DIAG_WARNING, "inject-value", "sidecar.istio.io/inject",
			"\"%.40s\" is neither true nor false: the pod gets %s proxy", word, yes ? "a" : "no");
	return yes;
}

/* Why this pod gets no proxy; NULL: it does. */
static const char *reason_to_skip(const struct injection *i)
{
	const json_t *label = json_object_get(i->labels, "sidecar.istio.io/inject");
	const char *word = label ? json_string_value(label) : text_at(i->annotations, "sidecar.istio.io/inject");
	if (json_is_true(json_object_get(i->spec, "hostNetwork")))
		return "the pod uses the node's network";
	for (size_t k = 0; k < ARRAY_LEN(system_namespaces); k++)
		if (streq(i->ns, system_namespaces[k]))
			return "a namespace of the system";
	if (!str_empty(word))
		return said(i, word) ? NULL : "the pod asks for no proxy (sidecar.istio.io/inject)";
	enum inject_choice choice = inject_settings_choice(i->o->settings, i->labels);
	if (choice == INJECT_NEVER || any_selects((const char *const *)i->o->never, i->labels))
		return choice == INJECT_NEVER ? "the selectors or the policy say so" : "a label says never";
	return NULL;
}

/* ---- what is asked for */

/* A pod of a proxy alone keeps it as its container: it could have none otherwise. */
static bool has_application(const json_t *spec)
{
	const json_t *containers = json_object_get(spec, "containers");
	for (size_t k = 0; k < json_array_size(containers); k++)
		if (!streq(text_at(json_array_get(containers, k), "name"), PROXY_NAME))
			return true;
	return false;
}

static void read_settings(struct injection *i)
{
	const json_t *port = json_object_get(i->config, "statusPort"),
		     *mode = json_object_get(i->config, "interceptionMode");
	const json_t *hold = json_object_get(i->config, "holdApplicationUntilProxyStarts");
	const char *annotated = annotation_of(i, "status.sidecar.istio.io/port", NULL);
	i->status_port = port ? (uint32_t)json_integer_value(port) : STATUS_PORT;
	if (annotated && !str_u32(str_of(annotated), 65535, &i->status_port))
		i->status_port = STATUS_PORT; /* not reached: checked before */
	i->native = i->o->native_sidecars;
	(void)value_bool(annotation_of(i, "sidecar.istio.io/nativeSidecar", ""), &i->native);
	i->native = i->native && !i->gateway && has_application(i->spec);
	i->hold = (hold ? json_is_true(hold) : i->o->hold_application) && !i->gateway;
	const char *how = annotation_of(
		i, "sidecar.istio.io/interceptionMode", mode ? json_string_value(mode) : "REDIRECT");
	i->capture = !i->gateway && !streq(how, "NONE");
	i->transparent = !i->gateway && streq(how, "TPROXY");
}

/* ProxyConfig's way to say what three annotations say. */
static void read_stats_matcher(struct injection *i)
{
	static const char *const rows[][2] = {{"inclusionPrefixes", "sidecar.istio.io/statsInclusionPrefixes"},
		{"inclusionSuffixes", "sidecar.istio.io/statsInclusionSuffixes"},
		{"inclusionRegexps", "sidecar.istio.io/statsInclusionRegexps"}};
	for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
		const json_t *list = json_object_get(json_object_get(i->config, "proxyStatsMatcher"), rows[k][0]);
		struct strbuf text cleanup(strbuf_done) = {0};
		for (size_t at = 0; at < json_array_size(list); at++)
			strbuf_addf(&text, "%s%s", at ? "," : "", json_string_value(json_array_get(list, at)));
		if (text.len && !annotation_of(i, rows[k][1], NULL))
			(void)json_object_set_new(i->annotations, rows[k][1], json_string(text.ptr));
	}
}

static bool read_config(struct injection *i, struct err *e)
{
	if (!config_parse(annotation_of(i, "proxy.istio.io/config", NULL), &i->config, i->warnings, e) ||
		!config_add_resources(i, e) || !config_add_defaults(i->config, i->o->proxy_config, e) ||
		!capture_metadata_check(i->config, i->warnings, e))
		return false;
	read_stats_matcher(i);
	return true;
}

static bool check_texts(const json_t *o, const char *what, struct err *e)
{
	const char *key;
	const json_t *value;
	json_object_foreach((json_t *)(uintptr_t)o, key, value) if (!json_is_string(value)) return err_set(
		e, ERR_PEER, "%s %.200s: a string is expected", what, key);
	return true;
}

static bool check_named(const json_t *spec, const char *list, bool needed, struct err *e)
{
	const json_t *items = json_object_get(spec, list);
	if (needed ? json_array_size(items) == 0 : items && !json_is_array(items) && !json_is_null(items))
		return err_set(e, ERR_PEER, "spec.%s: a list is expected", list);
	for (size_t i = 0; i < json_array_size(items); i++)
		if (!*text_at(json_array_get(items, i), "name"))
			return err_set(e, ERR_PEER, "spec.%s[%zu].name: is needed", list, i);
	return true;
}

bool is_injected(const char *container)
{
	return streq(container, PROXY_NAME) || streq(container, INIT_NAME) || streq(container, VALIDATION_NAME);
}

static void warn_of_id(
	const struct injection *i, const char *list, size_t at, const char *field, const char *what, uint32_t id)
{
	const json_t *c = json_array_get(json_object_get(i->spec, list), at);
	const json_t *own = json_object_get(json_object_get(c, "securityContext"), field);
	const json_t *pods = json_object_get(json_object_get(i->spec, "securityContext"), field);
	char *path cleanup(free_p) = xasprintf("spec.%s[%zu].securityContext.%s", list, at, field);
	if (!is_injected(text_at(c, "name")) && json_integer_value(own ? own : pods) == id)
		(void)diag_add(i->warnings, DIAG_WARNING, "user-of-proxy", path,
			"%u is the proxy's %s: what this container sends passes by the proxy", id, what);
}

/* Traffic of the proxy's user and group is not captured, whosever it is. */
static void warn_of_users(const struct injection *i, const char *list)
{
	for (size_t k = 0; i->capture && k < json_array_size(json_object_get(i->spec, list)); k++) {
		warn_of_id(i, list, k, "runAsUser", "user", i->user);
		warn_of_id(i, list, k, "runAsGroup", "group", PROXY_USER);
	}
}

static bool read_pod(struct injection *i, struct err *e)
{
	if (!check_texts(i->labels, "label", e) || !check_named(i->spec, "containers", true, e) ||
		!check_named(i->spec, "initContainers", false, e) || !check_named(i->spec, "volumes", false, e) ||
		!check_named(i->spec, "imagePullSecrets", false, e) ||
		!annotations_check(i->annotations, i->warnings, e) || !custom_choose(i, e) || !read_config(i, e))
		return false;
	read_settings(i);
	openshift_read(i);
	warn_of_users(i, "containers");
	const char *dns = text_at(i->spec, "dnsPolicy");
	if (*dns && !streq(dns, "ClusterFirst") && !streq(dns, "None"))
		(void)diag_add(i->warnings, DIAG_WARNING, "dns-policy", "spec.dnsPolicy",
			"with %.40s the proxy may not find pilot by its name", dns);
	return custom_read(i, e);
}

/* ---- the result */

json_t *object_in(json_t *parent, const char *key)
{
	if (!json_is_object(json_object_get(parent, key)))
		(void)json_object_set_new(parent, key, json_object());
	return json_object_get(parent, key);
}

json_t *list_in(json_t *parent, const char *key)
{
	if (!json_is_array(json_object_get(parent, key)))
		(void)json_object_set_new(parent, key, json_array());
	return json_object_get(parent, key);
}

/* Takes what the user wrote for this container out of the lists; NULL: nothing. The caller owns it. */
static json_t *take_users(const json_t *spec, const char *name, size_t *at)
{
	static const char *const lists[] = {"containers", "initContainers"};
	for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
		json_t *list = json_object_get(spec, lists[k]), *found = list_named(list, name, at);
		if (!found)
			continue;
		json_incref(found);
		(void)json_array_remove(list, *at);
		return found;
	}
	return NULL;
}

static void put(const struct injection *i, json_t *ours, const char *list, size_t at, json_t *status)
{
	size_t was = 0;
	const char *name = json_string_value(json_object_get(ours, "name"));
	json_t *users = take_users(i->spec, name, &was), *target = list_in(i->spec, list);
	json_t *merged = users ? container_merge(ours, users) : json_incref(ours);
	(void)json_array_append_new(list_in(status, list), json_string(name));
	(void)json_array_insert_new(target, min_size(i->gateway && users ? was : at, json_array_size(target)), merged);
	json_decref(users);
	json_decref(ours);
}

static void put_containers(const struct injection *i, json_t *status)
{
	if (i->native)
		put(i, proxy_container(i), "initContainers", 0, status);
	else
		put(i, proxy_container(i), "containers", i->hold ? 0 : SIZE_MAX, status);
	if (i->capture)
		put(i, capture_container(i), "initContainers", capture_is_first(i) ? 0 : SIZE_MAX, status);
}

static void put_volumes(const struct injection *i, json_t *status)
{
	json_t *volumes = proxy_volumes(i), *volume, *names = list_in(status, "volumes");
	json_t *list = list_in(i->spec, "volumes");
	size_t at;
	json_array_foreach(volumes, at, volume)
	{
		(void)json_array_append(names, json_object_get(volume, "name"));
		list_add_named(list, json_incref(volume), SIZE_MAX);
	}
	json_decref(volumes);
	for (const char **s = i->o->pull_secrets; s && *s; s++) {
		(void)json_array_append_new(list_in(status, "imagePullSecrets"), json_string(*s));
		list_add_named(list_in(i->spec, "imagePullSecrets"), json_pack("{s:s}", "name", *s), SIZE_MAX);
	}
}

/* The proxy's user may then bind ports below 1024, whatever files say about capabilities. */
static void open_low_ports(const struct injection *i)
{
	const char *name = "net.ipv4.ip_unprivileged_port_start";
	bool bind = false;
	(void)value_bool(annotation_of(i, "sidecar.istio.io/capNetBindService", "false"), &bind);
	if (bind || i->gateway) /* a gateway's ports are mostly such */
		list_add_named(list_in(object_in(i->spec, "securityContext"), "sysctls"),
			json_pack("{s:s, s:s}", "name", name, "value", "0"), SIZE_MAX);
}

json_t *find_proxy(const json_t *spec)
{
	json_t *c = list_named(json_object_get(spec, "containers"), PROXY_NAME, NULL);
	return c ? c : list_named(json_object_get(spec, "initContainers"), PROXY_NAME, NULL);
}

static void rewrite(const struct injection *i)
{
	bool wanted = !i->o->no_probe_rewrite;
	(void)value_bool(annotation_of(i, "sidecar.istio.io/rewriteAppHTTPProbers", ""), &wanted);
	if (wanted && i->status_port && !i->gateway && find_proxy(i->spec))
		probes_rewrite(i->spec, find_proxy(i->spec), i->status_port);
}

static bool check_size(const struct injection *i, struct err *e)
{
	const json_t *env = json_object_get(find_proxy(i->spec), "env");
	for (size_t k = 0; k < json_array_size(env); k++)
		if (strlen(text_at(json_array_get(env, k), "value")) > ENV_VALUE_MAX)
			return err_set(e, ERR_LIMIT,
				"%.60s of the proxy would be longer than %u bytes: labels and annotations are too "
				"large",
				text_at(json_array_get(env, k), "name"), ENV_VALUE_MAX);
	return true;
}

static void write_status(const struct injection *i, json_t *status)
{
	(void)json_object_set_new(
		status, "revision", json_string(str_empty(i->o->revision) ? "default" : i->o->revision));
	char *text = json_dumps(status, JSON_COMPACT);
	(void)json_object_set_new(object_in(i->metadata, "annotations"), STATUS_ANNOTATION, json_string(text));
	free(text);
}

static void add_annotations(const struct injection *i)
{
	const json_t *more = inject_settings_annotations(i->o->settings);
	if (json_object_size(more))
		(void)json_object_update(object_in(i->metadata, "annotations"), (json_t *)(uintptr_t)more);
}

static void apply(struct injection *i)
{
	json_t *status = json_pack(
		"{s:n, s:n, s:n, s:n}", "initContainers", "containers", "volumes", "imagePullSecrets");
	if (i->built_in) {
		metadata_annotations(i, object_in(i->metadata, "annotations"));
		capture_annotations(i, object_in(i->metadata, "annotations"));
		put_containers(i, status);
		put_volumes(i, status);
		open_low_ports(i);
	}
	custom_spec(i, status);
	capture_set_user(i);
	proxy_set_workers(i);
	rewrite(i);
	if (i->built_in)
		write_status(i, status);
	add_annotations(i);
	json_decref(status);
}

static bool inject(struct injection *i, struct err *e)
{
	openshift_clear_user(i);
	i->seen = json_deep_copy(i->annotations);
	i->original = json_deep_copy(i->spec);
	if (i->built_in)
		metadata_labels(i, object_in(i->metadata, "labels"));
	custom_metadata(i);
	if (i->built_in && !metadata_check(i, e))
		return false;
	apply(i);
	return check_size(i, e);
}

static json_t *copy_object(const json_t *parent, const char *key)
{
	const json_t *o = json_object_get(parent, key);
	return json_is_object(o) ? json_deep_copy(o) : json_object();
}

/* A CNI plugin reads the pod's own annotations. */
static void add_defaults(struct injection *i)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)inject_settings_defaults(i->o->settings), name, value)
	{
		if (json_object_get(i->annotations, name))
			continue;
		(void)json_object_set(i->annotations, name, value);
		if (i->o->cni && str_starts(str_of(name), STR("traffic.")))
			(void)json_object_set(object_in(i->metadata, "annotations"), name, value);
	}
}

static bool run(struct injection *i, const char **skipped, struct err *e)
{
	*skipped = reason_to_skip(i);
	if (*skipped)
		return true;
	if (!str_empty(i->o->settings_error))
		return err_set(e, ERR_SYSTEM, "the settings are not good: %.400s", i->o->settings_error);
	if (!read_pod(i, e))
		return false;
	if (!json_object_get(i->annotations, STATUS_ANNOTATION) || !find_proxy(i->spec))
		return inject(i, e);
	rewrite(i);
	return true;
}

bool inject_pod(const struct inject_options *o, const struct inject_request *q, json_t **out, const char **skipped,
	struct diags *warnings, struct err *e)
{
	json_t *pod = json_deep_copy(q->pod);
	json_t *spec = json_object_get(pod, "spec");
	if (!json_is_object(spec)) {
		json_decref(pod);
		return err_set(e, ERR_PEER, "spec: an object is expected");
	}
	struct injection i = {.o = o, .q = q, .pod = pod, .spec = spec, .warnings = warnings};
	i.metadata = object_in(pod, "metadata");
	i.annotations = copy_object(i.metadata, "annotations");
	i.labels = copy_object(i.metadata, "labels");
	add_defaults(&i);
	i.user = i.group = PROXY_USER;
	i.ns = *text_at(i.metadata, "namespace") ? text_at(i.metadata, "namespace") : q->ns ? q->ns : "";
	workload_name(i.metadata, q->workload, i.workload);
	*skipped = NULL;
	bool ok = run(&i, skipped, e);
	*out = ok && !*skipped ? json_incref(pod) : NULL;
	json_decref(i.annotations);
	json_decref(i.labels);
	json_decref(i.config);
	json_decref(i.custom);
	json_decref(i.seen);
	json_decref(i.original);
	json_decref(pod);
	return ok;
}

bool inject_resources_check(const char *json, struct err *e)
{
	json_error_t error;
	json_t *resources = json_loads(str_empty(json) ? "{}" : json, JSON_REJECT_DUPLICATES, &error);
	bool ok = json_is_object(resources);
	if (!ok)
		(void)err_set(e, ERR_PEER, "%s", resources ? "a JSON object is expected" : error.text);
	json_decref(resources);
	return ok;
}

bool inject_proxy_config(const struct inject_options *o, const char *ns, const json_t *labels, json_t *annotations,
	json_t **out, struct diags *warnings, struct err *e)
{
	struct injection i = {
		.o = o, .ns = ns, .labels = json_deep_copy(labels), .annotations = annotations, .warnings = warnings};
	bool ok = read_config(&i, e);
	json_decref(i.labels);
	if (ok)
		*out = i.config;
	else
		json_decref(i.config);
	return ok;
}
