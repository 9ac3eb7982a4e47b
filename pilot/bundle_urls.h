/*
 * Roots from SPIFFE bundle endpoints (MeshConfig.caCertificates.spiffeBundleUrl): fetched when a URL comes and again every refresh_ms, told as
 * values of the topic trust with the URL as key. What was fetched last stays while an endpoint is away, also over a restart when there is a
 * state folder. Owner: the main thread; nothing blocks.
 */
#pragma once

#include "common/base/err.h"
#include "common/bus/bus.h"
#include "common/io/loop.h"

struct bundle_urls;

struct bundle_urls_options {
	struct loop *loop;
	const char *state_dir; /* NULL: nothing is kept */
	const char *roots; /* PEM file that verifies the endpoints; NULL: the system's */
	uint64_t refresh_ms;
	void (*on_change)(void *ctx, const struct bus_change *c);
	void *ctx;
};

struct bundle_urls *bundle_urls_new(const struct bundle_urls_options *o); /* its strings are borrowed for life */
void bundle_urls_free(struct bundle_urls *b);
/* Those of the mesh config as it is now; others are let go, with their roots. */
void bundle_urls_set(struct bundle_urls *b, const struct str *urls, size_t n);
/* [{"url", "roots", "ageMs", "failures", "error"}] */
void bundle_urls_debug(const struct bundle_urls *b, struct strbuf *json);
