/*
 * Making trees of nodes: what the YAML reader collects between the start and the end of a list or map. A frame owns its
 * vectors until it is closed into the arena. Internal to common/pb.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"
#include "common/pb/node.h"

struct frame {
	struct node *node;
	const char *anchor; /* NULL: none */
	size_t nodes_before; /* count of nodes of the document when it began, itself included */
	unsigned height; /* of the deepest child so far, 0 = none */
	bool has_key; /* MAP: the key of the next value was read */
	bool merges; /* MAP: that key is "<<" */
	struct str key;
	unsigned key_line;
	VEC(struct node *) items; /* LIST */
	VEC(struct node_pair) pairs; /* MAP */
	VEC(struct node *) merged; /* MAP: values of "<<" */
	struct map *keys; /* MAP: once it has many pairs */
};

struct node *node_new(struct arena *a, enum node_type type, struct str text);
const struct node_pair *frame_find(const struct frame *f, struct str key);
/* The caller made sure that the key is new. */
void frame_add_pair(struct frame *f, struct str key, unsigned line, struct node *value);
/* Adds the pairs of a merged map whose keys are not there yet. */
void frame_merge(struct frame *f, const struct node *map);
/* Moves what was collected into the node. */
void frame_close(struct frame *f, struct arena *a);
void frame_done(struct frame *f);
