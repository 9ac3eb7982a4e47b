/*
 * DOC: `fairlead proxy-config`: the configuration of one proxy, from its Envoy (through the agent's admin socket, which passes the questions on)
 * or, where there is no agent to ask, from pilot: what it sent. Each kind of resource is a table (proxy/rows.c); -o json prints the resources.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/mesh_options.h"
#include "cli/proxies.h"
#include "cli/proxy/rows.h"
#include "cli/target.h"

struct proxy_config_config {
	struct mesh_options mesh;
	const char *ns, *from, *envoy, *name;
};

struct view {
	const struct invocation *call;
	const struct proxy_config_config *config;
	const char *proxy;
	struct dump dump;
	bool filled;
	bool from_envoy;
};

/* ---- from Envoy */

/* The agent's socket of a proxy below a state directory, from folders called NAMESPACE.POD. */
static bool find_agent(struct view *v, const char *state, const char **address, struct err *e)
{
	struct arena *a = v->call->arena;
	struct str proxy = str_of(v->proxy), pod = proxy, ns = {0};
	size_t dot, found = 0;
	if (str_rfind(proxy, '.', &dot)) {
		pod = str_sub(proxy, 0, dot);
		ns = str_from(proxy, dot + 1);
	}
	DIR *dir = opendir(arena_printf(a, "%s/pods", state));
	for (struct dirent *d; dir && (d = readdir(dir));) {
		struct str have_ns, have_pod;
		if (!str_cut(str_of(d->d_name), '.', &have_ns, &have_pod))
			continue;
		/* A pod's own name may have dots. */
		if (!(ns.len && str_eq(have_ns, ns) && str_eq(have_pod, pod)) &&
			!(str_empty(v->config->ns) && str_eq(have_pod, proxy)))
			continue;
		*address = arena_printf(a, "unix:%s/pods/%s/agent.admin", state, d->d_name);
		found++;
	}
	if (dir)
		(void)closedir(dir);
	if (found > 1)
		return err_set(e, ERR_PEER, "several pods are called %s: add the namespace, POD.NAMESPACE", v->proxy);
	return found == 1 || err_set(e, ERR_PEER, "no pod %s in %s", v->proxy, state);
}

static bool envoy_address(struct view *v, const char **address, const char **prefix, struct err *e)
{
	const char *state = NULL;
	*prefix = "/envoy";
	if (!str_empty(v->config->envoy)) {
		*address = v->config->envoy;
		*prefix = "";
		return true;
	}
	return target_state(v->call->arena, v->config->mesh.state, &state, e) && find_agent(v, state, address, e);
}

static bool fill_from_envoy(struct view *v, struct err *e)
{
	const char *address = NULL, *prefix = NULL;
	struct arena *a = v->call->arena;
	if (!envoy_address(v, &address, &prefix, e))
		return false;
	struct question q[] = {{.address = address, .path = arena_printf(a, "%s/config_dump?include_eds", prefix)},
		{.address = address, .path = arena_printf(a, "%s/clusters?format=json", prefix)}};
	ask_all(a, q, ARRAY_LEN(q), v->config->mesh.timeout_ms);
	json_t *dump = question_json(&q[0], e);
	v->filled = dump && dump_from_envoy(dump, &v->dump, e);
	v->from_envoy = v->filled;
	if (v->filled)
		v->dump.health = question_json(&q[1], NULL);
	json_decref(dump);
	return v->filled;
}

/* ---- from pilot */

static bool fill_from_pilot(struct view *v, struct err *e)
{
	const char *pilot = NULL;
	const struct mesh_options *m = &v->config->mesh;
	if (!target_daemon(v->call->arena, "pilot", m->pilot, m->state, &pilot, e))
		return false;
	json_t *items = proxies_of_pilot(pilot, "/debug/config_dump", v->proxy, m->timeout_ms, e);
	size_t n = json_array_size(items);
	if (items && n == 1) {
		dump_from_pilot(json_array_get(items, 0), &v->dump);
		v->filled = true;
	} else if (items && n == 0) {
		(void)err_set(e, ERR_PEER, "pilot at %s has no proxy %s", pilot, v->proxy);
	} else if (items) {
		(void)err_set(e, ERR_PEER, "pilot at %s has %zu proxies called %s: add the namespace, POD.NAMESPACE",
			pilot, n, v->proxy);
	}
	json_decref(items);
	return v->filled;
}

static bool fill(struct view *v, struct err *e)
{
	const struct proxy_config_config *c = v->config;
	bool asked = !str_empty(c->envoy) || streq(c->from, "envoy");
	if (asked)
		return fill_from_envoy(v, e);
	if (!streq(c->from, "auto") || !str_empty(c->mesh.pilot))
		return fill_from_pilot(v, e);
	struct err first = {0};
	if (fill_from_envoy(v, &first))
		return true;
	if (!fill_from_pilot(v, e))
		return err_in(e, "Envoy was not reached (%s), and", first.text);
	(void)fprintf(
		stderr, "fairlead proxy-config: what pilot sent, because Envoy was not reached: %s\n", first.text);
	return true;
}

/* ---- output */

/* In order, and only what has the name, when one is asked for. */
static void tidy(json_t *items, const char *name)
{
	rows_sort(items, "name", "state");
	for (size_t i = json_array_size(items); !str_empty(name) && i-- > 0;)
		if (!streq(json_text_at(json_array_get(items, i), "name"), name))
			(void)json_array_remove(items, i);
}

static void add_part(const struct view *v, enum dump_part p, bool title, struct strbuf *out)
{
	const struct part_table *t = part_table(p);
	if (!t) {
		char *text = json_dumps(dump_at(v->dump.parts[p], "0.resource"), JSON_INDENT(2) | JSON_ENCODE_ANY);
		strbuf_addf(out, "%s\n", text ? text : "null");
		free(text);
		return;
	}
	json_t *rows = t->rows(&v->dump);
	if (p == DUMP_ENDPOINTS && !str_empty(v->config->name))
		for (size_t i = json_array_size(rows); i-- > 0;)
			if (!streq(json_text_at(json_array_get(rows, i), "cluster"), v->config->name))
				(void)json_array_remove(rows, i);
	if (title)
		strbuf_addf(out, "%s%s\n", out->len ? "\n" : "", t->title);
	table_write(rows, t->columns, t->n_columns, out);
	json_decref(rows);
}

static void print_parts(const struct view *v, const bool wanted[DUMP_PART_COUNT], bool all, enum output output)
{
	struct strbuf out = {0};
	json_t *value = json_object();
	for (unsigned p = 0; p < DUMP_PART_COUNT; p++) {
		tidy(v->dump.parts[p], v->config->name);
		if (!wanted[p])
			continue;
		if (output == OUTPUT_TABLE)
			add_part(v, (enum dump_part)p, all, &out);
		else if (all)
			(void)json_object_set(value, dump_part_names[p], v->dump.parts[p]);
		else
			print_value(v->dump.parts[p]);
	}
	if (all && output == OUTPUT_JSON)
		print_value(value);
	json_decref(value);
	print_text(&out);
}

/* ---- the command */

static bool choose(
	const struct invocation *i, bool wanted[DUMP_PART_COUNT], bool *all, enum output *output, struct err *e)
{
	const struct proxy_config_config *c = i->config;
	bool known = false;
	*all = streq(i->args[0], "all");
	for (unsigned p = 0; p < DUMP_PART_COUNT; p++) {
		/* "listener" is as good as "listeners". */
		struct str name = str_of(dump_part_names[p]), singular = str_sub(name, 0, name.len - 1);
		bool this = str_eqc(name, i->args[0]) || (p != DUMP_BOOTSTRAP && str_eqc(singular, i->args[0]));
		wanted[p] = this || (*all && p != DUMP_BOOTSTRAP);
		known |= this;
	}
	if (!known && !*all)
		return err_set(e, ERR_PEER,
			"\"%.40s\" is none of listeners, routes, clusters, endpoints, secrets, bootstrap, all",
			i->args[0]);
	if (!streq(c->from, "auto") && !streq(c->from, "envoy") && !streq(c->from, "pilot"))
		return err_set(e, ERR_PEER, "--from: \"%.40s\" is none of auto, envoy, pilot", c->from);
	return output_parse(c->mesh.output, output, e);
}

static int run(const struct invocation *i)
{
	const struct proxy_config_config *c = i->config;
	struct view v = {.call = i, .config = c};
	bool wanted[DUMP_PART_COUNT], all = false;
	enum output output = OUTPUT_TABLE;
	struct err e = {0};
	if (!choose(i, wanted, &all, &output, &e))
		return command_fail("proxy-config", 2, &e);
	if (i->n_args < 2 && str_empty(c->envoy)) {
		(void)err_set(&e, ERR_PEER, "PROXY is missing; `fairlead proxy-status` lists them");
		return command_fail("proxy-config", 2, &e);
	}
	v.proxy = i->n_args > 1 ? proxy_name(i->arena, i->args[1], c->ns) : "";
	if (!fill(&v, &e))
		return command_fail("proxy-config", 1, &e);
	if (!v.from_envoy && (wanted[DUMP_SECRETS] || wanted[DUMP_BOOTSTRAP]) && !all) {
		(void)err_set(&e, ERR_PEER, "pilot sends no %s: only Envoy has them (--from envoy)", i->args[0]);
		dump_done(&v.dump);
		return command_fail("proxy-config", 1, &e);
	}
	wanted[DUMP_SECRETS] &= v.from_envoy;
	print_parts(&v, wanted, all, output);
	dump_done(&v.dump);
	return 0;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct proxy_config_config, mesh.output),
	{.name = "namespace", OPT_STR(struct proxy_config_config, ns, NULL, "namespace of PROXY; also -n")},
	{.name = "name", OPT_STR(struct proxy_config_config, name, NULL, "only the resource of this name")},
	{.name = "from",
		OPT_STR(struct proxy_config_config, from, "auto",
			"envoy: what it has; pilot: what it sent; auto: Envoy, else pilot")},
	STATE_ROW(struct proxy_config_config),
	DAEMON_ROW(struct proxy_config_config, pilot),
	{.name = "envoy",
		OPT_STR(struct proxy_config_config, envoy, NULL,
			"admin address of the Envoy itself, instead of the agent's")},
	TIMEOUT_ROW(struct proxy_config_config),
};

const struct command proxy_config_command = {
	.name = "proxy-config",
	.arguments = "TYPE PROXY",
	.summary = "listeners, routes, clusters, endpoints, secrets of a proxy",
	.text = "TYPE: listeners, routes, clusters, endpoints, secrets, bootstrap, or all (tables without bootstrap).\n"
		"PROXY: POD[.NAMESPACE]. Private keys are never printed.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct proxy_config_config),
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
