/*
 * DOC: On a port of unknown protocol one cluster serves HTTP and plain TCP. Its ALPN says TCP; requests that were found to be HTTP
 * override it, so that the server's mutual TLS chain knows too (Istio's own proxy has a filter for this; a filter state
 * object that Envoy's TLS sockets read does the same).
 */
#include "pilot/translate/feature.h"
#include "xds/set_filter_state.pb-c.h"

static void sniffed_alpn_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	SetFs__Config *config;
	SetFsCommon__FilterStateValue *f;

	if (c->direction != DIRECTION_OUTBOUND || !c->sniffed ||
		!view_has_extension(c->v, "envoy.filters.http.set_filter_state"))
		return;
	config = PB_NEW(c->a, SetFs__Config, set_fs__config);
	f = PB_NEW(c->a, SetFsCommon__FilterStateValue, set_fs_common__filter_state_value);
	f->object_key = arena_strdup(c->a, "envoy.network.application_protocols");
	f->key_case = SET_FS_COMMON__FILTER_STATE_VALUE__KEY_OBJECT_KEY;
	f->format_string = build_format(c->a, "istio-http/1.1,istio-h2,istio");
	f->value_case = SET_FS_COMMON__FILTER_STATE_VALUE__VALUE_FORMAT_STRING;
	f->shared_with_upstream = SET_FS_COMMON__FILTER_STATE_VALUE__SHARED_WITH_UPSTREAM__ONCE;
	pb_add(c->a, config, on_request_headers, f);
	hcm_add_filter(c->a, hcm, "fairlead.sniffed_alpn", config);
}

const struct feature sniffed_alpn_feature = {.name = "sniffed_alpn", .on_hcm = sniffed_alpn_hcm};
