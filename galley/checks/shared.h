/* Checks that several kinds share: visibility, TLS settings of servers and clients, connection pools, HTTP retries, localities. */
#pragma once

#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/gateway.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "galley/checks/check.h"

/* Rules between the entries of exportTo (each entry has check_export_to as a row). */
void check_export_list(struct check *c, char **items, size_t n, const char *path, bool service_entry, bool selector);
void check_server_tls(struct check *c, const Cfg__ServerTLSSettings *t, const char *path);
void check_client_tls(struct check *c, const Cfg__ClientTLSSettings *t, const char *path);
void check_connection_pool(struct check *c, const Cfg__ConnectionPoolSettings *p, const char *path);
void check_locality(struct check *c, const Cfg__LocalityLoadBalancerSetting *l, bool outlier, const char *path);
void check_zone_aware(struct check *c, const Cfg__ZoneAwareLoadBalancerSetting *z, bool outlier, const char *path);
void check_retry(struct check *c, const Cfg__HTTPRetry *r, const char *path);
void check_destination(struct check *c, const Cfg__Destination *d, const char *path);
/* Text at both places of a list that holds it twice: reports the second. */
void check_unique(
	struct check *c, char *const *items, size_t n, const char *path, const char *rule, const char *source);
