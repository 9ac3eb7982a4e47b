#include "galley/crds.h"
#include "galley/daemon.h"

/* DOC: Galley, the daemon: tables and one call. Start reading at galley/README.md; the way of the data is pipeline.c. */

static const struct option_row options[] = {
	{"source", OPT_STR(struct galley_config, source, NULL,
			   "directory of YAML and JSON files to read and watch, or \"kubernetes\" (required)")},
	{"kubeconfig", OPT_STR(struct galley_config, kubeconfig, NULL,
			       "credentials for --source kubernetes (default: those of the pod that this runs in)")},
	{"kube-context", OPT_STR(struct galley_config, kube_context, NULL,
				 "context of the kubeconfig (default: its current one)")},
	{"revision", OPT_STR(struct galley_config, revision, NULL,
			     "of Istio's kinds, objects that the label istio.io/rev gives to another one are not "
			     "read (default: all are)")},
	{"root-namespace", OPT_STR(struct galley_config, root_namespace, "istio-system",
				   "where the ConfigMap istio with the mesh config is (--source kubernetes)")},
	{"no-status", OPT_BOOL(struct galley_config, no_status, "write no status of the cluster's objects")},
	{"status-lease", OPT_MS(struct galley_config, status_lease_ms, "15s", 1000, 600000,
				 "of several galleys one writes statuses: after so much silence another takes over; "
				 "counts alone are written after twice this time")},
	{"access-age",
		OPT_MS(struct galley_config, access_age_ms, "1m", 1000, 3600000,
			"the API server is asked again whether a service account may list Secrets (who may not gets no "
			"certificate's key) when its answer is so old")},
	{"record", OPT_STR(struct galley_config, record, NULL, "also write everything that is published to this file")},
	{"once", OPT_BOOL(struct galley_config, once, "stop after the first publication")},
	{"debounce", OPT_MS(struct galley_config, debounce_ms, "10ms", 1, 10000,
			     "quiet time after a change before the directory is read")},
	{"domain-suffix",
		OPT_STR(struct galley_config, domain_suffix, "cluster.local", "suffix of the names of services")},
	{"webhook-address", OPT_STR(struct galley_config, webhook_address, NULL,
				    "where admission webhooks are served, by TLS (Istio: 0.0.0.0:15017)")},
	{"webhook-cert-dir", OPT_STR(struct galley_config, webhook_cert_dir, NULL,
				     "their certificate: tls.crt, tls.key, ca.crt; read again when changed")},
	{"webhook-configuration", OPT_LIST(struct galley_config, webhook_configurations,
					  "validating/NAME or mutating/NAME: its CA bundle is kept right")},
	{"webhook-dns",
		OPT_LIST(struct galley_config, webhook_dns,
			"names by which the API server calls the webhooks, for the certificate (default galley)")},
	{"ca-address",
		OPT_STR(struct galley_config, ca_address, NULL, "citadel: the webhooks' certificate is asked of it")},
	{"ca-roots", OPT_STR(struct galley_config, ca_roots, NULL, "PEM file that verifies citadel")},
	{"ca-token", OPT_STR(struct galley_config, ca_token, NULL, "file with the token that proves who galley is")},
	{"ca-name", OPT_LIST(struct galley_config, ca_names, "accepted name of citadel, DNS or SPIFFE id")},
	{"trust-domain", OPT_STR(struct galley_config, trust_domain, "cluster.local",
				 "of galley's own identity and of injected proxies")},
	INJECT_OPTION_ROWS("inject-", struct galley_config, inject),
	{"inject-config", OPT_STR(struct galley_config, inject_config, NULL,
				  "file with templates and selectors, what Istio has in the ConfigMap "
				  "istio-sidecar-injector under config; read again when changed")},
	{"pods-declare-sidecars", OPT_BOOL(struct galley_config, cluster_pods,
					  "a pod has a sidecar only if its label security.istio.io/tlsMode or "
					  "annotation sidecar.istio.io/status says so")},
};

static const struct daemon_command commands[] = {
	{"crds", "print the CustomResourceDefinitions of the kinds that galley reads", crds_command},
};

int main(int argc, char **argv)
{
	const struct daemon_def def = {
		.name = "galley",
		.summary = "validates configuration and publishes it, with the services and endpoints that it finds",
		.controlz = true,
		.admin_port = 15024,
		.options = options,
		.n_options = ARRAY_LEN(options),
		.commands = commands,
		.n_commands = ARRAY_LEN(commands),
		.pages = galley_pages,
		.n_pages = galley_n_pages,
		.config_size = sizeof(struct galley_config),
		.start = galley_daemon_start,
		.stop = galley_daemon_stop,
		.reload = galley_daemon_reload,
	};
	return daemon_main(&def, argc, argv);
}
