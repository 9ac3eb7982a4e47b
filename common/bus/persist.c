/*
 * DOC: The snapshot on disk. Loading reads the log once: changes collect until a commit makes them count, a later
 * record of the same key wins, and the values of what remains are handed over as one batch. The content table
 * remembers where each record stands, so that compaction copies records as they are, without decoding.
 *
 * A single commit follows a batch even of many megabytes: a snapshot is on disk wholly or not at all, as it is in
 * memory.
 */
#include "common/bus/persist.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/bus/reclog.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

#define COMPACT_MIN_BYTES (1u << 20)
#define FLUSH_BYTES (8u << 20) /* a large batch is written in pieces; only its commit makes them count */

struct persist {
	char *path;
	char *publisher;
	struct reclog *log;
	uint64_t compactions;
};

struct loaded {
	struct bus_change change;
	uint64_t offset;
	uint32_t bytes;
};

struct loading {
	struct arena *arena;
	const char *publisher;
	const uint32_t *topics;
	struct map *values; /* committed: bus_id -> struct loaded * in the arena */
	VEC(struct loaded *) open; /* since the last commit */
	struct persist_mark mark;
	uint64_t end; /* of the last commit */
};

static struct str pack_change(struct arena *a, const struct bus_change *c)
{
	return pb_pack(a, wire_changes(a, c, 1)[0]);
}

static struct str pack_commit(struct arena *a, const char *publisher, const struct persist_mark *mark)
{
	Bus__Frame f = BUS__FRAME__INIT;
	f.epoch = mark->epoch;
	f.sequence = mark->sequence;
	f.publisher = arena_strdup(a, publisher);
	f.sent_ms = mark->wall_ms;
	return pb_pack(a, &f);
}

static bool load_change(struct loading *l, const struct reclog_record *r, struct err *e)
{
	Bus__Change *m = PB_UNPACK(l->arena, Bus__Change, bus__change, r->payload.ptr, r->payload.len, e);
	if (!m)
		return false;
	struct bus_change *c = NULL;
	size_t foreign = 0;
	if (wire_changes_of(l->arena, &m, 1, l->publisher, l->topics, &c, &foreign) == 0 || bus_topic_private(c->topic))
		return true; /* a topic that is not followed any more, or not for the disk */
	const char *problem = wire_change_problem(c);
	if (problem)
		return err_set(e, ERR_PEER, "%s", problem);
	struct loaded *one = ARENA_NEW(l->arena, struct loaded);
	*one = (struct loaded){*c, r->offset, (uint32_t)r->payload.len + RECLOG_HEAD};
	vec_push(&l->open, one);
	return true;
}

static bool load_commit(struct loading *l, const struct reclog_record *r, struct err *e)
{
	const Bus__Frame *f = wire_unpack(l->arena, r->payload, e);
	if (!f)
		return false;
	if (!streq(f->publisher, l->publisher))
		return err_set(e, ERR_PEER, "a snapshot of %s, not of %s", f->publisher, l->publisher);
	for (size_t i = 0; i < l->open.len; i++) {
		struct loaded *one = l->open.items[i];
		struct bus_id id;
		const struct str name = bus_id(&id, one->change.topic, one->change.key);
		if (one->change.value.ptr)
			(void)map_put(l->values, name, one);
		else
			(void)map_del(l->values, name);
	}
	l->open.len = 0;
	l->mark = (struct persist_mark){f->epoch, f->sequence, f->sent_ms};
	l->end = r->offset + RECLOG_HEAD + r->payload.len;
	return true;
}

static bool load_records(struct loading *l, struct reclog_reader *r, struct err *e)
{
	struct reclog_record record;
	while (reclog_next(r, &record, e)) {
		bool ok = true;
		if (record.type == RECLOG_CHANGE)
			ok = load_change(l, &record, e);
		else if (record.type == RECLOG_COMMIT)
			ok = load_commit(l, &record, e);
		if (!ok)
			return err_in(e, "record at %llu", (unsigned long long)record.offset);
	}
	return e->kind == ERR_NONE;
}

static bool load(struct loading *l, const char *path, struct err *e)
{
	struct reclog_reader *r = reclog_read(path, e);
	bool ok = r && load_records(l, r, e);
	reclog_read_close(r);
	return ok;
}

static void hand_over(struct loading *l, struct bus_content *content, struct bus_change **out, size_t *out_n)
{
	*out = ARENA_ARRAY(l->arena, struct bus_change, map_len(l->values) + 1);
	*out_n = 0;
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (map_next(l->values, &cursor, &id, &value)) {
		const struct loaded *one = value;
		content_place(content, content_apply(content, &one->change), one->offset, one->bytes);
		(*out)[(*out_n)++] = one->change;
	}
}

static void set_aside(const char *path)
{
	cleanup(free_p) char *bad = xasprintf("%s.bad", path);
	(void)rename(path, bad);
}

static bool prepare_directory(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	if (!slash || slash == path)
		return true;
	cleanup(free_p) char *dir = xstrndup(path, (size_t)(slash - path));
	return file_mkdirs(dir, 0700, e);
}

struct persist *persist_open(const char *path, const char *publisher, const uint32_t *topics, struct arena *a,
	struct bus_content *content, struct bus_change **out_changes, size_t *out_n, struct persist_mark *out_mark,
	struct err *e)
{
	struct loading l = {.arena = a, .publisher = publisher, .topics = topics, .values = map_new()};
	struct err bad = {0};
	*out_n = 0;
	if (file_exists(path) && !load(&l, path, &bad)) {
		log_warn(&log_bus, "snapshot on disk is unreadable and set aside", KV("path", path),
			KV("error", bad.text));
		set_aside(path);
		map_clear(l.values);
		l.mark = (struct persist_mark){0};
		l.end = 0;
	}
	hand_over(&l, content, out_changes, out_n);
	*out_mark = l.mark;
	map_free(l.values);
	vec_done(&l.open);
	struct reclog *log = prepare_directory(path, e) ? reclog_open(path, l.end, e) : NULL;
	if (!log || !reclog_flush(log, e)) {
		reclog_close(log);
		return NULL;
	}
	struct persist *p = xzalloc(sizeof(*p));
	*p = (struct persist){.path = xstrdup(path), .publisher = xstrdup(publisher), .log = log};
	return p;
}

static bool copy_live(
	struct reclog *to, struct reclog_reader *from, struct bus_content *content, uint64_t *offsets, struct err *e)
{
	cleanup(strbuf_done) struct strbuf record = {0};
	size_t cursor = 0;
	size_t i = 0;
	struct str id;
	void *value = NULL;
	while (map_next(content->map, &cursor, &id, &value)) {
		const struct bus_held *h = value;
		if (!h->bytes) {
			offsets[i++] = 0; /* private: not in the file */
			continue;
		}
		if (!reclog_raw(from, h->offset, h->bytes, &record, e))
			return false;
		offsets[i++] = reclog_add_raw(to, strbuf_str(&record));
		if (reclog_collected(to) > FLUSH_BYTES && !reclog_flush(to, e))
			return false;
	}
	return true;
}

static void move_offsets(struct bus_content *content, const uint64_t *offsets)
{
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	for (size_t i = 0; map_next(content->map, &cursor, &id, &value); i++)
		((struct bus_held *)value)->offset = offsets[i];
}

static bool finish(struct persist *p, struct reclog *log, const struct persist_mark *mark, struct err *e)
{
	struct arena *a = arena_new();
	(void)reclog_add(log, RECLOG_COMMIT, pack_commit(a, p->publisher, mark));
	arena_free(a);
	return reclog_flush(log, e);
}

static bool rewrite(struct persist *p, struct reclog *fresh, const char *path, struct bus_content *content,
	const struct persist_mark *mark, struct err *e)
{
	struct reclog_reader *old = reclog_read(p->path, e);
	uint64_t *offsets = xmalloc((content_len(content) + 1) * sizeof(*offsets));
	bool ok = old && copy_live(fresh, old, content, offsets, e) && finish(p, fresh, mark, e) &&
		  reclog_sync(fresh, e);
	if (ok && rename(path, p->path) != 0)
		ok = err_errno(e, "renaming %s", path);
	if (ok)
		move_offsets(content, offsets);
	free(offsets);
	reclog_read_close(old);
	return ok;
}

static bool compact(struct persist *p, struct bus_content *content, const struct persist_mark *mark, struct err *e)
{
	cleanup(free_p) char *path = xasprintf("%s.new", p->path);
	struct reclog *fresh = reclog_open(path, 0, e);
	if (!fresh)
		return false;
	if (!rewrite(p, fresh, path, content, mark, e)) {
		reclog_close(fresh);
		(void)unlink(path);
		return err_in(e, "compaction");
	}
	reclog_close(p->log);
	p->log = fresh;
	p->compactions++;
	return true;
}

/* The later of two changes of one key in a batch is the one that stands. */
static void place(struct bus_content *content, const struct bus_change *c, uint64_t offset, uint64_t end)
{
	struct bus_held *h = content_get(content, c->topic, c->key);
	if (h && c->value.ptr)
		content_place(content, h, offset, (uint32_t)(end - offset));
}

bool persist_batch(struct persist *p, struct bus_content *content, const struct bus_change *changes, size_t n,
	const struct persist_mark *mark, struct err *e)
{
	const uint64_t start = reclog_size(p->log);
	for (size_t i = 0; i < n; i++) {
		if (bus_topic_private(changes[i].topic))
			continue; /* never on disk */
		struct arena *a = arena_new();
		uint64_t offset = reclog_add(p->log, RECLOG_CHANGE, pack_change(a, &changes[i]));
		place(content, &changes[i], offset, reclog_size(p->log));
		arena_free(a);
		if (reclog_collected(p->log) > FLUSH_BYTES && !reclog_flush(p->log, e))
			return false;
	}
	if (!finish(p, p->log, mark, e))
		return false;
	assert(reclog_size(p->log) > start);
	const uint64_t garbage = reclog_size(p->log) - content->record_bytes;
	if (garbage > COMPACT_MIN_BYTES && garbage > content->record_bytes)
		return compact(p, content, mark, e);
	return true;
}

bool persist_close(struct persist *p, const struct persist_mark *mark, struct err *e)
{
	if (!p)
		return true;
	bool ok = !mark || (finish(p, p->log, mark, e) && reclog_sync(p->log, e));
	reclog_close(p->log);
	free(p->publisher);
	free(p->path);
	free(p);
	return ok;
}

uint64_t persist_bytes(const struct persist *p)
{
	return reclog_size(p->log);
}

uint64_t persist_compactions(const struct persist *p)
{
	return p->compactions;
}
