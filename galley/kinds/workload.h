/* Checks of one WorkloadEntry: as an object of its own, and as an endpoint inside a ServiceEntry. */
#pragma once

#include "cfg/networking/service_entry.pb-c.h"
#include "galley/checks/check.h"

enum workload_addresses { ADDRESS_IP, ADDRESS_IP_OR_NAME };

/* ports: the ServiceEntry's, NULL for an object of its own. */
void check_workload(struct check *c, const Cfg__WorkloadEntry *w, const Cfg__ServiceEntry *owner,
	enum workload_addresses allowed, const char *path);
