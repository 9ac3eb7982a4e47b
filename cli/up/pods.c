/*
 * DOC: Reads Pods from a directory of YAML for the machine-local mesh. The runner is the kubelet of this mode: it takes from a Pod what a
 * kubelet would (command, environment, service account) and the address that the author wrote into status.podIP.
 */
#include "cli/up/pods.h"

#include <ftw.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/vec.h"
#include "common/io/file.h"
#include "common/mesh/labels.h"
#include "common/pb/json.h"

struct file_list {
	VEC(char *) paths;
};

/* nftw(3) has no context argument; this file runs on one thread and the pointer lives for one call. */
static struct file_list *walking;

static int visit(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	struct str name = str_of(path + at->base);
	bool wanted = str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml")) || str_ends(name, STR(".json"));
	if (type == FTW_F && wanted && name.ptr[0] != '.' && walking->paths.len < LIMIT_SOURCE_FILES)
		vec_push(&walking->paths, xstrdup(path));
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *map_json(struct arena *a, struct label_set set)
{
	struct strbuf b = {0};
	strbuf_addc(&b, '{');
	for (size_t i = 0; i < set.n; i++) {
		struct label l = label_at(set, i);
		strbuf_adds(&b, i ? "," : "");
		strbuf_add_json(&b, str_of(l.key));
		strbuf_addc(&b, ':');
		strbuf_add_json(&b, str_of(l.value));
	}
	strbuf_addc(&b, '}');
	const char *text = arena_cstr(a, strbuf_str(&b));
	strbuf_done(&b);
	return text;
}

static const char *const *strings(struct arena *a, char *const *first, size_t n, char *const *second, size_t m)
{
	const char **list = ARENA_ARRAY(a, const char *, n + m + 1);
	for (size_t i = 0; i < n; i++)
		list[i] = arena_strdup(a, first[i]);
	for (size_t i = 0; i < m; i++)
		list[n + i] = arena_strdup(a, second[i]);
	return n + m ? list : NULL;
}

static const char *const *environment(struct arena *a, const Kube__Container *c)
{
	const char **list = ARENA_ARRAY(a, const char *, c->n_env + 1);
	for (size_t i = 0; i < c->n_env; i++)
		list[i] = arena_printf(a, "%s=%s", c->env[i]->name, c->env[i]->value);
	return list;
}

static const char *pick(const char *preferred, const char *fallback)
{
	return str_empty(preferred) ? fallback : preferred;
}

static struct pod from_object(struct arena *a, const Kube__Pod *in)
{
	struct label_set labels = LABELS(in->metadata, labels), annotations = LABELS(in->metadata, annotations);
	const char *templates = label_get(annotations, "inject.istio.io/templates");
	const char *inject = label_get(labels, "sidecar.istio.io/inject");
	inject = inject ? inject : label_get(annotations, "sidecar.istio.io/inject");
	struct pod p = {
		.name = arena_strdup(a, in->metadata->name),
		.ns = arena_strdup(a, pick(in->metadata->namespace_, "default")),
		.ip = arena_strdup(a, in->status->podip),
		.service_account = arena_strdup(a, pick(in->spec ? in->spec->service_account_name : NULL, "default")),
		.labels_json = map_json(a, labels),
		.annotations_json = map_json(a, annotations),
		.proxy = !streq(inject, "false"),
		.gateway = streq(templates, "gateway"),
	};
	const char *generate = in->metadata->generate_name;
	size_t len = str_empty(generate) ? 0 : strlen(generate);
	p.workload = len ? arena_cstr(a, str_n(generate, generate[len - 1] == '-' ? len - 1 : len)) : p.name;
	if (in->spec && in->spec->n_containers) {
		const Kube__Container *c = in->spec->containers[0];
		p.command = strings(a, c->command, c->n_command, c->args, c->n_args);
		p.env = environment(a, c);
		p.port = c->n_ports ? (uint32_t)c->ports[0]->container_port : 0;
	}
	p.hash = 0;
	return p;
}

static void read_documents(
	struct arena *a, const struct documents *docs, struct pods *out, size_t *cap, struct diags *warnings)
{
	for (size_t i = 0; i < docs->len; i++) {
		const struct node *n = docs->items[i];
		if (!str_eqc(node_text(n, "kind"), "Pod") || !str_eqc(node_text(n, "apiVersion"), "v1"))
			continue;
		const struct pb_decode_options lenient = {.ignore_unknown = true};
		const Kube__Pod *object = pb_from_node(a, &kube__pod__descriptor, n, &lenient, warnings);
		if (!object || !object->metadata || str_empty(object->metadata->name))
			continue;
		if (!object->status || str_empty(object->status->podip)) {
			diag_add(warnings, DIAG_WARNING, "pod-without-address", "status.podIP",
				"Pod %s is not started: it has no address", object->metadata->name);
			continue;
		}
		if (out->len == *cap)
			out->items = vec_grow(out->items, cap, sizeof(*out->items));
		out->items[out->len] = from_object(a, object);
		out->items[out->len++].hash = pb_hash(object);
	}
}

bool pods_read(struct arena *a, const char *dir, struct pods *out, struct diags *warnings, struct err *e)
{
	struct file_list files = {0};
	walking = &files;
	int rc = nftw(dir, visit, 16, FTW_PHYS);
	walking = NULL;
	if (rc)
		return err_errno(e, "read the directory %s", dir);
	if (files.paths.len)
		qsort(files.paths.items, files.paths.len, sizeof(char *), by_text);
	struct pods found = {0};
	size_t cap = 0;
	for (size_t i = 0; i < files.paths.len; i++) {
		char *text = NULL;
		size_t len = 0;
		struct documents docs = {0};
		if (file_read(files.paths.items[i], LIMIT_FILE_BYTES, &text, &len, NULL)) {
			(void)yaml_parse(a, str_n(text, len), files.paths.items[i], &docs, warnings);
			read_documents(a, &docs, &found, &cap, warnings);
		}
		free(text);
		free(files.paths.items[i]);
	}
	vec_done(&files.paths);
	out->items = arena_dup(a, found.items, found.len * sizeof(*found.items));
	out->len = found.len;
	free(found.items);
	return true;
}

const struct pod *pods_find(const struct pods *p, const char *ns, const char *name)
{
	for (size_t i = 0; i < p->len; i++)
		if (streq(p->items[i].ns, ns) && streq(p->items[i].name, name))
			return &p->items[i];
	return NULL;
}
