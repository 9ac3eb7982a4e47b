/* Of what bootstrap.c and services.c make parts of the bootstrap. */
#pragma once

#include <jansson.h>

#include "agent/config.h"
#include "common/base/str.h"

struct families {
	bool v4, v6;
};

struct families pod_families(const struct agent_config *c); /* that the pod has addresses of */
json_t *socket_address(struct str host, unsigned port); /* Envoy's Address, the caller's */
