/*
 * DOC: The HTTP pages of every daemon. /healthz says that the loop turns; /readyz says whether the daemon may be sent
 * work, with its reasons; everything below /debug/ is one JSON value per page and is listed by /debug/list. Pages
 * that read are GET; the only one that changes something is POST /debug/logging. ControlZ's pages are in controlz.c.
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/daemon/controlz.h"
#include "common/daemon/daemon_internal.h"

#define JSON "application/json"
#define TEXT "text/plain; charset=utf-8"

/* Answers with what was written and frees it. */
static void respond(struct admin_request *r, unsigned status, const char *type, struct strbuf *b)
{
	admin_respond(r, status, type, strbuf_str(b));
	strbuf_done(b);
}

static void healthz(void *ctx, struct admin_request *r)
{
	admin_respond(r, 200, TEXT, STR("ok\n"));
}

static void write_lines(const struct map *m, struct strbuf *out)
{
	struct str *keys = map_keys_sorted(m);

	for (size_t i = 0; i < map_len(m); i++)
		strbuf_addf(out, STR_FMT ": %s\n", STR_ARG(keys[i]), (const char *)map_get(m, keys[i]));
	free(keys);
}

void daemon_write_state(const struct daemon *d, struct strbuf *out)
{
	strbuf_adds(out, map_len(d->reasons) == 0 ? "ready\n" : "not ready\n");
	write_lines(d->reasons, out);
	write_lines(d->notes, out);
}

static void readyz(void *ctx, struct admin_request *r)
{
	struct daemon *d = ctx;
	struct strbuf out = {0};

	daemon_write_state(d, &out);
	respond(r, map_len(d->reasons) == 0 ? 200 : 503, TEXT, &out);
}

static void metrics(void *ctx, struct admin_request *r)
{
	struct strbuf out = {0};

	metric_write(&out);
	respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void version(void *ctx, struct admin_request *r)
{
	struct daemon *d = ctx;
	struct strbuf out = {0};

	controlz_version(d, &out);
	strbuf_addc(&out, '\n');
	respond(r, 200, JSON, &out);
}

static void memory(void *ctx, struct admin_request *r)
{
	struct strbuf out = {0};

	strbuf_addc(&out, '{');
	process_write_memory(&out);
	strbuf_adds(&out, "}\n");
	respond(r, 200, JSON, &out);
}

static void write_option(const struct option_value *v, struct strbuf *out)
{
	strbuf_adds(out, "{\"name\":");
	strbuf_add_json(out, str_of(v->row->name));
	strbuf_adds(out, ",\"value\":");
	if (!v->text)
		strbuf_adds(out, "null");
	else if (option_is_secret(v->row) && *v->text)
		strbuf_adds(out, "\"(not shown)\"");
	else
		strbuf_add_json(out, str_of(v->text));
	strbuf_addf(out, ",\"source\":\"%s\",\"from\":", option_source_name(v->source));
	strbuf_add_json(out, str_of(v->where));
	strbuf_adds(out, ",\"help\":");
	strbuf_add_json(out, str_of(v->row->help));
	strbuf_addc(out, '}');
}

static void options(void *ctx, struct admin_request *r)
{
	struct daemon *d = ctx;
	struct strbuf out = {0};

	strbuf_addc(&out, '[');
	for (size_t i = 0; i < d->options.n; i++) {
		strbuf_adds(&out, i > 0 ? ",\n " : "");
		write_option(&d->options.values[i], &out);
	}
	strbuf_adds(&out, "]\n");
	respond(r, 200, JSON, &out);
}

static void write_levels(struct strbuf *out)
{
	strbuf_addf(out, "{\"default\":\"%s\",\"scopes\":[", log_level_name(log_default_level()));
	for (struct log_scope *s = log_scopes(); s; s = s->next) {
		int level = atomic_load(&s->level);

		strbuf_adds(out, "{\"name\":");
		strbuf_add_json(out, str_of(s->name));
		strbuf_adds(out, ",\"about\":");
		strbuf_add_json(out, str_of(s->about));
		strbuf_addf(out, ",\"level\":\"%s\",\"own\":%s}%s",
			log_level_name(level < 0 ? log_default_level() : (enum log_level)level),
			level < 0 ? "false" : "true", s->next ? "," : "");
	}
	strbuf_adds(out, "]}\n");
}

static void logging_get(void *ctx, struct admin_request *r)
{
	struct strbuf out = {0};

	write_levels(&out);
	respond(r, 200, JSON, &out);
}

/* "?default=debug&ads=info" is the level specification "default:debug,ads:info". */
static void logging_post(void *ctx, struct admin_request *r)
{
	struct str query = admin_request_query_string(r);
	struct strbuf spec = {0};
	struct err e = {0};

	for (size_t i = 0; i < query.len; i++)
		strbuf_addc(&spec, query.ptr[i] == '=' ? ':' : query.ptr[i] == '&' ? ',' : query.ptr[i]);
	if (spec.len == 0)
		err_set(&e, ERR_PEER, "give levels as ?default=debug or ?<scope>=debug");
	if (spec.len > 0 && log_set_levels(strbuf_str(&spec), &e)) {
		logging_get(ctx, r);
	} else {
		struct strbuf out = {0};

		strbuf_adds(&out, "{\"error\":");
		strbuf_add_json(&out, str_of(e.text));
		strbuf_adds(&out, "}\n");
		respond(r, 400, JSON, &out);
	}
	strbuf_done(&spec);
}

static void debug_list(void *ctx, struct admin_request *r);
static void index_page(void *ctx, struct admin_request *r);

struct standard_page {
	const char *method;
	const char *path;
	const char *help;
	void (*fn)(void *ctx, struct admin_request *r);
};

static const struct standard_page standard_pages[] = {
	{"GET", "/healthz", "200 while the event loop turns", healthz},
	{"GET", "/readyz", "200 when ready, else 503 with the reasons", readyz},
	{"GET", "/ready", "the same, under istiod's path", readyz},
	{"GET", "/metrics", "metrics in Prometheus' text format", metrics},
	{"GET", "/version", "program and version", version},
	{"GET", "/debug/list", "this list", debug_list},
	{"GET", "/debug/options", "every option, its value and where it came from", options},
	{"GET", "/debug/logging", "log scopes and their levels", logging_get},
	{"POST", "/debug/logging", "changes levels: ?default=debug or ?<scope>=debug", logging_post},
	{"GET", "/debug/memory", "memory of this process in bytes", memory},
	{"GET", "/homez/", "ControlZ: log scopes, memory, environment, arguments, signals; /<topic>j/ is JSON", NULL},
	{"GET", "/", "the pages, as text", index_page},
};

static void write_list_row(
	struct strbuf *out, bool first, const char *method, const char *prefix, const char *name, const char *help)
{
	strbuf_addf(out, "%s{\"method\":\"%s\",\"path\":", first ? "" : ",\n ", method);
	cleanup(free_p) char *path = xasprintf("%s%s", prefix, name);

	strbuf_add_json(out, str_of(path));
	strbuf_adds(out, ",\"help\":");
	strbuf_add_json(out, str_of(help));
	strbuf_addc(out, '}');
}

static void debug_list(void *ctx, struct admin_request *r)
{
	struct daemon *d = ctx;
	struct strbuf out = {0};

	strbuf_addc(&out, '[');
	for (size_t i = 0; i < ARRAY_LEN(standard_pages); i++) {
		const struct standard_page *p = &standard_pages[i];

		write_list_row(&out, i == 0, p->method, "", p->path, p->help);
	}
	for (size_t i = 0; i < d->def->n_pages; i++)
		write_list_row(&out, false, "GET", "/debug/", d->def->pages[i].name, d->def->pages[i].help);
	strbuf_adds(&out, "]\n");
	respond(r, 200, JSON, &out);
}

/* Mounted at "/", so it also gets every path that nobody else has. */
static void index_page(void *ctx, struct admin_request *r)
{
	struct daemon *d = ctx;
	struct strbuf out = {0};

	if (!str_eq(admin_request_path(r), STR("/"))) {
		admin_respond(r, 404, TEXT, STR("no such page; see /debug/list\n"));
		return;
	}
	if (controlz_answer_home(d, r))
		return;
	strbuf_addf(&out, "%s %s - %s\n\n", d->def->name, FAIRLEAD_VERSION, d->def->summary ? d->def->summary : "");
	for (size_t i = 0; i < ARRAY_LEN(standard_pages); i++) {
		const struct standard_page *p = &standard_pages[i];

		strbuf_addf(&out, "%-4s %-24s %s\n", p->method, p->path, p->help);
	}
	for (size_t i = 0; i < d->def->n_pages; i++)
		strbuf_addf(&out, "GET  /debug/%-17s %s\n", d->def->pages[i].name, d->def->pages[i].help);
	respond(r, 200, TEXT, &out);
}

static void own_page(void *ctx, struct admin_request *r)
{
	const struct daemon_page_ctx *p = ctx;
	struct strbuf out = {0};

	/* The port is open before start() has returned; there is nothing to show yet. */
	if (!p->daemon->self) {
		admin_respond(r, 503, JSON, STR("{\"error\":\"still starting\"}\n"));
		return;
	}
	p->page->write(p->daemon->self, admin_request_query_string(r), &out);
	respond(r, 200, JSON, &out);
}

void daemon_mount_pages(struct daemon *d, struct admin *a)
{
	struct daemon_page_ctx *pages = ARENA_ARRAY(d->arena, struct daemon_page_ctx, d->def->n_pages);

	for (size_t i = 0; i < ARRAY_LEN(standard_pages); i++) {
		if (standard_pages[i].fn)
			admin_route(a, standard_pages[i].method, standard_pages[i].path, standard_pages[i].fn, d);
	}
	for (size_t i = 0; i < d->def->n_pages; i++) {
		pages[i] = (struct daemon_page_ctx){d, &d->def->pages[i]};
		admin_route(a, "GET", arena_printf(d->arena, "/debug/%s", d->def->pages[i].name), own_page, &pages[i]);
	}
}
