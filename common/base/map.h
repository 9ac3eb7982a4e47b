/*
 * A hash map from byte strings to pointers. Keys are copied into the map; values are the caller's. Iteration is in
 * insertion order (deletions keep the order of the rest), so output made from a map is repeatable.
 * Not thread-safe while it is changed; a map that no one changes may be read by all.
 */
#pragma once

#include "common/base/str.h"

struct map;

struct map *map_new(void);
void map_free(struct map *m); /* NULL is fine; values are not freed */
void map_free_p(struct map **m);
void *map_get(const struct map *m, struct str key); /* NULL: absent */
void *map_put(struct map *m, struct str key, void *value); /* value not NULL; returns the one it replaced or NULL */
void *map_del(struct map *m, struct str key); /* the value it had, or NULL */
size_t map_len(const struct map *m);
void map_clear(struct map *m);

/* for (size_t i = 0; map_next(m, &i, &key, &value);) — the map must not change meanwhile, except for the entry just given */
bool map_next(const struct map *m, size_t *cursor, struct str *key, void **value);
/* Keys in byte order; the array is the caller's (free), the strings the map's. */
struct str *map_keys_sorted(const struct map *m);
