/*
 * DOC: Reads Pods from a directory of YAML for the machine-local mesh. The runner is the kubelet of this mode: it takes from a Pod what a
 * kubelet would (command, environment, service account) and the address that the author wrote into status.podIP.
 */
#include "cli/up/pods.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/vec.h"
#include "common/io/file.h"
#include "common/mesh/labels.h"
#include "common/pb/json.h"
#include "galley/galley.h"

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

static const char *addresses(struct arena *a, const Kube__PodStatus *s)
{
	const char *all = arena_strdup(a, s->podip);
	for (size_t i = 0; i < s->n_podips; i++)
		if (!str_empty(s->podips[i]->ip) && !streq(s->podips[i]->ip, s->podip))
			all = arena_printf(a, "%s,%s", all, s->podips[i]->ip);
	return all;
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
		.ips = addresses(a, in->status),
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
	return p;
}

static const char *const *list_copy(struct arena *a, const char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	return strings(a, (char *const *)(uintptr_t)list, n, NULL, 0);
}

static struct pod pod_copy(struct arena *a, const struct pod *in)
{
	struct pod p = *in;
	p.file = arena_strdup(a, in->file);
	p.name = arena_strdup(a, in->name);
	p.ns = arena_strdup(a, in->ns);
	p.ip = arena_strdup(a, in->ip);
	p.ips = arena_strdup(a, in->ips);
	p.service_account = arena_strdup(a, in->service_account);
	p.workload = arena_strdup(a, in->workload);
	p.labels_json = arena_strdup(a, in->labels_json);
	p.annotations_json = arena_strdup(a, in->annotations_json);
	p.command = list_copy(a, in->command);
	p.env = list_copy(a, in->env);
	return p;
}

struct reading {
	struct arena *arena;
	const struct pods *before;
	const char *file; /* at present */
	struct diags *warnings;
	struct map *files; /* that were read; the value says nothing */
	VEC(struct pod) found;
};

static void note(struct reading *r, const char *rule, const struct node *n, const char *name, const char *text)
{
	struct diag *d = diag_add(r->warnings, DIAG_WARNING, rule, "", "%s", text);
	d->object = arena_printf(r->arena, "Pod %s", name);
	d->file = r->file;
	d->line = n ? n->line : 0;
}

static void add_pod(struct reading *r, const struct pod *p, const struct node *n)
{
	for (size_t i = 0; i < r->found.len; i++) {
		const struct pod *other = &r->found.items[i];
		if (streq(other->ns, p->ns) && streq(other->name, p->name)) {
			note(r, "duplicate-object", n, p->name,
				"is not started: it is defined twice, and the first counts");
			return;
		}
		if (streq(other->ip, p->ip)) {
			note(r, "duplicate-address", n, p->name,
				arena_printf(r->arena, "is not started: %s/%s has the address %s already", other->ns,
					other->name, p->ip));
			return;
		}
	}
	vec_push(&r->found, *p);
}

/* Names become those of files. */
static bool is_plain(const char *name)
{
	return *name != '.' && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

/* False: a Pod of the file could not be decoded. */
static bool read_documents(struct reading *r, const struct documents *docs)
{
	const struct pb_decode_options lenient = {.ignore_unknown = true};
	bool whole = true;
	for (size_t i = 0; i < docs->len; i++) {
		const struct node *n = docs->items[i];
		if (!str_eqc(node_text(n, "kind"), "Pod") || !str_eqc(node_text(n, "apiVersion"), "v1"))
			continue;
		const Kube__Pod *object = pb_from_node(r->arena, &kube__pod__descriptor, n, &lenient, r->warnings);
		if (!object || !object->metadata || str_empty(object->metadata->name)) {
			whole = false;
			continue;
		}
		if (!object->status || str_empty(object->status->podip)) {
			note(r, "pod-without-address", n, object->metadata->name,
				"is not started: it has no status.podIP");
			continue;
		}
		if (object->spec && object->spec->n_containers > 1)
			note(r, "one-container", n, object->metadata->name, "only the first of its containers is run");
		struct pod p = from_object(r->arena, object);
		if (!is_plain(p.name) || !is_plain(p.ns)) {
			note(r, "pod-name", n, p.name,
				"is not started: name and namespace have lower-case letters, digits, '-' and '.' only");
			continue;
		}
		p.file = r->file;
		p.hash = pb_hash(object);
		add_pod(r, &p, n);
	}
	return whole;
}

/* What a file that is broken now defined when it was whole. */
static void keep_pods(struct reading *r, const char *file)
{
	for (size_t i = 0; i < r->before->len; i++) {
		const struct pod *old = &r->before->items[i];
		struct pods now = {r->found.items, r->found.len};
		if (!streq(old->file, file) || pods_find(&now, old->ns, old->name))
			continue;
		struct pod p = pod_copy(r->arena, old);
		add_pod(r, &p, NULL);
	}
}

static void read_file(void *ctx, struct str file, struct str text)
{
	struct reading *r = ctx;
	struct documents docs = {0};
	r->file = arena_cstr(r->arena, file);
	(void)map_put(r->files, file, r);
	bool whole = yaml_parse(r->arena, text, r->file, &docs, r->warnings);
	if (!(read_documents(r, &docs) && whole))
		keep_pods(r, r->file);
}

/* A file that is there but could not be read is broken as well. */
static void keep_unread(struct reading *r)
{
	for (size_t i = 0; i < r->before->len; i++) {
		const char *file = r->before->items[i].file;
		if (!map_get(r->files, str_of(file)) && file_exists(file))
			keep_pods(r, file);
	}
}

bool pods_read(struct arena *a, const char *dir, const struct pods *before, struct pods *out, struct diags *warnings,
	struct err *e)
{
	cleanup(map_free_p) struct map *files = map_new();
	struct reading r = {.arena = a, .before = before, .warnings = warnings, .files = files};
	struct err why = {0};
	if (!galley_read(dir, read_file, &r, &why) && map_len(files) == 0) {
		vec_done(&r.found);
		if (e)
			*e = why;
		return false;
	}
	if (why.kind != ERR_NONE)
		diag_add(warnings, DIAG_WARNING, "unreadable", "", "%s", why.text);
	keep_unread(&r);
	out->items = arena_dup(a, r.found.items, r.found.len * sizeof(*r.found.items));
	out->len = r.found.len;
	vec_done(&r.found);
	return true;
}

const struct pod *pods_find(const struct pods *p, const char *ns, const char *name)
{
	for (size_t i = 0; i < p->len; i++)
		if (streq(p->items[i].ns, ns) && streq(p->items[i].name, name))
			return &p->items[i];
	return NULL;
}
