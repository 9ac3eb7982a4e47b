/*
 * The Kubernetes API as a source: one list and watch for each kind that galley reads (protos/kinds.def), and the mesh config from the ConfigMap
 * `istio` (keys `mesh` and `meshNetworks`) of the root namespace, as istiod reads it. Of the other ConfigMaps those with a CA count, of the Secrets
 * those that may have a certificate. An object is handed on as one document under the name
 * "kubernetes/<Kind>/<namespace>/<name>", so that everything behind is the same as for files.
 *
 * Nothing is settled before every kind was listed once: what is published first must be the whole content.
 */
#pragma once

#include "common/io/loop.h"
#include "common/kube/kube.h"

struct kubernetes;

struct kubernetes_ops {
	void (*put)(void *ctx, struct str file, struct str text);
	void (*remove)(void *ctx, struct str file);
	void (*settled)(void *ctx); /* all kinds are listed; afterwards after each change */
};

struct kubernetes_options {
	struct kube_options api;
	const char *root_namespace; /* "istio-system" */
	const struct kubernetes_ops *ops;
	void *ctx;
};

struct kubernetes *kubernetes_new(struct loop *l, const struct kubernetes_options *o, struct err *e) MUST_CHECK;
void kubernetes_free(struct kubernetes *k);
struct kube *kubernetes_api(struct kubernetes *k); /* for what galley writes; borrowed */
/* What is still to be listed, for /readyz; "" when nothing is. */
void kubernetes_missing(const struct kubernetes *k, struct strbuf *out);
uint64_t kubernetes_age_ms(const struct kubernetes *k); /* of the stalest kind; 0: all are watched */
void kubernetes_debug(const struct kubernetes *k, struct strbuf *json);
