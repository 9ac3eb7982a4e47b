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
	{"root-namespace", OPT_STR(struct galley_config, root_namespace, "istio-system",
				   "where the ConfigMap istio with the mesh config is (--source kubernetes)")},
	{"record", OPT_STR(struct galley_config, record, NULL, "also write everything that is published to this file")},
	{"once", OPT_BOOL(struct galley_config, once, "stop after the first publication")},
	{"debounce", OPT_MS(struct galley_config, debounce_ms, "10ms", 1, 10000,
			     "quiet time after a change before the directory is read")},
	{"domain-suffix",
		OPT_STR(struct galley_config, domain_suffix, "cluster.local", "suffix of the names of services")},
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
