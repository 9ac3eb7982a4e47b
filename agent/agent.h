/*
 * The agent beside one Envoy: its identity (key, certificate, SDS), its bootstrap and process, its configuration (a relay of delta ADS with the
 * last good state on disk), its health, metrics, drain and traffic capture. One loop, one thread. It holds one workload's key and nothing of others.
 */
#pragma once

#include "agent/config.h"
#include "common/base/str.h"
#include "common/identity/identity.h"
#include "common/io/loop.h"

struct agent;

#define AGENT_XDS_SOCKET "xds.sock"
#define AGENT_SDS_SOCKET "sds.sock"

/* ---- bootstrap.c: the first configuration of Envoy, as JSON text; the caller frees *out. Pure. */
bool bootstrap_json(const struct agent_config *c, const char *state_dir, char **out, struct err *e) MUST_CHECK;
/* The environment that Envoy gets beside the inherited one: "K=V" list, NULL-terminated; free with bootstrap_env_free(). Formatters of
 * the access log and of metrics read these. */
char **bootstrap_env(const struct agent_config *c);
void bootstrap_env_free(char **env);

/* ---- sds.c: secrets `default` and `ROOTCA` over the Secret Discovery Service on a Unix socket */
struct sds;
struct sds *sds_new(struct loop *l, const char *socket_path, struct identity *identity, struct err *e);
void sds_free(struct sds *s);
void sds_changed(struct sds *s); /* the identity has new material: push it */
/* Roots that ROOTCA has beside the identity's ("": none); pushed when they differ. Copied. */
void sds_set_mesh_roots(struct sds *s, const char *pem);
void sds_debug(const struct sds *s, struct strbuf *json);

/* ---- ads_relay.c: Envoy's ADS stream, answered by pilot or, without it, from the last good configuration */
struct ads_relay;
struct ads_relay_options {
	const char *socket_path;
	const char *cache_file;
	const char *target; /* pilot's address */
	struct mesh_roots *roots; /* what pilot tells of them goes there; NULL: it is not asked. Outlives the relay */
	void (*on_roots)(void *ctx); /* they changed */
	void *ctx;
};
struct ads_relay *ads_relay_new(struct loop *l, const struct ads_relay_options *o, struct err *e);
void ads_relay_free(struct ads_relay *r);
/* Connects to pilot: called once there is an identity (or at once with plaintext, tls NULL). Another call changes nothing. */
void ads_relay_connect(struct ads_relay *r, struct tls_context *tls);
/* What the workload's readiness probe says: to pilot, now and on each new stream. */
void ads_relay_health(struct ads_relay *r, bool healthy, const char *why);
bool ads_relay_connected(const struct ads_relay *r);
void ads_relay_debug(const struct ads_relay *r, struct strbuf *json);

/* ---- envoy.c: the process */
struct envoy;
struct envoy *envoy_new(struct loop *l, const struct agent_config *c, const char *state_dir, struct err *e);
void envoy_start(struct envoy *v);
/* Drains listeners and goes on; envoy_drain() does not wait again then. */
void envoy_drain_now(struct envoy *v);
/* Drains listeners, waits, ends the process; done() once. */
void envoy_drain(struct envoy *v, void (*done)(void *ctx), void *ctx);
void envoy_free(struct envoy *v);
void envoy_debug(const struct envoy *v, struct strbuf *json);

/* ---- status.c: port 15020 */
struct status;
unsigned status_port(const struct agent_config *c); /* of --status-address */
struct status *status_new(struct loop *l, const struct agent_config *c, struct err *e);
void status_free(struct status *s);
struct admin;
void status_mount(struct status *s, struct admin *a); /* the same pages on another server, which lives longer */
void status_draining(struct status *s); /* not ready from now on: callers should go elsewhere */
/* What POST /drain does; without, it is not found. */
void status_on_drain(struct status *s, void (*fn)(void *ctx), void *ctx);
/* Envoy's Prometheus text with our names: `envoy_istio_requests_total` -> `istio_requests_total`. */
void status_rename_metrics(struct str in, struct strbuf *out);
/* True when Envoy's /stats text says that it serves: live, workers started, first clusters and listeners received. *why gets what is missing. */
bool status_is_ready(struct str stats, char why[128]);
/* The connections that Envoy's /stats text counts, without those to its own admin, health and Prometheus ports. */
uint64_t status_connections(struct str stats);

/* ---- key_type.c: Istio's variables for the key of the certificate; NULL or empty: not set */
struct key_variables {
	const char *algorithm, *curve, *rsa_size; /* ECC_SIGNATURE_ALGORITHM, ECC_CURVE, WORKLOAD_RSA_KEY_SIZE */
};
bool agent_key_type(const struct key_variables *v, const char **out, struct err *e) MUST_CHECK;
