#include "galley/discovery/discovery.h"

#include "common/mesh/labels.h"
#include "galley/checks/names.h"
#include "galley/checks/values.h"

/*
 * DOC: Services. A Kubernetes Service: the protocol of a port is its appProtocol, else the prefix of its name ("http-web"), else unknown
 * and sniffed; UDP and SCTP ports are left out. A ServiceEntry: one service per host. Where a service has no virtual address and
 * clients need one, discovery asks for one of the allocated range.
 */

static void add_string(struct arena *a, char ***items, size_t *n, const char *s)
{
	*items = pb_grow(a, *items, *n, sizeof(**items));
	(*items)[(*n)++] = arena_strdup(a, s);
}

/* ---- protocol selection (Istio: "Protocol Selection") */

static const char *app_protocol(struct str s)
{
	static const struct {
		const char *name, *protocol;
	} special[] = {{"kubernetes.io/h2c", "HTTP2"}, {"kubernetes.io/ws", "HTTP"}, {"kubernetes.io/wss", "HTTPS"}};
	for (size_t i = 0; i < ARRAY_LEN(special); i++)
		if (str_eqc(s, special[i].name))
			return special[i].protocol;
	return protocol_canonical(s);
}

/* Ports whose server speaks first cannot be sniffed. */
static bool server_first(int32_t port)
{
	return port == 25 || port == 53 || port == 3306 || port == 27017;
}

static const char *protocol_of(const Kube__ServicePort *p)
{
	if (!str_empty(p->app_protocol)) {
		const char *protocol = app_protocol(str_of(p->app_protocol));
		if (*protocol)
			return protocol;
	}
	struct str name = str_of(p->name ? p->name : ""), prefix = name, rest;
	if (str_ieq(str_sub(name, 0, 8), STR("grpc-web")) && (name.len == 8 || name.ptr[8] == '-'))
		return "GRPC-WEB";
	(void)str_cut(name, '-', &prefix, &rest);
	const char *protocol = protocol_canonical(prefix);
	if (*protocol && !streq(protocol, "UDP"))
		return protocol;
	return server_first(p->port) ? "TCP" : "";
}

/* ---- Kubernetes */

static void service_ports(struct arena *a, const Kube__ServiceSpec *spec, Fl__Service *s)
{
	for (size_t i = 0; i < spec->n_ports; i++) {
		const Kube__ServicePort *p = spec->ports[i];
		if (!str_empty(p->protocol) && !streq(p->protocol, "TCP"))
			continue;
		Fl__Port *out = PB_NEW(a, Fl__Port, fl__port);
		out->name = arena_strdup(a, p->name ? p->name : "");
		out->number = (uint32_t)p->port;
		out->protocol = arena_strdup(a, protocol_of(p));
		if (p->target_port && str_empty(p->target_port->str_val))
			out->target_port = (uint32_t)p->target_port->int_val;
		pb_add(a, s, ports, out);
	}
}

static void service_addresses(struct arena *a, const Kube__ServiceSpec *spec, Fl__Service *s)
{
	s->headless = streq(spec->clusterip, "None") || (spec->n_clusterips && streq(spec->clusterips[0], "None"));
	if (s->headless)
		return;
	for (size_t i = 0; i < spec->n_clusterips; i++)
		add_string(a, &s->addresses, &s->n_addresses, spec->clusterips[i]);
	if (spec->n_clusterips == 0 && !str_empty(spec->clusterip))
		add_string(a, &s->addresses, &s->n_addresses, spec->clusterip);
}

static void export_to(
	struct arena *a, const struct discovery_input *in, const struct object *o, const char *list, Fl__Service *s)
{
	struct str rest = str_of(list ? list : ""), part;
	while (list && str_split(&rest, ',', &part)) {
		struct str name = str_trim(part);
		if (name.len)
			add_string(a, &s->export_to, &s->n_export_to, str_eqc(name, ".") ? o->ns : arena_cstr(a, name));
	}
	if (s->n_export_to)
		return;
	for (size_t i = 0; i < in->n_export_to; i++)
		add_string(a, &s->export_to, &s->n_export_to, streq(in->export_to[i], ".") ? o->ns : in->export_to[i]);
}

static void common_fields(struct arena *a, const struct object *o, Fl__Service *s)
{
	s->namespace_ = arena_strdup(a, o->ns);
	s->name = arena_strdup(a, o->name);
	s->created_ms = o->created_ms;
	struct label_set labels = LABELS(o->meta, labels);
	for (size_t i = 0; i < labels.n; i++) {
		struct label l = label_at(labels, i);
		Fl__Service__LabelsEntry *e = pb_new(a, &fl__service__labels_entry__descriptor);
		e->key = arena_strdup(a, l.key);
		e->value = arena_strdup(a, l.value);
		pb_add(a, s, labels, e);
	}
}

Fl__Service *discovery_service(struct arena *a, const struct discovery_input *in, const struct object *o)
{
	const Kube__ServiceSpec *spec = ((const Kube__Service *)o->message)->spec;
	const char *distribution = object_annotation(o, "networking.istio.io/traffic-distribution");
	Fl__Service *s = PB_NEW(a, Fl__Service, fl__service);
	s->hostname = arena_printf(a, "%s.%s.svc.%s", o->name, o->ns, in->domain_suffix);
	s->registry = FL__REGISTRY__KUBERNETES;
	common_fields(a, o, s);
	export_to(a, in, o, object_annotation(o, "networking.istio.io/exportTo"), s);
	s->resolution = FL__RESOLUTION__STATIC;
	if (!spec)
		return s;
	service_ports(a, spec, s);
	service_addresses(a, spec, s);
	if (s->headless)
		s->resolution = FL__RESOLUTION__NONE; /* clients dial the endpoints themselves */
	if (streq(spec->type, "ExternalName")) {
		s->resolution = FL__RESOLUTION__ALIAS;
		s->alias_of = arena_strdup(a, spec->external_name);
		s->mesh_external = true;
	}
	s->node_local = streq(spec->internal_traffic_policy, "Local");
	s->traffic_distribution = arena_strdup(a, !str_empty(spec->traffic_distribution) ? spec->traffic_distribution
						  : distribution                         ? distribution
											 : "");
	for (size_t i = 0; i < spec->n_selector; i++) {
		Fl__Service__SelectorEntry *e = pb_new(a, &fl__service__selector_entry__descriptor);
		e->key = arena_strdup(a, spec->selector[i]->key);
		e->value = arena_strdup(a, spec->selector[i]->value);
		pb_add(a, s, selector, e);
	}
	return s;
}

/* ---- ServiceEntry */

static const Fl__Resolution entry_resolution[] = {
	[CFG__SERVICE_ENTRY__RESOLUTION__NONE] = FL__RESOLUTION__NONE,
	[CFG__SERVICE_ENTRY__RESOLUTION__STATIC] = FL__RESOLUTION__STATIC,
	[CFG__SERVICE_ENTRY__RESOLUTION__DNS] = FL__RESOLUTION__DNS,
	[CFG__SERVICE_ENTRY__RESOLUTION__DNS_ROUND_ROBIN] = FL__RESOLUTION__DNS_ROUND_ROBIN,
	[CFG__SERVICE_ENTRY__RESOLUTION__DYNAMIC_DNS] = FL__RESOLUTION__DYNAMIC_DNS,
};

/* The mesh config may keep the ServiceEntries of a namespace to itself. An entry that nobody may see stays that. */
static void limit_visibility(struct arena *a, const struct discovery_input *in, Fl__Service *s)
{
	bool hidden = s->n_export_to == 1 && streq(s->export_to[0], "~");
	if (in->visibility != MESH__SERVICE_ENTRY_VISIBILITY__VISIBILITY__NAMESPACE || hidden)
		return;
	s->n_export_to = 0;
	add_string(a, &s->export_to, &s->n_export_to, in->ns);
}

Fl__Service *discovery_entry(
	struct arena *a, const struct discovery_input *in, const struct object *o, const char *host)
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	Fl__Service *s = PB_NEW(a, Fl__Service, fl__service);
	s->hostname = arena_strdup(a, host);
	s->registry = FL__REGISTRY__EXTERNAL;
	s->mesh_external = se->location == CFG__SERVICE_ENTRY__LOCATION__MESH_EXTERNAL;
	s->resolution = entry_resolution[se->resolution];
	common_fields(a, o, s);
	for (size_t i = 0; i < se->n_addresses; i++)
		add_string(a, &s->addresses, &s->n_addresses, se->addresses[i]);
	for (size_t i = 0; i < se->n_subject_alt_names; i++)
		add_string(a, &s->subject_alt_names, &s->n_subject_alt_names, se->subject_alt_names[i]);
	for (size_t i = 0; i < se->n_export_to; i++)
		add_string(a, &s->export_to, &s->n_export_to, se->export_to[i]);
	export_to(a, in, o, NULL, s);
	limit_visibility(a, in, s);
	for (size_t i = 0; i < se->n_ports; i++) {
		Fl__Port *p = PB_NEW(a, Fl__Port, fl__port);
		p->name = arena_strdup(a, se->ports[i]->name);
		p->number = se->ports[i]->number;
		p->protocol = arena_strdup(a, se->ports[i]->protocol);
		p->target_port = se->ports[i]->target_port;
		pb_add(a, s, ports, p);
	}
	return s;
}
