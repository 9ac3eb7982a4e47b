/*
 * DOC: Peer metadata without Istio's own filters. The client's route configuration adds x-fairlead-peer-* headers from its
 * environment (hosts outside the mesh are not told); the server saves them in filter state, from where the metrics read them, and strips them
 * before the application. On a chain without mutual TLS they are stripped without being believed.
 */
#include "pilot/features/peer_metadata.h"

#include "pilot/translate/feature.h"
#include "xds/header_mutation.pb-c.h"
#include "xds/set_filter_state.pb-c.h"

const struct peer_attribute peer_attributes[PEER_ATTRIBUTE_COUNT] = {
	{"workload", "ISTIO_META_WORKLOAD_NAME", "workload", "workload"},
	{"namespace", "POD_NAMESPACE", "workload_namespace", "namespace"},
	{"app", "FAIRLEAD_APP", "app", "app"},
	{"version", "FAIRLEAD_VERSION", "version", "version"},
	{"cluster", "ISTIO_META_CLUSTER_ID", "cluster", "cluster"},
	{"canonical-service", "FAIRLEAD_CANONICAL_SERVICE", "canonical_service", "canonical_service"},
	{"canonical-revision", "FAIRLEAD_CANONICAL_REVISION", "canonical_revision", "canonical_revision"},
};

static char *header_name(struct arena *a, const struct peer_attribute *p)
{
	return arena_printf(a, "x-fairlead-peer-%s", p->name);
}

static void add_headers(struct view *v, struct arena *a, Rds__RouteConfiguration *rc)
{
	for (size_t i = 0; i < PEER_ATTRIBUTE_COUNT; i++)
		pb_add(a, rc, request_headers_to_add,
			build_header(a, header_name(a, &peer_attributes[i]),
				arena_printf(a, "%%ENVIRONMENT(%s)%%", peer_attributes[i].environment), false));
	rc->most_specific_header_mutations_wins = true;
}

/* The most specific mutation is the last one: what the configuration adds, a host may take away. */
static void keep_inside(struct view *v, struct arena *a, Rds__VirtualHost *vh, bool outside)
{
	for (size_t i = 0; outside && i < PEER_ATTRIBUTE_COUNT; i++)
		pb_add(a, vh, request_headers_to_remove, header_name(a, &peer_attributes[i]));
}

static void save(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	SetFs__Config *config = PB_NEW(c->a, SetFs__Config, set_fs__config);

	for (size_t i = 0; i < PEER_ATTRIBUTE_COUNT; i++) {
		SetFsCommon__FilterStateValue *f = PB_NEW(
			c->a, SetFsCommon__FilterStateValue, set_fs_common__filter_state_value);

		f->object_key = arena_printf(c->a, PEER_STATE "%s", peer_attributes[i].name);
		f->key_case = SET_FS_COMMON__FILTER_STATE_VALUE__KEY_OBJECT_KEY;
		f->factory_key = arena_strdup(c->a, "envoy.string");
		f->format_string = build_format(
			c->a, arena_printf(c->a, "%%REQ(%s)%%", header_name(c->a, &peer_attributes[i])));
		f->format_string->omit_empty_values = true;
		f->value_case = SET_FS_COMMON__FILTER_STATE_VALUE__VALUE_FORMAT_STRING;
		f->skip_if_empty = true;
		pb_add(c->a, config, on_request_headers, f);
	}
	hcm_add_filter(c->a, hcm, "fairlead.peer.save", config);
}

static void strip(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	HdrMut__HeaderMutation *config = PB_NEW(c->a, HdrMut__HeaderMutation, hdr_mut__header_mutation);

	config->mutations = PB_NEW(c->a, HdrMut__Mutations, hdr_mut__mutations);
	for (size_t i = 0; i < PEER_ATTRIBUTE_COUNT; i++) {
		MutRules__HeaderMutation *m = PB_NEW(c->a, MutRules__HeaderMutation, mut_rules__header_mutation);

		m->remove = header_name(c->a, &peer_attributes[i]);
		m->action_case = MUT_RULES__HEADER_MUTATION__ACTION_REMOVE;
		pb_add(c->a, config->mutations, request_mutations, m);
	}
	hcm_add_filter(c->a, hcm, "fairlead.peer.strip", config);
}

static void peer_metadata_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	if (c->direction != DIRECTION_INBOUND)
		return;
	if (c->mutual && view_has_extension(c->v, "envoy.filters.http.set_filter_state"))
		save(c, hcm);
	if (view_has_extension(c->v, "envoy.filters.http.header_mutation"))
		strip(c, hcm);
}

const struct feature peer_metadata_feature = {.name = "peer_metadata",
	.on_hcm = peer_metadata_hcm,
	.on_virtual_host = keep_inside,
	.on_route_configuration = add_headers};
