/*
 * DOC: `fairlead wait`: until every proxy has accepted an object's newest version, or until the object is gone. Galley knows both from its pilots'
 * reports, so that one small question is enough however large the mesh is. The first question has galley look at its directory, so that what
 * was written before the command is what it waits for; in a cluster --generation says which version is meant.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/mesh_options.h"
#include "cli/table.h"
#include "cli/target.h"
#include "common/base/clock.h"
#include "common/mesh/kinds.h"

#define POLL_MS 100
#define QUESTION_MS 5000

struct wait_config {
	struct mesh_options mesh;
	const char *what, *ns, *threshold;
	uint32_t generation;
};

struct wait {
	const struct wait_config *config;
	struct arena *arena;
	const struct kind *kind;
	const char *key; /* "VirtualService/default/reviews" */
	const char *galley;
	bool gone; /* wait until it is */
	double threshold;
	struct strbuf state; /* why it is not done yet */
	json_t *answer;
};

/* ---- what is meant */

static const struct {
	const char *text;
	enum kind_id kind;
} short_names[] = {{"vs", KIND_VIRTUAL_SERVICE}, {"dr", KIND_DESTINATION_RULE}, {"gw", KIND_GATEWAY},
	{"se", KIND_SERVICE_ENTRY}, {"we", KIND_WORKLOAD_ENTRY}, {"wg", KIND_WORKLOAD_GROUP}, {"pa", KIND_PEER_AUTHN},
	{"ra", KIND_REQUEST_AUTHN}, {"ap", KIND_AUTHORIZATION_POLICY}};

static const struct kind *kind_named(const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(short_names); i++)
		if (strcasecmp(text, short_names[i].text) == 0)
			return kind_get(short_names[i].kind);
	for (unsigned i = 0; i < KIND_COUNT; i++) {
		const struct kind *k = kind_get((enum kind_id)i);
		if (!k->kubernetes && (strcasecmp(text, k->name) == 0 || strcasecmp(text, k->plural) == 0))
			return k;
	}
	return NULL;
}

static bool parse_object(struct wait *w, const struct invocation *i, struct err *e)
{
	struct str type = str_of(i->args[0]), name = i->n_args > 1 ? str_of(i->args[1]) : (struct str){0}, ns, first,
		   rest;
	if (i->n_args == 1 && !str_cut(type, '/', &type, &name))
		return err_set(
			e, ERR_PEER, "\"%s\": KIND/NAME[.NAMESPACE] or KIND NAME[.NAMESPACE] is expected", i->args[0]);
	w->kind = kind_named(arena_cstr(w->arena, type));
	if (!w->kind)
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is no kind of configuration", STR_ARG(type));
	ns = str_of(str_empty(w->config->ns) ? "default" : w->config->ns);
	if (str_cut(name, '.', &first, &rest) && str_empty(w->config->ns)) {
		/* The namespace has no dot, a name may. */
		size_t at = name.len;
		while (name.ptr[at - 1] != '.')
			at--;
		ns = str_from(name, at);
		name = str_sub(name, 0, at - 1);
	}
	if (!name.len || (!w->kind->cluster_scoped && !ns.len))
		return err_set(e, ERR_PEER, "\"%s\": the name is missing", i->args[i->n_args - 1]);
	w->key = arena_printf(w->arena, "%s/" STR_FMT "/" STR_FMT, w->kind->name,
		w->kind->cluster_scoped ? 0 : (int)ns.len, ns.ptr, STR_ARG(name));
	return true;
}

static bool parse(struct wait *w, const struct invocation *i, struct err *e)
{
	const struct wait_config *c = w->config;
	char *end = NULL;
	w->gone = streq(c->what, "delete");
	if (!w->gone && !streq(c->what, "distribution"))
		return err_set(e, ERR_PEER, "--for: \"%s\" is neither distribution nor delete", c->what);
	w->threshold = strtod(c->threshold, &end);
	if (end == c->threshold || *end || !(w->threshold > 0 && w->threshold <= 1))
		return err_set(e, ERR_PEER, "--threshold: \"%s\" is not above 0 and at most 1", c->threshold);
	return parse_object(w, i, e);
}

/* ---- whether it is so */

static long long number(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_at(o, key));
}

/* 1: done; 0: not yet, and state says why; -1: never, and state says why. */
static int look(struct wait *w)
{
	const json_t *o = json_array_get(json_at(w->answer, "objects"), 0);
	long long proxies = number(w->answer, "proxies"), accepted = number(o, "accepted"),
		  rejected = number(o, "rejected");
	strbuf_clear(&w->state);
	if (w->gone) {
		strbuf_adds(&w->state, "it is still there");
		return !o;
	}
	if (!o) {
		strbuf_adds(&w->state, "galley does not know it");
		return 0;
	}
	if (number(o, "generation") < (long long)w->config->generation) {
		strbuf_addf(&w->state, "galley has generation %lld", number(o, "generation"));
		return 0;
	}
	if (!json_is_true(json_at(o, "newest"))) {
		strbuf_addf(&w->state, "its newest version is not accepted by galley (%s)", json_text_at(o, "reason"));
		return 0;
	}
	if (!json_is_true(json_at(o, "in_force"))) {
		strbuf_adds(&w->state, "galley has not published it yet");
		return 0;
	}
	if (!json_is_true(json_at(o, "applied")) || !json_at(o, "accepted")) {
		strbuf_adds(&w->state, "objects of this kind are not distributed to proxies");
		return -1;
	}
	strbuf_addf(&w->state, "%lld of %lld proxies have accepted it", accepted, proxies);
	if (rejected)
		strbuf_addf(&w->state, ", %lld reject it: %s", rejected, json_text_at(o, "error"));
	else if (*json_text_at(w->answer, "refusal") && accepted < proxies)
		strbuf_addf(&w->state, "; a proxy refuses its configuration: %s", json_text_at(w->answer, "refusal"));
	if (number(w->answer, "connecting"))
		strbuf_addf(&w->state, "; %lld have not accepted their first configuration",
			number(w->answer, "connecting"));
	proxies += number(w->answer, "connecting");
	return number(w->answer, "pilots") && (double)accepted >= w->threshold * (double)proxies;
}

static bool ask(struct wait *w, bool first, struct err *e)
{
	const char *path = arena_printf(w->arena, "/debug/distribution?object=%s%s", w->key, first ? "&fresh=1" : "");
	json_decref(w->answer);
	w->answer = ask_json(w->galley, path, QUESTION_MS, e);
	return w->answer != NULL;
}

static int wait_for(struct wait *w, struct err *e)
{
	uint64_t end = clock_mono_ms() + w->config->mesh.timeout_ms;
	for (bool first = true;; first = false) {
		const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
		if (!ask(w, first, e))
			return 1;
		int done = look(w);
		if (done > 0)
			return 0;
		if (!number(w->answer, "pilots") && !w->gone)
			strbuf_adds(&w->state, "; no pilot reports to galley");
		if (done < 0 || clock_mono_ms() >= end) {
			(void)err_set(e, ERR_PEER, "%s%s: %s", done < 0 ? "" : "timed out on ", w->key, w->state.ptr);
			return 1;
		}
		(void)nanosleep(&pause, NULL);
	}
}

static int run(const struct invocation *i)
{
	struct wait w = {.config = i->config, .arena = i->arena};
	struct err e = {0};
	enum output output;
	int code = !output_parse(w.config->mesh.output, &output, &e) || !parse(&w, i, &e) ? 2 : 0;
	if (!code && !target_daemon(i->arena, "galley", w.config->mesh.galley, w.config->mesh.state, &w.galley, &e))
		code = 1;
	if (!code)
		code = wait_for(&w, &e);
	if (!code && output == OUTPUT_JSON)
		print_value(w.answer);
	else if (!code)
		(void)printf("%s: %s\n", w.key, w.gone ? "is gone" : w.state.ptr);
	json_decref(w.answer);
	strbuf_done(&w.state);
	return code ? command_fail("wait", code, &e) : 0;
}

static const struct option_row options[] = {
	{.name = "for", OPT_STR(struct wait_config, what, "distribution", "distribution or delete")},
	{.name = "threshold",
		OPT_STR(struct wait_config, threshold, "1",
			"share of the proxies that is enough, above 0 and at most 1")},
	{.name = "generation",
		OPT_U32(struct wait_config, generation, 0, 0, UINT32_MAX,
			"metadata.generation that is waited for, in a cluster (default: what galley has)")},
	{.name = "namespace", OPT_STR(struct wait_config, ns, NULL, "namespace of NAME; also -n")},
	{.name = "timeout", OPT_MS(struct wait_config, mesh.timeout_ms, "30s", 1, 86400000, "how long to wait")},
	OUTPUT_ROW(struct wait_config, mesh.output),
	STATE_ROW(struct wait_config),
	DAEMON_ROW(struct wait_config, galley),
};

const struct command wait_command = {
	.name = "wait",
	.arguments = "KIND/NAME[.NAMESPACE]",
	.summary = "until every proxy has accepted an object",
	.text = "The exit code is 0 when it is so, and 1 when the time is over first: then the message says how far it "
		"is, and why a\n"
		"proxy rejects it. KIND NAME[.NAMESPACE] is fine too; KIND may be plural or a short name.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct wait_config),
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
