/*
 * DOC: `citadel rotate-root`: looks at the rotation of a self-signed root and takes its steps by hand, in citadel's state folder or in the Secret
 * of a cluster. The Secret is written with the version that was read, so that of several who write at once one wins and the others look
 * again. Running citadels see the change by themselves.
 */
#include "citadel/ca/rotate_command.h"

#include <stdio.h>

#include "citadel/ca/rotation.h"
#include "common/base/clock.h"
#include "common/daemon/option.h"
#include "common/kube/secret_dir.h"
#include "citadel/ca/once.h"

struct rotate_config {
	struct ca_options ca;
	struct rotation_plan plan;
	const char *dir, *ns, *name, *kubeconfig;
	uint64_t timeout_ms;
	bool now, in_cluster, help;
	const char *verb;
	struct strbuf out;
};

static const struct option_row rows[] = {
	{.name = "state-dir",
		OPT_STR(struct rotate_config, dir, NULL, "citadel's state folder; without: the Secret of a cluster")},
	{.name = "namespace", OPT_STR(struct rotate_config, ns, NULL, "of the Secret (default: our own)")},
	{.name = "name", OPT_STR(struct rotate_config, name, "istio-ca-secret", "of the Secret")},
	{.name = "kubeconfig",
		OPT_STR(struct rotate_config, kubeconfig, NULL, "credentials (default: those of the pod)")},
	{.name = "timeout", OPT_MS(struct rotate_config, timeout_ms, "60s", 1000, 0, "how long to try")},
	{.name = "root-key", OPT_STR(struct rotate_config, ca.root_key, "p256", "key of the new root")},
	{.name = "root-ttl", OPT_MS(struct rotate_config, ca.root_ttl_ms, "87600h", 1000, 0, "its lifetime")},
	{.name = "trust-domain", OPT_STR(struct rotate_config, ca.trust_domain, "cluster.local", "its trust domain")},
	{.name = "root-distribution",
		OPT_MS(struct rotate_config, plan.distribute_ms, "24h", 0, 0,
			"how long both roots are out before the new one signs")},
	{.name = "max-workload-cert-ttl",
		OPT_MS(struct rotate_config, plan.drain_ms, "2160h", 1000, 0,
			"how long the old root is trusted after that")},
	{.name = "now", OPT_BOOL(struct rotate_config, now, "next: although it is not time yet")},
	{.name = "help", OPT_BOOL(struct rotate_config, help, "print this text and end")},
};

/* ---- what is there */

static void describe_root(struct strbuf *out, const struct pki_cert *r, bool signs)
{
	char expiry[32];
	clock_format(r->not_after_ms, expiry);
	strbuf_addf(out, "root %.16s  %s  until %s%s\n", r->sha256_hex, r->key_type, expiry, signs ? "  signs" : "");
}

static bool describe(struct rotate_config *c, const char *dir, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct rotation r;
	struct str roots_pem = {0}, cert_pem = {0};
	struct pki_cert *roots = NULL, *cert = NULL;
	size_t n = 0, n_cert = 0;
	int64_t next_ms = 0;
	char text[32];
	if (!rotation_read(dir, &r, e) || !read_text(a, path_in(a, dir, "root-cert.pem"), &roots_pem, e) ||
		!read_text(a, path_in(a, dir, "ca-cert.pem"), &cert_pem, e) ||
		!pki_certs_parse(a, roots_pem, &roots, &n, e) || !pki_certs_parse(a, cert_pem, &cert, &n_cert, e))
		return false;
	c->out.len = 0;
	strbuf_addf(&c->out, "phase %s", rotation_phase_name(r.phase));
	if (r.since_ms) {
		clock_format(r.since_ms, text);
		strbuf_addf(&c->out, " since %s", text);
	}
	enum rotation_step due = rotation_due(
		&r, &c->plan, cert[0].not_before_ms, cert[0].not_after_ms, clock_wall_ms(), &next_ms);
	if (due != ROTATION_STAY)
		strbuf_addf(&c->out, ", %s is due", rotation_step_name(due));
	else if (next_ms) {
		clock_format(next_ms, text);
		strbuf_addf(&c->out, ", %s due at %s", rotation_step_name(rotation_next(r.phase)), text);
	}
	strbuf_addc(&c->out, '\n');
	for (size_t i = 0; i < n; i++)
		describe_root(&c->out, &roots[i], str_eq(roots[i].der, cert[0].der));
	return true;
}

/* ---- what is asked for */

static bool step_of(const struct rotate_config *c, const char *dir, enum rotation_step *out, struct err *e)
{
	struct rotation r;
	int64_t next_ms = 0;
	if (!rotation_read(dir, &r, e))
		return false;
	*out = streq(c->verb, "start") ? ROTATION_START : streq(c->verb, "abort") ? ROTATION_ABORT : ROTATION_STAY;
	if (!streq(c->verb, "next"))
		return true;
	*out = rotation_next(r.phase);
	if (r.phase == ROTATION_NONE)
		return err_set(e, ERR_DENIED, "no rotation is under way; \"start\" begins one");
	if (!c->now && rotation_due(&r, &c->plan, 0, 0, clock_wall_ms(), &next_ms) == ROTATION_STAY) {
		char at[32];
		clock_format(next_ms, at);
		return err_set(e, ERR_DENIED, "\"%s\" is not due before %s; --now takes it all the same",
			rotation_step_name(*out), at);
	}
	return true;
}

static bool edit(void *ctx, const char *dir, bool *changed, struct err *e)
{
	struct rotate_config *c = ctx;
	enum rotation_step step = ROTATION_STAY;
	if (!step_of(c, dir, &step, e) || !rotation_apply(dir, step, &c->ca, clock_wall_ms(), e))
		return false;
	*changed = step != ROTATION_STAY;
	return describe(c, dir, e);
}

static bool run(struct rotate_config *c, struct err *e)
{
	bool made = false, changed = false;
	const struct kube_secret_options o = {.api = {.kubeconfig = c->kubeconfig},
		.namespace = c->ns,
		.name = c->name,
		.edit = edit,
		.ctx = c,
		.timeout_ms = c->timeout_ms};
	return c->dir ? edit(c, c->dir, &changed, e) : kube_secret_dir(&o, &made, e);
}

int rotate_command(int argc, char **argv)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct rotate_config c = {.plan = {.automatic = true}};
	const char *const *rest = NULL;
	struct err e = {0};
	bool ok = options_parse(a, "citadel-rotate-root", rows, ARRAY_LEN(rows), argc, argv, &c, &rest, &e);
	if (ok && c.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("citadel rotate-root status|start|next|abort", "rotates a self-signed root, step by step",
			rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	c.verb = ok && rest[0] ? rest[0] : "status";
	if (ok && ((rest[0] && rest[1]) || (!streq(c.verb, "status") && !streq(c.verb, "start") &&
						   !streq(c.verb, "next") && !streq(c.verb, "abort"))))
		ok = err_set(&e, ERR_PEER, "\"%s\" is none of status, start, next, abort", rest[1] ? rest[1] : c.verb);
	c.plan.automatic = true;
	ok = ok && run(&c, &e);
	if (ok)
		(void)fputs(c.out.ptr, stdout);
	else
		(void)fprintf(stderr, "citadel rotate-root: %s\n", e.text);
	strbuf_done(&c.out);
	return ok ? 0 : 1;
}
