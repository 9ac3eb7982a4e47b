/* DOC: timeout: none unless the rule has one (Envoy's own default of 15 s is switched off); also for gRPC's own timeouts. */
#include "pilot/translate/feature.h"

static void timeout_route(const struct route_context *r)
{
	Rds__RouteAction__MaxStreamDuration *m;
	const Wkt__Duration *d = r->rule ? r->rule->timeout : NULL;

	if (!r->action)
		return;
	m = PB_NEW(r->a, Rds__RouteAction__MaxStreamDuration, rds__route_action__max_stream_duration);
	r->action->timeout = d ? build_duration(r->a, d) : build_ms(r->a, 0);
	m->max_stream_duration = d ? build_duration(r->a, d) : build_ms(r->a, 0);
	m->grpc_timeout_header_max = build_ms(r->a, 0);
	r->action->max_stream_duration = m;
}

const struct feature timeout_feature = {.name = "timeout", .on_route = timeout_route};
