/*
 * Node metadata that comes from the environment, as in Istio: ISTIO_META_X=text becomes X, ISTIO_METAJSON_X={...} is merged into the object X.
 * What an option of the agent's has said already stays. Pure.
 */
#pragma once

#include <jansson.h>

#include "common/base/err.h"

/* `environment`: "K=V" list, NULL-terminated; NULL: none. */
bool metadata_from_env(json_t *metadata, char *const *environment, struct err *e) MUST_CHECK;
bool metadata_is_true(const json_t *metadata, const char *key);
/* The node's locality: the option's "region/zone/subzone", else the labels topology.istio.io/locality or istio-locality (with dots or slashes),
 * else those that Kubernetes copies from the machine. Borrowed labels; the caller owns the result. */
json_t *metadata_locality(const char *option, const json_t *labels);
