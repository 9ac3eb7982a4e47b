/*
 * DOC: See the header. What the pod's ProxyConfig says becomes the agent's options, as injection makes it those of an injected pod's agent, and its
 * proxyMetadata (environmentVariables of a ProxyConfig resource) the agent's environment. Where pilot is the runner knows.
 */
#include "cli/up/pod_agent.h"

#include <jansson.h>

#include "cli/up/netns.h"

#define ARGUMENTS_MAX 60u
#define LONG_DRAIN_NS INT64_C(20000000000) /* the whole drain fits into the agent's time-out, which is 25 s */

extern char **environ;

struct arguments {
	const char **items;
	size_t n;
};

static void add(struct arguments *l, const char *option, const char *value)
{
	assert(l->n + 2 < ARGUMENTS_MAX);
	l->items[l->n++] = option;
	if (value)
		l->items[l->n++] = value;
}

static void add_pod(struct arguments *l, const struct spec *s)
{
	const struct pod *p = &s->pod;
	add(l, "--type", p->gateway ? "router" : "sidecar");
	add(l, "--pod-name", p->name);
	add(l, "--pod-namespace", p->ns);
	add(l, "--pod-ip", p->ip);
	add(l, "--pod-ips", p->ips);
	add(l, "--service-account", p->service_account);
	add(l, "--workload", p->workload);
	add(l, "--labels", p->labels_json);
	add(l, "--annotations", p->annotations_json);
}

static void add_mesh(struct arguments *l, struct arena *a, const struct spec *s)
{
	bool v6 = strchr(s->pod.ip, ':');
	add(l, "--trust-domain", s->mesh.trust_domain);
	add(l, "--discovery-address", v6 ? PILOT_ADDRESS6 : s->mesh.discovery);
	add(l, "--ca-address", v6 ? PILOT_ADDRESS6 : s->mesh.ca);
	add(l, "--ca-roots", arena_printf(a, "%s/citadel/root-cert.pem", s->mesh.state));
	add(l, "--token-file", arena_printf(a, "%s/token", s->pod_dir));
	add(l, "--state-dir", arena_printf(a, "%s/agent", s->pod_dir));
	add(l, "--envoy", s->mesh.envoy);
	add(l, "--admin-address", arena_printf(a, "unix:%s/agent.admin", s->pod_dir));
	add(l, "--cert-ttl", s->mesh.cert_ttl);
	add(l, "--proxy-mark", PROXY_MARK);
}

/* ---- what the ProxyConfig says */

static json_t *config_of(const struct spec *s)
{
	json_t *config = str_empty(s->pod.proxy_config_json) ? NULL : json_loads(s->pod.proxy_config_json, 0, NULL);
	return config ? config : json_object();
}

static void add_drain(struct arguments *l, struct arena *a, const json_t *config)
{
	const char *drain = json_string_value(json_object_get(config, "terminationDrainDuration"));
	const json_t *metadata = json_object_get(config, "proxyMetadata");
	int64_t ns = 0;
	if (drain)
		add(l, "--drain-duration", arena_strdup(a, drain));
	if (drain && str_duration(str_of(drain), &ns) && ns > LONG_DRAIN_NS)
		add(l, "--drain-timeout", arena_printf(a, "%llds", (long long)(ns / 1000000000 + 20)));
	if (streq(json_string_value(json_object_get(metadata, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS")), "true"))
		add(l, "--exit-on-zero-connections", NULL);
}

static void add_config(struct arguments *l, struct arena *a, const struct spec *s, const json_t *config)
{
	const json_t *workers = json_object_get(config, "concurrency");
	if (json_object_size(config))
		add(l, "--proxy-config", s->pod.proxy_config_json);
	/* Else one loop thread for each Envoy: a laptop runs a dozen of them. */
	add(l, "--concurrency", workers ? arena_printf(a, "%lld", (long long)json_integer_value(workers)) : "1");
	add_drain(l, a, config);
	if (!s->pod.gateway)
		add(l, "--interception-mode", pod_agent_mode(a, s));
}

const char *pod_agent_mode(struct arena *a, const struct spec *s)
{
	json_t *config = config_of(s), *annotations = json_loads(s->pod.annotations_json, 0, NULL);
	const char *mode = json_string_value(json_object_get(annotations, "sidecar.istio.io/interceptionMode"));
	mode = mode ? mode : json_string_value(json_object_get(config, "interceptionMode"));
	mode = s->pod.gateway ? "NONE" : arena_strdup(a, mode ? mode : "REDIRECT");
	json_decref(config);
	json_decref(annotations);
	return mode;
}

/* ---- environments: our own behind what is said */

static size_t length(const char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	return n;
}

static const char *const *environment(struct arena *a, const char *const *first, const json_t *variables)
{
	const char *const *own = (const char *const *)environ;
	size_t n = 0, n_first = length(first), n_own = length(own);
	const char **env = ARENA_ARRAY(a, const char *, n_first + json_object_size(variables) + n_own + 1);
	const char *key;
	json_t *value;
	for (size_t i = 0; i < n_first; i++)
		env[n++] = first[i];
	json_object_foreach((json_t *)(uintptr_t)variables, key, value)
		env[n++] = arena_printf(a, "%s=%s", key, json_string_value(value));
	for (size_t i = 0; i < n_own; i++)
		env[n++] = own[i];
	return env;
}

const char *const *pod_app_environment(struct arena *a, const struct spec *s)
{
	return environment(a, s->pod.env, NULL);
}

void pod_agent_build(struct arena *a, const struct spec *s, struct pod_agent *out)
{
	json_t *config = config_of(s);
	struct arguments l = {ARENA_ARRAY(a, const char *, ARGUMENTS_MAX), 0};
	add(&l, arena_printf(a, "%s/agent/agent", s->mesh.bin), NULL);
	add_pod(&l, s);
	add_mesh(&l, a, s);
	add_config(&l, a, s, config);
	out->argv = l.items;
	/* In a cluster the container of a gateway is the proxy. */
	out->env = environment(a, s->pod.gateway ? s->pod.env : NULL, json_object_get(config, "proxyMetadata"));
	json_decref(config);
}
