/*
 * The statuses of a cluster's objects: from time to time what each object's status should be is made from the distribution and the analysis and
 * handed to the writer. One replica writes, by a Lease; all know generations, for `fairlead wait`.
 */
#pragma once

#include "galley/status/writer.h"

struct cluster_status;
struct cluster_status_options {
	const struct kube_options *api;
	const char *namespace, *identity; /* of the Lease, and who we are */
	uint64_t lease_ms;
	bool write; /* false: nothing is written, and no Lease is asked for */
	const struct galley *galley; /* these two outlive it */
	struct distribution *distribution;
};
struct cluster_status *cluster_status_new(
	struct loop *l, const struct cluster_status_options *o, struct err *e) MUST_CHECK;
void cluster_status_free(struct cluster_status *c); /* NULL is fine */

/* An object from the source; file is "kubernetes/VirtualService/default/reviews". False: only its status changed. */
bool cluster_status_seen(struct cluster_status *c, struct str file, struct str json) MUST_CHECK;
void cluster_status_gone(struct cluster_status *c, struct str file);
void cluster_status_changed(struct cluster_status *c); /* after a commit: the analysis is made again */
int64_t cluster_status_generation(void *c, const char *key); /* for status_json() */
void cluster_status_debug(const struct cluster_status *c, struct strbuf *json);
