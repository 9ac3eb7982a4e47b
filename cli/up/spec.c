/* DOC: The pod specification file: one JSON object, written by the runner and read by the pod's process, by one table of fields. */
#include "cli/up/spec.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/io/file.h"

struct field {
	const char *name;
	size_t offset; /* of a const char * in struct spec */
};

static const struct field fields[] = {
	{"name", offsetof(struct spec, pod.name)},
	{"namespace", offsetof(struct spec, pod.ns)},
	{"ip", offsetof(struct spec, pod.ip)},
	{"ips", offsetof(struct spec, pod.ips)},
	{"serviceAccount", offsetof(struct spec, pod.service_account)},
	{"workload", offsetof(struct spec, pod.workload)},
	{"labels", offsetof(struct spec, pod.labels_json)},
	{"annotations", offsetof(struct spec, pod.annotations_json)},
	{"proxyConfig", offsetof(struct spec, pod.proxy_config_json)},
	{"outboundPort", offsetof(struct spec, pod.outbound_port)},
	{"inboundPort", offsetof(struct spec, pod.inbound_port)},
	{"state", offsetof(struct spec, mesh.state)},
	{"dir", offsetof(struct spec, mesh.dir)},
	{"bin", offsetof(struct spec, mesh.bin)},
	{"envoy", offsetof(struct spec, mesh.envoy)},
	{"discovery", offsetof(struct spec, mesh.discovery)},
	{"ca", offsetof(struct spec, mesh.ca)},
	{"trustDomain", offsetof(struct spec, mesh.trust_domain)},
	{"hosts", offsetof(struct spec, mesh.hosts)},
	{"certTtl", offsetof(struct spec, mesh.cert_ttl)},
	{"podDir", offsetof(struct spec, pod_dir)},
};

static const char **slot(struct spec *s, const struct field *f)
{
	return (const char **)(void *)((char *)s + f->offset);
}

char *pod_state_dir(const struct mesh_paths *m, const struct pod *p)
{
	return xasprintf("%s/pods/%s.%s", m->state, p->ns, p->name);
}

static json_t *list_json(const char *const *list)
{
	json_t *array = json_array();
	for (size_t i = 0; list && list[i]; i++)
		(void)json_array_append_new(array, json_string(list[i]));
	return array;
}

bool spec_write(const struct mesh_paths *m, const struct pod *p, const char *path, struct err *e)
{
	char *dir cleanup(free_p) = pod_state_dir(m, p);
	char *hosts cleanup(free_p) = xasprintf("%s/hosts/%s", m->state, p->ns);
	struct spec s = {.pod = *p, .mesh = *m, .pod_dir = dir};
	s.mesh.hosts = hosts;
	json_t *root = json_object();
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		const char *text = *slot(&s, &fields[i]);
		(void)json_object_set_new(root, fields[i].name, json_string(text ? text : ""));
	}
	(void)json_object_set_new(root, "command", list_json(p->command));
	(void)json_object_set_new(root, "env", list_json(p->env));
	(void)json_object_set_new(root, "port", json_integer(p->port));
	(void)json_object_set_new(root, "proxy", json_boolean(p->proxy));
	(void)json_object_set_new(root, "gateway", json_boolean(p->gateway));
	char *text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	bool ok = text ? file_write_atomic(path, str_of(text), 0600, e)
		       : err_set(e, ERR_PEER, "pod %s/%s has text that is not UTF-8", p->ns, p->name);
	free(text);
	return ok;
}

static const char *const *list_read(struct arena *a, const json_t *array)
{
	size_t n = json_array_size(array);
	const char **list = ARENA_ARRAY(a, const char *, n + 1);
	for (size_t i = 0; i < n; i++)
		list[i] = arena_strdup(a, json_string_value(json_array_get(array, i)) ?: "");
	return n ? list : NULL;
}

bool spec_read(struct arena *a, const char *path, struct spec *out, struct err *e)
{
	json_error_t error;
	json_t *root = json_load_file(path, 0, &error);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(e, ERR_PEER, "%s:%d: %s", path, error.line, error.text);
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		*slot(out, &fields[i]) = arena_strdup(
			a, json_string_value(json_object_get(root, fields[i].name)) ?: "");
	out->pod.command = list_read(a, json_object_get(root, "command"));
	out->pod.env = list_read(a, json_object_get(root, "env"));
	out->pod.port = (uint32_t)json_integer_value(json_object_get(root, "port"));
	out->pod.proxy = json_is_true(json_object_get(root, "proxy"));
	out->pod.gateway = json_is_true(json_object_get(root, "gateway"));
	json_decref(root);
	return true;
}
