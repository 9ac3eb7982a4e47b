/*
 * DOC: The container that every injected pod gets: istio-proxy, the agent with its Envoy. Images
 * begin with the agent, so arguments are the agent's. What Istio's proxies get in their environment by name (POD_NAME ...) is there too, and the
 * agent's options refer to it.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "galley/webhook/inject_internal.h"

#define STATE_DIR "/etc/istio/proxy"

/* ---- environment */

char *env_json(const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
	struct strbuf out = {0};
	for (const char *p = text; p && *p; p++)
		if (*p == '$')
			strbuf_adds(&out, "\\u0024"); /* in JSON it can only be in a string */
		else
			strbuf_addc(&out, *p);
	free(text);
	return strbuf_take(&out);
}

/* "$$" is how Kubernetes writes a dollar that is none of its own. */
char *env_literal(const char *value)
{
	struct strbuf out = {0};
	for (; value && *value; value++) {
		strbuf_addc(&out, *value);
		if (*value == '$')
			strbuf_addc(&out, '$');
	}
	return strbuf_take(&out);
}

static void env_reference(json_t *env, const char *name, const char *value)
{
	(void)json_array_append_new(env, json_pack("{s:s, s:s}", "name", name, "value", value));
}

static void env_text(json_t *env, const char *name, const char *value)
{
	char *text cleanup(free_p) = env_literal(value);
	if (*text)
		env_reference(env, name, text);
}

static void env_object(json_t *env, const char *name, const json_t *value)
{
	char *text cleanup(free_p) = env_json(value);
	env_reference(env, name, text);
}

static void env_from_pod(json_t *env)
{
	static const struct {
		const char *name, *path;
	} fields[] = {{"POD_NAME", "metadata.name"}, {"POD_NAMESPACE", "metadata.namespace"},
		{"INSTANCE_IP", "status.podIP"}, {"INSTANCE_IPS", "status.podIPs"},
		{"SERVICE_ACCOUNT", "spec.serviceAccountName"}, {"HOST_IP", "status.hostIP"},
		{"ISTIO_META_NODE_NAME", "spec.nodeName"}};
	static const struct {
		const char *name, *value;
	} options[] = {{"FAIRLEAD_AGENT_POD_NAME", "$(POD_NAME)"}, {"FAIRLEAD_AGENT_POD_NAMESPACE", "$(POD_NAMESPACE)"},
		{"FAIRLEAD_AGENT_POD_IP", "$(INSTANCE_IP)"}, {"FAIRLEAD_AGENT_POD_IPS", "$(INSTANCE_IPS)"},
		{"FAIRLEAD_AGENT_SERVICE_ACCOUNT", "$(SERVICE_ACCOUNT)"},
		{"FAIRLEAD_AGENT_NODE_NAME", "$(ISTIO_META_NODE_NAME)"}};
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		(void)json_array_append_new(env, json_pack("{s:s, s:{s:{s:s}}}", "name", fields[i].name, "valueFrom",
							 "fieldRef", "fieldPath", fields[i].path));
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		env_reference(env, options[i].name, options[i].value);
}

/* The annotations that the agent and pilot may read: others may be large, and are nobody's business. */
static json_t *annotations_for_agent(const struct injection *i)
{
	static const char *const families[] = {"istio.io/", "prometheus.io/", "traffic.sidecar.istio.io/"};
	json_t *out = json_object(), *value;
	const char *key;
	json_object_foreach(i->seen, key, value)
	{
		bool wanted = strstr(key, ".istio.io/") && !streq(key, "proxy.istio.io/overrides");
		for (size_t f = 0; f < ARRAY_LEN(families); f++)
			wanted = wanted || str_starts(str_of(key), str_of(families[f]));
		if (wanted && !streq(key, STATUS_ANNOTATION))
			(void)json_object_set(out, key, value);
	}
	if (i->o->no_metrics_merge && !json_object_get(out, "prometheus.istio.io/merge-metrics"))
		(void)json_object_set_new(out, "prometheus.istio.io/merge-metrics", json_string("false"));
	return out;
}

static const char *config_text(const struct injection *i, const char *key)
{
	return json_string_value(json_object_get(i->config, key));
}

static void env_concurrency(const struct injection *i, json_t *env)
{
	const json_t *configured = json_object_get(i->config, "concurrency");
	char text[24];
	if (!configured)
		return; /* then the limit says, see proxy_set_workers() */
	(void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(configured));
	env_text(env, "FAIRLEAD_AGENT_CONCURRENCY", text);
}

/* Istio's words for the agent's scopes and levels in ours. */
static char *agent_level(const char *list)
{
	struct strbuf out = {0};
	struct str rest = str_of(list), part, scope, level;
	while (str_split(&rest, ',', &part)) {
		if (!str_cut(str_trim(part), ':', &scope, &level)) {
			level = str_trim(part);
			scope = STR("default");
		}
		if (str_eqc(level, "none") || str_eqc(level, "fatal"))
			level = STR("error");
		strbuf_addf(&out, "%s" STR_FMT ":" STR_FMT, out.len ? "," : "",
			STR_ARG(str_eqc(scope, "all") ? STR("default") : scope), STR_ARG(level));
	}
	return strbuf_take(&out);
}

static void env_logs(const struct injection *i, json_t *env)
{
	const char *level = annotation_of(i, "sidecar.istio.io/logLevel", "warning");
	const char *components = annotation_of(i, "sidecar.istio.io/componentLogLevel", "misc:error");
	char *envoy cleanup(free_p) = xasprintf("%s%s%s", level, *components ? "," : "", components);
	char *agent cleanup(free_p) = agent_level(annotation_of(i, "sidecar.istio.io/agentLogLevel", ""));
	env_text(env, "FAIRLEAD_AGENT_ENVOY_LOG_LEVEL", envoy);
	if (annotation_of(i, "sidecar.istio.io/agentLogLevel", NULL))
		env_text(env, "FAIRLEAD_AGENT_LOG_LEVEL", agent);
}

/* The whole drain fits into the agent's time-out, which is 25 s. */
static void env_drain(const struct injection *i, json_t *env)
{
	const char *duration = config_text(i, "terminationDrainDuration");
	const json_t *metadata = json_object_get(i->config, "proxyMetadata");
	int64_t ns = 0;
	bool zero = false;
	(void)value_bool(json_string_value(json_object_get(metadata, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS")), &zero);
	env_text(env, "FAIRLEAD_AGENT_DRAIN_DURATION", duration);
	if (duration && str_duration(str_of(duration), &ns) && ns > INT64_C(20000000000)) {
		char *timeout cleanup(free_p) = xasprintf("%llds", (long long)(ns / 1000000000 + 20));
		env_text(env, "FAIRLEAD_AGENT_DRAIN_TIMEOUT", timeout);
	}
	if (zero)
		env_text(env, "FAIRLEAD_AGENT_EXIT_ON_ZERO_CONNECTIONS", "true");
}

static void env_of_mesh(const struct injection *i, json_t *env)
{
	const struct inject_options *o = i->o;
	const char *discovery = config_text(i, "discoveryAddress");
	if (!discovery)
		discovery = str_empty(o->discovery_address) ? INJECT_DISCOVERY_ADDRESS : o->discovery_address;
	env_text(env, "FAIRLEAD_AGENT_CLUSTER_ID", i->q->cluster_id ? i->q->cluster_id : o->cluster_id);
	env_text(env, "FAIRLEAD_AGENT_NETWORK", network_of(i));
	env_text(env, "FAIRLEAD_AGENT_TRUST_DOMAIN", str_empty(o->trust_domain) ? "cluster.local" : o->trust_domain);
	env_text(env, "FAIRLEAD_AGENT_DOMAIN_SUFFIX", str_empty(o->domain_suffix) ? "cluster.local" : o->domain_suffix);
	env_text(env, "FAIRLEAD_AGENT_DISCOVERY_ADDRESS", discovery);
	env_text(env, "FAIRLEAD_AGENT_CA_ADDRESS", o->ca_address);
	env_text(env, "FAIRLEAD_AGENT_CA_ROOTS", "/var/run/secrets/istio/root-cert.pem");
	env_text(env, "FAIRLEAD_AGENT_TOKEN_FILE", "/var/run/secrets/tokens/istio-token");
	env_text(env, "FAIRLEAD_AGENT_STATE_DIR", STATE_DIR);
}

static const char *mode_of(const struct injection *i)
{
	return i->transparent ? "TPROXY" : i->capture ? "REDIRECT" : "NONE";
}

static json_t *environment(const struct injection *i)
{
	json_t *env = json_array(), *annotations = annotations_for_agent(i), *value;
	const char *key;
	env_from_pod(env);
	if (i->gateway)
		env_text(env, "FAIRLEAD_AGENT_TYPE", "router");
	else if (!i->capture || i->transparent || json_object_get(i->config, "interceptionMode"))
		env_text(env, "FAIRLEAD_AGENT_INTERCEPTION_MODE", mode_of(i));
	env_text(env, "FAIRLEAD_AGENT_WORKLOAD", i->workload);
	env_object(env, "FAIRLEAD_AGENT_LABELS", json_object_get(i->metadata, "labels"));
	env_object(env, "FAIRLEAD_AGENT_ANNOTATIONS", annotations);
	if (json_object_size(i->config))
		env_object(env, "PROXY_CONFIG", i->config);
	env_of_mesh(i, env);
	env_concurrency(i, env);
	env_logs(i, env);
	env_drain(i, env);
	if (annotation_of(i, BOOTSTRAP_ANNOTATION, NULL))
		env_text(env, "FAIRLEAD_AGENT_BOOTSTRAP_OVERRIDE", BOOTSTRAP_DIR "/custom_bootstrap.json");
	if (i->status_port && i->status_port != STATUS_PORT) {
		char *address cleanup(free_p) = xasprintf("*:%u", i->status_port);
		env_text(env, "FAIRLEAD_AGENT_STATUS_ADDRESS", address);
	}
	json_object_foreach(json_object_get(i->config, "proxyMetadata"), key, value)
	{
		char *text cleanup(free_p) = env_literal(json_string_value(value));
		if (!list_named(env, key, NULL))
			env_reference(env, key, text);
	}
	json_decref(annotations);
	return env;
}

/* ---- image, resources, rights */

/* The type of image is the end of the tag. */
char *proxy_image(const struct injection *i)
{
	const json_t *configured = json_object_get(json_object_get(i->config, "image"), "imageType");
	const char *type = annotation_of(i, "sidecar.istio.io/proxyImageType", json_string_value(configured));
	const char *image = annotation_of(i, "sidecar.istio.io/proxyImage", NULL);
	static const char *const known[] = {"-distroless", "-debug"};
	struct str base = str_of(i->o->image);
	size_t slash = 0, colon = 0;
	(void)str_rfind(base, '/', &slash);
	bool tagged = str_rfind(base, ':', &colon) && colon > slash && !str_find(base, '@', &(size_t){0});
	if (!str_empty(image) || str_empty(type) || !tagged)
		return xstrdup(str_empty(image) ? i->o->image : image);
	for (size_t k = 0; k < ARRAY_LEN(known); k++)
		if (str_ends(base, str_of(known[k])))
			base.len -= strlen(known[k]);
	bool plain = streq(type, "default");
	return xasprintf(STR_FMT "%s%s", STR_ARG(base), plain ? "" : "-", plain ? "" : type);
}

static json_t *new_container(const struct injection *i, const char *name)
{
	char *image cleanup(free_p) = proxy_image(i);
	json_t *c = json_pack("{s:s, s:s}", "name", name, "image", image);
	if (!str_empty(i->o->pull_policy))
		(void)json_object_set_new(c, "imagePullPolicy", json_string(i->o->pull_policy));
	return c;
}

/* Takes the parts. */
static void add_parts(json_t *container, json_t *parts)
{
	(void)json_object_update(container, parts);
	json_decref(parts);
}

/* The annotations, all that there are, or the options'. */
static json_t *resources_of(const struct injection *i)
{
	static const struct {
		const char *annotation, *group, *key;
	} rows[] = {{"sidecar.istio.io/proxyCPU", "requests", "cpu"},
		{"sidecar.istio.io/proxyMemory", "requests", "memory"},
		{"sidecar.istio.io/proxyCPULimit", "limits", "cpu"},
		{"sidecar.istio.io/proxyMemoryLimit", "limits", "memory"}};
	json_t *out = json_object();
	for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
		const char *value = annotation_of(i, rows[k].annotation, NULL);
		if (!value)
			continue;
		if (!json_object_get(out, rows[k].group))
			(void)json_object_set_new(out, rows[k].group, json_object());
		(void)json_object_set_new(json_object_get(out, rows[k].group), rows[k].key, json_string(value));
	}
	if (json_object_size(out))
		return out;
	json_decref(out);
	return json_loads(str_empty(i->o->resources) ? INJECT_RESOURCES : i->o->resources, 0, NULL);
}

json_t *container_rights(json_t *added, uint32_t user, uint32_t group)
{
	json_t *capabilities = json_pack("{s:[s]}", "drop", "ALL");
	if (json_array_size(added))
		(void)json_object_set(capabilities, "add", added);
	json_decref(added);
	return json_pack("{s:b, s:b, s:b, s:b, s:I, s:I, s:{s:s}, s:o}", "allowPrivilegeEscalation", 0, "privileged", 0,
		"readOnlyRootFilesystem", 1, "runAsNonRoot", user != 0, "runAsUser", (json_int_t)user, "runAsGroup",
		(json_int_t)group, "seccompProfile", "type", "RuntimeDefault", "capabilities", capabilities);
}

json_t *helper_container(const struct injection *i, const char *name, json_t *args, json_t *rights)
{
	json_t *c = new_container(i, name);
	add_parts(
		c, json_pack("{s:o, s:o, s:o}", "args", args, "resources", resources_of(i), "securityContext", rights));
	return c;
}

/* ---- the proxy */

static json_t *probe(unsigned period, unsigned failures, unsigned delay)
{
	return json_pack("{s:{s:s, s:i}, s:i, s:i, s:i, s:i}", "httpGet", "path", "/healthz/ready", "port",
		(int)HEALTH_PORT, "initialDelaySeconds", (int)delay, "periodSeconds", (int)period, "timeoutSeconds", 3,
		"failureThreshold", (int)failures);
}

static unsigned number_of(const struct injection *i, const char *annotation, unsigned fallback)
{
	uint32_t value;
	const char *text = annotation_of(i, annotation, NULL);
	return text && str_u32(str_of(text), INT32_MAX, &value) ? value : fallback;
}

static void set_probes(const struct injection *i, json_t *container)
{
#define READINESS "readiness.status.sidecar.istio.io/"
	if (!i->status_port)
		return;
	(void)json_object_set_new(container, "readinessProbe",
		probe(number_of(i, READINESS "periodSeconds", 15), number_of(i, READINESS "failureThreshold", 4),
			number_of(i, READINESS "initialDelaySeconds", 0)));
	if (!i->gateway)
		(void)json_object_set_new(container, "startupProbe", probe(1, 600, 0));
}

/* The application still runs when a pod begins to end; a native sidecar is told only after it. */
static json_t *drain_hook(const struct injection *i)
{
	char *url cleanup(free_p) = xasprintf(
		"--url=http://127.0.0.1:%u/drain", i->status_port ? i->status_port : STATUS_PORT);
	return json_pack("{s:{s:{s:[s, s, s]}}}", "preStop", "exec", "command", "agent", "drain", url);
}

/*
 * With TPROXY Envoy takes connections, and calls, with addresses that are not its own, and marks packets. Only the superuser gets a capability from
 * Kubernetes, so it is Istio's: the superuser with no other right, in the proxy's group, by which capture knows it.
 */
static json_t *proxy_rights(const struct injection *i)
{
	bool bind = false;
	json_t *added = json_array();
	(void)value_bool(annotation_of(i, "sidecar.istio.io/capNetBindService", "false"), &bind);
	if (i->transparent)
		(void)json_array_append_new(added, json_string("NET_ADMIN"));
	if (bind)
		(void)json_array_append_new(added, json_string("NET_BIND_SERVICE"));
	return i->transparent ? container_rights(added, 0, PROXY_USER) : container_rights(added, i->user, i->group);
}

json_t *proxy_container(const struct injection *i)
{
	json_t *c = new_container(i, PROXY_NAME);
	add_parts(c, json_pack("{s:[{s:i, s:s, s:s}], s:o, s:o, s:o, s:o}", "ports", "containerPort", 15090, "protocol",
			     "TCP", "name", "http-envoy-prom", "env", environment(i), "resources", resources_of(i),
			     "securityContext", proxy_rights(i), "volumeMounts", proxy_volume_mounts(i)));
	set_probes(i, c);
	if (i->native) {
		(void)json_object_set_new(c, "restartPolicy", json_string("Always"));
		(void)json_object_set_new(c, "lifecycle", drain_hook(i));
	} else if (i->hold)
		(void)json_object_set_new(c, "lifecycle",
			json_pack("{s:{s:{s:[s, s, s]}}}", "postStart", "exec", "command", "agent", "wait",
				"--timeout=60s"));
	return c;
}

void proxy_set_workers(const struct injection *i)
{
	json_t *proxy = find_proxy(i->spec), *env = json_object_get(proxy, "env");
	const json_t *limit = json_object_get(json_object_get(json_object_get(proxy, "resources"), "limits"), "cpu");
	char *number cleanup(free_p) = json_is_integer(limit) ? xasprintf("%lld", (long long)json_integer_value(limit))
							      : NULL;
	const char *quantity = number ? number : json_string_value(limit);
	double cores = 0;
	char text[24];
	if (!json_is_array(env) || list_named(env, "FAIRLEAD_AGENT_CONCURRENCY", NULL) || !quantity ||
		!value_quantity(quantity, &cores) || cores <= 0 || cores >= 1024)
		return;
	(void)snprintf(text, sizeof(text), "%u", (unsigned)cores + ((double)(unsigned)cores < cores));
	env_text(env, "FAIRLEAD_AGENT_CONCURRENCY", text);
}
