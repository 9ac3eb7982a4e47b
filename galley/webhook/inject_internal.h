/* The parts of injection, one file each; inject.c puts them together. All pure. */
#pragma once

#include "galley/webhook/inject.h"

#define PROXY_NAME "istio-proxy"
#define INIT_NAME "istio-init"
#define VALIDATION_NAME "istio-validation" /* in its place, where somebody else sets up capture */
#define STATUS_ANNOTATION "sidecar.istio.io/status"
#define BOOTSTRAP_ANNOTATION "sidecar.istio.io/bootstrapOverride" /* a ConfigMap's name */
#define BOOTSTRAP_DIR "/etc/istio/custom-bootstrap"
#define STATUS_PORT 15020u
#define HEALTH_PORT 15021u
#define PROXY_USER 1337

/* One pod under work. The JSON is owned by inject_pod(). */
struct injection {
	const struct inject_options *o;
	const struct inject_request *q;
	json_t *pod, *metadata, *spec; /* the result, as far as it is */
	json_t *annotations, *labels; /* as the user wrote them; objects */
	json_t *config; /* proxy.istio.io/config, an object */
	struct diags *warnings;
	const char *ns;
	json_t *custom; /* names of the user's templates, then their patches; a list */
	json_t *seen; /* annotations for the agent: the pod's and the templates' */
	json_t *original; /* the pod's spec, before */
	char workload[64]; /* as long as a label may be */
	uint32_t user, group; /* of the proxy */
	bool built_in; /* one of the program's templates is asked for: the pod gets a proxy */
	bool gateway, native, hold, capture;
	bool transparent; /* captured with TPROXY */
	uint32_t status_port; /* 0: the status port is not probed and probes are not rewritten */
};

/* ---- inject.c */
const char *text_at(const json_t *o, const char *key); /* "": no text is there */
json_t *object_in(json_t *parent, const char *key); /* what is there, or a new one */
json_t *list_in(json_t *parent, const char *key);
bool is_injected(const char *container); /* its name is of one that we make */
json_t *find_proxy(const json_t *spec); /* the container istio-proxy, NULL: there is none (yet) */

/* ---- inject_values.c: values of annotations */
bool value_bool(const char *text, bool *out); /* Go's spellings */
bool value_quantity(const char *text, double *out); /* "100m", "1.5Gi" */
/* All annotations of Istio that the pod has; the first that is wrong is the error. */
bool annotations_check(json_t *annotations, struct diags *warnings, struct err *e) MUST_CHECK;
bool annotation_is_setting(const char *name); /* one that says how a proxy is to be, and not whether */
/* What proxyMetadata says about traffic capture, in `config`. */
bool capture_metadata_check(const json_t *config, struct diags *warnings, struct err *e) MUST_CHECK;
const char *annotation_of(const struct injection *i, const char *name, const char *fallback);

/* ---- inject_config.c: the annotation proxy.istio.io/config */
bool config_parse(const char *yaml, json_t **out, struct diags *warnings, struct err *e) MUST_CHECK;
/* Adds what `config` does not say; of proxyMetadata each variable. */
bool config_add_defaults(json_t *config, const char *defaults, struct err *e) MUST_CHECK;
void config_add_missing(json_t *config, json_t *more);
/* One map of YAML as JSON, the caller's. */
bool yaml_object(const char *yaml, json_t **out, struct err *e) MUST_CHECK;
/* ---- inject_resources.c: over and under the pod's annotation, which is in i->config */
bool config_add_resources(struct injection *i, struct err *e) MUST_CHECK;

/* ---- inject_proxy.c, inject_volumes.c: what is injected */
json_t *proxy_container(const struct injection *i);
/* As many workers as the CPU limit has cores, when nothing else says; without a limit it is the agent's to say. */
void proxy_set_workers(const struct injection *i);
/* What all containers of ours have. Takes `added`, which may be NULL; takes args and rights. */
json_t *container_rights(json_t *added, uint32_t user, uint32_t group);
json_t *helper_container(const struct injection *i, const char *name, json_t *args, json_t *rights);
char *proxy_image(const struct injection *i); /* the caller frees it */
/* JSON as the value of an environment variable, in which $(NAME) would be replaced; the caller frees it. */
char *env_json(const json_t *value);
char *env_literal(const char *value); /* text, likewise */
json_t *proxy_volume_mounts(const struct injection *i);
json_t *proxy_volumes(const struct injection *i);

/* ---- inject_capture.c: when the proxy is in the pod */
bool capture_is_first(const struct injection *i); /* of the init containers */
json_t *capture_container(const struct injection *i);
void capture_set_user(const struct injection *i); /* who may pass the capture, when the proxy's user is known */
void capture_annotations(const struct injection *i, json_t *annotations); /* what a CNI plugin reads */

/* ---- inject_metadata.c */
const char *network_of(const struct injection *i); /* the pod's label, the webhook's path, the option; "": none */
void workload_name(const json_t *metadata, const char *known, char out[64]);
void metadata_labels(const struct injection *i, json_t *labels);
/* Of where the application's metrics are; what templates add is in it. */
bool metadata_check(const struct injection *i, struct err *e) MUST_CHECK;
void metadata_annotations(const struct injection *i, json_t *annotations);

/* ---- inject_merge.c: what the user wrote wins */
/* A container of the user's over the one of ours; a new object. */
json_t *container_merge(const json_t *ours, const json_t *users);
/* The patch of a template, which may delete. */
void patch_apply(json_t *target, const json_t *patch);
const char *list_key(
	const char *list); /* the field by which items are the same; NULL: the list is replaced as a whole */
json_t *list_named(const json_t *list, const char *name, size_t *at); /* NULL: not there; borrowed; at may be NULL */
/* Takes item: into the list at the index, or not when one of its name is there already. */
void list_add_named(json_t *list, json_t *item, size_t at);

/* ---- inject_custom.c: templates of the user's; in this order */
bool custom_choose(struct injection *i, struct err *e) MUST_CHECK;
bool custom_read(struct injection *i, struct err *e) MUST_CHECK;
void custom_metadata(struct injection *i);
void custom_spec(const struct injection *i, json_t *status);

/* ---- inject_openshift.c: the proxy's user, on that platform */
void openshift_read(struct injection *i);
void openshift_clear_user(
	const struct injection *i); /* what the pod's proxy has of the application's user, before it is injected */

/* ---- inject_probes.c: probes of the application by way of the agent */
/* Rewrites those that are not yet, and adds them to the proxy's environment. */
void probes_rewrite(const json_t *spec, json_t *proxy, uint32_t status_port);
