/*
 * DOC: `fairlead bus-keys`: the CURVE keys of all roles, into a folder, or into a Secret of a cluster that the first of several installs makes
 * and that stays over upgrades.
 */
#include <stdio.h>

#include "cli/commands.h"
#include "common/bus/bus.h"
#include "common/kube/secret_dir.h"

struct bus_keys_config {
	const char *out, *secret, *ns, *kubeconfig;
	uint64_t timeout_ms;
};

static bool make(void *ctx, const char *dir, struct err *e)
{
	static const char *const roles[] = {"galley", "pilot", "citadel", "agent", "cli", NULL};
	(void)ctx;
	return bus_keys_generate(dir, roles, e);
}

static int run(const struct invocation *i)
{
	const struct bus_keys_config *c = i->config;
	const struct kube_secret_options o = {.api = {.kubeconfig = c->kubeconfig},
		.namespace = c->ns,
		.name = c->secret,
		.dir = c->out,
		.make = make,
		.timeout_ms = c->timeout_ms};
	struct err e = {0};
	bool made = true;
	if (!c->out && !c->secret) {
		(void)err_set(&e, ERR_PEER, "--out or --secret is needed");
		return command_fail("bus-keys", 2, &e);
	}
	if (!(c->secret ? kube_secret_dir(&o, &made, &e) : make(NULL, c->out, &e)))
		return command_fail("bus-keys", 1, &e);
	(void)printf("%s %s\n", made ? "made the bus's keys in" : "the bus's keys are already in",
		c->secret ? c->secret : c->out);
	return 0;
}

static const struct option_row options[] = {
	{.name = "out",
		OPT_STR(struct bus_keys_config, out, NULL, "folder for <role>.key and <role>.pub; existing keys stay")},
	{.name = "secret",
		OPT_STR(struct bus_keys_config, secret, NULL, "name of the Secret that holds them; made when absent")},
	{.name = "namespace", OPT_STR(struct bus_keys_config, ns, NULL, "of the Secret (default: our own)")},
	{.name = "kubeconfig",
		OPT_STR(struct bus_keys_config, kubeconfig, NULL, "credentials (default: those of the pod)")},
	{.name = "timeout", OPT_MS(struct bus_keys_config, timeout_ms, "60s", 1000, 600000, "how long to try")},
};

const struct command bus_keys_command = {
	.name = "bus-keys",
	.arguments = "--out DIR | --secret NAME",
	.summary = "make the keys that the bus needs on tcp",
	.text = "A daemon takes them with --bus-keys DIR; it needs its own .key and everybody's .pub.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct bus_keys_config),
	.run = run,
};
