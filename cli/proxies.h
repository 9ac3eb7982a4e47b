/* The proxies that a pilot knows, from its debug pages. */
#pragma once

#include <jansson.h>

#include "common/base/arena.h"
#include "common/base/err.h"

/* "pod.namespace" from PROXY and --namespace; a name alone stays alone and means any namespace. */
const char *proxy_name(struct arena *a, const char *proxy, const char *ns);
/* The page's items, sorted by proxy, each with a member "pilot": the instance that answered. name "": all. The caller decrefs; NULL and e on
 * error. A worker of pilot that was too busy to answer is named on standard error. */
json_t *proxies_of_pilot(const char *address, const char *page, const char *name, uint64_t timeout_ms, struct err *e);
