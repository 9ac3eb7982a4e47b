/* The objects of an analysis by name, and how its parts report. Between the files of galley/analyze only. */
#pragma once

#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/gateway.pb-c.h"
#include "cfg/networking/service_entry.pb-c.h"
#include "cfg/networking/sidecar.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/map.h"
#include "galley/analyze/analyze.h"

struct world {
	struct arena *a;
	const struct analysis_input *in;
	struct analysis *out;
	struct map *services; /* by host: the first const Fl__Service * */
	struct map *objects; /* "<kind>/<ns>/<name>" -> const struct object * */
};

void world_init(struct world *w, struct arena *a, const struct analysis_input *in, struct analysis *out);
void world_done(struct world *w);

/* Adds a message about an object; the severity is the code's. */
void world_report(struct world *w, const char *code, const struct object *o, const char *path, const char *fmt, ...)
	PRINTF_LIKE(5, 6);
const struct object *world_object(const struct world *w, enum kind_id kind, const char *ns, const char *name);
const struct object *world_gateway(const struct world *w, const char *key); /* "ns/name" */
/* A service with this host, or one whose wildcard covers it; NULL: none. */
const Fl__Service *world_service(const struct world *w, const char *host);
bool service_has_port(const Fl__Service *s, uint32_t port);
const char *title_of(const struct world *w, const struct object *o); /* "VirtualService default/reviews" */
int object_by_age(const void *x, const void *y); /* over const struct object pointers: oldest first, then by name */

/* Who sees an object: its exportTo, else the mesh's default, else everyone. */
struct audience {
	char *const *to;
	size_t n; /* 0: everyone */
	const char *ns; /* of the object */
};
struct audience audience_of(const struct world *w, const struct object *virtual_service);
bool audience_covers(struct audience x, struct audience y); /* whoever sees y sees x */
/* The same, and x comes before the younger y for all of them: pilot takes what only a caller's own namespace sees first, then what is
 * for chosen namespaces, then what is for all. */
bool audience_precedes(struct audience x, struct audience y);
bool audience_overlaps(struct audience x, struct audience y); /* someone sees both */

/* ---- gateways */
/* "ns/host", "./host" or "host" of a server, seen by a VirtualService's host in a namespace: do they have names in common? */
bool server_serves(const Cfg__Server *s, const char *gateway_ns, const char *ns, const char *host);
bool gateway_serves(const struct object *gateway, const char *ns, const char *host, uint32_t port); /* port 0: any */

/* ---- the parts */
void analyze_verdicts(struct world *w);
void analyze_references(struct world *w);
void analyze_gateways(struct world *w);
void analyze_sidecars(struct world *w);
void analyze_services(struct world *w);
void analyze_destination_rules(struct world *w);
void analyze_workloads(struct world *w);
void analyze_envoy_filters(struct world *w);
