/*
 * DOC: Frames of the YAML reader. Keys are searched one by one while a map is small, by hash once it is not: a hostile map
 * of 100 000 keys must not take a quadratic time.
 */
#include "common/pb/node_build.h"

#include <stdlib.h>

#define LINEAR_KEYS 16

struct node *node_new(struct arena *a, enum node_type type, struct str text)
{
	struct node *n = ARENA_NEW(a, struct node);
	n->type = type;
	n->text = arena_str(a, text);
	return n;
}

/* The map's values are positions in pairs, plus one. */
static void *position(size_t index)
{
	return (void *)(uintptr_t)(index + 1);
}

const struct node_pair *frame_find(const struct frame *f, struct str key)
{
	if (f->keys) {
		uintptr_t at = (uintptr_t)map_get(f->keys, key);
		return at ? &f->pairs.items[at - 1] : NULL;
	}
	for (size_t i = 0; i < f->pairs.len; i++)
		if (str_eq(f->pairs.items[i].key, key))
			return &f->pairs.items[i];
	return NULL;
}

void frame_add_pair(struct frame *f, struct str key, unsigned line, struct node *value)
{
	struct node_pair pair = {.key = key, .line = line, .value = value};
	vec_push(&f->pairs, pair);
	if (f->keys) {
		(void)map_put(f->keys, key, position(f->pairs.len - 1));
	} else if (f->pairs.len > LINEAR_KEYS) {
		f->keys = map_new();
		for (size_t i = 0; i < f->pairs.len; i++)
			(void)map_put(f->keys, f->pairs.items[i].key, position(i));
	}
}

void frame_merge(struct frame *f, const struct node *map)
{
	for (size_t i = 0; i < map->len; i++)
		if (!frame_find(f, map->pairs[i].key))
			frame_add_pair(f, map->pairs[i].key, map->pairs[i].line, map->pairs[i].value);
}

void frame_close(struct frame *f, struct arena *a)
{
	struct node *n = f->node;
	if (n->type == NODE_LIST) {
		n->len = f->items.len;
		n->items = n->len ? arena_dup(a, f->items.items, n->len * sizeof(*n->items)) : NULL;
		return;
	}
	n->len = f->pairs.len;
	n->pairs = n->len ? arena_dup(a, f->pairs.items, n->len * sizeof(*n->pairs)) : NULL;
}

void frame_done(struct frame *f)
{
	vec_done(&f->items);
	vec_done(&f->pairs);
	vec_done(&f->merged);
	map_free(f->keys);
	f->keys = NULL;
}
