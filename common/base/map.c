/*
 * DOC: A hash map that keeps insertion order: entries stand in a dense array in the order they came, and an
 * open-addressing table of 32-bit indexes finds them. A deletion leaves a hole in the array, and the table still
 * points at the hole. Holes go away when the array is full: then it is compacted or doubled and the table is built
 * anew. So an iteration that deletes the entry it was just given never sees its cursor shifted.
 */
#include "common/base/map.h"

#include <stdlib.h>

#include "common/base/hash.h"

#define FIRST_CAP 8u

struct entry {
	char *key; /* owned, NUL-terminated; NULL: a hole */
	size_t key_len;
	uint64_t hash;
	void *value;
};

struct map {
	struct entry *entries;
	uint32_t *table; /* 2 * cap slots of entry index + 1; 0 is free */
	size_t used; /* entries including holes */
	size_t cap; /* a power of two, or 0 */
	size_t live;
};

struct map *map_new(void)
{
	return xzalloc(sizeof(struct map));
}

void map_clear(struct map *m)
{
	for (size_t i = 0; i < m->used; i++)
		free(m->entries[i].key);
	free(m->entries);
	free(m->table);
	*m = (struct map){0};
}

void map_free(struct map *m)
{
	if (!m)
		return;
	map_clear(m);
	free(m);
}

void map_free_p(struct map **m)
{
	map_free(*m);
}

size_t map_len(const struct map *m)
{
	return m->live;
}

static struct entry *find(const struct map *m, struct str key, uint64_t hash)
{
	size_t mask = m->cap * 2 - 1;

	if (m->cap == 0)
		return NULL;
	/* The table is at most half full, so this ends. */
	for (size_t slot = hash & mask; m->table[slot] != 0; slot = (slot + 1) & mask) {
		struct entry *e = &m->entries[m->table[slot] - 1];

		if (e->key && e->hash == hash && str_eq(str_n(e->key, e->key_len), key))
			return e;
	}
	return NULL;
}

static void index_entry(struct map *m, size_t i)
{
	size_t mask = m->cap * 2 - 1;
	size_t slot = m->entries[i].hash & mask;

	while (m->table[slot] != 0)
		slot = (slot + 1) & mask;
	m->table[slot] = (uint32_t)(i + 1);
}

static void rebuild(struct map *m)
{
	size_t kept = 0;
	/* Doubling only when few entries are holes; else compacting is enough. */
	size_t cap = m->live > m->cap / 4 * 3 ? m->cap * 2 : m->cap;

	cap = max_size(cap, FIRST_CAP);
	if (cap > UINT32_MAX / 4)
		abort();
	for (size_t i = 0; i < m->used; i++) {
		if (m->entries[i].key)
			m->entries[kept++] = m->entries[i];
	}
	m->used = kept;
	m->cap = cap;
	m->entries = xrealloc(m->entries, cap * sizeof(*m->entries));
	free(m->table);
	m->table = xzalloc(2 * cap * sizeof(*m->table));
	for (size_t i = 0; i < m->used; i++)
		index_entry(m, i);
}

void *map_get(const struct map *m, struct str key)
{
	const struct entry *e = find(m, key, hash64(key));

	return e ? e->value : NULL;
}

void *map_put(struct map *m, struct str key, void *value)
{
	uint64_t hash = hash64(key);
	struct entry *e = find(m, key, hash);

	assert(value);
	if (e) {
		void *old = e->value;

		e->value = value;
		return old;
	}
	if (m->used == m->cap)
		rebuild(m);
	m->entries[m->used] = (struct entry){
		.key = xstrndup(key.ptr, key.len), .key_len = key.len, .hash = hash, .value = value};
	index_entry(m, m->used++);
	m->live++;
	return NULL;
}

void *map_del(struct map *m, struct str key)
{
	struct entry *e = find(m, key, hash64(key));
	void *value;

	if (!e)
		return NULL;
	value = e->value;
	free(e->key);
	e->key = NULL;
	e->value = NULL;
	m->live--;
	return value;
}

bool map_next(const struct map *m, size_t *cursor, struct str *key, void **value)
{
	while (*cursor < m->used) {
		const struct entry *e = &m->entries[(*cursor)++];

		if (!e->key)
			continue;
		if (key)
			*key = str_n(e->key, e->key_len);
		if (value)
			*value = e->value;
		return true;
	}
	return false;
}

static int compare_keys(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

struct str *map_keys_sorted(const struct map *m)
{
	struct str *keys = xmalloc((m->live + 1) * sizeof(*keys));
	size_t n = 0;

	for (size_t i = 0; map_next(m, &i, &keys[n], NULL);)
		n++;
	keys[n] = (struct str){0};
	qsort(keys, n, sizeof(*keys), compare_keys);
	return keys;
}
