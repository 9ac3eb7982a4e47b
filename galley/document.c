#include "galley/document.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/mesh/labels.h"
#include "galley/checks/names.h"
#include "galley/kind.h"

/*
 * DOC: One document. First its identity (apiVersion, kind, metadata), because every later message names the object; then the message
 * by the codec, strict for Istio's kinds and lenient for Kubernetes'; then the kind's rules and cross-field checks; then, if nothing
 * was wrong, its normal form and content hash. The hash is over what the object means (message, labels, annotations, name, age),
 * not over its text: a comment or another order of keys publishes nothing.
 */

struct reading {
	struct arena *arena; /* of the file */
	const struct node *root;
	const struct document_options *options;
	struct diags *diags;
	struct document *out;
	const char *ns, *name;
	Kube__ObjectMeta *meta; /* in the object's arena */
};

const char *document_state_name(enum document_state s)
{
	static const char *const names[DOCUMENT_STATE_COUNT] = {"ok", "bad", "held", "unnamed", "foreign", "empty"};
	return s < DOCUMENT_STATE_COUNT ? names[s] : "?";
}

struct object *object_ref(struct object *o)
{
	o->refs++;
	return o;
}

void object_unref(struct object *o)
{
	if (o && --o->refs == 0)
		arena_free(o->arena);
}

const char *object_label(const struct object *o, const char *key)
{
	return label_get(LABELS(o->meta, labels), key);
}

const char *object_annotation(const struct object *o, const char *key)
{
	return label_get(LABELS(o->meta, annotations), key);
}

static void fault(struct reading *r, enum diag_severity severity, const char *rule, const char *path, const char *text)
{
	struct diag *d = diag_add(r->diags, severity, rule, path, "%s", text);
	const struct node *n = node_at_path(r->root, path);
	d->line = n ? n->line : r->root->line;
	d->column = n ? n->column : r->root->column;
}

/* ---- identity */

static bool our_group(struct str api_version)
{
	struct str group, version;
	return str_cut(api_version, '/', &group, &version) &&
	       (str_ends(group, STR(".istio.io")) || str_eqc(group, "fairlead.dev"));
}

/* A kind that is not ours is somebody else's business; but one of Istio's groups that we do not read would silently do nothing. */
static void foreign(struct reading *r, struct str api_version, struct str kind_name, const struct kind *known)
{
	r->out->state = DOCUMENT_FOREIGN;
	r->out->title = arena_printf(r->arena, STR_FMT " (" STR_FMT ")", STR_ARG(kind_name), STR_ARG(api_version));
	if (known) {
		r->out->state = DOCUMENT_UNNAMED;
		fault(r, DIAG_ERROR, "unknown-version", "apiVersion",
			arena_printf(r->arena, "\"" STR_FMT "\" is not served for %s; supported are %s/{%s}",
				STR_ARG(api_version), known->name, known->group, known->versions));
	} else if (our_group(api_version)) {
		fault(r, DIAG_WARNING, "unsupported-kind", "kind",
			arena_printf(r->arena, "kind " STR_FMT " of " STR_FMT " is not read: it has no effect",
				STR_ARG(kind_name), STR_ARG(api_version)));
	}
}

static const struct kind *find_kind(struct reading *r)
{
	struct str api_version = node_text(r->root, "apiVersion"), name = node_text(r->root, "kind");
	if (api_version.len == 0 || name.len == 0) {
		fault(r, DIAG_ERROR, "not-an-object", "", "a document needs apiVersion and kind");
		return NULL;
	}
	const struct kind *known;
	const struct kind *kind = kind_find(api_version, name, &known);
	if (!kind)
		foreign(r, api_version, name, known);
	return kind;
}

/* Fields of Kubernetes' ObjectMeta; anything else is a misspelling that would silently move or rename the object. */
static bool metadata_field(struct str name)
{
	static const char *const known[] = {
		"name",
		"generateName",
		"namespace",
		"selfLink",
		"uid",
		"resourceVersion",
		"generation",
		"creationTimestamp",
		"deletionTimestamp",
		"deletionGracePeriodSeconds",
		"labels",
		"annotations",
		"ownerReferences",
		"finalizers",
		"managedFields",
	};
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_eqc(name, known[i]))
			return true;
	return false;
}

static bool read_metadata(struct reading *r, struct arena *arena, const struct kind *kind)
{
	const struct node *n = node_get(r->root, "metadata");
	if (!n || n->type != NODE_MAP) {
		fault(r, DIAG_ERROR, "required", "metadata", "is required");
		return false;
	}
	const struct pb_decode_options o = {.ignore_unknown = true, .path = "metadata"};
	r->meta = pb_from_node(arena, &kube__object_meta__descriptor, n, &o, r->diags);
	for (size_t i = 0; !kind->kubernetes && i < n->len; i++)
		if (!metadata_field(n->pairs[i].key)) {
			struct diag *d = diag_add(r->diags, DIAG_ERROR, "unknown-field",
				arena_printf(r->arena, "metadata." STR_FMT, STR_ARG(n->pairs[i].key)), "unknown field");
			d->line = n->pairs[i].line;
		}
	struct str name = node_text(n, "name"), ns = node_text(n, "namespace");
	if (name.len == 0) {
		fault(r, DIAG_ERROR, "required", "metadata.name", "is required");
		return false;
	}
	if (ns.len == 0)
		ns = STR("default");
	if (kind->cluster_scoped)
		ns = STR("");
	r->name = arena_cstr(r->arena, name);
	r->ns = arena_cstr(r->arena, ns);
	r->out->kind = kind;
	r->out->key = arena_printf(r->arena, "%s/%s/%s", kind->name, r->ns, r->name);
	r->out->title = *r->ns ? arena_printf(r->arena, "%s %s/%s", kind->name, r->ns, r->name)
			       : arena_printf(r->arena, "%s %s", kind->name, r->name);
	return true;
}

static void check_metadata(struct check *c, const struct kind *kind, const Kube__ObjectMeta *m)
{
	static const char source[] = "kube: ObjectMeta";
	if (!name_is_subdomain(str_of(c->name)) && !(kind_ops(kind->id)->any_name && *c->name))
		check_error(c, "dns-name", source, "metadata.name", "\"%s\" is not a DNS name", c->name);
	if (!kind->cluster_scoped && !name_is_label(str_of(c->ns)))
		check_error(c, "dns-label", source, "metadata.namespace", "\"%s\" is not a DNS label", c->ns);
	check_labels(c, LABEL_VIEW(m, labels), "metadata.labels", source);
	int64_t ms;
	if (!str_empty(m->creation_timestamp) && !clock_parse(m->creation_timestamp, &ms))
		check_error(c, "timestamp", source, "metadata.creationTimestamp", "\"%s\" is not an RFC 3339 time",
			m->creation_timestamp);
}

static void check_top_level(struct reading *r)
{
	static const char *const known[] = {"apiVersion", "kind", "metadata", "spec", "status"};
	for (size_t i = 0; i < r->root->len; i++) {
		bool found = false;
		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			found |= str_eqc(r->root->pairs[i].key, known[k]);
		if (found)
			continue;
		struct diag *d = diag_add(r->diags, DIAG_ERROR, "unknown-field",
			arena_cstr(r->arena, r->root->pairs[i].key), "unknown field");
		d->line = r->root->pairs[i].line;
	}
}

/* ---- content */

static ProtobufCMessage *decode(struct reading *r, struct arena *arena, const struct kind *kind)
{
	const struct pb_decode_options strict = {.path = "spec"}, lenient = {.ignore_unknown = true};
	if (kind->kubernetes)
		return pb_from_node(arena, kind->message, r->root, &lenient, r->diags);
	check_top_level(r);
	const struct node *spec = node_get(r->root, "spec");
	if (!spec || spec->type == NODE_NULL)
		return pb_new(arena, kind->message);
	return pb_from_node(arena, kind->message, spec, &strict, r->diags);
}

/* Of a status only this decides about anything: what the agent of a workload says of it. */
static void read_health(const struct reading *r, struct object *o)
{
	const struct node *list = node_get(node_get(r->root, "status"), "conditions");
	for (size_t i = 0; list && list->type == NODE_LIST && i < list->len; i++)
		if (str_eqc(node_text(list->items[i], "type"), "Healthy"))
			o->health = str_eqc(node_text(list->items[i], "status"), "True") ? HEALTH_TRUE : HEALTH_FALSE;
}

/* What the object means, without what only says when and how it was written. */
static uint64_t content_hash(struct arena *scratch, const struct object *o)
{
	Kube__ObjectMeta meta = KUBE__OBJECT_META__INIT;
	meta.name = (char *)(uintptr_t)o->name;
	meta.namespace_ = (char *)(uintptr_t)o->ns;
	meta.generate_name = o->meta->generate_name;
	meta.creation_timestamp = o->meta->creation_timestamp;
	meta.deletion_timestamp = o->meta->deletion_timestamp;
	meta.labels = o->meta->labels;
	meta.n_labels = o->meta->n_labels;
	meta.annotations = o->meta->annotations;
	meta.n_annotations = o->meta->n_annotations;
	meta.owner_references = o->meta->owner_references;
	meta.n_owner_references = o->meta->n_owner_references;
	return hash64_seed(pb_pack(scratch, o->message), hash64(pb_pack(scratch, &meta)));
}

static struct object *copy_object(struct arena *a, const struct object *o)
{
	struct object *n = ARENA_NEW(a, struct object);
	*n = *o;
	n->arena = a;
	n->ns = arena_strdup(a, o->ns);
	n->name = arena_strdup(a, o->name);
	n->file = arena_strdup(a, o->file);
	n->origin = arena_strdup(a, o->origin);
	n->meta = pb_copy(a, o->meta);
	n->message = pb_copy(a, o->message);
	return n;
}

/* An object lives as long as its file says the same: what reading and normalising left behind is not kept with it. */
static struct object *only_object(const struct object *o)
{
	cleanup(arena_free_p) struct arena *trial = arena_new();
	(void)copy_object(trial, o);
	return copy_object(arena_new_sized(arena_used(trial)), o);
}

static struct object *finish(struct reading *r, struct arena *a, const struct kind *kind, ProtobufCMessage *message)
{
	struct normal normal = {a, str_of(r->ns), str_of(r->options->domain_suffix)};
	const struct kind_ops *ops = kind_ops(kind->id);
	if (ops->normalise)
		ops->normalise(&normal, message);
	pb_sort_maps(message);
	pb_sort_maps(r->meta);
	struct object o = {
		.refs = 1,
		.kind = kind,
		.ns = r->ns,
		.name = r->name,
		.file = r->options->file,
		.line = r->root->line,
		.meta = r->meta,
		.message = message,
	};
	if (!str_empty(r->meta->creation_timestamp))
		(void)!clock_parse(r->meta->creation_timestamp, &o.created_ms);
	if (kind->id == KIND_WORKLOAD_ENTRY)
		read_health(r, &o);
	o.hash = content_hash(a, &o) + (uint64_t)o.health;
	o.origin = arena_printf(a, "%s:%u@%016llx", o.file, o.line, (unsigned long long)o.hash);
	return only_object(&o);
}

/* The diagnostics that this document added get its name. */
static void label_diags(struct reading *r, size_t from)
{
	for (size_t i = from; i < r->diags->len; i++) {
		r->diags->items[i].file = r->options->file;
		r->diags->items[i].object = r->out->title ? r->out->title : "";
		if (r->diags->items[i].line == 0)
			r->diags->items[i].line = r->root->line;
	}
}

/* Another control plane's business, as Istio's revisions share a cluster: it may be wrong, or of a later version. */
static bool of_other_revision(struct reading *r, const struct kind *kind)
{
	struct str label = node_text(node_get(node_get(r->root, "metadata"), "labels"), "istio.io/rev");
	if (kind->kubernetes || !label.len || str_empty(r->options->revision) || str_eqc(label, r->options->revision))
		return false;
	r->out->state = DOCUMENT_FOREIGN;
	r->out->title = arena_printf(
		r->arena, "%s (revision " STR_FMT ")", r->out->title, STR_ARG(str_sub(label, 0, 63)));
	return true;
}

static void read_object(struct reading *r, const struct kind *kind)
{
	cleanup(arena_free_p) struct arena *arena = arena_new();
	size_t before = r->diags->len, errors = r->diags->errors;
	if (!read_metadata(r, arena, kind)) {
		r->out->state = DOCUMENT_UNNAMED;
		return;
	}
	if (of_other_revision(r, kind)) {
		r->diags->len = before;
		r->diags->errors = errors;
		return;
	}
	r->out->state = DOCUMENT_BAD;
	ProtobufCMessage *message = decode(r, arena, kind);
	struct check check = {r->arena, r->diags, r->root, r->ns, r->name, before, errors};
	const struct kind_ops *ops = kind_ops(kind->id);
	if (r->meta)
		check_metadata(&check, kind, r->meta);
	if (message) {
		check_rules(&check, message, kind->kubernetes ? "" : "spec", ops->rules, ops->n_rules);
		if (ops->validate)
			ops->validate(&check, message);
	}
	if (!message || !r->meta || r->diags->errors > errors)
		return;
	if (ops->not_applied)
		fault(r, DIAG_WARNING, "not-applied", "kind",
			arena_printf(r->arena, "%s is checked and stored, but this version does not apply it yet",
				kind->name));
	r->out->object = finish(r, arena, kind, message);
	r->out->state = DOCUMENT_OK;
}

void document_read(struct arena *a, const struct node *root, const struct document_options *o, struct diags *diags,
	struct document *out)
{
	struct reading r = {.arena = a, .root = root, .options = o, .diags = diags, .out = out};
	size_t from = diags->len, errors = diags->errors;
	*out = (struct document){.state = DOCUMENT_UNNAMED, .line = root->line, .title = ""};
	if (root->type == NODE_NULL) {
		out->state = DOCUMENT_EMPTY;
		return;
	}
	const struct kind *kind = NULL;
	if (root->type != NODE_MAP)
		fault(&r, DIAG_ERROR, "not-an-object", "", "a document is a map with apiVersion, kind and metadata");
	else
		kind = find_kind(&r);
	if (kind)
		read_object(&r, kind);
	for (size_t i = from; i < diags->len && diags->errors > errors && !out->reason; i++)
		if (diags->items[i].severity == DIAG_ERROR)
			out->reason = diags->items[i].rule;
	label_diags(&r, from);
}
