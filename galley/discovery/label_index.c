#include "galley/discovery/label_index.h"

#include "common/base/map.h"

/*
 * DOC: From "key=value" to positions. A selector is looked up by the one of its pairs that the fewest have.
 */

struct bucket {
	size_t *items;
	size_t n, cap;
};

struct label_index {
	struct arena *arena;
	struct map *buckets;
};

struct label_index *label_index_new(struct arena *a)
{
	struct label_index *x = ARENA_NEW(a, struct label_index);
	x->arena = a;
	x->buckets = map_new();
	return x;
}

void label_index_done(struct label_index *x)
{
	map_free(x->buckets);
	x->buckets = NULL;
}

static void key_of(struct strbuf *out, struct label l)
{
	strbuf_clear(out);
	strbuf_adds(out, l.key);
	strbuf_addc(out, '=');
	strbuf_adds(out, l.value);
}

static void push(struct arena *a, struct bucket *b, size_t position)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 4;
		size_t *items = ARENA_ARRAY(a, size_t, cap);
		if (b->n)
			memcpy(items, b->items, b->n * sizeof(*items));
		b->items = items;
		b->cap = cap;
	}
	b->items[b->n++] = position;
}

void label_index_add(struct label_index *x, struct label_set labels, size_t position)
{
	struct strbuf key cleanup(strbuf_done) = {0};
	for (size_t i = 0; i < labels.n; i++) {
		key_of(&key, label_at(labels, i));
		struct bucket *b = map_get(x->buckets, strbuf_str(&key));
		if (!b) {
			b = ARENA_NEW(x->arena, struct bucket);
			(void)map_put(x->buckets, strbuf_str(&key), b);
		}
		push(x->arena, b, position);
	}
}

bool label_index_find(const struct label_index *x, struct label_set selector, const size_t **out, size_t *n)
{
	struct strbuf key cleanup(strbuf_done) = {0};
	if (!selector.n)
		return false;
	*out = NULL;
	*n = SIZE_MAX;
	for (size_t i = 0; i < selector.n; i++) {
		key_of(&key, label_at(selector, i));
		const struct bucket *b = map_get(x->buckets, strbuf_str(&key));
		if (!b) {
			*n = 0;
			return true;
		}
		if (b->n < *n) {
			*out = b->items;
			*n = b->n;
		}
	}
	return true;
}
