/*
 * DOC: The registries of configuration kinds and bus topics as tables. Every row comes from protos/kinds.def or
 * protos/topics.def, so that galley, pilot, the bus and the CLI cannot disagree about a name, a version or a message.
 * Lookups are linear: a dozen rows, and no hot path looks a kind up by name.
 */
#include "common/mesh/kinds.h"

#include "cfg/extensions.pb-c.h"
#include "cfg/mesh.pb-c.h"
#include "cfg/mesh_network.pb-c.h"
#include "cfg/model.pb-c.h"
#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/envoy_filter.pb-c.h"
#include "cfg/networking/gateway.pb-c.h"
#include "cfg/networking/service_entry.pb-c.h"
#include "cfg/networking/sidecar.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "cfg/networking/workload_entry.pb-c.h"
#include "cfg/networking/workload_group.pb-c.h"
#include "cfg/proxy_config.pb-c.h"
#include "cfg/security.pb-c.h"
#include "cfg/telemetry.pb-c.h"
#include "kube/kube.pb-c.h"

#define SCOPE_NAMESPACED false
#define SCOPE_CLUSTER true

/* A message of package fairlead.kube.v1 is the whole Kubernetes object; its C names begin with kube__. */
#define IS_KUBE_MESSAGE(prefix) ((#prefix)[0] == 'k' && (#prefix)[4] == '_')

static const struct kind kinds[KIND_COUNT] = {
#define KIND(id_, name_, group_, versions_, plural_, message_, topic_, scope_) \
	[KIND_##id_] = { \
		.id = KIND_##id_, \
		.name = (name_), \
		.group = (group_), \
		.versions = (versions_), \
		.plural = (plural_), \
		.message = &message_##__descriptor, \
		.topic = TOPIC_##topic_, \
		.cluster_scoped = SCOPE_##scope_, \
		.kubernetes = IS_KUBE_MESSAGE(message_), \
	},
#include "protos/kinds.def"
#undef KIND
};

static const struct topic topics[] = {
#define TOPIC(id_, number_, name_, publisher_, message_, about_) \
	{.id = (number_), \
		.name = (name_), \
		.publisher = (publisher_), \
		.message = &message_##__descriptor, \
		.about = (about_)},
#include "protos/topics.def"
#undef TOPIC
};

const struct kind *kind_get(enum kind_id id)
{
	return (unsigned)id < KIND_COUNT ? &kinds[id] : NULL;
}

static bool has_version(const struct kind *k, struct str version)
{
	struct str part;

	for (struct str rest = str_of(k->versions); str_split(&rest, ',', &part);) {
		if (str_eq(part, version))
			return true;
	}
	return false;
}

const struct kind *kind_find(struct str api_version, struct str kind_name, const struct kind **known_kind)
{
	struct str group = {0};
	struct str version = api_version;
	size_t slash;

	if (known_kind)
		*known_kind = NULL;
	if (str_find(api_version, '/', &slash)) {
		group = str_sub(api_version, 0, slash);
		version = str_from(api_version, slash + 1);
	}
	for (size_t i = 0; i < KIND_COUNT; i++) {
		if (!str_eqc(kind_name, kinds[i].name) || !str_eqc(group, kinds[i].group))
			continue;
		if (has_version(&kinds[i], version))
			return &kinds[i];
		if (known_kind)
			*known_kind = &kinds[i];
	}
	return NULL;
}

const struct topic *topic_get(uint32_t id)
{
	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		if (topics[i].id == id)
			return &topics[i];
	}
	return NULL;
}

const struct topic *topic_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		if (str_eqc(name, topics[i].name))
			return &topics[i];
	}
	return NULL;
}

const struct topic *topics_all(size_t *n)
{
	*n = ARRAY_LEN(topics);
	return topics;
}
