/*
 * A configuration object that passed validation, normalised. Immutable; it lives in an arena of its own and is shared by counting
 * references on galley's one thread: the file that defines it and the slot that serves it may both hold it.
 */
#pragma once

#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "kube/kube.pb-c.h"

struct object {
	unsigned refs;
	struct arena *arena;
	const struct kind *kind;
	const char *ns; /* "" for cluster-scoped kinds */
	const char *name;
	const char *file;
	unsigned line;
	const char *origin; /* causal id: "file:line@content hash" */
	const Kube__ObjectMeta *meta;
	const ProtobufCMessage *message; /* spec of Istio's kinds, the whole object of Kubernetes' */
	enum {
		HEALTH_UNSAID,
		HEALTH_TRUE,
		HEALTH_FALSE
	} health; /* WorkloadEntry: the condition Healthy of its status */
	int64_t created_ms; /* creationTimestamp, 0 = unknown */
	uint64_t hash; /* of message and metadata: equal content, equal hash */
};

struct object *object_ref(struct object *o);
void object_unref(struct object *o); /* NULL is fine */
const char *object_label(const struct object *o, const char *key); /* NULL: absent */
const char *object_annotation(const struct object *o, const char *key); /* NULL: absent */
