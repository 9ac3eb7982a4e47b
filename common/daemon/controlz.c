/*
 * DOC: ControlZ, Istio's introspection port, with its paths, so that `istioctl admin log` and scripts work. A topic is
 * a row: its JSON is at /<prefix>j/, a page for people at /<prefix>z/, and what can be changed is a PUT below the
 * first. The port has all the daemon's other pages too, and the admin address has ControlZ's, there only for callers
 * on this machine: the admin address may be open to a cluster for its metrics, while these pages show the process and
 * change it. Three daemons on one machine want the same port: by default the first gets it and the others go on without.
 */
#include "common/daemon/controlz.h"

#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/daemon/daemon_internal.h"

#define HTML "text/html; charset=utf-8"
#define TEXT "text/plain; charset=utf-8"
#define EXIT_DELAY_MS 1000 /* for the answer to be sent */

LOG_SCOPE(controlz_log, "controlz", "the introspection port");

struct mount {
	struct daemon *daemon;
	bool local_only;
};

struct controlz {
	struct admin *server; /* NULL: on the admin address alone */
	struct timer *exit;
	struct mount own, shared;
};

struct topic {
	const char *prefix;
	const char *title;
	void (*write)(struct daemon *d, struct strbuf *out);
	void (*put)(struct daemon *d, struct admin_request *r, struct str name); /* NULL: nothing to change */
	const char *form;
};

static void refuse(struct admin_request *r, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void refuse(struct admin_request *r, unsigned status, const char *fmt, ...)
{
	va_list ap;
	char text[300];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	admin_respond(r, status, TEXT, str_of(text));
}

static void accept_put(struct admin_request *r)
{
	admin_respond(r, 202, TEXT, STR(""));
}

/* A member that is a word or not there at all; false: it is something else. */
static bool word_of(json_t *body, const char *member, struct str *out)
{
	json_t *v = json_object_get(body, member);

	*out = str_n(json_string_value(v), json_string_length(v));
	return !v || json_is_string(v);
}

/* Nothing of a wrong body is taken. Like Istio's, a body without log_callers switches them off. */
static bool change_scope(struct str name, json_t *body, struct err *e)
{
	struct str level, stacks;
	enum log_level ignored;
	json_t *callers = json_object_get(body, "log_callers");

	if (!json_is_object(body))
		return err_set(e, ERR_PEER, "the body is no JSON object");
	if (!word_of(body, "output_level", &level) || (level.len > 0 && !log_level_parse(level, &ignored)))
		return err_set(e, ERR_PEER, "output_level: none, error, warn, info and debug exist");
	if (!word_of(body, "stack_trace_level", &stacks) || (stacks.len > 0 && !str_eqc(stacks, "none")))
		return err_set(e, ERR_PEER, "stack_trace_level: lines of this program have no stack traces; only none");
	if (callers && !json_is_boolean(callers))
		return err_set(e, ERR_PEER, "log_callers: true or false");
	if (level.len > 0) {
		cleanup(free_p) char *spec = xasprintf(STR_FMT ":" STR_FMT, STR_ARG(name), STR_ARG(level));

		if (!log_set_levels(str_of(spec), e))
			return false;
	}
	log_set_callers(name, json_is_true(callers));
	return true;
}

static void put_scope(struct daemon *d, struct admin_request *r, struct str name)
{
	struct str text = admin_request_body(r);
	struct log_name now;
	struct err e = {0};
	json_t *body;

	if (!log_name_get(name, &now)) {
		refuse(r, 400, "unknown scope name: %.100s", name.ptr);
		return;
	}
	body = json_loadb(text.ptr ? text.ptr : "", text.len, JSON_REJECT_DUPLICATES, NULL);
	if (change_scope(name, body, &e)) {
		(void)log_name_get(name, &now);
		log_info(&controlz_log, "scope changed", KV("scope", now.name), KV("level", log_level_name(now.level)),
			KV("callers", now.callers));
		accept_put(r);
	} else {
		refuse(r, 400, "%s: %s", now.name, e.text);
	}
	json_decref(body);
}

static void put_memory(struct daemon *d, struct admin_request *r, struct str name)
{
	if (!str_eqc(name, "forcecollection")) {
		refuse(r, 404, "only /memj/forcecollection exists");
		return;
	}
	(void)malloc_trim(0);
	accept_put(r);
}

static void put_signal(struct daemon *d, struct admin_request *r, struct str name)
{
	if (str_eqc(name, "SIGUSR1") || (str_eqc(name, "SIGHUP") && d->def->reload)) {
		(void)kill(getpid(), str_eqc(name, "SIGHUP") ? SIGHUP : SIGUSR1);
		accept_put(r);
	} else {
		refuse(r, 404, "no such signal; see /signalj/");
	}
}

static void put_home(struct daemon *d, struct admin_request *r, struct str name)
{
	if (!str_eqc(name, "exit")) {
		refuse(r, 404, "only /homej/exit exists");
		return;
	}
	log_warn(&controlz_log, "stopping, as was asked for at this port");
	timer_start(d->controlz->exit, EXIT_DELAY_MS, 0);
	accept_put(r);
}

static const struct topic topics[] = {
	{"scope", "Logging Scopes", controlz_scopes, put_scope,
		"<form onsubmit=\"return put('/scopej/'+encodeURIComponent(this.s.value),JSON.stringify("
		"{output_level:this.l.value,log_callers:this.c.checked}))\"><input name=s placeholder=scope required> "
		"<select name=l><option>debug<option selected>info<option>warn<option>error<option>none</select> "
		"<label><input type=checkbox name=c> with callers</label> <button>Set</button></form>"},
	{"mem", "Memory Usage", controlz_memory, put_memory,
		"<button onclick=\"put('/memj/forcecollection')\">Give free memory back</button>"},
	{"env", "Environment Variables", controlz_environment, NULL, ""},
	{"proc", "Process Info", controlz_process, NULL, ""},
	{"arg", "Command-Line Arguments", controlz_arguments, NULL, ""},
	{"version", "Version Info", controlz_version, NULL, ""},
	{"metric", "Metrics", controlz_metrics, NULL, ""},
	{"signal", "Signals", controlz_signals, put_signal,
		"<button onclick=\"put('/signalj/SIGUSR1')\">SIGUSR1</button>"},
	{"config", "Config", controlz_config, NULL, ""},
	{"home", "Home", controlz_home, put_home, ""},
};

static bool may_ask(const struct mount *m, struct admin_request *r)
{
	if (!m->local_only || admin_request_is_local(r))
		return true;
	refuse(r, 403, "from this machine only; --ctrlz_address opens a port of its own");
	return false;
}

/* "/scopej/ads" -> the topic, 'j' and "ads"; routes see to it that the topic is there. */
static const struct topic *topic_of(struct admin_request *r, char *form, struct str *name)
{
	struct str first, path = str_from(admin_request_path(r), 1);

	(void)str_cut(path, '/', &first, name);
	assert(first.len > 0);
	*form = first.ptr[first.len - 1];
	first.len--;
	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		if (str_eqc(first, topics[i].prefix))
			return &topics[i];
	}
	return NULL;
}

static void add_html(const struct topic *topic, struct str json, struct strbuf *out)
{
	static const char *links[2 * ARRAY_LEN(topics) + 3];
	static char paths[ARRAY_LEN(topics)][24];

	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		snprintf(paths[i], sizeof(paths[i]), "/%sz/", topics[i].prefix);
		links[2 * i] = paths[i];
		links[2 * i + 1] = topics[i].title;
	}
	links[2 * ARRAY_LEN(topics)] = "/debug/list";
	links[2 * ARRAY_LEN(topics) + 1] = "Debug pages";
	controlz_html(topic->title, links, topic->form, json, out);
}

static void get(void *ctx, struct admin_request *r)
{
	const struct mount *m = ctx;
	struct strbuf json = {0}, html = {0};
	struct str name;
	char form;
	const struct topic *topic = topic_of(r, &form, &name);

	if (!may_ask(m, r))
		return;
	if (!topic || (name.len > 0 && (form != 'j' || topic->write != controlz_scopes))) {
		refuse(r, 404, "no such page; see /debug/list");
		return;
	}
	if (name.len > 0 && !controlz_scope(name, &json)) {
		refuse(r, 400, "unknown scope name: %.100s", name.ptr);
		return;
	}
	if (name.len == 0)
		topic->write(m->daemon, &json);
	if (form == 'z') {
		add_html(topic, strbuf_str(&json), &html);
		admin_respond(r, 200, HTML, strbuf_str(&html));
	} else {
		strbuf_addc(&json, '\n');
		admin_respond(r, 200, "application/json; charset=utf-8", strbuf_str(&json));
	}
	strbuf_done(&json);
	strbuf_done(&html);
}

bool controlz_answer_home(struct daemon *d, struct admin_request *r)
{
	const char *accept = admin_request_header(r, "Accept").ptr;
	struct strbuf json = {0}, html = {0};

	if (!accept || !strstr(accept, "text/html"))
		return false;
	controlz_home(d, &json);
	add_html(&topics[ARRAY_LEN(topics) - 1], strbuf_str(&json), &html);
	admin_respond(r, 200, HTML, strbuf_str(&html));
	strbuf_done(&json);
	strbuf_done(&html);
	return true;
}

static void put(void *ctx, struct admin_request *r)
{
	const struct mount *m = ctx;
	struct str name;
	char form;
	const struct topic *topic = topic_of(r, &form, &name);

	if (may_ask(m, r))
		topic->put(m->daemon, r, name);
}

static void mount_topics(struct admin *a, struct mount *m)
{
	static const char *const ends[] = {"z", "z/", "j", "j/"};
	char path[32];

	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		for (size_t k = 0; k < ARRAY_LEN(ends); k++) {
			snprintf(path, sizeof(path), "/%s%s", topics[i].prefix, ends[k]);
			admin_route(a, "GET", path, get, m);
		}
		snprintf(path, sizeof(path), "/%sj/", topics[i].prefix);
		if (topics[i].put)
			admin_route(a, "PUT", path, put, m);
		if (topics[i].put == put_signal)
			admin_route(a, "POST", path, put, m);
	}
}

/* What --ctrlz_address means with its port; NULL: no port of its own. "localhost" and "*" are Istio's words. */
static char *address_of(const struct daemon *d)
{
	const char *host = d->common->controlz_address;
	unsigned port = d->common->controlz_port;

	if (str_empty(host) || streq(host, "off"))
		return NULL;
	if (str_starts(str_of(host), STR("unix:")))
		return xstrdup(host);
	if (streq(host, "localhost"))
		host = "127.0.0.1";
	return xasprintf(strchr(host, ':') && host[0] != '[' ? "[%s]:%u" : "%s:%u", host, port);
}

static bool asked_for(const struct daemon *d, const char *option)
{
	return d->options.values[options_row(&d->options, str_of(option))].source != OPTION_FROM_DEFAULT;
}

static bool open_port(struct controlz *c, struct daemon *d, struct err *e)
{
	cleanup(free_p) char *address = address_of(d);
	struct err problem = {0};
	uint16_t port = 0;

	if (!address)
		return true;
	c->server = admin_new(d->loop, address, &port, &problem);
	if (c->server) {
		daemon_mount_pages(d, c->server);
		mount_topics(c->server, &c->own);
		log_info(&controlz_log, "ControlZ", KV("address", address), KV("port", port));
		return true;
	}
	if (asked_for(d, "ctrlz-address") || asked_for(d, "ctrlz-port"))
		return err_set(e, problem.kind, "--ctrlz_address, --ctrlz_port: %s", problem.text);
	log_info(&controlz_log, "no port of its own; the same pages are on the admin address",
		KV("problem", problem.text));
	return true;
}

static void on_exit_timer(void *ctx)
{
	(void)kill(getpid(), SIGTERM);
}

struct controlz *controlz_new(struct daemon *d, struct err *e)
{
	struct controlz *c = xzalloc(sizeof(*c));

	c->own = (struct mount){.daemon = d};
	c->shared = (struct mount){.daemon = d, .local_only = true};
	c->exit = timer_new(d->loop, on_exit_timer, c);
	mount_topics(d->admin, &c->shared);
	if (!open_port(c, d, e)) {
		controlz_free(c);
		return NULL;
	}
	return c;
}

void controlz_free(struct controlz *c)
{
	if (!c)
		return;
	admin_free(c->server);
	timer_free(c->exit);
	free(c);
}
