/*
 * DOC: `fairlead bus`: a subscriber like any other, with the role cli. `tap` prints every change as a line of JSON, first the snapshot and
 * then what happens; `record` writes the same stream to a file that a daemon replays (`pilot --replay FILE`).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cfg/model.pb-c.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/target.h"
#include "common/base/clock.h"
#include "common/bus/bus.h"
#include "common/mesh/kinds.h"
#include "common/pb/json.h"

struct bus_config {
	const char *state, *bus, *bus_keys, *output;
	const char **publishers;
	const char **topics;
	uint64_t for_ms, timeout_ms;
	bool once, no_values;
};

struct session;

/* One publisher that is followed. */
struct source {
	struct session *session;
	const char *publisher;
	const uint32_t *topics;
	struct bus_replica *replica;
	bool live; /* was live once */
};

struct session {
	const struct bus_config *config;
	struct loop *loop;
	struct source sources[2];
	size_t n;
	bool print; /* tap */
	const char *missing; /* who did not answer in time */
	size_t batches, changes;
};

static const struct kind *kind_of(const char *name)
{
	for (unsigned id = 0; id < KIND_COUNT; id++)
		if (streq(kind_get((enum kind_id)id)->name, name))
			return kind_get((enum kind_id)id);
	return NULL;
}

/* An object's spec is packed inside it: it is shown decoded. */
static void add_value(const struct topic *t, struct str value, struct strbuf *out)
{
	static const struct pb_encode_options plain = {0};
	cleanup(arena_free_p) struct arena *a = arena_new();
	ProtobufCMessage *m = pb_unpack(a, t->message, value.ptr, value.len, NULL);
	if (!m)
		return;
	const ProtobufCMessage *spec = NULL;
	if (t->message == &fl__object__descriptor) {
		Fl__Object *o = (Fl__Object *)m;
		const struct kind *k = kind_of(o->kind);
		spec = k ? pb_unpack(a, k->message, o->spec.data, o->spec.len, NULL) : NULL;
		if (spec)
			o->spec = (ProtobufCBinaryData){0};
	}
	strbuf_adds(out, ",\"value\":");
	pb_to_json(m, &plain, out);
	if (spec) {
		out->ptr[--out->len] = '\0'; /* the closing brace */
		strbuf_adds(out, ",\"spec\":");
		pb_to_json(spec, &plain, out);
		strbuf_addc(out, '}');
	}
}

static void print_change(const struct source *s, const struct bus_change *c, bool resync, const char *cause)
{
	const struct topic *t = topic_get(c->topic);
	char now[32];
	struct strbuf out = {0};
	clock_format(clock_wall_ms(), now);
	strbuf_addf(&out, "{\"time\":\"%s\",\"publisher\":\"%s\",\"resync\":%s,\"cause\":", now, s->publisher,
		resync ? "true" : "false");
	strbuf_add_json(&out, str_of(cause ? cause : ""));
	strbuf_addf(&out, ",\"op\":\"%s\",\"topic\":\"%s\",\"key\":", c->value.ptr ? "put" : "delete",
		t ? t->name : "unknown");
	strbuf_add_json(&out, c->key);
	strbuf_adds(&out, ",\"origin\":");
	strbuf_add_json(&out, c->origin);
	if (c->value.ptr)
		strbuf_addf(&out, ",\"hash\":\"%016llx\",\"bytes\":%zu", (unsigned long long)c->hash, c->value.len);
	if (c->value.ptr && t && !s->session->config->no_values)
		add_value(t, c->value, &out);
	strbuf_adds(&out, "}\n");
	print_text(&out);
}

static void on_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct source *s = ctx;
	s->session->batches++;
	s->session->changes += n;
	for (size_t i = 0; s->session->print && i < n; i++)
		print_change(s, &changes[i], resync, cause);
	(void)fflush(stdout);
	if (ferror(stdout)) /* whoever read has gone */
		loop_stop(s->session->loop);
}

static void on_state(void *ctx, enum bus_state state)
{
	struct source *s = ctx;
	(void)fprintf(stderr, "fairlead bus: %s is %s\n", s->publisher, bus_state_name(state));
	s->live |= state == BUS_LIVE;
	bool all = true;
	for (size_t i = 0; i < s->session->n; i++)
		all &= s->session->sources[i].live;
	if (all && s->session->config->once)
		loop_stop(s->session->loop);
}

static void on_signal(void *ctx, int signo)
{
	(void)signo;
	loop_stop(ctx);
}

static void on_end(void *ctx)
{
	loop_stop(ctx);
}

static void on_timeout(void *ctx)
{
	struct session *s = ctx;
	for (size_t i = 0; i < s->n && !s->missing; i++)
		if (!s->sources[i].live)
			s->missing = s->sources[i].publisher;
	if (s->missing)
		loop_stop(s->loop);
}

static bool is_listed(const char *const *list, const char *word)
{
	for (size_t i = 0; list && list[i]; i++)
		if (streq(list[i], word))
			return true;
	return false;
}

/* The topics of a publisher that are wanted, 0-terminated. */
static const uint32_t *topics_of(struct arena *a, const struct bus_config *c, const char *publisher)
{
	size_t count, n = 0;
	const struct topic *all = topics_all(&count);
	uint32_t *ids = ARENA_ARRAY(a, uint32_t, count + 1);
	for (size_t i = 0; i < count; i++)
		if (streq(all[i].publisher, publisher) && bus_may_read("cli", all[i].id) &&
			(!c->topics[0] || is_listed(c->topics, all[i].name)))
			ids[n++] = all[i].id;
	return ids;
}

static bool check_topics(const struct bus_config *c, struct err *e)
{
	for (size_t i = 0; c->topics[i]; i++)
		if (!topic_find(str_of(c->topics[i])))
			return err_set(e, ERR_PEER, "--topic: there is no topic \"%.60s\"", c->topics[i]);
	return true;
}

static bool choose_sources(struct session *s, struct arena *a, struct err *e)
{
	static const char *const publishers[] = {"galley", "citadel"};
	const struct bus_config *c = s->config;
	for (size_t i = 0; c->publishers[i]; i++)
		if (!streq(c->publishers[i], publishers[0]) && !streq(c->publishers[i], publishers[1]))
			return err_set(
				e, ERR_PEER, "--publisher: \"%.60s\" is neither galley nor citadel", c->publishers[i]);
	for (size_t i = 0; i < ARRAY_LEN(publishers); i++) {
		const uint32_t *topics = topics_of(a, c, publishers[i]);
		bool wanted = c->publishers[0] ? is_listed(c->publishers, publishers[i]) : s->print || i == 0;
		if (wanted && topics[0])
			s->sources[s->n++] = (struct source){
				.session = s, .publisher = publishers[i], .topics = topics};
	}
	return s->n || err_set(e, ERR_PEER, "no publisher has such a topic");
}

static bool follow(struct session *s, const char *address, const struct bus_keys *keys, const char *file, struct err *e)
{
	static const struct bus_replica_ops ops = {.on_batch = on_batch, .on_state = on_state};
	for (size_t i = 0; i < s->n; i++) {
		char *instance cleanup(free_p) = xasprintf(
			"fairlead-%s-%d", s->print ? "tap" : "record", (int)getpid());
		const struct bus_replica_options o = {.address = address,
			.publisher = s->sources[i].publisher,
			.role = "cli",
			.instance = instance,
			.topics = s->sources[i].topics,
			.keys = keys,
			.record = file,
			.ops = &ops,
			.ctx = &s->sources[i]};
		s->sources[i].replica = bus_replica_new(s->loop, &o, e);
		if (!s->sources[i].replica)
			return false;
	}
	return true;
}

static void wait_for_end(struct session *s)
{
	struct timer *end = timer_new(s->loop, on_end, s->loop), *patience = timer_new(s->loop, on_timeout, s);
	struct signal_watch *term = signal_new(s->loop, SIGTERM, on_signal, s->loop);
	struct signal_watch *intr = signal_new(s->loop, SIGINT, on_signal, s->loop);
	if (s->config->for_ms)
		timer_start(end, s->config->for_ms, 0);
	timer_start(patience, s->config->timeout_ms, 0);
	loop_run(s->loop);
	signal_free(term);
	signal_free(intr);
	timer_free(end);
	timer_free(patience);
}

static bool find_bus(const struct invocation *i, const char **address, struct bus_keys **keys, struct err *e)
{
	const struct bus_config *c = i->config;
	const char *state = NULL;
	*address = c->bus;
	if (str_empty(c->bus)) {
		if (!target_state(i->arena, c->state, &state, e))
			return false;
		*address = arena_printf(i->arena, "ipc://%s/bus/{role}", state);
	}
	return bus_keys_load(str_empty(c->bus_keys) ? NULL : c->bus_keys, "cli", keys, e);
}

static bool run_session(const struct invocation *i, struct session *s, const char *file, struct err *e)
{
	struct bus_keys *keys = NULL;
	const char *address = NULL;
	if (!check_topics(s->config, e) || !choose_sources(s, i->arena, e))
		return false;
	if (file && s->n != 1)
		return err_set(e, ERR_PEER, "a recording is of one publisher: choose it with --publisher");
	if (!find_bus(i, &address, &keys, e))
		return false;
	s->loop = loop_new();
	bool ok = follow(s, address, keys, file, e);
	if (ok)
		wait_for_end(s);
	for (size_t k = 0; k < s->n; k++)
		bus_replica_free(s->sources[k].replica);
	loop_free(s->loop);
	bus_keys_free(keys);
	if (ok && s->missing)
		return err_set(e, ERR_SYSTEM, "%s does not answer on the bus at %s", s->missing, address);
	return ok;
}

static void print_recorded(const struct session *s, const char *file, enum output output)
{
	struct strbuf out = {0};
	if (output == OUTPUT_JSON) {
		strbuf_adds(&out, "{\"file\":");
		strbuf_add_json(&out, str_of(file));
		strbuf_addf(&out, ",\"publisher\":\"%s\",\"batches\":%zu,\"changes\":%zu}\n", s->sources[0].publisher,
			s->batches, s->changes);
	} else {
		strbuf_addf(&out, "%s: %zu batches of %s with %zu changes\n", file, s->batches, s->sources[0].publisher,
			s->changes);
	}
	print_text(&out);
}

static int run(const struct invocation *i)
{
	const struct bus_config *c = i->config;
	struct session s = {.config = c, .print = streq(i->args[0], "tap")};
	enum output output;
	struct err e = {0};
	bool record = streq(i->args[0], "record");
	if (!s.print && !record)
		(void)err_set(&e, ERR_PEER, "\"%.40s\" is neither tap nor record", i->args[0]);
	else if (i->n_args != (record ? 2 : 1))
		(void)err_set(&e, ERR_PEER, "%s", record ? "record needs one FILE" : "tap takes no further argument");
	if (e.kind != ERR_NONE || !output_parse(c->output, &output, &e))
		return command_fail("bus", 2, &e);
	if (!run_session(i, &s, record ? i->args[1] : NULL, &e))
		return command_fail("bus", 1, &e);
	if (record)
		print_recorded(&s, i->args[1], output);
	return 0;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct bus_config, output),
	{.name = "state",
		OPT_STR(struct bus_config, state, NULL,
			"state directory of the mesh (default: the only one that runs here)")},
	{.name = "bus", OPT_STR(struct bus_config, bus, NULL, "address of the bus, with {role}, instead of --state")},
	{.name = "bus-keys", OPT_STR(struct bus_config, bus_keys, NULL, "folder of the bus's keys; needed for tcp://")},
	{.name = "publisher",
		OPT_LIST(struct bus_config, publishers, "galley, citadel (default: tap both, record galley)")},
	{.name = "topic", OPT_LIST(struct bus_config, topics, "only these topics")},
	{.name = "once", OPT_BOOL(struct bus_config, once, "end after the snapshot")},
	{.name = "for", OPT_MS(struct bus_config, for_ms, "0", 0, 0, "end after this time; 0: at Ctrl-C")},
	{.name = "no-values", OPT_BOOL(struct bus_config, no_values, "tap: leave the values out")},
	{.name = "timeout",
		OPT_MS(struct bus_config, timeout_ms, "5s", 1, 600000,
			"how long to wait for a publisher's first answer")},
};

const struct command bus_command = {
	.name = "bus",
	.arguments = "tap | record FILE",
	.summary = "see or record what galley and citadel publish",
	.text = "tap prints a JSON line per change: the snapshot first (resync true), then changes as they happen.\n"
		"record writes what a subscriber gets to FILE; `pilot --replay FILE` takes it.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct bus_config),
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
