/*
 * DOC: The translators by type, and the rendering of everything that one proxy would be sent, for `pilot --render`, goldens and
 * debug pages. The resources of a type out of all scopes are merged and sorted by name.
 */
#include <stdlib.h>

#include "common/pb/json.h"
#include "pilot/translate/credentials.h"
#include "pilot/translate/names.h"
#include "pilot/translate/translate.h"

extern const struct translator cds_translator, eds_translator, lds_translator, rds_translator, vhds_translator,
	sds_translator, pcds_translator;

const struct translator *translator_get(enum xds_type type)
{
	static const struct translator *const table[XDS_TYPE_COUNT] = {
		[XDS_CDS] = &cds_translator,
		[XDS_EDS] = &eds_translator,
		[XDS_LDS] = &lds_translator,
		[XDS_RDS] = &rds_translator,
		[XDS_VHDS] = &vhds_translator,
		[XDS_SDS] = &sds_translator,
		[XDS_PCDS] = &pcds_translator,
	};

	return table[type];
}

struct rendered {
	struct str name;
	const ProtobufCMessage *message;
};

static int rendered_cmp(const void *x, const void *y)
{
	return str_cmp(((const struct rendered *)x)->name, ((const struct rendered *)y)->name);
}

static void render_type(struct view views[SCOPE_KIND_COUNT], struct arena *a, enum xds_type type, struct strbuf *json)
{
	const struct translator *t = translator_get(type);
	const struct pb_encode_options options = {0};
	struct str *names[SCOPE_KIND_COUNT];
	size_t n[SCOPE_KIND_COUNT], all = 0, len = 0;
	struct rendered *list;

	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++) {
		t->names(&views[k], a, &names[k], &n[k]);
		all += n[k];
	}
	list = arena_array(a, all + 1, sizeof(*list));
	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++)
		for (size_t i = 0; i < n[k]; i++) {
			const ProtobufCMessage *m = t->build(&views[k], names[k][i], a);

			if (m && type == XDS_SDS)
				m = secret_shown(a, m);

			if (m)
				list[len++] = (struct rendered){names[k][i], m};
		}
	if (len > 1)
		qsort(list, len, sizeof(*list), rendered_cmp);
	strbuf_addf(json, "\"%s\":[", xds_type_info(type)->name);
	for (size_t i = 0; i < len; i++) {
		strbuf_adds(json, i ? ",\n" : "\n");
		pb_to_json(list[i].message, &options, json);
	}
	strbuf_adds(json, "]");
}

/* What Envoy never asks for is not in the picture of most proxies. */
static bool shown(struct view views[SCOPE_KIND_COUNT], const struct proxy *p, enum xds_type t)
{
	char **roots;
	size_t n;

	if (t == XDS_VHDS)
		return p->vhds;
	if (t != XDS_PCDS)
		return true;
	view_roots(&views[SCOPE_SHARED], &roots, &n);
	return n || view_mesh(&views[SCOPE_SHARED])->n_ca_certificates;
}

void translate_render(const struct model *m, const struct proxy *p, struct strbuf *json)
{
	struct arena *a = arena_new();
	struct view views[SCOPE_KIND_COUNT];

	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++)
		views[k] = (struct view){
			.model = m, .scope = scope_of(a, m, p, (enum scope_kind)k, NULL), .scratch = a};
	strbuf_adds(json, "{");
	for (size_t t = 0; t < XDS_TYPE_COUNT; t++) {
		if (!shown(views, p, (enum xds_type)t))
			continue;
		strbuf_adds(json, t ? ",\n" : "");
		render_type(views, a, (enum xds_type)t, json);
	}
	strbuf_adds(json, "}\n");
	arena_free(a);
}
