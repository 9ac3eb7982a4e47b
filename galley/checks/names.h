/* Checks of names: DNS labels, host names, labels, gateway references. The *_problem functions are NULL when fine, else the reason. */
#pragma once

#include "galley/checks/check.h"

bool name_is_label(struct str s); /* RFC 1123 label, at most 63 bytes, lower case */
bool name_is_subdomain(struct str s); /* labels joined by dots, at most 253 bytes */
bool name_has_only(struct str s, const char *extra); /* ASCII letters and digits, and what `extra` has; not empty */
const char *label_key_problem(struct arena *a, struct str key);
const char *label_value_problem(struct arena *a, struct str value);
const char *host_problem(struct arena *a, struct str host); /* wildcards in the first label are fine */
const char *fqdn_problem(struct arena *a, struct str host); /* no wildcard */
bool host_is_ip(struct str host);

check_fn check_label; /* DNS label */
check_fn check_host; /* host name or wildcard, not "*" alone; no IP */
check_fn check_host_or_ip; /* as above, or "*", or an IP address */
check_fn check_address; /* host:port; max 1: the host is an IP address */
check_fn check_fqdn;
check_fn check_gateway_names; /* a list of gateway references */
check_fn check_export_to; /* a list; max = 1: "~" is allowed (ServiceEntry) */
check_fn check_port_name;

struct label_view {
	size_t n;
	void *const *entries;
};
/* A map<string,string> of labels at a path. */
#define LABEL_VIEW(msg, field) ((struct label_view){(msg)->n_##field, (void *const *)(msg)->field})
void check_labels(struct check *c, struct label_view labels, const char *path, const char *source);
/* A workload selector: non-empty keys, no wildcards; a selector without labels is only a warning. */
void check_selector(struct check *c, struct label_view labels, const char *path, const char *source);
