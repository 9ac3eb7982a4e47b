/*
 * Galley in one process: text in, bus changes out. A source puts files (galley_put, galley_remove); galley_commit() turns everything
 * that was put since the last commit into one batch of changes of the bus topics: objects of Istio's kinds, namespaces, the mesh
 * config, services and their endpoints. Synchronous, one thread, no I/O and no clock: the daemon adds the directory, the loop and
 * the bus; tests and the command line use it as it is.
 *
 * A bad object never harms a good one: the last accepted version of an object stays in force while its newest is not acceptable or
 * its file does not parse, and galley_diags() says why.
 */
#pragma once

#include "common/base/diag.h"
#include "common/bus/bus.h"
#include "common/mesh/kinds.h"

struct galley;

struct galley_options {
	const char *domain_suffix; /* NULL: cluster.local */
	const char *revision; /* objects labelled istio.io/rev with another are not read; NULL, "": all are */
	const char *cluster; /* name of the one that the source is of; NULL: Kubernetes */
	bool assume_sidecars; /* pods have a sidecar unless they say otherwise (machine-local mode) */
	bool guard_secrets; /* their keys are for accounts that the API server lets list Secrets: the daemon publishes which */
	bool slices_only; /* a Service without an EndpointSlice has no endpoints: a cluster has a controller that makes them */
};

struct galley *galley_new(const struct galley_options *o);
void galley_free(struct galley *g);

/* `file` names the unit in diagnostics and decides who is first among several definitions of one object. */
void galley_put(struct galley *g, struct str file, struct str text);
void galley_remove(struct galley *g, struct str file);
struct source_text;
/* What is put next, with just these texts: read now, on all processors. Nothing else may come between. */
void galley_ahead(struct galley *g, const struct source_text *files, size_t n);
/* Whether the text would replace what the file holds now without a parse error and without emptying it: a file that is being
 * written right now often fails this. */
bool galley_looks_whole(const struct galley *g, struct str file, struct str text);

/* The changes live until the next commit. */
const struct bus_change *galley_commit(struct galley *g, size_t *n);
void galley_release(struct galley *g); /* the changes are not needed any more */

/* All that is wrong now, files in order; strings are copied into out's arena. */
void galley_diags(const struct galley *g, struct diags *out);

/* The same in Istio's analysis codes, and what no single object shows: references, conflicts, rules that nothing reaches. */
void galley_analyze(const struct galley *g, struct diags *out);

/* Of a Namespace object; NULL: no such object or annotation. Borrowed until the next commit. */
const char *galley_namespace_annotation(const struct galley *g, const char *ns, const char *annotation);
/* The mesh config's defaultConfig as JSON; "" when it says nothing. */
void galley_proxy_config(const struct galley *g, struct strbuf *json);
/* Where proxies take what is captured: the mesh config's proxyListenPort and proxyInboundListenPort. */
void galley_capture_ports(const struct galley *g, uint32_t *outbound, uint32_t *inbound);
bool galley_merges_metrics(const struct galley *g); /* the mesh config's enablePrometheusMerge, by default true */
/* The ProxyConfig resources as a JSON list, the oldest first. */
void galley_proxy_configs(const struct galley *g, struct strbuf *json);
/* Whether an object of the kind came, went or changed since this was last asked of it. What the mesh has without
 * any (a mesh config, registered workloads) begins as changed. */
bool galley_kind_changed(struct galley *g, enum kind_id kind) MUST_CHECK;

/* What the agent of a workload must be told to register itself with a WorkloadGroup, as JSON: {"serviceAccount", "network", "locality", "labels",
 * "proxyConfig"}; the last is the mesh's defaultConfig with the group's probe. */
bool galley_group_config(
	const struct galley *g, const char *ns, const char *group, struct strbuf *json, struct err *e) MUST_CHECK;

/*
 * Names instead of addresses of networks' gateways, which somebody must look up. Told what a name stands for now (n 0: nothing), it is true when
 * the next commit has something of it.
 */
void galley_gateway_hosts(const struct galley *g, void (*fn)(void *ctx, const char *host), void *ctx);
bool galley_gateway_found(struct galley *g, const char *host, char *const *addresses, size_t n);

/* The service accounts that it matters for who may list Secrets, "namespace/name": those of namespaces with a guarded one. */
bool galley_accounts_changed(struct galley *g) MUST_CHECK; /* or Secrets, since this was last asked */
void galley_guarded_accounts(const struct galley *g, void (*fn)(void *ctx, struct str key), void *ctx);

struct galley_counts {
	size_t files, objects, quarantined, foreign, services, endpoints;
};
struct galley_counts galley_counts(const struct galley *g);

/* Debug pages: one JSON value each. */
void galley_diags_json(const struct diags *diags, struct strbuf *out);
void galley_debug_analysis(const struct galley *g, struct strbuf *out);
/* For each rule of each VirtualService: live, shadowed (by whom) or never matches (why). */
void galley_debug_verdicts(const struct galley *g, struct strbuf *out);
void galley_print_verdicts(const struct galley *g, struct strbuf *out); /* the same as lines for people */
void galley_debug_diagnostics(const struct galley *g, struct strbuf *out);
void galley_debug_objects(const struct galley *g, struct strbuf *out);
void galley_debug_quarantine(const struct galley *g, struct strbuf *out);
void galley_debug_foreign(const struct galley *g, struct strbuf *out);
void galley_debug_networks(const struct galley *g, struct strbuf *out);
void galley_debug_services(const struct galley *g, struct strbuf *out);

/* Every file below a directory that galley would read, or one file, once. False: something could not be read; fn got the rest. */
bool galley_read(
	const char *path, void (*fn)(void *ctx, struct str file, struct str text), void *ctx, struct err *e) MUST_CHECK;
/* `fairlead validate`: puts all that galley_read() gives. */
bool galley_load(struct galley *g, const char *path, struct err *e) MUST_CHECK;
