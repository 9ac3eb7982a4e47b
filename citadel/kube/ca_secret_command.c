/*
 * DOC: `citadel ca-secret`: the CA of a cluster, in the Secret istio-ca-secret by Istio's layout, made by the first replica and taken by all
 * others. It runs as an init container and, with --follow, beside citadel, and leaves the files for `--ca-dir`: citadel itself never has the
 * key in a process that talks to a network.
 */
#include "citadel/kube/ca_secret_command.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "citadel/ca/rotation.h"
#include "common/base/clock.h"
#include "common/daemon/option.h"
#include "common/kube/secret_dir.h"

struct ca_secret_config {
	struct ca_options ca;
	const char *ns, *name, *out, *kubeconfig;
	struct rotation_plan plan;
	enum rotation_step step; /* the last edit took it */
	const char *rotation;
	uint64_t timeout_ms, follow_ms;
	bool help;
};

static const struct option_row rows[] = {
	{.name = "out", OPT_STR(struct ca_secret_config, out, NULL, "folder that gets the CA's files (required)")},
	{.name = "namespace", OPT_STR(struct ca_secret_config, ns, NULL, "of the Secret (default: our own)")},
	{.name = "name", OPT_STR(struct ca_secret_config, name, "istio-ca-secret", "of the Secret")},
	{.name = "root-key", OPT_STR(struct ca_secret_config, ca.root_key, "p256", "key of a root that is made")},
	{.name = "root-ttl", OPT_MS(struct ca_secret_config, ca.root_ttl_ms, "87600h", 1000, 0, "its lifetime")},
	{.name = "trust-domain",
		OPT_STR(struct ca_secret_config, ca.trust_domain, "cluster.local", "its trust domain")},
	{.name = "kubeconfig",
		OPT_STR(struct ca_secret_config, kubeconfig, NULL, "credentials (default: those of the pod)")},
	{.name = "timeout", OPT_MS(struct ca_secret_config, timeout_ms, "60s", 1000, 0, "how long to try")},
	{.name = "follow",
		OPT_MS(struct ca_secret_config, follow_ms, "0", 0, 0,
			"go on: look at the Secret as often, keep the files in step, and take the steps of a rotation "
			"when "
			"they are due; 0: once")},
	{.name = "root-rotation",
		OPT_STR(struct ca_secret_config, rotation, "auto",
			"with --follow, of a root that is the Secret's own: auto or manual")},
	{.name = "root-distribution",
		OPT_MS(struct ca_secret_config, plan.distribute_ms, "24h", 0, 0,
			"how long both roots are out before the new one signs")},
	{.name = "max-workload-cert-ttl",
		OPT_MS(struct ca_secret_config, plan.drain_ms, "2160h", 1000, 0,
			"how long the old root is trusted after that")},
	{.name = "help", OPT_BOOL(struct ca_secret_config, help, "print this text and end")},
};

static bool make_root(void *ctx, const char *scratch, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct ca_options o = ((const struct ca_secret_config *)ctx)->ca;
	struct ca ca = {0};
	o.state_dir = scratch;
	bool ok = ca_load(a, &o, &ca, e);
	pki_key_free(ca.key);
	return ok;
}

static bool rotate(void *ctx, const char *scratch, bool *changed, struct err *e)
{
	struct ca_secret_config *c = ctx;
	int64_t next_ms = 0;
	if (!rotation_run(scratch, &c->ca, &c->plan, clock_wall_ms(), &c->step, &next_ms, e))
		return false;
	*changed = c->step != ROTATION_STAY;
	return true;
}

static bool once(struct ca_secret_config *c, bool edit, struct err *e)
{
	bool made = false;
	const struct kube_secret_options o = {.api = {.kubeconfig = c->kubeconfig},
		.namespace = c->ns,
		.name = c->name,
		.dir = c->out,
		.make = edit ? NULL
			     : make_root, /* a Secret that is deleted meanwhile is to be restored, not replaced */
		.edit = edit ? rotate : NULL,
		.ctx = c,
		.timeout_ms = c->timeout_ms};
	bool ok = kube_secret_dir(&o, &made, e);
	if (ok && c->step != ROTATION_STAY)
		(void)printf("rotation of the root: %s\n", rotation_step_name(c->step));
	c->step = ROTATION_STAY;
	if (ok && (made || !edit))
		(void)printf("%s the CA of Secret %s\n", made ? "made" : "took", c->name);
	(void)fflush(stdout);
	return ok;
}

/* Until it is told to end. What fails is tried again; the files stay. */
static void follow(struct ca_secret_config *c)
{
	const struct timespec wait = {(time_t)(c->follow_ms / 1000), (long)(c->follow_ms % 1000) * 1000000};
	struct err e = {0};
	sigset_t ends;
	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigaddset(&ends, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &ends, NULL);
	while (sigtimedwait(&ends, NULL, &wait) < 0) {
		e = (struct err){0};
		if (!once(c, true, &e))
			(void)fprintf(stderr, "citadel ca-secret: %s\n", e.text);
	}
}

int ca_secret_command(int argc, char **argv)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct ca_secret_config c = {0};
	const char *const *rest = NULL;
	struct err e = {0};
	bool ok = options_parse(a, "citadel-ca-secret", rows, ARRAY_LEN(rows), argc, argv, &c, &rest, &e);
	if (ok && c.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("citadel ca-secret", "makes or takes the CA of a cluster", rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	ok = ok && (c.out || err_set(&e, ERR_PEER, "--out is required"));
	ok = ok && (streq(c.rotation, "auto") || streq(c.rotation, "manual") ||
			   err_set(&e, ERR_PEER, "--root-rotation: \"%.40s\" is neither auto nor manual", c.rotation));
	c.plan.automatic = ok && streq(c.rotation, "auto");
	ok = ok && once(&c, false, &e);
	if (!ok)
		(void)fprintf(stderr, "citadel ca-secret: %s\n", e.text);
	else if (c.follow_ms)
		follow(&c);
	return ok ? 0 : 1;
}
