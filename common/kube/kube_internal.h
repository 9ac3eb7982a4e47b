/* What the files of common/kube share. */
#pragma once

#include "common/io/http.h"
#include "common/kube/kube.h"

/* Where, and who. Strings owned. Inline PEM data of a kubeconfig is in memory files, since TLS libraries take file names. */
struct kube_config {
	char *server; /* without a trailing slash */
	char *ca_file, *cert_file, *key_file;
	char *token, *token_file; /* a token file is read again when it changes: projected tokens rotate */
	char *namespace;
	bool insecure;
	int fds[3]; /* memory files, -1: none */
	size_t n_fds;
};
bool kube_config_load(const struct kube_options *o, struct kube_config *out, struct err *e) MUST_CHECK;
void kube_config_done(struct kube_config *c);

/* The reason in a Status object, else the start of the text. Into out, NUL-terminated. */
void kube_reason(int status, struct str body, char out[256]);
/* How an answer that comes in pieces is taken (http.h). */
struct kube_stream {
	void (*on_start)(void *ctx);
	bool (*on_data)(void *ctx, struct str piece);
};
/* Sends with credentials. stream NULL: the answer comes whole. */
struct http_call *kube_http(struct kube *k, const struct kube_request *r, size_t max_body,
	const struct kube_stream *stream, void (*done)(void *ctx, int status, struct str body, struct str type),
	void *ctx);
struct loop *kube_loop(const struct kube *k);
struct kube_watch **kube_watches(struct kube *k); /* head of the list of all of them, which watch.c keeps */
