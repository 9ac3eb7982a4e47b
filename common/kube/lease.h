/*
 * One of several replicas: who holds a Lease (coordination.k8s.io/v1) does what only one may do. The rules are those of Kubernetes' own
 * controllers: the holder renews, the others look on, and take over when the record has not changed for its duration by their own clock.
 * A holder that cannot renew stops believing in it before anybody else may begin, so that there is never more than one.
 */
#pragma once

#include "common/kube/kube.h"

struct kube_lease;
struct kube_lease_options {
	const char *namespace, *name, *identity; /* copied */
	uint64_t duration_ms; /* in whole seconds; renewed after a fifth of it */
	void (*changed)(void *ctx, bool held); /* may be NULL */
	void *ctx;
};
struct kube_lease *kube_lease_new(struct kube *k, const struct kube_lease_options *o);
/* After the kube_free() of its client, which ends the request that may be under way. NULL is fine; the lease runs out by itself. */
void kube_lease_free(struct kube_lease *l);
bool kube_lease_held(const struct kube_lease *l); /* right now */
/* {"name", "holder", "held", "error"} */
void kube_lease_debug(const struct kube_lease *l, struct strbuf *json);
