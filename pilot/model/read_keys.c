/*
 * DOC: Sets of read keys. A set is filled in any order while questions are asked, then sealed: sorted, without
 * repetition. Sealed sets are compared by the serving side to find the resources that a change touches.
 */
#include "pilot/model/model.h"

#include <stdlib.h>

void read_keys_add(struct read_keys *k, uint64_t key)
{
	/* The same question is often asked twice in a row. */
	if (k->len && k->items[k->len - 1] == key)
		return;
	if (k->len == k->cap) {
		k->cap = k->cap ? k->cap * 2 : 16;
		k->items = xrealloc(k->items, k->cap * sizeof(*k->items));
	}
	k->items[k->len++] = key;
}

static int key_cmp(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

void read_keys_seal(struct read_keys *k)
{
	size_t out = 0;

	if (k->len > 1)
		qsort(k->items, k->len, sizeof(*k->items), key_cmp);
	for (size_t i = 0; i < k->len; i++)
		if (!out || k->items[out - 1] != k->items[i])
			k->items[out++] = k->items[i];
	k->len = out;
}

bool read_keys_has(const struct read_keys *k, uint64_t key)
{
	size_t low = 0, high = k->len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (k->items[mid] == key)
			return true;
		if (k->items[mid] < key)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

void read_keys_done(struct read_keys *k)
{
	free(k->items);
	*k = (struct read_keys){0};
}
