/* DOC: Pilot, the daemon: tables and one call. `--render` ends before the loop runs. Start reading at pilot.h. */
#include <stdlib.h>

#include "pilot/pilot.h"

static const struct option_row options[] = {
	{.name = "http-address",
		OPT_STR(struct pilot_config, http_address, NULL,
			"health and debug pages under istiod's port too (Istio: 127.0.0.1:8080)")},
	{.name = "xds-address",
		OPT_STR(struct pilot_config, xds_address, "127.0.0.1:15010", "where proxies connect, plaintext")},
	{.name = "xds-tls-address",
		OPT_STR(struct pilot_config, xds_tls_address, "*:15012",
			"where proxies connect with TLS; opened when there is a certificate (--ca-token)")},
	{.name = "trust-domain",
		OPT_STR(struct pilot_config, trust_domain, "cluster.local",
			"of pilot's own identity and of its callers")},
	{.name = "ca-token",
		OPT_STR(struct pilot_config, ca_token, NULL,
			"file with the token by which citadel gives pilot its certificate")},
	{.name = "ca-address",
		OPT_STR(struct pilot_config, ca_address, NULL,
			"citadel, host:port or unix:/path: certificate requests are passed on to it")},
	{.name = "ca-roots", OPT_STR(struct pilot_config, ca_roots, NULL, "PEM file that verifies citadel")},
	{.name = "ca-name", OPT_LIST(struct pilot_config, ca_names, "accepted name of citadel, DNS or SPIFFE id")},
	{.name = "identity",
		OPT_STR(struct pilot_config, identity, "ns/istio-system/sa/istiod",
			"who pilot is: what its token says")},
	{.name = "identity-dns",
		OPT_LIST(struct pilot_config, identity_dns,
			"names in its certificate, by which proxies call it (default istiod.istio-system.svc)")},
	{.name = "scope-gateways-to-namespace",
		OPT_BOOL(struct pilot_config, scope_gateways,
			"a gateway's pods are selected by Gateways of their own namespace only")},
	{.name = "workers", OPT_U32(struct pilot_config, workers, "1", 1, 64, "threads that serve proxies")},
	{.name = "debounce",
		OPT_MS(struct pilot_config, debounce_ms, "10ms", 1, 10000,
			"shortest pause after a push; changes in it are merged")},
	{.name = "debounce-max",
		OPT_MS(struct pilot_config, debounce_max_ms, "100ms", 1, 60000,
			"longest pause after a push, when pushes cost much")},
	{.name = "max-connection-age",
		OPT_MS(struct pilot_config, max_connection_age_ms, "30m", 0, 86400000,
			"a proxy's connection is renewed after this, so that load spreads")},
	{.name = "bundle-roots",
		OPT_STR(struct pilot_config, bundle_roots, NULL,
			"PEM file that verifies SPIFFE bundle endpoints (spiffeBundleUrl); default: the system's "
			"roots")},
	{.name = "bundle-refresh",
		OPT_MS(struct pilot_config, bundle_refresh_ms, "30m", 100, 86400000,
			"how often SPIFFE bundles are fetched again")},
	{.name = "workload-grace",
		OPT_MS(struct pilot_config, workload_grace_ms, "10s", 0, 3600000,
			"how long a workload that registered itself may be away before its entry goes")},
	{.name = "keepalive",
		OPT_MS(struct pilot_config, keepalive_ms, "30s", 1000, 3600000,
			"silence after which a connection is probed")},
	{.name = "replay",
		OPT_STR(struct pilot_config, replay, NULL, "serve this recording of the bus instead of the bus")},
	{.name = "render",
		OPT_STR(struct pilot_config, render, NULL,
			"with --replay: print what the node in this JSON file would be sent, and end")},
};

static bool start(struct daemon *d, const void *config, void **self, struct err *e)
{
	const struct pilot_config *c = config;

	if (str_empty(c->render))
		return pilot_start(d, config, self, e);
	if (str_empty(c->replay))
		return err_set(e, ERR_PEER, "--render needs --replay");
	exit(pilot_render(c->replay, c->render));
}

int main(int argc, char **argv)
{
	const struct daemon_def def = {
		.name = "pilot",
		.summary = "turns mesh configuration into xDS and serves it to proxies",
		.controlz = true,
		.admin_port = 15014,
		.options = options,
		.n_options = ARRAY_LEN(options),
		.pages = pilot_pages,
		.n_pages = pilot_n_pages,
		.config_size = sizeof(struct pilot_config),
		.start = start,
		.drain = pilot_drain,
		.stop = pilot_stop,
	};
	return daemon_main(&def, argc, argv);
}
