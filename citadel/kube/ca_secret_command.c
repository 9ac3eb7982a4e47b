/*
 * DOC: `citadel ca-secret`: the CA of a cluster, in the Secret istio-ca-secret by Istio's layout, made by the first replica and taken by all
 * others. It runs as an init container and leaves the files for `--ca-dir`, so that citadel itself has neither the right to read Secrets nor
 * the key in a process with a network.
 */
#include "citadel/kube/ca_secret_command.h"

#include <stdio.h>
#include <unistd.h>

#include "citadel/ca/load.h"
#include "common/daemon/option.h"
#include "common/kube/secret_dir.h"

struct ca_secret_config {
	struct ca_options ca;
	const char *ns, *name, *out, *kubeconfig;
	uint64_t timeout_ms;
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
	{.name = "help", OPT_BOOL(struct ca_secret_config, help, "print this text and end")},
};

static bool make_root(void *ctx, const char *scratch, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct ca_options o = *(const struct ca_options *)ctx;
	struct ca ca = {0};
	o.state_dir = scratch;
	bool ok = ca_load(a, &o, &ca, e);
	pki_key_free(ca.key);
	return ok;
}

int ca_secret_command(int argc, char **argv)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct ca_secret_config c = {0};
	const char *const *rest = NULL;
	struct err e = {0};
	bool made = false;
	bool ok = options_parse(a, "citadel-ca-secret", rows, ARRAY_LEN(rows), argc, argv, &c, &rest, &e);
	if (ok && c.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("citadel ca-secret", "makes or takes the CA of a cluster", rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	ok = ok && (c.out || err_set(&e, ERR_PEER, "--out is required"));
	const struct kube_secret_options o = {.api = {.kubeconfig = c.kubeconfig},
		.namespace = c.ns,
		.name = c.name,
		.dir = c.out,
		.make = make_root,
		.ctx = &c.ca,
		.timeout_ms = c.timeout_ms};
	ok = ok && kube_secret_dir(&o, &made, &e);
	if (ok)
		(void)printf("%s the CA of Secret %s\n", made ? "made" : "took", c.name);
	else
		(void)fprintf(stderr, "citadel ca-secret: %s\n", e.text);
	return ok ? 0 : 1;
}
