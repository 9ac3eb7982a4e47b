/*
 * Citadel on Kubernetes: the cluster's own keys for service account tokens, so that projected tokens are verified here without a call for
 * each, and the ConfigMap istio-ca-root-cert with the trust bundle in every namespace, as Istio's pods mount it. Owner: citadel's loop.
 */
#pragma once

#include "citadel/kube/node_account.h"
#include "citadel/kube/token_review.h"

struct citadel_cluster;

struct citadel_cluster_options {
	struct kube_options api;
	/* The cluster's token issuer and its keys; again whenever they change. Borrowed for the call. */
	void (*on_keys)(void *ctx, const char *issuer, struct str jwks);
	void *ctx;
	const char *roots_config_map; /* name of the ConfigMaps with the trust bundle */
	const char *const *audiences; /* of tokens; borrowed for life */
};

struct citadel_cluster *citadel_cluster_new(
	struct loop *l, const struct citadel_cluster_options *o, struct err *e) MUST_CHECK;
void citadel_cluster_free(struct citadel_cluster *c);
/* A token was signed with a key that is not known: asks again, at most once in ten seconds. */
void citadel_cluster_refresh_keys(struct citadel_cluster *c);
/* Asks the API server about a token; see token_review.h. */
void citadel_cluster_review(struct citadel_cluster *c, struct str token, review_done done, void *ctx);
/* Asks the API server whether a node account may have another's certificate; see node_account.h. */
void citadel_cluster_node(struct citadel_cluster *c, const struct node_question *q, node_done done, void *ctx);
/* What every namespace's ConfigMap shall hold. */
void citadel_cluster_set_roots(struct citadel_cluster *c, struct str roots_pem);
void citadel_cluster_debug(const struct citadel_cluster *c, struct strbuf *json);

/* ---- bundles.c */
struct bundles;
struct bundles *bundles_new(struct loop *l, struct kube *api, const char *config_map);
void bundles_free(struct bundles *b);
void bundles_set(struct bundles *b, struct str roots_pem);
void bundles_debug(const struct bundles *b, struct strbuf *json);
