/*
 * DOC: Indexes are sorted arrays: small, quick to search, cheap to copy, and the same content always lies in the same
 * order, which is what makes output repeatable. A batch is merged in one linear pass over entries and over rows; what lies between
 * two edits is copied as it is, so that the pass costs little more than the copy.
 */
#include "pilot/model/index.h"

#include <stdlib.h>

static int edit_cmp(const void *x, const void *y)
{
	const struct edit *a = x, *b = y;
	int c = str_cmp(a->key, b->key);

	return c ? c : a->order < b->order ? -1 : a->order > b->order;
}

/* Leaves the last edit of each key. */
static size_t edits_normalise(struct edit *edits, size_t n)
{
	size_t out = 0;

	if (n > 1)
		qsort(edits, n, sizeof(*edits), edit_cmp);
	for (size_t i = 0; i < n; i++) {
		if (out && str_eq(edits[out - 1].key, edits[i].key)) {
			entry_unref(edits[out - 1].entry);
			out--;
		}
		edits[out++] = edits[i];
	}
	return out;
}

/* Where the key is, or would be. */
static bool find_key(const struct topic_index *x, struct str key, size_t *at)
{
	size_t low = 0, high = x ? x->n : 0;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = str_cmp(x->entries[mid]->key, key);

		if (!c) {
			*at = mid;
			return true;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*at = low;
	return false;
}

struct entry *index_get(const struct topic_index *x, struct str key)
{
	size_t at;

	return find_key(x, key, &at) ? x->entries[at] : NULL;
}

struct entry *index_before(const struct topic_index *x, struct str key)
{
	size_t at;

	return find_key(x, key, &at) ? x->before[at] : NULL;
}

static int emission_order(const struct emission *a, const struct emission *b)
{
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->aspect < b->aspect ? -1 : a->aspect > b->aspect;
}

/* The symmetric difference of what both answer. */
static void touch(const struct entry *old, const struct entry *new, struct read_keys *touched)
{
	size_t i = 0, j = 0, n_old = old ? old->n_emissions : 0, n_new = new ? new->n_emissions : 0;

	while (i < n_old || j < n_new) {
		int c = i == n_old ? 1 : j == n_new ? -1 : emission_order(&old->emissions[i], &new->emissions[j]);

		if (c < 0)
			read_keys_add(touched, old->emissions[i++].key);
		else if (c > 0)
			read_keys_add(touched, new->emissions[j++].key);
		else
			i++, j++;
	}
}

static int row_cmp(const void *x, const void *y)
{
	const struct row *a = x, *b = y;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return str_cmp(a->entry->key, b->entry->key);
}

/* A batch's rows; emissions of one key may differ in aspect only, then there is one row. */
static struct row *rows_of(const struct edit *edits, size_t n, size_t *n_out)
{
	size_t cap = 0, out = 0, unique = 0;
	struct row *rows;

	for (size_t i = 0; i < n; i++)
		cap += edits[i].entry ? edits[i].entry->n_emissions : 0;
	rows = xmalloc((cap + 1) * sizeof(*rows));
	for (size_t i = 0; i < n; i++) {
		struct entry *e = edits[i].entry;

		for (size_t j = 0; e && j < e->n_emissions; j++)
			if (e->emissions[j].row)
				rows[out++] = (struct row){e->emissions[j].key, e};
	}
	if (out > 1)
		qsort(rows, out, sizeof(*rows), row_cmp);
	for (size_t i = 0; i < out; i++)
		if (!unique || row_cmp(&rows[unique - 1], &rows[i]))
			rows[unique++] = rows[i];
	*n_out = unique;
	return rows;
}

static int pointer_cmp(const void *x, const void *y)
{
	const struct entry *a = *(struct entry *const *)x, *b = *(struct entry *const *)y;

	return a < b ? -1 : a > b;
}

/* The entries of prev that the edits replace or delete, by address. */
static struct entry **replaced(const struct topic_index *prev, const struct edit *edits, size_t n, size_t *n_out)
{
	struct entry **out = xmalloc((n + 1) * sizeof(*out));
	size_t at, len = 0;

	for (size_t i = 0; i < n; i++)
		if (find_key(prev, edits[i].key, &at))
			out[len++] = prev->entries[at];
	if (len > 1)
		qsort(out, len, sizeof(*out), pointer_cmp);
	*n_out = len;
	return out;
}

static bool among(struct entry *const *sorted, size_t n, const struct entry *e)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (sorted[mid] == e)
			return true;
		if (sorted[mid] < e)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static void merge_rows(struct topic_index *x, const struct topic_index *prev, const struct edit *edits, size_t n)
{
	size_t n_new, n_gone, i = 0, j = 0, n_old = prev ? prev->n_rows : 0;
	struct row *added cleanup(free_p) = rows_of(edits, n, &n_new);
	struct entry **gone cleanup(free_p) = replaced(prev, edits, n, &n_gone);

	x->rows = xmalloc((n_old + n_new + 1) * sizeof(*x->rows));
	while (i < n_old || j < n_new) {
		if (i < n_old && among(gone, n_gone, prev->rows[i].entry)) {
			i++;
			continue;
		}
		if (j == n_new || (i < n_old && row_cmp(&prev->rows[i], &added[j]) < 0))
			x->rows[x->n_rows++] = prev->rows[i++];
		else
			x->rows[x->n_rows++] = added[j++];
	}
}

static uint64_t content_of(const struct entry *e)
{
	return e->hash ^ question_key(QUESTION_COUNT, e->key);
}

static size_t bytes_of(const struct entry *e)
{
	return sizeof(*e) + arena_bytes(e->arena);
}

static void keep_run(struct topic_index *x, const struct topic_index *prev, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		ref_get(&prev->entries[i]->ref);
		if (prev->before[i])
			ref_get(&prev->before[i]->ref);
	}
	if (to > from) {
		memcpy(x->entries + x->n, prev->entries + from, (to - from) * sizeof(*x->entries));
		memcpy(x->before + x->n, prev->before + from, (to - from) * sizeof(*x->before));
	}
	x->n += to - from;
}

static void index_put(struct topic_index *x, struct entry *e, struct entry *before)
{
	if (before)
		ref_get(&before->ref);
	x->before[x->n] = before;
	x->entries[x->n++] = e;
	x->content_hash += content_of(e);
	x->entry_bytes += bytes_of(e);
}

static void index_drop(struct topic_index *x, const struct entry *e)
{
	x->content_hash -= content_of(e);
	x->entry_bytes -= bytes_of(e);
}

/* What would stand in for an object's new version. The same content keeps what it had, and its age. */
static struct entry *version_before(const struct topic_index *prev, size_t at, struct entry *new)
{
	struct entry *old = prev->entries[at];

	if (!new->object)
		return NULL;
	if (old->hash != new->hash)
		return old;
	new->source.since = old->source.since;
	return prev->before[at];
}

static void merge_entries(
	struct topic_index *x, const struct topic_index *prev, struct edit *edits, size_t n, struct read_keys *touched)
{
	size_t kept = 0, n_old = prev ? prev->n : 0;

	x->entries = xmalloc((n_old + n + 1) * sizeof(*x->entries));
	x->before = xmalloc((n_old + n + 1) * sizeof(*x->before));
	x->content_hash = prev ? prev->content_hash : 0;
	x->entry_bytes = prev ? prev->entry_bytes : 0;
	for (size_t j = 0; j < n; j++) {
		size_t at;
		bool there = find_key(prev, edits[j].key, &at);

		keep_run(x, prev, kept, at);
		kept = at + there;
		touch(there ? prev->entries[at] : NULL, edits[j].entry, touched);
		if (there)
			index_drop(x, prev->entries[at]);
		if (edits[j].entry)
			index_put(x, edits[j].entry, there ? version_before(prev, at, edits[j].entry) : NULL);
	}
	keep_run(x, prev, kept, n_old);
}

static void index_destroy(struct ref *r)
{
	struct topic_index *x = container_of(r, struct topic_index, ref);

	for (size_t i = 0; i < x->n; i++) {
		entry_unref(x->entries[i]);
		entry_unref(x->before[i]);
	}
	free(x->entries);
	free(x->before);
	free(x->rows);
	free(x);
}

void index_unref(struct topic_index *x)
{
	if (x)
		ref_put(&x->ref);
}

struct topic_index *index_apply(const struct topic_index *prev, struct edit *edits, size_t n, struct read_keys *touched)
{
	struct topic_index *x = xzalloc(sizeof(*x));

	ref_init(&x->ref, index_destroy);
	n = edits_normalise(edits, n);
	merge_entries(x, prev, edits, n, touched);
	merge_rows(x, prev, edits, n);
	x->bytes = x->entry_bytes + sizeof(*x) + 2 * x->n * sizeof(*x->entries) + x->n_rows * sizeof(*x->rows);
	return x;
}

struct rows index_rows(const struct topic_index *x, uint64_t question)
{
	size_t low = 0, high = x ? x->n_rows : 0, end;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (x->rows[mid].key < question)
			low = mid + 1;
		else
			high = mid;
	}
	for (end = low; x && end < x->n_rows && x->rows[end].key == question;)
		end++;
	return (struct rows){x ? x->rows + low : NULL, end - low};
}

struct topic_index *model_values(const struct model *m, uint32_t topic)
{
	size_t t = 0;

	while (t < MODEL_TOPIC_COUNT && model_topics[t].topic != topic)
		t++;
	assert(t < MODEL_TOPIC_COUNT);
	return m->topics[t];
}
