/*
 * DOC: `fairlead workload-env`: what the agent on a machine outside Kubernetes needs to register itself with a WorkloadGroup, as environment
 * variables: options of the agent, Istio's metadata of such workloads, and the ProxyConfig with the group's readiness probe. A shell and systemd
 * (EnvironmentFile) read the same text. Certificates are not in it: the machine gets the roots and a token of its own.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "galley/galley.h"

struct workload_env_config {
	const char *group, *ns, *discovery_address, *cluster_id, *dir;
};

static const struct option_row options[] = {
	{.name = "group", OPT_STR(struct workload_env_config, group, NULL, "name of the WorkloadGroup")},
	{.name = "namespace", OPT_STR(struct workload_env_config, ns, "default", "its namespace")},
	{.name = "discovery-address",
		OPT_STR(struct workload_env_config, discovery_address, "istiod.istio-system.svc:15012",
			"where the machine finds pilot, host:port")},
	{.name = "cluster-id",
		OPT_STR(struct workload_env_config, cluster_id, "Kubernetes", "cluster that it belongs to")},
	{.name = "dir",
		OPT_STR(struct workload_env_config, dir, "/etc/fairlead",
			"folder on the machine with root-cert.pem and istio-token")},
};

/* In single quotes, which a shell and systemd understand alike. */
static void print(const char *name, const char *value)
{
	(void)printf("%s='", name);
	for (; *value; value++)
		if (*value == '\'')
			(void)printf("'\\''");
		else
			(void)putchar(*value);
	(void)printf("'\n");
}

static void print_json(const char *name, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
	print(name, text);
	free(text);
}

static void print_in(const char *name, const char *dir, const char *file)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", dir, file);
	print(name, path);
}

static void print_all(const struct workload_env_config *c, const json_t *j)
{
	static const char *const optional[][2] = {
		{"network", "FAIRLEAD_AGENT_NETWORK"}, {"locality", "FAIRLEAD_AGENT_LOCALITY"}};
	print("ISTIO_META_AUTO_REGISTER_GROUP", c->group);
	print("FAIRLEAD_AGENT_POD_NAMESPACE", c->ns);
	print("FAIRLEAD_AGENT_SERVICE_ACCOUNT", json_string_value(json_object_get(j, "serviceAccount")));
	print("FAIRLEAD_AGENT_WORKLOAD", c->group);
	print_json("FAIRLEAD_AGENT_LABELS", json_object_get(j, "labels"));
	print("FAIRLEAD_AGENT_CLUSTER_ID", c->cluster_id);
	for (size_t i = 0; i < ARRAY_LEN(optional); i++)
		if (!str_empty(json_string_value(json_object_get(j, optional[i][0]))))
			print(optional[i][1], json_string_value(json_object_get(j, optional[i][0])));
	print("FAIRLEAD_AGENT_DISCOVERY_ADDRESS", c->discovery_address);
	print_in("FAIRLEAD_AGENT_CA_ROOTS", c->dir, "root-cert.pem");
	print_in("FAIRLEAD_AGENT_TOKEN_FILE", c->dir, "istio-token");
	print_json("PROXY_CONFIG", json_object_get(j, "proxyConfig"));
}

static bool load(struct galley *g, const struct invocation *i, struct err *e)
{
	size_t n;
	for (size_t k = 0; k < i->n_args; k++)
		if (!galley_load(g, i->args[k], e))
			return false;
	(void)galley_commit(g, &n);
	galley_release(g);
	return true;
}

static int run(const struct invocation *i)
{
	const struct workload_env_config *c = i->config;
	struct galley *g = galley_new(&(struct galley_options){0});
	struct strbuf json cleanup(strbuf_done) = {0};
	struct err e = {0};
	if (str_empty(c->group)) {
		(void)err_set(&e, ERR_PEER, "--group is needed");
		galley_free(g);
		return command_fail("workload-env", 2, &e);
	}
	bool ok = load(g, i, &e) && galley_group_config(g, c->ns, c->group, &json, &e);
	galley_free(g);
	if (!ok)
		return command_fail("workload-env", 1, &e);
	json_t *j = json_loads(json.ptr, 0, NULL);
	print_all(c, j);
	json_decref(j);
	return 0;
}

const struct command workload_env_command = {
	.name = "workload-env",
	.arguments = "PATH...",
	.summary = "the agent's environment on a machine that registers itself with a WorkloadGroup",
	.text = "PATHs are files and directories with the WorkloadGroup and the mesh config. The lines go into a file "
		"that a shell\n"
		"or systemd reads (EnvironmentFile); the machine adds its own name and address (docs/MACHINES.md).\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct workload_env_config),
	.min_args = 1,
	.max_args = 1000,
	.run = run,
};
