/* DOC: DestinationRules: hosts that do not exist, subsets without a pod, TLS without anything to verify the server by. */
#include "common/mesh/host.h"
#include "common/mesh/labels.h"
#include "galley/analyze/world.h"
#include "kube/kube.pb-c.h"

static const Cfg__DestinationRule *spec_of(const struct object *o)
{
	return (const void *)o->message;
}

/* ---- the host */
static bool host_exists(struct world *w, const char *host)
{
	if (!host_is_wildcard(str_of(host)))
		return world_service(w, host) != NULL;
	for (size_t i = 0; i < w->in->n_services; i++)
		if (host_overlaps(str_of(host), str_of(w->in->services[i]->hostname)))
			return true;
	return false;
}

/* ---- subsets: pods of the Service that also have the labels of the subset */
static bool subset_has_pod(struct world *w, const Fl__Service *s, const Cfg__Subset *subset)
{
	struct object_list pods = w->in->of[KIND_POD];

	for (size_t i = 0; i < pods.n; i++) {
		const Kube__Pod *p = (const void *)pods.items[i]->message;

		if (streq(pods.items[i]->ns, s->namespace_) &&
			labels_match(LABELS(s, selector), LABELS(p->metadata, labels)) &&
			labels_match(LABELS(subset, labels), LABELS(p->metadata, labels)))
			return true;
	}
	return false;
}

static void subsets(struct world *w, const struct object *o)
{
	const Fl__Service *s = world_service(w, spec_of(o)->host);

	if (!s || !s->n_selector || !w->in->of[KIND_POD].n)
		return;
	for (size_t i = 0; i < spec_of(o)->n_subsets; i++)
		if (spec_of(o)->subsets[i]->n_labels && !subset_has_pod(w, s, spec_of(o)->subsets[i]))
			world_report(w, "IST0173", o, arena_printf(w->a, "spec.subsets[%zu]", i),
				"no pod of %s has the labels of subset \"%s\"", s->hostname,
				spec_of(o)->subsets[i]->name);
}

/* ---- TLS */
static bool verifies_nothing(const Cfg__ClientTLSSettings *t)
{
	return t &&
	       (t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__SIMPLE ||
		       t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL) &&
	       str_empty(t->ca_certificates) && str_empty(t->credential_name);
}

static void policy(struct world *w, const struct object *o, const Cfg__TrafficPolicy *p, const char *path)
{
	if (!p)
		return;
	if (verifies_nothing(p->tls))
		world_report(w, "IST0128", o, arena_printf(w->a, "%s.tls", path),
			"has no caCertificates: the server is verified by the proxy's own list of authorities only");
	for (size_t i = 0; i < p->n_port_level_settings; i++)
		if (verifies_nothing(p->port_level_settings[i]->tls))
			world_report(w, "IST0129", o, arena_printf(w->a, "%s.portLevelSettings[%zu].tls", path, i),
				"has no caCertificates: the server is verified by the proxy's own list of authorities "
				"only");
}

void analyze_destination_rules(struct world *w)
{
	struct object_list list = w->in->of[KIND_DESTINATION_RULE];

	for (size_t i = 0; i < list.n; i++) {
		const struct object *o = list.items[i];

		if (!host_exists(w, spec_of(o)->host))
			world_report(w, "IST0174", o, "spec.host", "no service is called \"%s\"", spec_of(o)->host);
		subsets(w, o);
		policy(w, o, spec_of(o)->traffic_policy, "spec.trafficPolicy");
		for (size_t k = 0; k < spec_of(o)->n_subsets; k++)
			policy(w, o, spec_of(o)->subsets[k]->traffic_policy,
				arena_printf(w->a, "spec.subsets[%zu].trafficPolicy", k));
	}
}
