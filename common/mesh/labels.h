/* Label selectors over generated map entries (protobuf-c map fields are arrays of {key, value}). */
#pragma once

#include "common/base/str.h"

struct label {
	const char *key;
	const char *value;
};
/* protobuf-c map<string,string> entries all have the same layout: base, key, value. */
struct label_set {
	size_t n;
	void *const *entries; /* Foo__LabelsEntry ** */
};
#define LABELS(msg, field) ((struct label_set){(msg)->n_##field, (void *const *)(msg)->field})

struct label label_at(struct label_set s, size_t i);
const char *label_get(struct label_set s, const char *key); /* NULL: absent */
bool labels_match(struct label_set selector,
	struct label_set labels); /* every pair of selector is in labels; empty matches all */
