/* DOC: fault: delays and aborts for a share of the requests; without a percentage, or without what to do, for none. The filter stands in
 * every client chain; routes configure it. */
#include "pilot/translate/feature.h"
#include "xds/fault.pb-c.h"

static const char filter_name[] = "envoy.filters.http.fault";

/* gRPC status names as Istio's YAML has them. */
static uint32_t grpc_status(const char *name)
{
	static const char *const names[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};
	uint32_t number;

	for (uint32_t i = 0; i < ARRAY_LEN(names); i++)
		if (streq(name, names[i]))
			return i;
	return str_u32(str_of(name), 16, &number) ? number : 2;
}

static FaultCommon__FaultDelay *build_delay(struct arena *a, const Cfg__HTTPFaultInjection__Delay *in)
{
	FaultCommon__FaultDelay *out = PB_NEW(a, FaultCommon__FaultDelay, fault_common__fault_delay);
	double percent = in->percentage ? in->percentage->value : in->percent;

	/* Envoy refuses a delay without a duration; galley has warned. */
	if (in->http_delay_type_case != CFG__HTTPFAULT_INJECTION__DELAY__HTTP_DELAY_TYPE_FIXED_DELAY || percent <= 0)
		return NULL;
	out->fixed_delay = build_duration(a, in->fixed_delay);
	out->fault_delay_secifier_case = FAULT_COMMON__FAULT_DELAY__FAULT_DELAY_SECIFIER_FIXED_DELAY;
	out->percentage = build_fraction(a, percent);
	return out;
}

static Fault__FaultAbort *build_abort(struct arena *a, const Cfg__HTTPFaultInjection__Abort *in)
{
	Fault__FaultAbort *out = PB_NEW(a, Fault__FaultAbort, fault__fault_abort);

	if (!in->percentage || in->percentage->value <= 0)
		return NULL;
	out->percentage = build_fraction(a, in->percentage->value);
	if (in->error_type_case == CFG__HTTPFAULT_INJECTION__ABORT__ERROR_TYPE_GRPC_STATUS) {
		out->grpc_status = grpc_status(in->grpc_status);
		out->error_type_case = FAULT__FAULT_ABORT__ERROR_TYPE_GRPC_STATUS;
	} else if (in->error_type_case == CFG__HTTPFAULT_INJECTION__ABORT__ERROR_TYPE_HTTP_STATUS) {
		out->http_status = (uint32_t)in->http_status;
		out->error_type_case = FAULT__FAULT_ABORT__ERROR_TYPE_HTTP_STATUS;
	} else {
		return NULL;
	}
	return out;
}

static void fault_route(const struct route_context *r)
{
	const Cfg__HTTPFaultInjection *in = r->rule ? r->rule->fault : NULL;
	Fault__HTTPFault *out;

	if (!in || !view_has_extension(r->v, filter_name))
		return;
	out = PB_NEW(r->a, Fault__HTTPFault, fault__httpfault);
	out->delay = in->delay ? build_delay(r->a, in->delay) : NULL;
	out->abort = in->abort ? build_abort(r->a, in->abort) : NULL;
	if (!out->delay && !out->abort)
		return;
	route_add_filter_config(r->a, r->route, filter_name, out);
}

static void fault_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	if (view_has_extension(c->v, filter_name))
		hcm_add_filter(c->a, hcm, filter_name, PB_NEW(c->a, Fault__HTTPFault, fault__httpfault));
}

const struct feature fault_feature = {.name = "fault", .on_hcm = fault_hcm, .on_route = fault_route};
