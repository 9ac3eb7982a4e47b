/*
 * What no single object shows: references that lead nowhere, objects that contradict one another, and for each rule of each
 * VirtualService whether any request can reach it, and if not, which rule takes its requests. Pure: a function of the objects in force
 * and of the services found. Results live in the given arena; objects and services are borrowed and must outlive them.
 */
#pragma once

#include "cfg/mesh.pb-c.h"
#include "common/base/diag.h"
#include "galley/discovery/discovery.h"

struct analysis_input {
	struct object_list of[KIND_COUNT]; /* in force; in order of namespace and name */
	const Fl__Service *const *services; /* that discovery made, in order of namespace and host */
	size_t n_services;
	const Mesh__MeshConfig *mesh;
	/* Why no gateway can serve with the Secret "ns/name", "": it can; NULL: there is none, not even one that was refused. */
	const char *(*credential_problem)(const void *ctx, struct arena *a, const char *key);
	const void *ctx;
};

enum verdict { VERDICT_LIVE, VERDICT_SHADOWED, VERDICT_NEVER, VERDICT_COUNT };
const char *verdict_name(enum verdict v); /* "live", "shadowed", "never matches" */

/* A match of a live rule that no request can reach. */
struct dead_match {
	size_t index;
	enum verdict verdict;
	const char *winner, *why; /* as in struct rule_verdict */
};

struct rule_verdict {
	const struct object *object;
	const char *rule; /* "http[2]", "tls[0]", "tcp[1]" */
	const char *name; /* of the rule, or "" */
	enum verdict verdict;
	const char *winner; /* "VirtualService default/reviews http[0]"; "" unless shadowed */
	const char *why; /* "" when live */
	const struct dead_match *dead; /* of a live rule */
	size_t n_dead;
};

struct analysis {
	struct diags messages; /* of other objects than the one whose own check says it; rule is the code */
	const struct rule_verdict *verdicts; /* objects in order, rules in order */
	size_t n_verdicts;
};

void analysis_build(struct arena *a, const struct analysis_input *in, struct analysis *out);

struct analysis_code {
	const char *code; /* "IST0101" */
	const char *name; /* "ReferencedResourceNotFound" */
	enum diag_severity severity;
};
const struct analysis_code *analysis_code_get(const char *code); /* NULL: none */
