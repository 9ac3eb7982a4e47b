/* The configuration kinds and bus topics of protos/kinds.def and protos/topics.def as const tables. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/base/str.h"

enum kind_id {
#define KIND(id, ...) KIND_##id,
#include "protos/kinds.def"
#undef KIND
	KIND_COUNT
};

enum topic_id {
	TOPIC_NONE = 0,
#define TOPIC(id, number, ...) TOPIC_##id = number,
#include "protos/topics.def"
#undef TOPIC
};

struct kind {
	enum kind_id id;
	const char *name; /* "VirtualService" */
	const char *group; /* "networking.istio.io", "" for core */
	const char *versions; /* "v1,v1beta1,v1alpha3", preferred first */
	const char *plural;
	const ProtobufCMessageDescriptor *message; /* of spec; of the whole object for Kubernetes' own kinds */
	uint32_t topic; /* TOPIC_..., TOPIC_NONE for inputs */
	bool cluster_scoped;
	bool kubernetes; /* the message is the whole object, unknown fields are skipped */
};

const struct kind *kind_get(enum kind_id id);
/* apiVersion "group/version" + kind; NULL: not one of ours. Sets *known_kind when only the version is wrong. */
const struct kind *kind_find(struct str api_version, struct str kind_name, const struct kind **known_kind);

struct topic {
	uint32_t id;
	const char *name;
	const char *publisher;
	const ProtobufCMessageDescriptor *message;
	const char *about;
};
const struct topic *topic_get(uint32_t id); /* NULL: unknown */
const struct topic *topic_find(struct str name);
const struct topic *topics_all(size_t *n);
