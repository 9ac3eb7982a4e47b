/*
 * The one codec: document tree <-> protobuf message by descriptors, by the rules of proto3's JSON mapping (lowerCamelCase and
 * original names accepted, 64-bit integers as strings or numbers, enums by name or number, bytes base64, Duration "1.5s",
 * Timestamp RFC 3339, wrappers as plain values, Struct/Value/ListValue as plain JSON, Any with "@type", maps as objects,
 * fairlead.kube.v1.IntOrString as number or string). Istio's own looseness is accepted where its YAML is decoded: a Duration may be
 * any Go duration ("250ms", "1m"). A null value is an absent field.
 *
 * Every problem is a diag with the exact path ("spec.http[1].route[0].wieght: unknown field") and the line of the node.
 */
#pragma once

#include "common/pb/node.h"
#include "common/pb/pb.h"

struct pb_decode_options {
	bool ignore_unknown; /* Kubernetes objects: fields we do not use are skipped */
	const char *path; /* prefix of all paths, e.g. "spec"; NULL: none */
};

/* NULL when any error was added to d. */
void *pb_from_node(struct arena *a, const ProtobufCMessageDescriptor *d, const struct node *n,
	const struct pb_decode_options *o, struct diags *diags);

struct pb_encode_options {
	bool defaults; /* also fields that have their default value */
	bool proto_names; /* original_names instead of lowerCamelCase */
	unsigned indent; /* 0: one line */
};
/* Canonical: fields in order of number, map keys sorted; the same message gives the same text. */
void pb_to_json(const void *message, const struct pb_encode_options *o, struct strbuf *out);

/* Convenience: text -> message. */
void *pb_from_json_text(
	struct arena *a, const ProtobufCMessageDescriptor *d, struct str text, struct err *e) MUST_CHECK;

/* Resolves "http[].route[].weight"-like rule paths: calls fn for each place in the message that the path names, with the concrete
 * path ("http[1].route[0].weight") and a pointer to the field's storage (message pointer for messages). Used by galley's rule rows.
 * "[]" goes through lists, "{}" through map values; a missing message on the way ends that branch. */
struct pb_place {
	const void *message; /* the message that holds the field */
	const ProtobufCFieldDescriptor *field;
	const void *
		value; /* address of the element's storage (e.g. char ** for strings, ProtobufCMessage ** for messages) */
	bool present; /* oneof member chosen / message non-NULL / string non-empty / list non-empty */
	const char *path;
};
void pb_each_place(struct arena *a, const void *message, const char *rule_path, const char *prefix,
	void (*fn)(void *ctx, const struct pb_place *place), void *ctx);
/* The node at a concrete path below n, for line numbers; nearest existing ancestor when the last part is absent. */
const struct node *node_at_path(const struct node *n, const char *path);
