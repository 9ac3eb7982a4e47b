#include "cfg/networking/service_entry.pb-c.h"
#include "common/mesh/protocol.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"
#include "galley/kinds/workload.h"

/*
 * DOC: ServiceEntry. What is allowed depends on the resolution: NONE has no endpoints, STATIC has IP addresses, DNS has host names
 * (its own hosts when it has no endpoints), DYNAMIC_DNS has wildcard hosts only. Several hosts need a protocol that names the host.
 */

#define API "api: ServiceEntry."

typedef void resolution_fn(struct check *c, const Cfg__ServiceEntry *se);

static void none(struct check *c, const Cfg__ServiceEntry *se)
{
	if (se->n_endpoints)
		check_error(c, "resolution", API "resolution", "spec.endpoints", "resolution NONE has no endpoints");
	if (se->workload_selector)
		check_warn(c, "ineffective", API "workloadSelector", "spec.workloadSelector",
			"has no effect with resolution NONE");
}

static void each_endpoint(struct check *c, const Cfg__ServiceEntry *se, enum workload_addresses allowed)
{
	for (size_t i = 0; i < se->n_endpoints; i++)
		check_workload(c, se->endpoints[i], se, allowed, path_at(c, "spec.endpoints[%zu]", i));
}

static void fixed(struct check *c, const Cfg__ServiceEntry *se)
{
	each_endpoint(c, se, ADDRESS_IP);
}

static void dns(struct check *c, const Cfg__ServiceEntry *se)
{
	for (size_t i = 0; se->n_endpoints == 0 && !se->workload_selector && i < se->n_hosts; i++)
		if (fqdn_problem(c->arena, str_of(se->hosts[i])))
			check_error(c, "resolution", API "resolution", path_at(c, "spec.hosts[%zu]", i),
				"\"%s\" cannot be looked up; give endpoints", se->hosts[i]);
	each_endpoint(c, se, ADDRESS_IP_OR_NAME);
	for (size_t i = 0; i < se->n_endpoints; i++)
		if (str_starts(str_of(se->endpoints[i]->address ? se->endpoints[i]->address : ""), STR("unix://")))
			check_error(c, "address", API "resolution", path_at(c, "spec.endpoints[%zu].address", i),
				"a Unix socket needs resolution STATIC");
	for (size_t i = 0; se->n_addresses && se->n_hosts > 1 && i < se->n_ports; i++)
		if (protocol_of(str_empty(se->ports[i]->protocol) ? "TCP" : se->ports[i]->protocol) == PROTOCOL_TCP) {
			check_warn(c, "tcp-hosts", API "hosts", "spec.hosts",
				"several hosts with an address and a TCP port: the first counts");
			break;
		}
}

static void dns_round_robin(struct check *c, const Cfg__ServiceEntry *se)
{
	dns(c, se);
	if (se->n_endpoints > 1)
		check_error(c, "resolution", API "resolution", "spec.endpoints",
			"DNS_ROUND_ROBIN has at most one endpoint");
}

static void dynamic_dns(struct check *c, const Cfg__ServiceEntry *se)
{
	static const char *const allowed[] = {"HTTP", "HTTP2", "GRPC", "TLS"};
	for (size_t i = 0; i < se->n_hosts; i++)
		if (se->hosts[i][0] != '*')
			check_error(c, "resolution", API "resolution", path_at(c, "spec.hosts[%zu]", i),
				"DYNAMIC_DNS is for wildcard hosts");
	if (se->n_addresses)
		check_error(c, "resolution", API "resolution", "spec.addresses", "DYNAMIC_DNS has no addresses");
	if (se->n_endpoints)
		check_error(c, "resolution", API "resolution", "spec.endpoints", "DYNAMIC_DNS has no endpoints");
	for (size_t i = 0; i < se->n_ports; i++) {
		const char *protocol = protocol_canonical(str_of(se->ports[i]->protocol ? se->ports[i]->protocol : ""));
		bool ok = false;
		for (size_t k = 0; k < ARRAY_LEN(allowed); k++)
			ok |= streq(protocol, allowed[k]);
		if (!ok)
			check_error(c, "resolution", API "resolution", path_at(c, "spec.ports[%zu].protocol", i),
				"DYNAMIC_DNS takes HTTP, HTTP2, GRPC and TLS");
	}
}

static resolution_fn *const resolutions[] = {
	[CFG__SERVICE_ENTRY__RESOLUTION__NONE] = none,
	[CFG__SERVICE_ENTRY__RESOLUTION__STATIC] = fixed,
	[CFG__SERVICE_ENTRY__RESOLUTION__DNS] = dns,
	[CFG__SERVICE_ENTRY__RESOLUTION__DNS_ROUND_ROBIN] = dns_round_robin,
	[CFG__SERVICE_ENTRY__RESOLUTION__DYNAMIC_DNS] = dynamic_dns,
};

static void addresses(struct check *c, const Cfg__ServiceEntry *se)
{
	bool list_ok = se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__NONE ||
		       se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__STATIC;
	for (size_t i = 0; i < se->n_addresses; i++)
		if (strchr(se->addresses[i], '/') && !list_ok)
			check_error(c, "resolution", API "addresses", path_at(c, "spec.addresses[%zu]", i),
				"CIDR blocks need resolution NONE or STATIC");
}

static void ports(struct check *c, const Cfg__ServiceEntry *se)
{
	for (size_t i = 0; i < se->n_ports; i++)
		for (size_t k = 0; k < i; k++) {
			if (streq(se->ports[i]->name, se->ports[k]->name))
				check_error(c, "duplicate-port-name", "api: ServicePort.name",
					path_at(c, "spec.ports[%zu].name", i), "port name \"%s\" is there twice",
					se->ports[i]->name);
			if (se->ports[i]->number == se->ports[k]->number)
				check_error(c, "duplicate-port", "api: ServicePort.number",
					path_at(c, "spec.ports[%zu].number", i), "port %u is there twice",
					se->ports[i]->number);
		}
	if (se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__NONE || se->n_hosts < 2)
		return;
	for (size_t i = 0; i < se->n_ports; i++) {
		enum protocol class = protocol_of(se->ports[i]->protocol);
		if (class == PROTOCOL_HTTP || class == PROTOCOL_TLS)
			continue;
		check_error(c, "tcp-hosts", API "hosts", path_at(c, "spec.ports[%zu].protocol", i),
			"several hosts need HTTP or TLS ports, which name the host");
		return;
	}
}

static void validate(struct check *c, const void *message)
{
	const Cfg__ServiceEntry *se = message;
	if (se->workload_selector) {
		check_selector(c, LABEL_VIEW(se->workload_selector, labels), "spec.workloadSelector.labels",
			API "workloadSelector");
		if (se->n_endpoints)
			check_error(c, "selector-endpoints", API "workloadSelector", "spec.workloadSelector",
				"workloadSelector and endpoints exclude each other");
	}
	for (size_t i = 0; i < se->n_hosts; i++)
		if (se->resolution != CFG__SERVICE_ENTRY__RESOLUTION__DYNAMIC_DNS && strlen(se->hosts[i]) > 1 &&
			se->hosts[i][0] == '*' && se->hosts[i][1] != '.')
			check_warn(c, "partial-wildcard", API "hosts", path_at(c, "spec.hosts[%zu]", i),
				"\"%s\": a wildcard should be a whole label", se->hosts[i]);
	check_unique(c, se->hosts, se->n_hosts, "spec.hosts", "duplicate-host", API "hosts");
	if (se->n_ports == 0)
		check_warn(c, "no-ports", API "ports", "spec", "without ports nothing can be called");
	addresses(c, se);
	ports(c, se);
	if (se->resolution >= 0 && (size_t)se->resolution < ARRAY_LEN(resolutions))
		resolutions[se->resolution](c, se);
	else
		check_error(c, "resolution", API "resolution", "spec.resolution", "%d is no resolution",
			(int)se->resolution);
	check_export_list(c, se->export_to, se->n_export_to, "spec.exportTo", true, false);
}

static const struct rule rules[] = {
	{"hosts", NULL, .required = true, .source = API "hosts"},
	{"hosts[]", check_host, .required = true, .source = API "hosts"},
	{"addresses[]", check_cidr, .source = API "addresses"},
	{"ports[].number", check_port, .required = true, .source = "api: ServicePort.number"},
	{"ports[].name", check_port_name, .required = true, .source = "api: ServicePort.name"},
	{"ports[].protocol", check_protocol, .source = "api: ServicePort.protocol"},
	{"ports[].targetPort", check_port, .source = "api: ServicePort.targetPort"},
	{"exportTo[]", check_export_to, 0, 1, .source = API "exportTo"},
};

static void normalise(struct normal *n, void *message)
{
	Cfg__ServiceEntry *se = message;
	for (size_t i = 0; i < se->n_hosts; i++)
		se->hosts[i] = normal_lower(n, se->hosts[i]); /* names of their own: never relative to the namespace */
	for (size_t i = 0; i < se->n_ports; i++)
		se->ports[i]->protocol = normal_upper_protocol(n, se->ports[i]->protocol);
	normal_export_to(n, se->export_to, se->n_export_to);
}

extern const struct kind_ops service_entry_ops;
const struct kind_ops service_entry_ops = {RULES(rules), .validate = validate, .normalise = normalise};
