/*
 * Client of the Kubernetes API: where the server is and who we are (config.c), single requests (client.c), and resources kept in step by
 * list and watch (watch.c). Asynchronous on the loop's thread, libcurl underneath (HTTP/2, one connection for all watches). An API server
 * that goes away, is slow or answers 410, 429 or 5xx costs nothing but age: what was delivered stays, and the client comes back with jittered
 * backoff. Memory is bounded by one page of a list or one event at a time.
 *
 * Source of the rules: Kubernetes API concepts (chunked lists, watch, bookmarks, 410 Gone), kubeconfig v1.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

struct kube;
struct kube_call;

struct kube_options {
	const char *kubeconfig; /* file; NULL: in-cluster (service account files and KUBERNETES_SERVICE_HOST/PORT) */
	const char *context; /* of the kubeconfig; NULL: its current-context */
	const char *service_account_dir; /* NULL: /var/run/secrets/kubernetes.io/serviceaccount */
};

/* Errors name the file and the field. An exec or auth-provider credential is refused: a daemon runs no other programs. */
struct kube *kube_new(struct loop *l, const struct kube_options *o, struct err *e) MUST_CHECK;
void kube_free(struct kube *k); /* pending calls end without an answer; watches must be freed before */
const char *kube_server(const struct kube *k); /* "https://10.96.0.1:443" */
const char *kube_namespace(const struct kube *k); /* own: of the service account, or of the context; "default" */

struct kube_request {
	const char *method; /* NULL: GET */
	const char *path; /* "/api/v1/..." with its query */
	const char *content_type; /* NULL: application/json */
	struct str body;
	uint64_t timeout_ms; /* 0: 10 s */
};
/* status 0: no answer, text is the reason; >= 400: text is the reason of the server's Status object; else the body. done() comes once. */
typedef void (*kube_done)(void *ctx, int status, struct str text);
void kube_send(struct kube *k, const struct kube_request *r, kube_done done, void *ctx);

/* ---- list and watch */
struct kube_watch;

struct kube_watch_ops {
	/* An object that is new or different: "namespace/name" (or "name") and its JSON, with apiVersion and kind, without managedFields. */
	void (*put)(void *ctx, struct str key, struct str json);
	void (*remove)(void *ctx, struct str key);
	/* Everything that a list held was put and what it did not hold was removed; afterwards at each event. */
	void (*settled)(void *ctx);
};

/* Strings of the server's address space: plural and kind must live as long as the watch, the others are copied. */
struct kube_watch_options {
	const char *group, *version, *plural, *kind; /* group "" is core */
	const char *namespace; /* NULL: all */
	const char *selector; /* field and label selectors as a query, "labelSelector=..."; NULL: none */
	uint32_t page; /* items per list request, 0: 250 */
	const struct kube_watch_ops *ops;
	void *ctx;
};
struct kube_watch *kube_watch_new(struct kube *k, const struct kube_watch_options *o);
void kube_watch_free(struct kube_watch *w);
/* Listed at least once, or known to be absent (a kind whose definition is not installed counts as an empty one, and is asked for again). */
bool kube_watch_synced(const struct kube_watch *w);
/* {"resource", "state", "objects", "resourceVersion", "lists", "watches", "events", "failures", "age_ms", "error"} */
void kube_watch_debug(const struct kube_watch *w, struct strbuf *json);
uint64_t kube_watch_age_ms(const struct kube_watch *w); /* since the server was last heard on it */
