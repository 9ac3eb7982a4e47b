/*
 * DOC: Log lines. A line is built in a buffer of the calling thread and leaves by one write(2), so lines of several
 * threads never mix. Scopes are static variables that put themselves on a list before main(), so that all can be seen and set
 * from the start; the list does not change afterwards, and levels are plain atomics. Scopes of several files may share
 * a name: whoever sets or shows levels does it by name and means all of them; "default" is what the others follow.
 */
#include "common/base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/err.h"

static const struct level {
	const char *name;
	enum log_level level;
} levels[] = {{"none", LOG_NONE}, {"error", LOG_ERROR}, {"warn", LOG_WARN}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}};

#define DEFAULT_NAME "default"
#define LEVEL_OF_DEFAULT (-1)

/* What scopes without a level of their own follow; it is no scope and nobody logs with it. */
static struct log_scope fallback = {
	.name = DEFAULT_NAME, .about = "every scope that has no level of its own", .level = LOG_INFO};
static _Atomic bool json_lines;
static const char *process_name;
static struct log_scope *scopes;

static void (*sink_fn)(enum log_level level, struct str line, void *ctx);
static void *sink_ctx;

const char *log_level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "unknown";
}

bool log_level_parse(struct str name, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (str_eqc(name, levels[i].name)) {
			*out = levels[i].level;
			return true;
		}
	}
	return false;
}

enum log_level log_default_level(void)
{
	return (enum log_level)atomic_load(&fallback.level);
}

void log_register(struct log_scope *s)
{
	s->next = scopes;
	scopes = s;
}

struct log_scope *log_scopes(void)
{
	return scopes;
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

bool log_enabled(struct log_scope *s, enum log_level level)
{
	int own = atomic_load_explicit(&s->level, memory_order_relaxed);

	if (own == LEVEL_OF_DEFAULT)
		own = atomic_load_explicit(&fallback.level, memory_order_relaxed);
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

struct entry {
	const struct log_scope *scope;
	enum log_level level;
	const char *caller; /* NULL: not shown */
	const char *message;
	const struct log_kv *kv;
	size_t n;
};

static const char *shown_caller(const struct log_scope *s, const char *where)
{
	return atomic_load(&s->callers) || atomic_load(&fallback.callers) ? where : NULL;
}

static void write_text(struct strbuf *b, const struct entry *x)
{
	add_time(b);
	strbuf_addf(b, " %-5s ", log_level_name(x->level));
	if (process_name)
		strbuf_addf(b, "%s ", process_name);
	strbuf_addf(b, "%s  %s", x->scope->name, x->message);
	for (size_t i = 0; i < x->n; i++) {
		strbuf_addf(b, " %s=", x->kv[i].key);
		add_value(b, &x->kv[i], false);
	}
	if (x->caller)
		strbuf_addf(b, " caller=%s", x->caller);
}

static void write_json(struct strbuf *b, const struct entry *x)
{
	strbuf_adds(b, "{\"time\":\"");
	add_time(b);
	strbuf_addf(b, "\",\"level\":\"%s\"", log_level_name(x->level));
	if (process_name) {
		strbuf_adds(b, ",\"process\":");
		strbuf_add_json(b, str_of(process_name));
	}
	strbuf_adds(b, ",\"scope\":");
	strbuf_add_json(b, str_of(x->scope->name));
	strbuf_adds(b, ",\"message\":");
	strbuf_add_json(b, str_of(x->message));
	for (size_t i = 0; i < x->n; i++) {
		strbuf_addc(b, ',');
		strbuf_add_json(b, str_of(x->kv[i].key));
		strbuf_addc(b, ':');
		add_value(b, &x->kv[i], true);
	}
	if (x->caller)
		strbuf_addf(b, ",\"caller\":\"%s\"", x->caller);
	strbuf_addc(b, '}');
}

void log_emit(struct log_scope *s, enum log_level level, const char *where, const char *message,
	const struct log_kv *kv, size_t n)
{
	const struct entry x = {s, level, shown_caller(s, where), message, kv, n};
	struct strbuf line = {0};

	if (atomic_load(&json_lines))
		write_json(&line, &x);
	else
		write_text(&line, &x);
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

static bool read_part(struct str part, struct str *scope, enum log_level *level, struct err *e)
{
	struct str name;
	struct str level_text;

	if (!str_cut(str_trim(part), ':', &name, &level_text)) {
		level_text = name;
		name = STR(DEFAULT_NAME);
	}
	if (name.len == 0)
		return err_set(e, ERR_PEER, "log level \"" STR_FMT "\": no scope before the colon", STR_ARG(part));
	if (!log_level_parse(level_text, level))
		return err_set(e, ERR_PEER,
			"log level \"" STR_FMT "\": unknown level; none, error, warn, info and debug exist",
			STR_ARG(part));
	*scope = name;
	return true;
}

/* The first scope of that name from s on; NULL: none. */
static struct log_scope *find(struct log_scope *s, struct str name)
{
	while (s && !str_eqc(name, s->name))
		s = s->next;
	return s;
}

static void set_level(struct str name, enum log_level level)
{
	if (str_eqc(name, DEFAULT_NAME))
		atomic_store(&fallback.level, level);
	for (struct log_scope *s = find(scopes, name); s; s = find(s->next, name))
		atomic_store(&s->level, level);
}

bool log_set_levels(struct str spec, struct err *e)
{
	struct str scope;
	enum log_level level;
	struct str part;

	for (struct str rest = spec; str_split(&rest, ',', &part);) {
		if (!read_part(part, &scope, &level, e))
			return false;
	}
	for (struct str rest = spec; str_split(&rest, ',', &part);) {
		if (read_part(part, &scope, &level, NULL))
			set_level(scope, level);
	}
	return true;
}

void log_set_callers(struct str name, bool callers)
{
	if (str_eqc(name, DEFAULT_NAME))
		atomic_store(&fallback.callers, callers);
	for (struct log_scope *s = find(scopes, name); s; s = find(s->next, name))
		atomic_store(&s->callers, callers);
}

bool log_name_get(struct str name, struct log_name *out)
{
	const struct log_scope *s = str_eqc(name, DEFAULT_NAME) ? &fallback : find(scopes, name);
	int level;

	if (!s)
		return false;
	level = atomic_load(&s->level);
	*out = (struct log_name){.name = s->name,
		.about = s->about,
		.level = level == LEVEL_OF_DEFAULT ? log_default_level() : (enum log_level)level,
		.callers = atomic_load(&s->callers)};
	return true;
}

const char *log_name_after(const char *name)
{
	const char *best = !name || strcmp(DEFAULT_NAME, name) > 0 ? DEFAULT_NAME : NULL;

	for (const struct log_scope *s = scopes; s; s = s->next) {
		if ((!name || strcmp(s->name, name) > 0) && (!best || strcmp(s->name, best) < 0))
			best = s->name;
	}
	return best;
}
