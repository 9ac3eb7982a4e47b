#include "cfg/security.pb-c.h"
#include "galley/checks/names.h"
#include "galley/kind.h"

/*
 * DOC: PeerAuthentication. Settings per port need a selector, because ports belong to workloads; an unset mode inherits from the
 * namespace and the mesh, which is pilot's to resolve.
 */

static void validate(struct check *c, const void *message)
{
	const Sec__PeerAuthentication *p = message;
	static const char source[] = "api: PeerAuthentication.portLevelMtls";
	if (p->n_port_level_mtls && (!p->selector || p->selector->n_match_labels == 0))
		check_error(c, "port-selector", source, "spec.portLevelMtls",
			"needs a selector: ports are those of workloads");
	for (size_t i = 0; i < p->n_port_level_mtls; i++)
		if (p->port_level_mtls[i]->key < 1 || p->port_level_mtls[i]->key > 65535)
			check_error(c, "port", source,
				path_at(c, "spec.portLevelMtls[\"%u\"]", p->port_level_mtls[i]->key),
				"port %u is not in the range 1..65535", p->port_level_mtls[i]->key);
	if (p->selector)
		check_selector(c, LABEL_VIEW(p->selector, match_labels), "spec.selector.matchLabels",
			"api: PeerAuthentication.selector");
}

extern const struct kind_ops peer_authn_ops;
const struct kind_ops peer_authn_ops = {.validate = validate};
