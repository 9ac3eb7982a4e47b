/*
 * DOC: `fairlead status`: one round of questions to the daemons' admin sockets and to the agents', put together. A daemon that does not answer
 * is a row that says so. The exit code is 0 when everything that should run is ready.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/mesh_options.h"
#include "cli/table.h"
#include "cli/target.h"

struct status_config {
	struct mesh_options mesh;
};

static const char *const daemons[] = {"galley", "pilot", "citadel"};
#define DAEMONS ARRAY_LEN(daemons)

enum page { PAGE_READY, PAGE_VERSION, PAGE_MEMORY, PAGE_BUS, PAGE_COUNT };
static const char *const pages[PAGE_COUNT] = {"/readyz", "/version", "/debug/memory", "/debug/bus"};

struct status {
	struct arena *arena;
	const struct status_config *config;
	struct question of[DAEMONS][PAGE_COUNT];
	struct question objects, quarantine, diagnostics, distribution;
	json_t *mesh; /* of `fairlead up`; NULL: no runner */
	json_t *out;
	bool ready;
};

/* ---- questions */

static bool ask_daemons(struct status *s, struct err *e)
{
	const struct mesh_options *m = &s->config->mesh;
	const char *const named[DAEMONS] = {m->galley, m->pilot, m->citadel};
	struct question all[DAEMONS * PAGE_COUNT + 4];
	size_t n = 0;
	for (size_t d = 0; d < DAEMONS; d++) {
		const char *address = NULL;
		if (!target_daemon(s->arena, daemons[d], named[d], m->state, &address, e))
			return false;
		for (size_t p = 0; p < PAGE_COUNT; p++)
			all[n++] = (struct question){.address = address, .path = pages[p]};
	}
	const char *galley = all[0].address;
	all[n++] = (struct question){.address = galley, .path = "/debug/objects"};
	all[n++] = (struct question){.address = galley, .path = "/debug/quarantine"};
	all[n++] = (struct question){.address = galley, .path = "/debug/diagnostics"};
	all[n++] = (struct question){.address = galley, .path = "/debug/distribution"};
	ask_all(s->arena, all, n, m->timeout_ms);
	memcpy(s->of, all, sizeof(s->of));
	s->objects = all[n - 4];
	s->quarantine = all[n - 3];
	s->diagnostics = all[n - 2];
	s->distribution = all[n - 1];
	return true;
}

static void ask_runner(struct status *s)
{
	const char *state = NULL;
	if (!target_state(s->arena, s->config->mesh.state, &state, NULL))
		return;
	const char *address = arena_printf(s->arena, "unix:%s/up.sock", state);
	s->mesh = ask_json(address, "/mesh", s->config->mesh.timeout_ms, NULL);
	(void)json_object_set_new(s->out, "state", json_string(state));
}

/* ---- daemons and the bus */

static const json_t *unit_of(const struct status *s, const char *name)
{
	size_t i;
	json_t *u;
	json_array_foreach(json_at(s->mesh, "mesh.units"), i, u) if (streq(json_text_at(u, "name"), name)) return u;
	return NULL;
}

/* The lines of /readyz after the first, joined. */
static json_t *ready_note(struct str body)
{
	struct strbuf note = {0};
	struct str line;
	for (bool first = true; str_split(&body, '\n', &line); first = false)
		if (!first && line.len)
			strbuf_addf(&note, "%s" STR_FMT, note.len ? "; " : "", STR_ARG(line));
	json_t *text = note.len ? json_string(note.ptr) : json_null();
	strbuf_done(&note);
	return text;
}

static json_t *daemon_row(struct status *s, size_t d)
{
	const struct question *q = s->of[d];
	json_t *row = json_object(), *version = question_json(&q[PAGE_VERSION], NULL);
	json_t *memory = question_json(&q[PAGE_MEMORY], NULL);
	const json_t *unit = unit_of(s, daemons[d]);
	bool up = q[PAGE_READY].status != 0, ready = q[PAGE_READY].status == 200;
	s->ready &= ready;
	(void)json_object_set_new(row, "name", json_string(daemons[d]));
	(void)json_object_set_new(row, "address", json_string(q[PAGE_READY].address));
	(void)json_object_set_new(row, "up", json_boolean(up));
	(void)json_object_set_new(row, "ready", json_boolean(ready));
	(void)json_object_set_new(row, "note", up ? ready_note(q[PAGE_READY].body) : json_string("does not answer"));
	(void)json_object_set(row, "version", json_at(version, "version"));
	(void)json_object_set(row, "instance", json_at(version, "instance"));
	(void)json_object_set(row, "private_bytes", json_at(memory, "private_bytes"));
	(void)json_object_set(row, "pid", json_at(unit, "pid"));
	(void)json_object_set(row, "starts", json_at(unit, "starts"));
	if (json_at(memory, "private_bytes"))
		(void)json_object_set_new(row, "memory",
			json_sprintf("%.1f MB", (double)json_integer_value(json_at(memory, "private_bytes")) / 1e6));
	json_decref(version);
	json_decref(memory);
	return row;
}

static void add_replica(json_t *rows, const char *subscriber, const json_t *replica)
{
	if (!json_is_object(replica) || !json_at(replica, "publisher") || !json_at(replica, "state"))
		return;
	json_t *row = json_object();
	(void)json_object_set_new(row, "subscriber", json_string(subscriber));
	for (size_t i = 0; i < 6; i++) {
		static const char *const keys[] = {"publisher", "state", "age_ms", "keys", "batches", "resyncs"};
		(void)json_object_set(row, keys[i], json_at(replica, keys[i]));
	}
	(void)json_object_set_new(
		row, "age", json_sprintf("%.1f s", (double)json_integer_value(json_at(replica, "age_ms")) / 1000.0));
	(void)json_array_append_new(rows, row);
}

static json_t *bus_rows(const struct status *s)
{
	json_t *rows = json_array(), *part;
	for (size_t d = 0; d < DAEMONS; d++) {
		json_t *page = question_json(&s->of[d][PAGE_BUS], NULL);
		const char *key;
		json_object_foreach(page, key, part) add_replica(rows, daemons[d], part);
		json_decref(page);
	}
	return rows;
}

/* ---- configuration */

static json_t *config_value(struct status *s)
{
	json_t *objects = question_json(&s->objects, NULL), *rejected = question_json(&s->quarantine, NULL);
	json_t *diagnostics = question_json(&s->diagnostics, NULL), *out = json_object(), *o, *d;
	long long accepted = 0, errors = 0, warnings = 0;
	size_t i;
	json_array_foreach(objects, i, o) accepted += *json_text_at(o, "in_force") != '\0';
	json_array_foreach(diagnostics, i, d)
	{
		errors += streq(json_text_at(d, "severity"), "error");
		warnings += streq(json_text_at(d, "severity"), "warning");
	}
	(void)json_object_set_new(out, "accepted", objects ? json_integer(accepted) : json_null());
	(void)json_object_set_new(out, "errors", json_integer(errors));
	(void)json_object_set_new(out, "warnings", json_integer(warnings));
	(void)json_object_set_new(out, "rejected", rejected ? rejected : json_array());
	(void)json_object_set_new(out, "problems", diagnostics ? diagnostics : json_array());
	json_array_foreach(json_at(out, "rejected"), i, o)(void) json_object_set_new(o, "place",
		json_sprintf("%s:%lld", json_text_at(o, "file"), (long long)json_integer_value(json_at(o, "line"))));
	json_decref(objects);
	return out;
}

/* ---- distribution */

/* What not every proxy has, or some proxy rejects; NULL: no galley. */
static json_t *distribution_value(struct status *s)
{
	json_t *page = question_json(&s->distribution, NULL), *rows = json_array(), *o;
	size_t i;
	json_array_foreach(json_at(page, "objects"), i, o)
	{
		if (!json_at(o, "accepted") ||
			(json_integer_value(json_at(o, "accepted")) == json_integer_value(json_at(o, "proxies")) &&
				!json_integer_value(json_at(o, "rejected"))))
			continue;
		json_t *row = json_copy(o);
		(void)json_object_set_new(row, "share",
			json_sprintf("%lld of %lld", (long long)json_integer_value(json_at(o, "accepted")),
				(long long)json_integer_value(json_at(o, "proxies"))));
		(void)json_array_append_new(rows, row);
	}
	rows_sort(rows, "key", "key");
	if (page)
		(void)json_object_set_new(page, "objects", rows);
	else
		json_decref(rows);
	return page ? page : json_null();
}

/* ---- pods */

static json_t *pod_rows(struct status *s)
{
	json_t *rows = json_array(), *u, *units = json_at(s->mesh, "mesh.units");
	const char *state = json_text_at(s->mesh, "mesh.state");
	struct question *asked = ARENA_ARRAY(s->arena, struct question, json_array_size(units) + 1);
	size_t i, n = 0;
	json_array_foreach(units, i, u)
	{
		struct str ns, name;
		if (!streq(json_text_at(u, "kind"), "pod") ||
			(!json_is_true(json_at(u, "wanted")) && !json_integer_value(json_at(u, "pid"))))
			continue;
		(void)str_cut(str_of(json_text_at(u, "name")), '/', &ns, &name);
		json_t *row = json_copy(u);
		(void)json_object_set_new(row, "name", json_sprintf(STR_FMT, STR_ARG(name)));
		(void)json_object_set_new(row, "namespace", json_sprintf(STR_FMT, STR_ARG(ns)));
		(void)json_array_append_new(rows, row);
		asked[n++] = (struct question){.path = "/healthz/ready",
			.address = arena_printf(s->arena, "unix:%s/pods/" STR_FMT "." STR_FMT "/agent.admin", state,
				STR_ARG(ns), STR_ARG(name))};
	}
	ask_all(s->arena, asked, n, s->config->mesh.timeout_ms);
	json_array_foreach(rows, i, u)
	{
		bool running = json_integer_value(json_at(u, "pid")) != 0;
		bool ready = running && (!json_is_true(json_at(u, "proxy")) || asked[i].status == 200);
		const char *note = !running ? "not running" : asked[i].status ? "" : "the agent does not answer";
		(void)json_object_set_new(u, "ready", json_boolean(ready));
		(void)json_object_set_new(u, "note",
			ready   ? json_null()
			: *note ? json_string(note)
				: json_sprintf(STR_FMT, STR_ARG(str_trim(asked[i].body))));
		s->ready &= ready;
	}
	return rows;
}

/* ---- output */

static void section(struct strbuf *out, const json_t *rows, const struct column *columns, size_t n)
{
	if (!json_array_size(rows))
		return;
	strbuf_adds(out, out->len ? "\n" : "");
	table_write(rows, columns, n, out);
}

static void print_table(const json_t *v)
{
	static const struct column daemon_columns[] = {{"DAEMON", "name"}, {"READY", "ready"}, {"VERSION", "version"},
		{"PID", "pid"}, {"STARTS", "starts"}, {"MEMORY", "memory"}, {"NOTE", "note"}};
	static const struct column bus_columns[] = {{"SUBSCRIBER", "subscriber"}, {"PUBLISHER", "publisher"},
		{"STATE", "state"}, {"HEARD", "age"}, {"KEYS", "keys"}, {"BATCHES", "batches"}, {"RESYNCS", "resyncs"}};
	static const struct column pod_columns[] = {{"POD", "name"}, {"NAMESPACE", "namespace"}, {"IP", "ip"},
		{"READY", "ready"}, {"PROXY", "proxy"}, {"PID", "pid"}, {"STARTS", "starts"}, {"NOTE", "note"}};
	static const struct column rejected_columns[] = {
		{"REJECTED", "key"}, {"RULE", "reason"}, {"PLACE", "place"}, {"IN FORCE INSTEAD", "in_force"}};
	static const struct column partly_columns[] = {
		{"OBJECT", "key"}, {"ACCEPTED BY", "share"}, {"REJECTED BY", "rejected"}, {"ERROR", "error"}};
	const json_t *config = json_at(v, "configuration");
	struct strbuf out = {0};
	section(&out, json_at(v, "daemons"), daemon_columns, ARRAY_LEN(daemon_columns));
	section(&out, json_at(v, "bus"), bus_columns, ARRAY_LEN(bus_columns));
	section(&out, json_at(v, "pods"), pod_columns, ARRAY_LEN(pod_columns));
	if (json_is_integer(json_at(config, "accepted")))
		strbuf_addf(&out, "\nconfiguration: %lld objects accepted, %zu rejected, %lld errors, %lld warnings\n",
			(long long)json_integer_value(json_at(config, "accepted")),
			json_array_size(json_at(config, "rejected")),
			(long long)json_integer_value(json_at(config, "errors")),
			(long long)json_integer_value(json_at(config, "warnings")));
	section(&out, json_at(config, "rejected"), rejected_columns, ARRAY_LEN(rejected_columns));
	const json_t *distribution = json_at(v, "distribution"), *partly = json_at(distribution, "objects");
	if (partly)
		strbuf_addf(&out, "\ndistribution: %lld proxies; %zu objects that not all of them have accepted\n",
			(long long)json_integer_value(json_at(distribution, "proxies")), json_array_size(partly));
	section(&out, partly, partly_columns, ARRAY_LEN(partly_columns));
	print_text(&out);
}

static int run(const struct invocation *i)
{
	struct status s = {.arena = i->arena, .config = i->config, .ready = true, .out = json_object()};
	enum output output;
	struct err e = {0};
	int code = !output_parse(s.config->mesh.output, &output, &e) ? 2 : !ask_daemons(&s, &e) ? 1 : 0;
	if (code) {
		json_decref(s.out);
		return command_fail("status", code, &e);
	}
	ask_runner(&s);
	json_t *rows = json_array();
	for (size_t d = 0; d < DAEMONS; d++)
		(void)json_array_append_new(rows, daemon_row(&s, d));
	(void)json_object_set_new(s.out, "daemons", rows);
	(void)json_object_set_new(s.out, "bus", bus_rows(&s));
	(void)json_object_set_new(s.out, "configuration", config_value(&s));
	(void)json_object_set_new(s.out, "distribution", distribution_value(&s));
	(void)json_object_set_new(s.out, "pods", pod_rows(&s));
	(void)json_object_set(s.out, "listen", json_at(s.mesh, "listen"));
	(void)json_object_set_new(s.out, "ready", json_boolean(s.ready));
	if (output == OUTPUT_JSON)
		print_value(s.out);
	else
		print_table(s.out);
	json_decref(s.out);
	json_decref(s.mesh);
	return s.ready ? 0 : 1;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct status_config, mesh.output),
	STATE_ROW(struct status_config),
	DAEMON_ROW(struct status_config, galley),
	DAEMON_ROW(struct status_config, pilot),
	DAEMON_ROW(struct status_config, citadel),
	TIMEOUT_ROW(struct status_config),
};

const struct command status_command = {
	.name = "status",
	.arguments = "",
	.summary = "daemons, bus, pods and rejected configuration of a mesh",
	.text = "MEMORY is private memory. HEARD is how long ago the publisher was last heard. The exit code is 0 when "
		"everything\n"
		"that should run is ready.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct status_config),
	.run = run,
};
