/* Where the entries of registration.h are kept: in galley itself and a file beside it, or at the API server. The daemon's part, on its loop. */
#pragma once

#include "common/kube/kube.h"
#include "galley/registration.h"

struct registered;

struct registered_options {
	const char *state_dir; /* NULL: nothing is kept over a restart; not used with `api` */
	struct kube *api; /* entries are objects of the cluster; NULL: documents of this galley, by the two below */
	void (*put)(void *ctx, struct str file, struct str text);
	void (*remove)(void *ctx, struct str file);
	void *ctx;
};

struct registered *registered_new(const struct registered_options *o, uint64_t mono_ms);
void registered_free(struct registered *r); /* before the api */
/* True: one was about a workload. */
bool registered_report(struct registered *r, const struct bus_change *changes, size_t n, uint64_t mono_ms);
void registered_sync(struct registered *r, const struct galley *g, uint64_t mono_ms);
void registered_debug(const struct registered *r, struct strbuf *json);
