/*
 * DOC: PCDS, as Istio calls it: the roots that workloads believe, as a ProxyConfig with nothing but caCertificatesPem in it. They are
 * citadel's (and others' bundles on the bus) and those of the mesh config's caCertificates. Agents subscribe, not Envoy: ours, and
 * Istio's with PROXY_CONFIG_XDS_AGENT. The one resource is always there, so that the last root that goes is told as well. Which trust domains
 * a root is for is not told, because a ProxyConfig has no place for it; see tls.c for what that means to servers.
 */
#include "pilot/translate/names.h"
#include "pilot/translate/translate.h"

#define NAME "default"

static void add_certificates(struct arena *a, struct name_list *l, struct str pem)
{
	static const struct str end = {"-----END CERTIFICATE-----", 25};
	const char *at;

	while ((at = pem.len ? memmem(pem.ptr, pem.len, end.ptr, end.len) : NULL)) {
		const size_t len = (size_t)(at - pem.ptr) + end.len;

		name_list_add(a, l, arena_printf(a, STR_FMT "\n", STR_ARG(str_trim(str_sub(pem, 0, len)))));
		pem = str_from(pem, len);
	}
}

static const ProtobufCMessage *trust_build(struct view *v, struct str name, struct arena *a)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);
	Mesh__ProxyConfig *out = PB_NEW(a, Mesh__ProxyConfig, mesh__proxy_config);
	struct name_list list = {0};
	struct str *sorted;
	char **roots;
	size_t n;

	if (!str_eqc(name, NAME))
		return NULL;
	view_roots(v, &roots, &n);
	for (size_t i = 0; i < n; i++)
		add_certificates(a, &list, str_of(roots[i]));
	for (size_t i = 0; i < mesh->n_ca_certificates; i++)
		if (mesh->ca_certificates[i]->certificate_data_case ==
			MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_PEM)
			add_certificates(a, &list, str_of(mesh->ca_certificates[i]->pem));
	name_list_finish(&list, &sorted, &n);
	for (size_t i = 0; i < n; i++)
		pb_add(a, out, ca_certificates_pem, arena_cstr(a, sorted[i]));
	return &out->base;
}

static void trust_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	struct name_list list = {0};

	if (v->scope->kind == SCOPE_SHARED)
		name_list_add(a, &list, NAME);
	name_list_finish(&list, out, n);
}

static enum scope_kind trust_scope(struct str name)
{
	(void)name;
	return SCOPE_SHARED;
}

const struct translator pcds_translator = {.names = trust_names, .build = trust_build, .scope = trust_scope};
