/*
 * DOC: timeout: none unless the rule has one (Envoy's own default of 15 s is switched off); it also bounds what gRPC clients ask for. A
 * duration of the stream would not do: it begins with the request's first byte and cuts a long upload, and Envoy ignores the route's
 * timeout beside one. That is why the gRPC bound is the older field, as in Istio.
 */
#include "pilot/translate/feature.h"

static void no_timeout(const struct route_context *r)
{
	Rds__RouteAction__MaxStreamDuration *m = PB_NEW(
		r->a, Rds__RouteAction__MaxStreamDuration, rds__route_action__max_stream_duration);

	r->action->timeout = build_ms(r->a, 0);
	m->max_stream_duration = build_ms(r->a, 0);
	m->grpc_timeout_header_max = build_ms(r->a, 0);
	r->action->max_stream_duration = m;
}

static void timeout_route(const struct route_context *r)
{
	const Wkt__Duration *d = r->rule ? r->rule->timeout : NULL;

	if (!r->action)
		return;
	if (!d) {
		no_timeout(r);
		return;
	}
	r->action->timeout = build_duration(r->a, d);
	r->action->max_grpc_timeout = build_duration(r->a, d);
}

const struct feature timeout_feature = {.name = "timeout", .on_route = timeout_route};
