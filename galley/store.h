/*
 * What the source's files define, and what is in force. A unit is a file: its documents in order. A slot is an identity (kind,
 * namespace, name): the documents that claim it, the first of which counts, and the last good object. Owner: galley's one thread.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"
#include "galley/document.h"
#include "galley/source/directory.h"

struct unit {
	char *file;
	struct arena *arena; /* documents, diagnostics */
	struct diags diags;
	VEC(struct document) documents;
	bool broken; /* did not parse to its end */
};

struct claim {
	const struct unit *unit;
	const struct document *document;
	size_t index; /* in the unit */
};

struct slot {
	char *key;
	const struct kind *kind;
	VEC(struct claim) claims; /* in order of file name and place */
	struct object *good; /* what is in force, NULL: nothing */
	bool touched;
	bool quarantined; /* as last settled */
	size_t place; /* in its namespace's list of inputs (pipeline.h) */
};

struct store {
	struct map *units; /* by file */
	struct map *ahead; /* by file: read, not yet put */
	struct map *slots; /* by key */
	VEC(struct slot *) touched;
	/* Kept up, so that a change does not look at all there is. */
	struct map *remarked; /* file -> unit with diagnostics */
	struct map *contested; /* key -> slot that several claim */
	size_t good, quarantined; /* slots, as last settled */
	size_t foreign; /* documents */
};

void source_store_init(struct store *s);
void source_store_done(struct store *s);
/* Reads files that are put next, with those texts, on as many threads as there are processors; they cost little then. */
/* o: for all files; its own `file` is not read. */
void source_store_ahead(struct store *s, const struct source_text *files, size_t n, const struct document_options *o);
void source_store_put(struct store *s, struct str file, struct str text, const struct document_options *o);
void source_store_remove(struct store *s, struct str file);
const struct unit *source_store_unit(const struct store *s, struct str file); /* NULL: absent */

/* Settles the touched slots: fn is called for each whose object in force changed, with the object before (NULL: none), which it may
 * look at during the call. Slots that nobody claims go away afterwards. */
void source_store_settle(
	struct store *s, void (*fn)(void *ctx, struct slot *slot, const struct object *before), void *ctx);

/* The document that counts; NULL when there is none. */
const struct document *slot_winner(const struct slot *s);
bool slot_quarantined(const struct slot *s); /* the newest version is not what is in force */
