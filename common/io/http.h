/*
 * HTTP client, libcurl underneath: local admin ports (Envoy's 15000, an application's probe) and the Kubernetes API. Asynchronous on the
 * loop's thread. done() comes exactly once. A connection whose peer is gone without a word is given up within HTTP_DEAD_PEER_MS, and one on
 * which a request timed out while nothing at all came is ended for all requests on it, so that the next one gets another.
 */
#pragma once

#include "common/base/str.h"
#include "common/io/loop.h"

#define HTTP_DEAD_PEER_MS 30000 /* nothing is acknowledged, neither data nor keepalive probes */

struct http_client;
struct http_client *http_client_new(struct loop *l);
void http_client_free(struct http_client *c); /* pending requests end with status 0 */

struct http_request {
	const char *method; /* NULL: GET */
	const char *url; /* http:// or https:// */
	const char *const *headers; /* "Name: value", NULL-terminated */
	struct str body;
	uint64_t timeout_ms; /* 0: 5 s */
	size_t max_body_bytes; /* 0: LIMIT_HTTP_BODY_BYTES */
	const char *unix_socket; /* NULL: TCP */
	const char *source; /* address to connect from, "127.0.0.6"; NULL: any */
	bool insecure; /* https: do not verify (probes, as kubelet does) */
	const char *ca_file, *cert_file, *key_file; /* https: PEM; NULL: the system's roots, no client certificate */
	/* An answer of status 2xx is handed over piece by piece as it comes, and done() gets an empty body; false ends it (status 0).
	 * timeout_ms is then the longest silence. NULL: the body is collected. */
	bool (*on_data)(void *ctx, struct str piece);
	void (*on_start)(
		void *ctx); /* with on_data: the header of an answer of status 2xx has come, its body may take a while */
};
struct http_call; /* valid until done() */
/* status 0: no answer, body holds the reason. */
struct http_call *http_send(struct http_client *c, const struct http_request *r,
	void (*done)(void *ctx, int status, struct str body, struct str content_type), void *ctx);
void http_cancel(struct http_call *call); /* done() is not called; not from inside on_data() */
