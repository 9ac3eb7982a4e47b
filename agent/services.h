/*
 * Services that Envoy itself calls, because its ProxyConfig names them: the access log service (pilot's listeners log to it when the mesh config
 * says enableEnvoyAccessLogService), the metrics service and a statsd. Clusters and sinks of the bootstrap. Pure.
 */
#pragma once

#include <jansson.h>

#include "agent/config.h"
#include "common/base/err.h"

/* Appends a cluster for each service that `config`, an Istio ProxyConfig, names. */
bool services_clusters(const struct agent_config *c, const json_t *config, json_t *clusters, struct err *e) MUST_CHECK;
/* Where statistics go to: the bootstrap's stats_sinks, the caller's; empty: nowhere. */
bool services_sinks(const json_t *config, json_t **out, struct err *e) MUST_CHECK;
