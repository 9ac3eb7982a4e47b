/* The state of the daemon, for the files that make it up: daemon.c, pages.c. */
#pragma once

#include "galley/access.h"
#include "galley/daemon.h"
#include "galley/galley.h"
#include "galley/gateway_names.h"
#include "galley/registered.h"
#include "galley/reports.h"
#include "galley/source/directory.h"
#include "galley/source/kubernetes.h"
#include "galley/status/cluster.h"
#include "galley/webhook/webhook.h"

struct galleyd {
	struct daemon *daemon;
	struct galley *galley;
	struct directory *directory; /* one of the two sources */
	struct kubernetes *kubernetes;
	struct webhook *webhook; /* NULL: none wanted */
	struct gateway_names *names;
	struct dir_watch *watch;
	struct timer *retry; /* scans again; with Kubernetes: commits */
	struct timer *second;
	struct trim *trim;
	uint64_t debounce_ms;
	uint64_t rest_until_ms; /* Kubernetes: the next commit is not before */
	struct bus_keys *keys;
	struct bus_publisher *publisher;
	struct distribution *distribution; /* what pilots report on it */
	struct access *access; /* who may list Secrets; NULL: not a cluster */
	struct registered *registered; /* workloads that register themselves */
	struct timer *expiry; /* of those whose pilots are silent */
	struct cluster_status *status; /* NULL: not a cluster */
	struct reports *reports;
	char *private_bus; /* the address of a run that only records */
	bool once;
	bool published;
	bool held; /* the first commit waits for the first answers on access */
	const struct bus_change *changes; /* of the commit that is held or under way */
	size_t n_changes;
	uint64_t began_us;
	bool touched; /* something was put or removed since the last commit */
};
