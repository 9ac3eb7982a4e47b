#include "galley/kinds/kubernetes.h"

#include "common/mesh/labels.h"
#include "common/mesh/networks.h"
#include "galley/checks/names.h"
#include "galley/checks/values.h"
#include "kube/kube.pb-c.h"

/*
 * DOC: Kubernetes' Service: ports that exist and have distinct names and numbers, addresses that are addresses, a name for an
 * ExternalName.
 */

static void ports(struct check *c, const Kube__ServiceSpec *s)
{
	for (size_t i = 0; i < s->n_ports; i++)
		for (size_t k = 0; k < i; k++) {
			if (streq(s->ports[i]->name, s->ports[k]->name))
				check_error(c, "duplicate-port-name", "kube: ServicePort.name",
					path_at(c, "spec.ports[%zu].name", i), "port name \"%s\" is there twice",
					s->ports[i]->name);
			if (s->ports[i]->port == s->ports[k]->port &&
				streq(s->ports[i]->protocol, s->ports[k]->protocol))
				check_error(c, "duplicate-port", "kube: ServicePort.port",
					path_at(c, "spec.ports[%zu].port", i), "port %d is there twice",
					s->ports[i]->port);
		}
}

static void cluster_ip(struct check *c, const char *ip, const char *path)
{
	if (!str_empty(ip) && !streq(ip, "None") && !host_is_ip(str_of(ip)))
		check_error(
			c, "ip", "kube: ServiceSpec.clusterIP", path, "\"%s\" is neither an IP address nor None", ip);
}

/* A gateway of a network (networks.c): other networks' proxies dial one port of it. 15008 is for meshes without sidecars. */
static void network_gateway(struct check *c, const Kube__Service *service)
{
	static const char source[] = "docs: topology.istio.io/network";
	struct label_set labels = LABELS(service->metadata, labels);
	const char *label = label_get(labels, LABEL_GATEWAY_PORT);
	uint32_t port;
	bool listens = false;
	if (str_empty(label_get(labels, LABEL_NETWORK)))
		return;
	if (!network_gateway_port(label, &port))
		check_warn(c, "gateway-port", source, "metadata.labels[\"" LABEL_GATEWAY_PORT "\"]",
			"\"%s\" is no port: %u is taken", label, port);
	for (size_t i = 0; i < service->spec->n_ports; i++)
		listens |= (uint32_t)service->spec->ports[i]->port == port || service->spec->ports[i]->port == 15008;
	if (!listens)
		check_warn(c, "gateway-port", source, "spec.ports",
			"has no port %u: the Service is no gateway of network \"%s\"", port,
			label_get(labels, LABEL_NETWORK));
}

static void validate(struct check *c, const void *message)
{
	const Kube__ServiceSpec *s = ((const Kube__Service *)message)->spec;
	if (!s)
		return;
	ports(c, s);
	if (((const Kube__Service *)message)->metadata)
		network_gateway(c, message);
	cluster_ip(c, s->clusterip, "spec.clusterIP");
	for (size_t i = 0; i < s->n_clusterips; i++)
		cluster_ip(c, s->clusterips[i], path_at(c, "spec.clusterIPs[%zu]", i));
	if (!streq(s->type, "ExternalName"))
		return;
	const char *problem = fqdn_problem(c->arena, str_of(s->external_name ? s->external_name : ""));
	if (problem && !host_is_ip(str_of(s->external_name ? s->external_name : "")))
		check_error(c, "host", "kube: ServiceSpec.externalName", "spec.externalName", "%s", problem);
}

static const struct rule rules[] = {
	{"spec.ports[].port", check_port, .required = true, .source = "kube: ServicePort.port"},
};

const struct kind_ops service_ops = {RULES(rules), .validate = validate};
