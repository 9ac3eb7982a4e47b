/*
 * Shared by the parts of the codec: the decoder's state (path, problems, depth), the writer's state (where in the text),
 * and the table of messages that have a JSON form of their own. Internal to common/pb.
 */
#pragma once

#include "common/base/vec.h"
#include "common/pb/field.h"
#include "common/pb/json.h"

struct decoder {
	struct arena *arena;
	struct diags *diags;
	bool ignore_unknown;
	struct strbuf path;
	size_t problems;
	unsigned depth; /* of messages */
};

/* Adds a problem at the current path; returns false. */
bool problem(struct decoder *d, const struct node *n, const char *rule, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* "a string is expected, got the boolean `on`"; returns false. */
bool wrong_type(struct decoder *d, const struct node *n, const char *expected);
/* How a message text shows a node: "the boolean `on`". */
#define NODE_WORDS_MAX 96
const char *node_words(const struct node *n, char out[NODE_WORDS_MAX]);

size_t path_field(struct decoder *d, const char *name); /* each returns what path_back() needs */
size_t path_index(struct decoder *d, size_t index);
size_t path_key(struct decoder *d, struct str key);
void path_back(struct decoder *d, size_t len);
/* Paths elsewhere are written the same way. */
void path_add_key(struct strbuf *path, struct str key);

/* The value of a field or of one list item into its place. False: a problem was added. */
bool decode_value(struct decoder *d, const ProtobufCFieldDescriptor *f, const struct node *n, void *value);
bool decode_scalar(struct decoder *d, const ProtobufCFieldDescriptor *f, const struct node *n, void *value);
/* NULL: a problem was added. */
ProtobufCMessage *decode_message(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n);
/* The same without regard to special forms; members whose name begins with '@' are passed over when `any`. */
ProtobufCMessage *decode_fields(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n, bool any);
/* A repeated or map field; problems are added. */
void decode_list(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const struct node *n);
void decode_map(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const struct node *n);
bool decode_map_key(
	struct decoder *d, const ProtobufCFieldDescriptor *f, struct str key, const struct node *n, void *value);

struct writer {
	struct strbuf *out;
	const struct pb_encode_options *options;
	unsigned level; /* of brackets, for the indentation */
	unsigned depth; /* of messages */
};

void write_open(struct writer *w, char bracket);
/* The place of the next item, after the comma that *first (then false) asks for. */
void write_next(struct writer *w, bool *first);
void write_name(struct writer *w, struct str name, bool *first);
void write_close(struct writer *w, char bracket, bool empty);
void encode_value(struct writer *w, const ProtobufCFieldDescriptor *f, const void *value);
void encode_message(struct writer *w, const ProtobufCMessage *m);
void encode_members(struct writer *w, const ProtobufCMessage *m, bool *first);
void encode_real(struct writer *w, double value, bool single);

/* A message with a JSON form of its own; in an Any it stands under "value". */
struct special {
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *(*decode)(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n);
	void (*encode)(struct writer *w, const ProtobufCMessage *m);
	bool takes_null; /* null is a value of it, not its absence */
};
const struct special *special_of(const ProtobufCMessageDescriptor *type);
