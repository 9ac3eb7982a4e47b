/*
 * A Secret that the first of several makes and all others take: GET; when it is absent `make` fills a scratch folder, whose files become the
 * Secret by POST; when somebody was quicker (409) theirs counts. In the end `dir` holds the Secret's entries as files, mode 0600. For commands
 * that run beside a daemon (init containers, install hooks): it runs a loop of its own and returns when done. Files that are as they should be
 * are not written again.
 */
#pragma once

#include "common/kube/kube.h"

struct kube_secret_options {
	struct kube_options api;
	const char *namespace; /* NULL: kube_namespace() */
	const char *name;
	const char *dir; /* made, mode 0700; NULL: the Secret is all that is wanted */
	bool (*make)(void *ctx, const char *scratch, struct err *e); /* NULL: a Secret that is absent is an error */
	/*
	 * What the Secret held is in the scratch folder; when *changed, its files become the Secret by PUT with the version that was read. Somebody
	 * else's write in between (409) starts over, so it may be called again. NULL: nothing is changed.
	 */
	bool (*edit)(void *ctx, const char *scratch, bool *changed, struct err *e);
	void *ctx;
	uint64_t timeout_ms; /* 0: 60 s; the API server may still be on its way up */
};

/* *made: this call made it. */
bool kube_secret_dir(const struct kube_secret_options *o, bool *made, struct err *e) MUST_CHECK;
