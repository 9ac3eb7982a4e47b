#include "galley/kinds/kubernetes.h"

#include "galley/checks/names.h"
#include "galley/checks/values.h"
#include "kube/kube.pb-c.h"

/* DOC: Pod: an address that is an address, container ports that are ports. */

static void validate(struct check *c, const void *message)
{
	const Kube__Pod *p = message;
	const char *ip = p->status ? p->status->podip : NULL;
	if (!str_empty(ip) && !host_is_ip(str_of(ip)))
		check_error(c, "ip", "kube: PodStatus.podIP", "status.podIP", "\"%s\" is not an IP address", ip);
}

static const struct rule rules[] = {
	{"spec.containers[].ports[].containerPort", check_port, .required = true,
		.source = "kube: ContainerPort.containerPort"},
};

const struct kind_ops pod_ops = {RULES(rules), .validate = validate};
