/*
 * Citadel's state, shared by its files: signer, authentication, the gRPC server with its own certificate, the trust bundle, the ring of what
 * was issued. One loop, one thread; the CA's key is in the signer process only.
 */
#pragma once

#include "citadel/authn/authn.h"
#include "citadel/kube/cluster.h"
#include "citadel/signer/signer.h"
#include "common/bus/bus.h"
#include "common/daemon/daemon.h"
#include "common/io/file.h"
#include "common/io/grpc.h"

#define ISSUANCES 1000

struct citadel_config {
	const char *address, *unix_path, *ca_dir, *root_key, *trust_domain, *jwks;
	const char *kubeconfig, *token_review, *roots_config_map;
	bool kubernetes;
	const char *root_rotation;
	uint64_t root_ttl_ms, distribution_ms, max_ttl_ms, default_ttl_ms, probe_interval_ms;
	const char **jwt_issuers, **jwt_audiences, **forwarders, **control_plane, **control_plane_dns, **node_accounts;
};

struct issuance {
	char *id, *serial, *peer;
	const char *by;
	int64_t at_ms, not_after_ms;
	uint64_t issuer; /* citadel_issuer() of then */
};

struct citadel {
	struct daemon *daemon;
	struct arena *arena; /* of the start: lists below */
	const struct citadel_config *cfg;
	struct authn_context authn;
	const char *own_id;
	const char **own_dns, **all_dns, **control_plane;
	const char *own_jwks; /* path, or NULL */
	uint64_t own_jwks_stamp, jwks_stamp;
	struct signer *signer;
	struct citadel_cluster *cluster; /* NULL: not on Kubernetes */
	const char *cluster_issuers[2];
	char *cluster_issuer;
	struct grpc_server *server;
	struct tls_context *tls;
	bool listening;
	struct pki_key *server_key; /* until its certificate has come */
	struct timer *renew, *probe;
	struct dir_watch *watch;
	uint64_t ca_files_stamp;
	struct map *roots_seen; /* DER -> when it came into our bundle */
	struct timer *rollover; /* the next look at the CA's files, or the end of a hold */
	uint64_t hold_until_ms; /* a new CA waits; 0: none does */
	const char *ca_refused; /* why the last change of the CA was not taken; NULL: it was */
	struct bus_publisher *bus;
	struct bus_keys *bus_keys;
	int64_t generation;
	uint64_t roots_hash;
	size_t issued;
	struct issuance ring[ISSUANCES];
};

extern struct log_scope citadel_log;
extern const struct debug_page citadel_pages[];
extern const size_t citadel_n_pages;

bool citadel_start(struct daemon *d, const void *config, void **self, struct err *e);
void citadel_drain(void *self);
void citadel_stop(void *self);
bool citadel_reload(void *self, struct err *e);

/* api/create_certificate.c */
void api_mount(struct citadel *c);
/* api/serving.c: citadel's own server certificate, renewed by itself; listens once it has one. */
void serving_start(struct citadel *c);
void serving_renew(struct citadel *c);
/* api/probe.c: signs for itself now and at each interval; readiness follows. */
void probe_start(struct citadel *c);
void probe_now(struct citadel *c);
/* trust/publish.c */
void trust_publish(struct citadel *c);
void trust_count_expiry(const struct citadel *c);
/* trust/rollover.c */
void rollover_start(struct citadel *c);
void rollover_stop(struct citadel *c);
bool rollover_may_take(void *ctx, const struct signer_ca *next);
void rollover_taken(struct citadel *c);
void rollover_debug(const struct citadel *c, struct strbuf *json);
/* What is to be trusted now (PEM). */
const char *citadel_roots(const struct citadel *c);
void citadel_roots_changed(struct citadel *c);
/* Tells certificates of one issuer from those of another. */
uint64_t citadel_issuer(const struct signer_ca *ca);
/* Whether the API server is to be asked about the caller's token (--token-review). */
bool citadel_review_wanted(const struct citadel *c, const struct authn_proof *p);
/* Reads the key sets again when their files changed. */
void citadel_refresh_keys(struct citadel *c);
