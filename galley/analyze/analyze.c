/* DOC: The parts of an analysis, one after the other; messages come in this order, and within a part in the order of the objects. */
#include "galley/analyze/analyze.h"

#include "galley/analyze/world.h"

void analysis_build(struct arena *a, const struct analysis_input *in, struct analysis *out)
{
	static void (*const parts[])(struct world * w) = {analyze_references, analyze_verdicts, analyze_gateways,
		analyze_sidecars, analyze_services, analyze_destination_rules, analyze_workloads,
		analyze_envoy_filters};
	struct world w;

	*out = (struct analysis){0};
	diags_init(&out->messages, a);
	world_init(&w, a, in, out);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		parts[i](&w);
	world_done(&w);
}
