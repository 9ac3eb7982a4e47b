#include "galley/kinds/workload.h"

#include "galley/checks/names.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: WorkloadEntry. Its address is an IP, a host name or a Unix socket; without an address it stands for a workload of another
 * network, and needs that network's name. Inside a ServiceEntry its ports are the ServiceEntry's port names.
 */

static const struct rule entry_rules[] = {
	{"ports{}", check_port, .source = "api: WorkloadEntry.ports"},
};

static void address(struct check *c, const Cfg__WorkloadEntry *w, enum workload_addresses allowed, const char *path)
{
	static const char source[] = "api: WorkloadEntry.address";
	const char *at = path_at(c, "%s.address", path);
	struct str s = str_of(w->address ? w->address : "");
	if (s.len == 0) {
		if (str_empty(w->network))
			check_error(
				c, "required", source, at, "is required (or a network, whose gateway is then used)");
		else
			check_warn(c, "address-unset", source, at, "is unset: the gateway of network \"%s\" is used",
				w->network);
		return;
	}
	if (str_starts(s, STR("unix://"))) {
		const char *problem = unix_path_problem(str_from(s, 7));
		if (problem)
			check_error(c, "address", source, at, "%s", problem);
		if (w->n_ports)
			check_error(c, "address", source, path_at(c, "%s.ports", path), "a Unix socket has no ports");
		return;
	}
	if (host_is_ip(s))
		return;
	if (allowed == ADDRESS_IP)
		check_error(c, "address", source, at, "\"" STR_FMT "\" is not an IP address", STR_ARG(s));
	else if (fqdn_problem(c->arena, s))
		check_error(c, "address", source, at, "\"" STR_FMT "\" is neither an IP address nor a host name",
			STR_ARG(s));
}

static bool has_port(const Cfg__ServiceEntry *se, const char *name)
{
	for (size_t i = 0; i < se->n_ports; i++)
		if (streq(se->ports[i]->name, name))
			return true;
	return false;
}

void check_workload(struct check *c, const Cfg__WorkloadEntry *w, const Cfg__ServiceEntry *owner,
	enum workload_addresses allowed, const char *path)
{
	address(c, w, allowed, path);
	check_rules(c, w, path, entry_rules, ARRAY_LEN(entry_rules));
	for (size_t i = 0; i < w->n_ports; i++) {
		const char *at = path_at(c, "%s.ports", path);
		if (!name_is_label(str_of(w->ports[i]->key)))
			check_error(c, "port-name", "api: WorkloadEntry.ports", at,
				"port name \"%s\" is not a DNS label", w->ports[i]->key);
		if (owner && !has_port(owner, w->ports[i]->key))
			check_error(c, "unknown-port", "api: WorkloadEntry.ports", at,
				"\"%s\" is no port of the ServiceEntry", w->ports[i]->key);
	}
	if (owner && str_starts(str_of(w->address ? w->address : ""), STR("unix://")) && owner->n_ports != 1)
		check_error(c, "address", "api: WorkloadEntry.address", path,
			"a Unix socket needs a ServiceEntry with exactly one port");
	check_labels(c, LABEL_VIEW(w, labels), path_at(c, "%s.labels", path), "api: WorkloadEntry.labels");
}

static void validate(struct check *c, const void *message)
{
	check_workload(c, message, NULL, ADDRESS_IP_OR_NAME, "spec");
}

extern const struct kind_ops workload_entry_ops;
const struct kind_ops workload_entry_ops = {.validate = validate};
