/*
 * The seven attributes of a workload that peers tell each other in headers x-fairlead-peer-<name>, and where the proxy that sends
 * them finds its own: in its environment, which its agent sets.
 */
#pragma once

#include <stddef.h>

struct peer_attribute {
	const char *name; /* header suffix and filter state key */
	const char *environment;
	const char *label; /* of the standard metrics, after source_ or destination_ */
	const char *metadata; /* key in an endpoint's filter_metadata.fairlead */
};
#define PEER_ATTRIBUTE_COUNT 7
#define PEER_STATE "fairlead.peer." /* keys of what a server keeps of them as filter state */
extern const struct peer_attribute peer_attributes[PEER_ATTRIBUTE_COUNT];
