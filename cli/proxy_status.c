/*
 * DOC: `fairlead proxy-status`: how far each proxy is with each type, from pilot's page syncz. With a proxy's name one row per type, with
 * what was sent, what was accepted and why something was refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/mesh_options.h"
#include "cli/proxies.h"
#include "cli/table.h"
#include "cli/target.h"

struct proxy_status_config {
	struct mesh_options mesh;
	const char *ns;
};

static const struct column all_columns[] = {
	{"NAME", "proxy"},
	{"CLUSTER", "cluster_id"},
	{"CDS", "cluster_status.cds.status"},
	{"LDS", "cluster_status.lds.status"},
	{"EDS", "cluster_status.eds.status"},
	{"RDS", "cluster_status.rds.status"},
	{"PILOT", "pilot"},
	{"VERSION", "istio_version"},
};

static const struct column one_columns[] = {
	{"TYPE", "type"},
	{"STATUS", "status"},
	{"RESOURCES", "resources"},
	{"SENT", "sent"},
	{"ACKED", "acked"},
	{"PUSHES", "pushes"},
	{"REFUSED", "nacks"},
	{"ERROR", "error"},
};

static json_t *type_rows(const json_t *proxy)
{
	json_t *rows = json_array(), *watch;
	const char *type;
	json_object_foreach(json_at(proxy, "cluster_status"), type, watch)
	{
		json_t *row = json_deep_copy(watch);
		(void)json_object_set_new(row, "type", json_string(type));
		(void)json_array_append_new(rows, row);
	}
	return rows;
}

static void print_table(const json_t *proxies, bool one)
{
	struct strbuf out = {0};
	size_t i;
	json_t *proxy;
	if (!one) {
		table_write(proxies, all_columns, ARRAY_LEN(all_columns), &out);
		print_text(&out);
		return;
	}
	json_array_foreach(proxies, i, proxy)
	{
		json_t *rows = type_rows(proxy);
		strbuf_addf(&out, "%s%s, %s, %s, pilot %s\n\n", i ? "\n" : "", json_text_at(proxy, "id"),
			json_text_at(proxy, "protocol"), json_text_at(proxy, "istio_version"),
			json_text_at(proxy, "pilot"));
		table_write(rows, one_columns, ARRAY_LEN(one_columns), &out);
		json_decref(rows);
	}
	print_text(&out);
}

static int run(const struct invocation *i)
{
	const struct proxy_status_config *c = i->config;
	enum output output;
	struct err e = {0};
	const char *pilot = NULL;
	if (!output_parse(c->mesh.output, &output, &e))
		return command_fail("proxy-status", 2, &e);
	if (!target_daemon(i->arena, "pilot", c->mesh.pilot, c->mesh.state, &pilot, &e))
		return command_fail("proxy-status", 1, &e);
	const char *name = i->n_args ? proxy_name(i->arena, i->args[0], c->ns) : "";
	json_t *proxies = proxies_of_pilot(pilot, "/debug/syncz", name, c->mesh.timeout_ms, &e);
	if (proxies && *name && !json_array_size(proxies)) {
		(void)err_set(&e, ERR_PEER, "pilot at %s has no proxy %s", pilot, name);
		json_decref(proxies);
		proxies = NULL;
	}
	if (!proxies)
		return command_fail("proxy-status", 1, &e);
	if (output == OUTPUT_JSON)
		print_value(proxies);
	else
		print_table(proxies, *name);
	json_decref(proxies);
	return 0;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct proxy_status_config, mesh.output),
	STATE_ROW(struct proxy_status_config),
	DAEMON_ROW(struct proxy_status_config, pilot),
	{.name = "namespace", OPT_STR(struct proxy_status_config, ns, NULL, "namespace of PROXY; also -n")},
	TIMEOUT_ROW(struct proxy_status_config),
};

const struct command proxy_status_command = {
	.name = "proxy-status",
	.arguments = "[PROXY]",
	.summary = "which proxies are connected, and whether they have what pilot sent",
	.text = "SYNCED: accepted. STALE: sent, not answered yet. NACK: refused. NOT SENT: not asked for, or nothing "
		"to send.\n"
		"PROXY is POD[.NAMESPACE] and shows one proxy in detail.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct proxy_status_config),
	.max_args = 1,
	.run = run,
};
