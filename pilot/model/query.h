/*
 * The questions that translators ask. Every function here records the read keys of what it asked in the view, also when
 * the answer is "none", and reports the configuration objects in the answer to the view's on_source. Answers are borrowed
 * from the model (or lie in the view's scratch arena) and live as long as the view.
 */
#pragma once

#include "cfg/mesh.pb-c.h"
#include "cfg/model.pb-c.h"
#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/gateway.pb-c.h"
#include "cfg/networking/sidecar.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "cfg/security.pb-c.h"
#include "common/mesh/labels.h"
#include "pilot/model/index.h"
#include "pilot/model/view.h"

/* ---- mesh-wide settings, with Istio's defaults filled in */
const Mesh__MeshConfig *view_mesh(struct view *v); /* never NULL */
/* The same where a text of the user's goes into a resource: the object is named when Envoy refuses it. */
const Mesh__MeshConfig *view_mesh_named(struct view *v);
/* Of the scope's proxies: what decides about their configuration (gatewayTopology, proxyHeaders, connectionSettings); never NULL. */
const Mesh__ProxyConfig *view_proxy_config(struct view *v);
struct str view_trust_domain(struct view *v); /* "cluster.local" */
struct str view_root_namespace(struct view *v); /* "istio-system" */
unsigned view_singled(struct view *v, struct str ns); /* the bits of singled.h */
struct str view_domain_suffix(const struct view *v); /* "cluster.local", of the scope's proxies */
bool view_has_extension(const struct view *v, const char *name);
const struct str *view_label(const struct view *v, const char *key);

/* ---- the Sidecar of the scope (query_sidecar.c) */
const Cfg__Sidecar *view_sidecar(struct view *v); /* NULL: none */
bool sidecar_admits(struct view *v, struct str ns, struct str host); /* some egress listener imports the host */
/* The egress listener that serves a port (its own, else the one without a port) imports the host. Port 0: as sidecar_admits(). */
bool sidecar_admits_at(struct view *v, uint32_t port, struct str ns, struct str host);
/* The egress listener with just this port, NULL: none. */
const Cfg__IstioEgressListener *sidecar_egress(struct view *v, uint32_t port);
bool egress_admits(const struct view *v, const Cfg__IstioEgressListener *l, struct str ns, struct str host);
/* What becomes of unknown destinations; the Sidecar's policy, else the mesh's. */
enum unknown_policy { UNKNOWN_PASS, UNKNOWN_REFUSE, UNKNOWN_PROXY, UNKNOWN_DNS };
enum unknown_policy view_unknown(struct view *v, const Cfg__Destination **proxy); /* UNKNOWN_PROXY: *proxy is set */

/* ---- services: those visible to the scope (exportTo, Sidecar), one for each host */
struct service_list {
	const Fl__Service **items; /* oldest first, then by host */
	size_t n;
};
void view_services_on_port(struct view *v, uint32_t port, struct service_list *out);
const Fl__Service *view_service_on_port(struct view *v, uint32_t port, struct str host); /* NULL: not among those */
/* With a host or address; not all of them are among those on the port, where a service without the address may stand for the host. */
void view_services_named(struct view *v, uint32_t port, struct str name, struct service_list *out);
bool service_before(const Fl__Service *a, const Fl__Service *b); /* in the order of lists */
void view_services(struct view *v, struct service_list *out);
#define LABEL_SESSION_COOKIE "istio.io/persistent-session" /* of services whose sessions stay */
#define LABEL_SESSION_HEADER "istio.io/persistent-session-header"
bool service_has_sessions(const Fl__Service *s);
bool view_has_sessions(struct view *v); /* some have such a label */
#define LABEL_DRAINING "istio.io/draining" /* of a workload that is to take no new requests */
bool view_has_dns(struct view *v); /* some are resolved by proxies: their clusters hold their endpoints */
bool view_has_dynamic(struct view *v); /* some are looked up on demand (resolution DYNAMIC_DNS) */
const Fl__Service *view_service(struct view *v, struct str host); /* NULL: none visible */
const Fl__Service *view_service_by_key(struct view *v, struct str key); /* "ns/host", whoever may see it */
const Fl__Port *service_port(const Fl__Service *s, uint32_t number);
struct str service_key(struct view *v, const Fl__Service *s);

const Fl__EndpointSet *view_endpoints(struct view *v, const Fl__Service *s); /* NULL: none */
/* SPIFFE ids of the workloads behind a service and its own subject names; sorted, without repetition. */
void view_accounts(struct view *v, const Fl__Service *s, struct str **out, size_t *n);
void view_addresses(struct view *v, const Fl__Service *s, struct str **out, size_t *n);

/* ---- networks (query_network.c) */
const Fl__Network *view_network(struct view *v, struct str name); /* with gateways; NULL: it has none */
/* Of the mesh's rules; empty: the proxy is in none. Only for proxies that do not say their network. */
struct str view_network_of(struct view *v, const struct proxy *p);

/* ---- destination rules that apply to calls of this scope to a service, merged */
struct rule {
	const struct entry *entry; /* that gave the policy (metadata names it), NULL: no rule */
	const Cfg__TrafficPolicy *policy;
	const Cfg__Subset **subsets;
	size_t n_subsets;
};
/* `aspect` says how much of the rules the caller looks at: Q_DR_HOST (all), Q_DR_SUBSETS or Q_DR_BALANCER. */
struct rule view_rule(struct view *v, enum question aspect, struct str host, struct str service_ns);
const Cfg__Subset *rule_subset(const struct rule *r, struct str name);

/* ---- virtual services */
/* Among those that are equal otherwise, the ones that only the caller's own namespace sees come first, then those that are for chosen
 * namespaces, then those for all; among these the oldest. */
struct entries {
	const struct entry **items;
	size_t n;
};
/* For sidecars: those whose HTTP rules may apply to a host (with the most specific host that covers it); the first that has a rule for
 * the caller does. */
void view_host_rules(struct view *v, struct str host, struct entries *out);
void view_virtual_services(struct view *v, struct entries *out); /* for sidecars: only their hosts may be looked at */
/* All that cover a host, for sidecars: exact before the longest wildcard. */
void view_host_services(struct view *v, struct str host, struct entries *out);
/* The one that a rule of a virtual service of `root_ns` delegates to; NULL: none, or not for that namespace. */
const struct entry *view_delegate(struct view *v, const Cfg__Delegate *d, struct str root_ns);
void view_gateway_services(struct view *v, struct str gateway, struct entries *out); /* bound to it */

/* ---- gateways that select the scope's workload, oldest first */
void view_gateways(struct view *v, struct entries *out);

/* ---- roots of the trust bundles on the bus (citadel's), in the order of their keys */
void view_roots(struct view *v, char ***out, size_t *n);

/* ---- peer authentication of a workload on one of its ports (0: any other port) */
Sec__PeerAuthentication__MutualTLS__Mode view_mtls_mode(
	struct view *v, struct str ns, struct label_set labels, uint32_t port);
/* Ports of the scope's own workload that have a mode of their own. */
void view_mtls_ports(struct view *v, struct label_set labels, uint32_t **out, size_t *n);

/* The port on which an endpoint serves a service port; 0: it does not. */
uint32_t endpoint_port(const Fl__Endpoint *ep, const Fl__Port *port);
/* A proxy's labels in the form that selectors are matched against. */
struct label_set proxy_labels(struct arena *a, const struct proxy *p);
