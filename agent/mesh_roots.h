/*
 * The mesh's roots as pilot tells them (Istio's PCDS: a ProxyConfig with caCertificatesPem): beside those that the CA vouches for, Envoy
 * believes these. They are for peers alone, never for the CA or pilot, and are kept on disk, so that a start without pilot trusts
 * whom the last one did. Owner thread: the loop's.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/base/str.h"
#include "xds/discovery.pb-c.h"

#define MESH_ROOTS_TYPE "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig"

struct mesh_roots;

struct mesh_roots *mesh_roots_new(const char *file); /* reads what is there */
void mesh_roots_free(struct mesh_roots *r);
/*
 * An answer of pilot's. False: it is refused and the roots stay. *changed: there are others now, and they are on disk; when they could not
 * be written that is logged and they count all the same.
 */
bool mesh_roots_take(
	struct mesh_roots *r, const Ads__DeltaDiscoveryResponse *in, bool *changed, struct err *e) MUST_CHECK;
/* What pilot need not send again, in the first request of a stream. */
void mesh_roots_say(const struct mesh_roots *r, struct arena *a, Ads__DeltaDiscoveryRequest *out);
const char *mesh_roots_pem(const struct mesh_roots *r); /* "" : none; borrowed until the next change */
size_t mesh_roots_count(const struct mesh_roots *r);

/* The bundle in an answer: "" when it takes the resource away, NULL and no error when it says nothing. In the arena. Pure. */
bool mesh_roots_parse(
	struct arena *a, const Ads__DeltaDiscoveryResponse *in, const char **pem, size_t *n, struct err *e) MUST_CHECK;
