/*
 * The index of one topic: its entries by key, and rows that lead from a question to the entries of its answer. Built
 * once, immutable, reference-counted; the next one is merged from the last and the edits of a batch, which costs copies
 * of pointers and nothing else.
 */
#pragma once

#include "pilot/model/entry.h"

struct row {
	uint64_t key; /* of the question */
	struct entry *entry;
};

struct topic_index {
	struct ref ref;
	struct entry **entries; /* sorted by key; a reference each */
	struct entry *
		*before; /* beside each object of Istio's kinds its version before, NULL: none; a reference each */
	size_t n;
	struct row *rows; /* sorted by key, then entry key; borrowed */
	size_t n_rows;
	uint64_t content_hash; /* sum over the entries: independent of history */
	size_t bytes, entry_bytes; /* all; those of the entries */
};

/* A change of one key. `entry` NULL: deleted. Takes the reference. */
struct edit {
	struct str key;
	struct entry *entry;
	size_t order; /* in the batch: the last one of a key counts */
};

/* prev may be NULL. Sorts the edits. */
struct topic_index *index_apply(
	const struct topic_index *prev, struct edit *edits, size_t n, struct read_keys *touched);
void index_unref(struct topic_index *x);
struct entry *index_get(const struct topic_index *x, struct str key); /* borrowed or NULL */
struct entry *index_before(const struct topic_index *x, struct str key); /* the version before; borrowed or NULL */

struct rows {
	const struct row *items;
	size_t n;
};
struct rows index_rows(const struct topic_index *x, uint64_t question); /* x may be NULL */

struct model {
	struct ref ref;
	uint64_t version;
	struct topic_index *topics[MODEL_TOPIC_COUNT]; /* by position in model_topics; NULL: empty */
	struct singled *singled; /* of the topics */
};
struct topic_index *model_values(
	const struct model *m, uint32_t topic); /* borrowed; NULL: none. topic is one of model_topics */
