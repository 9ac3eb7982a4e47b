/*
 * DOC: Looks up the Host of requests that are routed to a cluster of hosts by name, and lets all others pass. It is there only when the
 * proxy knows such a cluster.
 */
#include "pilot/translate/dynamic_dns.h"
#include "xds/dynamic_forward_proxy_http.pb-c.h"

static void dynamic_dns_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	DfpHttp__FilterConfig *config;

	if (c->direction == DIRECTION_INBOUND || !dynamic_dns_used(c->v))
		return;
	config = PB_NEW(c->a, DfpHttp__FilterConfig, dfp_http__filter_config);
	config->dns_cache_config = dynamic_dns_cache(c->v, c->a);
	config->implementation_specifier_case = DFP_HTTP__FILTER_CONFIG__IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG;
	hcm_add_filter(c->a, hcm, "envoy.filters.http.dynamic_forward_proxy", config);
}

const struct feature dynamic_dns_feature = {.name = "dynamic_dns", .on_hcm = dynamic_dns_hcm};
