/* DOC: Sidecars of one namespace that apply to the same workloads: only one of them has an effect. */
#include "common/mesh/labels.h"
#include "galley/analyze/world.h"
#include "kube/kube.pb-c.h"

static struct label_set selector_of(const struct object *o)
{
	const Cfg__Sidecar *s = (const void *)o->message;

	return s->workload_selector ? LABELS(s->workload_selector, labels) : (struct label_set){0};
}

static const struct object *common_pod(struct world *w, const struct object *x, const struct object *y)
{
	struct object_list pods = w->in->of[KIND_POD];

	for (size_t i = 0; i < pods.n; i++) {
		const Kube__Pod *p = (const void *)pods.items[i]->message;

		if (streq(pods.items[i]->ns, x->ns) && labels_match(selector_of(x), LABELS(p->metadata, labels)) &&
			labels_match(selector_of(y), LABELS(p->metadata, labels)))
			return pods.items[i];
	}
	return NULL;
}

static void compare(struct world *w, const struct object *o, const struct object *other)
{
	bool selecting = selector_of(o).n > 0;
	const struct object *pod;

	if (!streq(o->ns, other->ns) || selecting != (selector_of(other).n > 0))
		return;
	if (!selecting) {
		world_report(w, "IST0111", o, "spec.workloadSelector",
			"%s/%s has no workload selector either; only the oldest is used", other->ns, other->name);
		return;
	}
	pod = common_pod(w, o, other);
	if (pod)
		world_report(w, "IST0110", o, "spec.workloadSelector",
			"%s/%s selects pod %s/%s too; only the oldest is used", other->ns, other->name, pod->ns,
			pod->name);
}

void analyze_sidecars(struct world *w)
{
	struct object_list list = w->in->of[KIND_SIDECAR];

	for (size_t i = 0; i < list.n; i++)
		for (size_t k = 0; k < list.n; k++)
			if (k != i)
				compare(w, list.items[i], list.items[k]);
}
