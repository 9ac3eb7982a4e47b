#include "galley/kinds/kubernetes.h"

#include "common/mesh/labels.h"
#include "galley/checks/names.h"
#include "kube/kube.pb-c.h"

/* DOC: EndpointSlice: it belongs to the Service of its label, and its addresses are of the type that it says. */

static void validate(struct check *c, const void *message)
{
	const Kube__EndpointSlice *s = message;
	if (!s->metadata || !label_get(LABELS(s->metadata, labels), "kubernetes.io/service-name"))
		check_warn(c, "slice-owner", "kube: EndpointSlice", "metadata.labels",
			"has no label kubernetes.io/service-name: it belongs to no Service");
	bool names = streq(s->address_type, "FQDN");
	for (size_t i = 0; i < s->n_endpoints; i++)
		for (size_t k = 0; k < s->endpoints[i]->n_addresses; k++)
			if (!names && !host_is_ip(str_of(s->endpoints[i]->addresses[k])))
				check_error(c, "ip", "kube: Endpoint.addresses",
					path_at(c, "endpoints[%zu].addresses[%zu]", i, k),
					"\"%s\" is not an IP address", s->endpoints[i]->addresses[k]);
}

const struct kind_ops endpoint_slice_ops = {.validate = validate, .any_name = true};
