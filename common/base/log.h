/*
 * Logging: a constant message and key=value pairs, as text or JSON lines on stderr. Levels: error = someone must act;
 * warn = degraded, heals itself; info = a change of state; debug = anything. Levels change at run time, for all or per
 * scope ("ads", "bus", ...). Secrets have no printer.
 *
 *     LOG_SCOPE(scope, "ads", "xDS streams");
 *     log_info(&scope, "connected", KV("proxy", id), KV("streams", n));
 * Thread-safe: a line is written by one write(2).
 */
#pragma once

#include "common/base/str.h"

enum log_level { LOG_NONE = -2, LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

struct log_kv {
	const char *key;
	enum { LOG_KV_STR, LOG_KV_INT, LOG_KV_UINT, LOG_KV_DOUBLE, LOG_KV_BOOL } type;
	union {
		struct str str;
		int64_t i;
		uint64_t u;
		double d;
		bool b;
	};
};

struct log_scope {
	const char *name;
	const char *about;
	_Atomic int level; /* -1: the default level */
	_Atomic bool callers; /* lines say where they come from */
	struct log_scope *next;
};
/* Of one file; several files may have scopes of one name, which are one to whoever sets levels. */
#define LOG_SCOPE(var, name_, about_) static LOG_SCOPE_SHARED(var, name_, about_)
/* Of several files, which declare it `extern struct log_scope var`. */
#define LOG_SCOPE_SHARED(var, name_, about_) \
	struct log_scope var = {.name = (name_), .about = (about_), .level = -1}; \
	__attribute__((constructor)) static void log_register_##var(void) \
	{ \
		log_register(&var); \
	} \
	struct log_scope

static inline struct log_kv log_kv_str(const char *k, struct str v)
{
	return (struct log_kv){.key = k, .type = LOG_KV_STR, .str = v};
}
static inline struct log_kv log_kv_cstr(const char *k, const char *v)
{
	return log_kv_str(k, str_of(v ? v : ""));
}
static inline struct log_kv log_kv_int(const char *k, int64_t v)
{
	return (struct log_kv){.key = k, .type = LOG_KV_INT, .i = v};
}
static inline struct log_kv log_kv_uint(const char *k, uint64_t v)
{
	return (struct log_kv){.key = k, .type = LOG_KV_UINT, .u = v};
}
static inline struct log_kv log_kv_double(const char *k, double v)
{
	return (struct log_kv){.key = k, .type = LOG_KV_DOUBLE, .d = v};
}
static inline struct log_kv log_kv_bool(const char *k, bool v)
{
	return (struct log_kv){.key = k, .type = LOG_KV_BOOL, .b = v};
}

#define KV(key_, value_) \
	_Generic((value_), char *: log_kv_cstr, const char *: log_kv_cstr, struct str: log_kv_str, \
		 bool: log_kv_bool, double: log_kv_double, unsigned char: log_kv_uint,             \
		 unsigned short: log_kv_uint, unsigned: log_kv_uint, unsigned long: log_kv_uint,   \
		 unsigned long long: log_kv_uint, default: log_kv_int)(key_, value_)

bool log_enabled(struct log_scope *s, enum log_level level);
/* where: file and line of the caller, for scopes that show it. */
void log_emit(struct log_scope *s, enum log_level level, const char *where, const char *message,
	const struct log_kv *kv, size_t n);
#define LOG_TEXT_(x) #x
#define LOG_TEXT(x) LOG_TEXT_(x)

#define LOG_AT(scope_, level_, message_, ...) \
	do { \
		if (log_enabled((scope_), (level_))) { \
			const struct log_kv kv_[] = {{0}, ##__VA_ARGS__}; \
			log_emit((scope_), (level_), __FILE_NAME__ ":" LOG_TEXT(__LINE__), (message_), kv_ + 1, \
				ARRAY_LEN(kv_) - 1); \
		} \
	} while (0)
#define log_error(s, m, ...) LOG_AT(s, LOG_ERROR, m, ##__VA_ARGS__)
#define log_warn(s, m, ...) LOG_AT(s, LOG_WARN, m, ##__VA_ARGS__)
#define log_info(s, m, ...) LOG_AT(s, LOG_INFO, m, ##__VA_ARGS__)
#define log_debug(s, m, ...) LOG_AT(s, LOG_DEBUG, m, ##__VA_ARGS__)

struct err;
/* "default:info,ads:debug": all problems are in e, nothing changes on error. Names that no scope has are not refused here. */
bool log_set_levels(struct str spec, struct err *e) MUST_CHECK;
void log_set_json(bool json);
void log_set_process(const char *name); /* "pilot": stands in every line */
/* Redirects lines to a function (tests count warnings with it); NULL = stderr. */
void log_set_sink(void (*sink)(enum log_level level, struct str line, void *ctx), void *ctx);
const char *log_level_name(enum log_level level);
bool log_level_parse(struct str name, enum log_level *out); /* false: no such level */
enum log_level log_default_level(void);
void log_register(struct log_scope *s); /* LOG_SCOPE does it */
/* All scopes of the program, for the debug page: a linked list through `next`, in no order. */
struct log_scope *log_scopes(void);

/* One name as people see it: the scopes of that name, or "default", what holds for scopes without a level of their own. */
struct log_name {
	const char *name;
	const char *about;
	enum log_level level; /* in force */
	bool callers;
};
bool log_name_get(struct str name, struct log_name *out); /* false: nothing is called so */
const char *log_name_after(const char *name); /* the next one by name; NULL: the first, and the end */
void log_set_callers(struct str name, bool callers);
