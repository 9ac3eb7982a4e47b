/*
 * Host names as Istio treats them: short names are relative to the namespace of the object that uses them; wildcards are "*" or
 * "*.suffix"; an exact name beats the longest wildcard. Comparison is on lower case.
 */
#pragma once

#include "common/base/arena.h"

/* "reviews" in namespace bookinfo -> "reviews.bookinfo.svc.cluster.local" (a name without a dot is short); "reviews.ns" stays.
 * `suffix` is the mesh's domain suffix, "cluster.local". */
struct str host_resolve(struct arena *a, struct str host, struct str ns, struct str suffix);
struct str host_lower(struct arena *a, struct str host);
bool host_is_wildcard(struct str host);
bool host_matches(struct str pattern, struct str host); /* pattern covers host (host may be a wildcard too: subset) */
bool host_overlaps(struct str x, struct str y); /* some name belongs to both */
/* <0: x is more specific than y, as Istio orders hosts. */
int host_specificity(struct str x, struct str y);
/* RFC 1123 names and Istio's wildcard rule; NULL when fine, else the reason. */
const char *host_check(struct str host, bool wildcard_allowed);
/* All names under which a client in `client_ns` may call `fqdn` (Istio's virtual host domains): fqdn, and for cluster-local
 * services name.ns.svc, name.ns, name (same namespace). Fills at most 4; returns how many. */
size_t host_aliases(struct arena *a, struct str fqdn, struct str client_ns, struct str suffix, struct str out[4]);
/* Hosts that may have the name among these, whether there are such services or not; how many. */
size_t host_alias_owners(struct arena *a, struct str name, struct str client_ns, struct str suffix, struct str out[3]);
/* "ns" and "name" of "name.ns.svc.suffix"; false for other names. */
bool host_split_service(struct str fqdn, struct str suffix, struct str *name, struct str *ns);
