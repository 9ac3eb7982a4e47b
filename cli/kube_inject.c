/*
 * DOC: `fairlead kube-inject`: galley's injection over files of Kubernetes objects, in this process. What has pods or pod templates comes out with
 * the proxy in them, everything else as it was. The webhook leaves such pods alone: they carry the status annotation.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/kube_inject_files.h"
#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/node.h"
#include "galley/webhook/inject.h"

struct kube_inject_config {
	const struct documents *all; /* of the file */
	const char *filename, *output, *ns, *settings, *mesh, *values;
	struct inject_options inject;
};

/* Where the pod template is, by kind. */
static const struct template
{
	const char *kind, *path[4]; /* of objects, from the document's root; NULL-terminated */
}
templates[] = {
	{"Pod", {NULL}},
	{"Deployment", {"spec", "template", NULL}},
	{"StatefulSet", {"spec", "template", NULL}},
	{"DaemonSet", {"spec", "template", NULL}},
	{"ReplicaSet", {"spec", "template", NULL}},
	{"ReplicationController", {"spec", "template", NULL}},
	{"Job", {"spec", "template", NULL}},
	{"DeploymentConfig", {"spec", "template", NULL}},
	{"CronJob", {"spec", "jobTemplate", "spec", "template"}},
};

static const char *text_at(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static const struct template *template_of(const json_t *document)
{
	for (size_t i = 0; i < ARRAY_LEN(templates); i++)
		if (streq(text_at(document, "kind"), templates[i].kind))
			return &templates[i];
	return NULL;
}

/* The place of the pod; *parent NULL: the document itself. NULL: there is none. */
static json_t *pod_in(json_t *document, const struct template *t, json_t **parent, const char **key)
{
	json_t *at = document;
	*parent = NULL;
	for (size_t i = 0; t && i < ARRAY_LEN(t->path) && t->path[i]; i++) {
		*parent = at;
		*key = t->path[i];
		at = json_object_get(at, *key);
	}
	return t && json_is_object(at) ? at : NULL;
}

/* What a Namespace of the same file says. The caller frees it; NULL: nothing. */
static char *namespace_annotation(const struct kube_inject_config *c, const char *ns, const char *annotation)
{
	for (size_t i = 0; i < c->all->len; i++) {
		const struct node *metadata = node_get(c->all->items[i], "metadata");
		struct str value = node_text(node_get(metadata, "annotations"), annotation);
		if (str_eqc(node_text(c->all->items[i], "kind"), "Namespace") &&
			str_eqc(node_text(metadata, "name"), ns) && value.len)
			return xstrndup(value.ptr, value.len);
	}
	return NULL;
}

static bool inject_document(
	const struct kube_inject_config *c, json_t **document, struct diags *warnings, struct err *e)
{
	const struct template *t = template_of(*document);
	const json_t *metadata = json_object_get(*document, "metadata");
	const char *key = NULL, *skipped = NULL, *ns = text_at(metadata, "namespace");
	json_t *parent, *out = NULL, *pod = pod_in(*document, t, &parent, &key);
	if (!pod)
		return true;
	ns = *ns ? ns : c->ns;
	char *range cleanup(free_p) = namespace_annotation(c, ns, INJECT_UID_RANGE);
	char *groups cleanup(free_p) = namespace_annotation(c, ns, INJECT_GROUPS);
	const struct inject_request q = {.pod = pod,
		.ns = ns,
		.workload = parent ? text_at(metadata, "name") : NULL,
		.uid_range = range,
		.groups = groups};
	if (!inject_pod(&c->inject, &q, &out, &skipped, warnings, e))
		return err_in(e, "%s %s", t->kind, text_at(metadata, "name"));
	if (skipped)
		(void)fprintf(stderr, "%s %s: not injected: %s\n", t->kind, text_at(metadata, "name"), skipped);
	if (out && parent) {
		(void)json_object_set_new(parent, key, out);
	} else if (out) {
		json_decref(*document);
		*document = out;
	}
	return true;
}

/* A tree by way of JSON, which is what both sides speak. */
static bool write_document(struct arena *a, const json_t *document, struct diags *d, struct strbuf *out)
{
	struct node *node = NULL;
	char *text = json_dumps(document, JSON_COMPACT);
	bool ok = json_parse(a, str_of(text), &node, d);
	free(text);
	if (!ok)
		return false;
	strbuf_adds(out, out->len ? "---\n" : "");
	node_write_yaml(node, out);
	return true;
}

static bool inject_node(const struct kube_inject_config *c, struct arena *a, const struct node *node, struct diags *d,
	struct strbuf *out, struct err *e)
{
	struct strbuf text cleanup(strbuf_done) = {0};
	json_error_t error;
	node_write_json(node, &text);
	json_t *document = json_loads(text.ptr, 0, &error);
	if (!document)
		return err_set(e, ERR_PEER, "line %u: %s", node->line, error.text);
	bool ok = inject_document(c, &document, d, e) || err_in(e, "line %u", node->line);
	if (ok && !write_document(a, document, d, out))
		ok = err_set(e, ERR_PEER, "line %u: cannot be written again", node->line);
	json_decref(document);
	return ok;
}

static bool read_input(const char *path, char **text, size_t *len, struct err *e)
{
	return file_read(streq(path, "-") ? "/dev/stdin" : path, LIMIT_FILE_BYTES, text, len, e);
}

static void print_diags(const struct diags *d)
{
	for (size_t i = 0; i < d->len; i++) {
		char *line cleanup(free_p) = diag_format(&d->items[i]);
		(void)fprintf(stderr, "%s\n", line);
	}
}

static bool inject_file(struct kube_inject_config *c, struct arena *a, struct strbuf *out, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	struct documents documents = {0};
	struct diags diags;
	diags_init(&diags, a);
	if (!read_input(c->filename, &text, &len, e))
		return false;
	(void)yaml_parse(a, str_n(text, len), c->filename, &documents, &diags);
	c->all = &documents;
	bool ok = diags.errors == 0 || err_set(e, ERR_PEER, "%s: not understood", c->filename);
	for (size_t i = 0; ok && i < documents.len; i++)
		ok = inject_node(c, a, documents.items[i], &diags, out, e) || err_in(e, "%s", c->filename);
	print_diags(&diags);
	return ok;
}

static bool check_usage(const struct kube_inject_config *c, struct err *e)
{
	if (str_empty(c->filename))
		return err_set(e, ERR_PEER, "--filename: the file to read is needed (- for standard input)");
	if (str_empty(c->inject.image))
		return err_set(e, ERR_PEER,
			"--image: the image of agent and Envoy is needed, or --valuesFile with global.hub and "
			"global.tag");
	if (!inject_platform_check(c->inject.platform, e))
		return err_in(e, "--platform");
	return inject_resources_check(c->inject.resources, e) || err_in(e, "--resources");
}

static bool read_files(struct kube_inject_config *c, struct arena *a, struct inject_settings **settings, struct err *e)
{
	if (!str_empty(c->settings) && !inject_settings_read(c->settings, settings, e))
		return err_in(e, "--injectConfigFile");
	if (!str_empty(c->mesh) && !inject_read_mesh(a, c->mesh, &c->inject, e))
		return err_in(e, "--meshConfigFile");
	return str_empty(c->values) || inject_read_values(a, c->values, &c->inject, e) || err_in(e, "--valuesFile");
}

static bool inject_to(struct kube_inject_config *c, struct arena *a, struct err *e)
{
	struct strbuf out cleanup(strbuf_done) = {0};
	if (!inject_file(c, a, &out, e))
		return false;
	if (!str_empty(c->output))
		return file_write_atomic(c->output, strbuf_str(&out), 0644, e);
	(void)fwrite(out.ptr ? out.ptr : "", 1, out.len, stdout);
	return true;
}

static int run(const struct invocation *i)
{
	struct kube_inject_config c = *(const struct kube_inject_config *)i->config;
	struct inject_settings *settings = NULL;
	struct err e = {0};
	if (!read_files(&c, i->arena, &settings, &e) || !check_usage(&c, &e)) {
		inject_settings_free(settings);
		return command_fail("kube-inject", 2, &e);
	}
	c.inject.settings = settings;
	bool ok = inject_to(&c, i->arena, &e);
	inject_settings_free(settings);
	return ok ? 0 : command_fail("kube-inject", 1, &e);
}

static const struct option_row options[] = {
	{.name = "filename",
		OPT_STR(struct kube_inject_config, filename, NULL, "YAML or JSON to read, - for standard input")},
	{.name = "output",
		OPT_STR(struct kube_inject_config, output, NULL, "file to write instead of standard output")},
	{.name = "namespace",
		OPT_STR(struct kube_inject_config, ns, "default", "where objects that name no namespace will be")},
	{.name = "trust-domain",
		OPT_STR(struct kube_inject_config, inject.trust_domain, "cluster.local", "of the proxies' identities")},
	{.name = "domain-suffix",
		OPT_STR(struct kube_inject_config, inject.domain_suffix, "cluster.local", "suffix of services' names")},
	{.name = "injectConfigFile",
		OPT_STR(struct kube_inject_config, settings, NULL,
			"templates and selectors, what the ConfigMap istio-sidecar-injector has under config")},
	{.name = "meshConfigFile",
		OPT_STR(struct kube_inject_config, mesh, NULL,
			"the mesh config, what the ConfigMap istio has under mesh")},
	{.name = "valuesFile",
		OPT_STR(struct kube_inject_config, values, NULL,
			"Helm values, what the ConfigMap istio-sidecar-injector has under values; for options that "
			"are not given")},
	INJECT_OPTION_ROWS("", struct kube_inject_config, inject),
};

const struct command kube_inject_command = {
	.name = "kube-inject",
	.arguments = "",
	.summary = "add the proxy to the pods of Kubernetes manifests",
	.text = "Pods and the pod templates of Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs "
		"come\n"
		"out with agent and Envoy in them, as galley's webhook would make them; other objects come out as "
		"they\n"
		"are. What has a proxy already is not changed. Comments are lost.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct kube_inject_config),
	.min_args = 0,
	.max_args = 0,
	.run = run,
};
