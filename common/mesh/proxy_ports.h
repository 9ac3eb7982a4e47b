/*
 * Istio's ports beside a workload, the agent's and Envoy's: no application listens there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool port_is_proxys(uint32_t port)
{
	static const uint16_t ports[] = {15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090};
	for (size_t i = 0; i < sizeof(ports) / sizeof(*ports); i++)
		if (ports[i] == port)
			return true;
	return false;
}
