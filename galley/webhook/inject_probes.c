/*
 * DOC: Probes of the application. The kubelet speaks plaintext, from outside the mesh: with mutual TLS its probes would be refused. So they go to
 * the agent's status port, /app-health/<container>/..., and the agent does what the probe was meant to do. The originals stand in the agent's
 * environment in Istio's form, named ports as numbers. A probe or hook that names a host is not one of this pod, and one of a port that no
 * name leads to cannot be done by anybody: both stay.
 */
#include <stdlib.h>

#include "galley/webhook/inject_internal.h"

#define PROBERS "ISTIO_KUBE_APP_PROBERS"

static const struct place {
	const char *parent, *probe; /* in the container */
	const char *path; /* of the agent; "%s": container */
	bool hook; /* only httpGet is a way to call a hook by */
} places[] = {
	{NULL, "readinessProbe", "/app-health/%s/readyz", false},
	{NULL, "livenessProbe", "/app-health/%s/livez", false},
	{NULL, "startupProbe", "/app-health/%s/startupz", false},
	{"lifecycle", "preStop", "/app-lifecycle/%s/prestopz", true},
	{"lifecycle", "postStart", "/app-lifecycle/%s/poststartz", true},
};

/* The port of a handler as a number; 0: none. */
static json_int_t port_of(const json_t *container, const json_t *handler)
{
	const json_t *port = json_object_get(handler, "port"), *ports = json_object_get(container, "ports");
	const char *name = json_string_value(port);
	json_int_t number = json_integer_value(port);
	uint32_t written;
	for (size_t i = 0; name && i < json_array_size(ports); i++)
		if (streq(json_string_value(json_object_get(json_array_get(ports, i), "name")), name))
			number = json_integer_value(json_object_get(json_array_get(ports, i), "containerPort"));
	if (name && !number && str_u32(str_of(name), 65535, &written))
		number = written;
	return number > 0 && number <= 65535 ? number : 0;
}

static bool is_elsewhere(const json_t *handler)
{
	if (json_string_length(json_object_get(handler, "host")) > 0)
		return true;
	const json_t *headers = json_object_get(handler, "httpHeaders");
	return headers && !json_is_array(headers); /* not to be understood: left to the API server */
}

/* What the agent is to do for this probe, NULL when it stays as it is. */
static json_t *prober(const json_t *container, const json_t *probe, const struct place *p, const char *path)
{
	static const char *const kinds[] = {"httpGet", "tcpSocket", "grpc"};
	for (size_t i = 0; i < (p->hook ? 1 : ARRAY_LEN(kinds)); i++) {
		const json_t *handler = json_object_get(probe, kinds[i]);
		json_int_t port = json_is_object(handler) ? port_of(container, handler) : 0;
		if (!port || is_elsewhere(handler))
			continue;
		if (streq(json_string_value(json_object_get(handler, "path")), path))
			return NULL; /* done before */
		json_t *copy = json_deep_copy(handler), *timeout = json_object_get(probe, "timeoutSeconds");
		(void)json_object_set_new(copy, "port", json_integer(port));
		json_t *out = json_pack("{s:o}", kinds[i], copy);
		if (timeout)
			(void)json_object_set(out, "timeoutSeconds", timeout);
		return out;
	}
	return NULL;
}

static void redirect(json_t *probe, const char *path, uint32_t status_port)
{
	(void)json_object_del(probe, "httpGet");
	(void)json_object_del(probe, "tcpSocket");
	(void)json_object_del(probe, "grpc");
	(void)json_object_set_new(probe, "httpGet",
		json_pack("{s:s, s:I, s:s}", "path", path, "port", (json_int_t)status_port, "scheme", "HTTP"));
}

static bool rewrite_container(json_t *container, json_t *probers, uint32_t status_port)
{
	bool changed = false;
	const char *name = json_string_value(json_object_get(container, "name"));
	for (size_t i = 0; name && i < ARRAY_LEN(places); i++) {
		const struct place *p = &places[i];
		json_t *parent = p->parent ? json_object_get(container, p->parent) : container;
		json_t *probe = json_object_get(parent, p->probe);
		const char *end = strstr(p->path, "%s");
		char *path cleanup(free_p) = xasprintf("%.*s%s%s", (int)(end - p->path), p->path, name, end + 2);
		json_t *original = prober(container, probe, p, path);
		if (!original)
			continue;
		(void)json_object_set_new(probers, path, original);
		redirect(probe, path, status_port);
		changed = true;
	}
	return changed;
}

static bool stays(const json_t *container)
{
	return streq(json_string_value(json_object_get(container, "restartPolicy")), "Always");
}

void probes_rewrite(const json_t *spec, json_t *proxy, uint32_t status_port)
{
	json_t *env = json_object_get(proxy, "env"), *entry = list_named(env, PROBERS, NULL), *container;
	json_t *probers = json_loads(
		entry ? json_string_value(json_object_get(entry, "value")) : "{}", JSON_REJECT_DUPLICATES, NULL);
	bool changed = false;
	size_t i;
	if (!json_is_object(probers) || !json_is_array(env)) {
		json_decref(probers);
		return;
	}
	json_array_foreach(json_object_get(spec, "containers"), i, container) if (container != proxy)
		changed |= rewrite_container(container, probers, status_port);
	json_array_foreach(
		json_object_get(spec, "initContainers"), i, container) if (container != proxy && stays(container))
		changed |= rewrite_container(container, probers, status_port);
	if (changed) {
		char *plain = env_json(probers);
		if (entry)
			(void)json_object_set_new(entry, "value", json_string(plain));
		else
			(void)json_array_append_new(env, json_pack("{s:s, s:s}", "name", PROBERS, "value", plain));
		free(plain);
	}
	json_decref(probers);
}
