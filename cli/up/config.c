/*
 * DOC: Galley's pipeline over the directory: before any daemon runs, because its trust domain is every daemon's and its problems are told at once,
 * and when pods start, which get the ProxyConfig of that moment, as injected ones do.
 */
#include "cli/up/config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/mesh/interception.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "galley/galley.h"
#include "galley/webhook/inject.h"
#include "cfg/mesh.pb-c.h"

static const Mesh__MeshConfig *mesh_config(struct arena *a, const struct bus_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (changes[i].topic != TOPIC_MESH)
			continue;
		const Fl__Object *o = PB_UNPACK(
			a, Fl__Object, fl__object, changes[i].value.ptr, changes[i].value.len, NULL);
		return o ? PB_UNPACK(a, Mesh__MeshConfig, mesh__mesh_config, o->spec.data, o->spec.len, NULL) : NULL;
	}
	return NULL;
}

static void print_problems(struct arena *a, const struct galley *g)
{
	struct diags diags;
	diags_init(&diags, a);
	galley_diags(g, &diags);
	for (size_t i = 0; i < diags.len; i++) {
		char *line cleanup(free_p) = diag_format(&diags.items[i]);
		if (diags.items[i].severity != DIAG_INFO)
			(void)fprintf(stderr, "%s\n", line);
	}
	if (diags.errors)
		(void)fprintf(stderr, "fairlead up: %zu error%s in the configuration; what is accepted is in force\n",
			diags.errors, diags.errors == 1 ? "" : "s");
}

bool config_read(struct arena *a, const char *dir, bool tell, struct config *out, struct err *e)
{
	struct strbuf json cleanup(strbuf_done) = {0};
	struct galley *g = galley_new(NULL);
	bool ok = galley_load(g, dir, e);
	size_t n = 0;
	uint32_t outbound, inbound;
	const struct bus_change *changes = ok ? galley_commit(g, &n) : NULL;
	const Mesh__MeshConfig *mesh = mesh_config(a, changes, n);
	if (ok && tell)
		print_problems(a, g);
	out->trust_domain = mesh && !str_empty(mesh->trust_domain) ? mesh->trust_domain : "cluster.local";
	out->root_namespace = mesh && !str_empty(mesh->root_namespace) ? mesh->root_namespace : "istio-system";
	galley_proxy_config(g, &json);
	out->default_config = arena_cstr(a, strbuf_str(&json));
	strbuf_clear(&json);
	galley_proxy_configs(g, &json);
	out->proxy_configs = arena_cstr(a, strbuf_str(&json));
	galley_capture_ports(g, &outbound, &inbound);
	out->outbound_port = arena_printf(a, "%u", outbound);
	out->inbound_port = arena_printf(a, "%u", inbound);
	galley_free(g);
	return ok;
}

static const char *text_of(struct arena *a, const json_t *j)
{
	char *text cleanup(free_p) = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	return arena_strdup(a, text);
}

/* What the ProxyConfig says has been looked at already. */
static bool check_mode(const json_t *annotations, struct err *e)
{
	const char *name = "sidecar.istio.io/interceptionMode";
	const char *mode = json_string_value(json_object_get(annotations, name));
	return !mode || interception_mode_check(mode, e) || err_in(e, "annotation %s", name);
}

bool config_for_pod(struct arena *a, const struct config *c, struct pod *p, struct diags *warnings, struct err *e)
{
	const struct inject_options o = {.proxy_config = c->default_config,
		.proxy_configs = c->proxy_configs,
		.root_namespace = c->root_namespace};
	json_t *labels = json_loads(p->labels_json, 0, NULL), *annotations = json_loads(p->annotations_json, 0, NULL);
	json_t *config = NULL;
	bool ok = labels && annotations ? inject_proxy_config(&o, p->ns, labels, annotations, &config, warnings, e)
					: err_set(e, ERR_PEER, "labels or annotations are not UTF-8");
	ok = ok && check_mode(annotations, e);
	if (ok) {
		p->annotations_json = text_of(a, annotations);
		p->proxy_config_json = text_of(a, config);
		p->outbound_port = c->outbound_port;
		p->inbound_port = c->inbound_port;
	}
	json_decref(config);
	json_decref(annotations);
	json_decref(labels);
	return ok;
}
