/* DOC: Citadel, the daemon: tables and one call. Start reading at daemon.c; the one call it serves is api/create_certificate.c. */
#include "citadel/ca/rotate_command.h"
#include "citadel/daemon.h"
#include "citadel/kube/ca_secret_command.h"
#include "citadel/signer/child.h"
#include "citadel/token.h"
#include "common/pki/pki.h"

static const struct option_row options[] = {
	{.name = "address", OPT_STR(struct citadel_config, address, "127.0.0.1:8060", "where CSRs are taken, by TLS")},
	{.name = "unix", OPT_STR(struct citadel_config, unix_path, NULL, "also a Unix socket, without TLS")},
	{.name = "ca-dir",
		OPT_STR(struct citadel_config, ca_dir, NULL,
			"plugged-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem, or tls.crt, tls.key, "
			"ca.crt")},
	{.name = "root-key", OPT_STR(struct citadel_config, root_key, "p256", "key of an own root: " PKI_KEY_TYPES)},
	{.name = "root-ttl", OPT_MS(struct citadel_config, root_ttl_ms, "87600h", 1000, 0, "lifetime of an own root")},
	{.name = "root-rotation",
		OPT_STR(struct citadel_config, root_rotation, "auto",
			"of an own root: auto (begins when a fifth of its life is left) or manual (citadel "
			"rotate-root)")},
	{.name = "root-distribution",
		OPT_MS(struct citadel_config, distribution_ms, "24h", 0, 0,
			"how long a new root is trusted everywhere before its CA signs")},
	{.name = "trust-domain",
		OPT_STR(struct citadel_config, trust_domain, "cluster.local", "trust domain of every identity")},
	{.name = "max-workload-cert-ttl",
		OPT_MS(struct citadel_config, max_ttl_ms, "2160h", 1000, 0, "longest lifetime; more is shortened")},
	{.name = "default-workload-cert-ttl",
		OPT_MS(struct citadel_config, default_ttl_ms, "24h", 1000, 0, "lifetime when none is asked for")},
	{.name = "probe-interval",
		OPT_MS(struct citadel_config, probe_interval_ms, "15s", 100, 0, "how often signing is tried")},
	{.name = "jwks",
		OPT_STR(struct citadel_config, jwks, NULL,
			"keys of --jwt-issuer: JWKS or PEM; read again when changed")},
	{.name = "jwt-issuer", OPT_LIST(struct citadel_config, jwt_issuers, "issuers whose tokens --jwks verifies")},
	{.name = "jwt-audience",
		OPT_LIST(struct citadel_config, jwt_audiences, "accepted audiences (default istio-ca)")},
	{.name = "kubernetes",
		OPT_BOOL(struct citadel_config, kubernetes,
			"accept the cluster's service account tokens; keep a ConfigMap with the trust bundle in every "
			"namespace")},
	{.name = "roots-config-map",
		OPT_STR(struct citadel_config, roots_config_map, "istio-ca-root-cert",
			"name of the ConfigMaps with the trust bundle")},
	{.name = "token-review",
		OPT_STR(struct citadel_config, token_review, "auto",
			"when the API server is asked about a token: auto (while the cluster's keys are not known), "
			"always "
			"(they count alone only when it does not answer), never")},
	{.name = "kubeconfig",
		OPT_STR(struct citadel_config, kubeconfig, NULL,
			"credentials for --kubernetes (default: those of the pod that this runs in)")},
	{.name = "trusted-node-accounts",
		OPT_LIST(struct citadel_config, node_accounts,
			"<namespace>/<account> of node proxies, which may have certificates for accounts of pods on "
			"their own "
			"node (with --kubernetes)")},
	{.name = "trusted-forwarder", OPT_LIST(struct citadel_config, forwarders, "ids that may relay for others")},
	{.name = "control-plane-identity",
		OPT_LIST(struct citadel_config, control_plane, "ids that may have DNS names")},
	{.name = "control-plane-dns", OPT_LIST(struct citadel_config, control_plane_dns, "those DNS names")},
};

static const struct daemon_command commands[] = {
	{"token", "mint a join token for a workload", token_command},
	{"ca-secret", "make or take the CA of a cluster, for --ca-dir", ca_secret_command},
	{"rotate-root", "look at the rotation of the root, and take its steps by hand", rotate_command},
	{"signer", "the process that holds the CA's key; started by citadel itself", signer_command},
};

static const struct daemon_def def = {
	.name = "citadel",
	.summary = "signs workload certificates",
	.controlz = true,
	.admin_port = 15034,
	.options = options,
	.n_options = ARRAY_LEN(options),
	.commands = commands,
	.n_commands = ARRAY_LEN(commands),
	.config_size = sizeof(struct citadel_config),
	.start = citadel_start,
	.drain = citadel_drain,
	.stop = citadel_stop,
	.reload = citadel_reload,
};

int main(int argc, char **argv)
{
	struct daemon_def d = def;
	d.pages = citadel_pages;
	d.n_pages = citadel_n_pages;
	return daemon_main(&d, argc, argv);
}
