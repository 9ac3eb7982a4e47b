/*
 * DOC: Log lines. A line is built in a buffer of the calling thread and leaves by one write(2), so lines of several
 * threads never mix. Scopes are static variables that put themselves on a lock-free list at their first use; a level
 * set for a scope that has not been used yet is remembered by name until it appears. Those names, and the list, are
 * the only shared state besides plain atomics; a mutex guards the remembered names.
 */
#include "common/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/map.h"

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};

static _Atomic int default_level = LOG_INFO;
static _Atomic bool json_lines;
static const char *process_name;
static struct log_scope *_Atomic scopes;
static pthread_mutex_t wanted_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map *wanted; /* scope name -> level_names entry */

static void (*sink_fn)(enum log_level level, struct str line, void *ctx);
static void *sink_ctx;

const char *log_level_name(enum log_level level)
{
	return (unsigned)level < LOG_LEVEL_COUNT ? level_names[level] : "unknown";
}

enum log_level log_default_level(void)
{
	return (enum log_level)atomic_load(&default_level);
}

struct log_scope *log_scopes(void)
{
	return atomic_load(&scopes);
}

void log_set_json(bool json)
{
	atomic_store(&json_lines, json);
}

void log_set_process(const char *name)
{
	process_name = name;
}

void log_set_sink(void (*sink)(enum log_level level, struct str line, void *ctx), void *ctx)
{
	sink_fn = sink;
	sink_ctx = ctx;
}

static int level_of_name(const char *name)
{
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		if (streq(level_names[i], name))
			return i;
	}
	return -1;
}

static void register_scope(struct log_scope *s)
{
	struct log_scope *first;

	if (atomic_exchange(&s->registered, true))
		return;
	pthread_mutex_lock(&wanted_lock);
	if (wanted) {
		const char *level = map_get(wanted, str_of(s->name));

		if (level)
			atomic_store(&s->level, level_of_name(level));
	}
	first = atomic_load(&scopes);
	s->next = first;
	atomic_store(&scopes, s);
	pthread_mutex_unlock(&wanted_lock);
}

bool log_enabled(struct log_scope *s, enum log_level level)
{
	int own;

	if (!atomic_load_explicit(&s->registered, memory_order_relaxed))
		register_scope(s);
	own = atomic_load_explicit(&s->level, memory_order_relaxed);
	if (own < 0)
		own = atomic_load_explicit(&default_level, memory_order_relaxed);
	return (int)level <= own;
}

static void add_time(struct strbuf *b)
{
	int64_t now = clock_wall_ms();
	char text[32];

	clock_format(now, text);
	text[strlen(text) - 1] = '\0'; /* the Z comes after the milliseconds */
	strbuf_addf(b, "%s.%03dZ", text, (int)(now % 1000));
}

static bool plain_text(struct str s)
{
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f)
			return false;
	}
	return true;
}

static void add_value(struct strbuf *b, const struct log_kv *kv, bool json)
{
	switch (kv->type) {
	case LOG_KV_INT:
		strbuf_addf(b, "%lld", (long long)kv->i);
		break;
	case LOG_KV_UINT:
		strbuf_addf(b, "%llu", (unsigned long long)kv->u);
		break;
	case LOG_KV_DOUBLE:
		/* JSON has no infinities; as a string they survive in both formats. */
		strbuf_addf(b, kv->d - kv->d == 0 ? "%.9g" : "\"%g\"", kv->d);
		break;
	case LOG_KV_BOOL:
		strbuf_adds(b, kv->b ? "true" : "false");
		break;
	case LOG_KV_STR:
		if (json || !plain_text(kv->str))
			strbuf_add_json(b, kv->str);
		else
			strbuf_add(b, kv->str);
		break;
	}
}

static void write_text(struct strbuf *b, const struct log_scope *s, enum log_level level, const char *message,
	const struct log_kv *kv, size_t n)
{
	add_time(b);
	strbuf_addf(b, " %-5s ", log_level_name(level));
	if (process_name)
		strbuf_addf(b, "%s ", process_name);
	strbuf_addf(b, "%s  %s", s->name, message);
	for (size_t i = 0; i < n; i++) {
		strbuf_addf(b, " %s=", kv[i].key);
		add_value(b, &kv[i], false);
	}
}

static void write_json(struct strbuf *b, const struct log_scope *s, enum log_level level, const char *message,
	const struct log_kv *kv, size_t n)
{
	strbuf_adds(b, "{\"time\":\"");
	add_time(b);
	strbuf_addf(b, "\",\"level\":\"%s\"", log_level_name(level));
	if (process_name) {
		strbuf_adds(b, ",\"process\":");
		strbuf_add_json(b, str_of(process_name));
	}
	strbuf_adds(b, ",\"scope\":");
	strbuf_add_json(b, str_of(s->name));
	strbuf_adds(b, ",\"message\":");
	strbuf_add_json(b, str_of(message));
	for (size_t i = 0; i < n; i++) {
		strbuf_addc(b, ',');
		strbuf_add_json(b, str_of(kv[i].key));
		strbuf_addc(b, ':');
		add_value(b, &kv[i], true);
	}
	strbuf_addc(b, '}');
}

void log_emit(struct log_scope *s, enum log_level level, const char *message, const struct log_kv *kv, size_t n)
{
	struct strbuf line = {0};

	if (atomic_load(&json_lines))
		write_json(&line, s, level, message, kv, n);
	else
		write_text(&line, s, level, message, kv, n);
	if (sink_fn) {
		sink_fn(level, strbuf_str(&line), sink_ctx);
	} else {
		ssize_t ignored;

		strbuf_addc(&line, '\n');
		/* A log that cannot be written is lost; the program goes on. */
		ignored = write(STDERR_FILENO, line.ptr, line.len);
		(void)ignored;
	}
	strbuf_done(&line);
}

static bool check_part(struct str part, struct str *scope, const char **level, struct err *e)
{
	struct str name;
	struct str level_text;

	if (!str_cut(str_trim(part), ':', &name, &level_text)) {
		level_text = name;
		name = STR("default");
	}
	if (name.len == 0)
		return err_set(e, ERR_PEER, "log level \"" STR_FMT "\": no scope before the colon", STR_ARG(part));
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		if (str_eqc(level_text, level_names[i])) {
			*scope = name;
			*level = level_names[i];
			return true;
		}
	}
	return err_set(e, ERR_PEER, "log level \"" STR_FMT "\": unknown level; error, warn, info and debug exist",
		STR_ARG(part));
}

/* The levels are static strings; the map's values are never written through. */
static void want_level(struct str scope, const char *level)
{
	if (str_eqc(scope, "default")) {
		atomic_store(&default_level, level_of_name(level));
		return;
	}
	pthread_mutex_lock(&wanted_lock);
	if (!wanted)
		wanted = map_new();
	map_put(wanted, scope, (void *)(uintptr_t)level);
	for (struct log_scope *s = atomic_load(&scopes); s; s = s->next) {
		if (str_eqc(scope, s->name))
			atomic_store(&s->level, level_of_name(level));
	}
	pthread_mutex_unlock(&wanted_lock);
}

bool log_set_levels(struct str spec, struct err *e)
{
	struct str scope;
	const char *level;
	struct str part;

	for (struct str rest = spec; str_split(&rest, ',', &part);) {
		if (!check_part(part, &scope, &level, e))
			return false;
	}
	for (struct str rest = spec; str_split(&rest, ',', &part);) {
		if (check_part(part, &scope, &level, NULL))
			want_level(scope, level);
	}
	return true;
}
