/* Between the query files of the model only: recording and row access. */
#pragma once

#include "common/mesh/kinds.h"
#include "common/mesh/labels.h"
#include "pilot/model/index.h"

void ask_note(struct view *v, enum question q, struct str text);
struct rows ask_rows(const struct view *v, uint32_t topic, enum question q, struct str text); /* not recorded */
/* The entry is part of the answer. */
bool entry_answers(const struct entry *e, uint64_t question);
struct rows ask(struct view *v, uint32_t topic, enum question q, struct str text);
/*
 * fn for each service that answers q, a question by visibility (with `suffix` behind it), and may be imported by the scope's Sidecar: some
 * twice, in no order, and fn asks sidecar_admits(). Ends with true when fn returns true (query_imports.c).
 */
typedef bool service_fn(void *ctx, const Fl__Service *s);
bool find_service(struct view *v, enum question q, const char *suffix, service_fn *fn, void *ctx);
void ask_source(struct view *v, const struct entry *e);
/* Oldest first, then by key; for qsort over const struct entry pointers. */
int entry_by_age(const void *x, const void *y);
/* Every pair of the selector is among the labels of the scope. */
bool scope_selected(const struct view *v, struct label_set selector);
/* A host of an egress listener, "namespace/host": "./" is the scope's namespace, "~" in front takes out, "~/" in all namespaces. */
struct egress_host {
	struct str ns, host; /* ns "*": all */
	bool out;
};
struct egress_host egress_host_of(const struct view *v, const char *text);
/* An imported VirtualService sends to the host, so it is visible although no egress listener names it (query_sidecar.c). */
bool sidecar_needs(struct view *v, struct str host);
/* A VirtualService is visible, and the Sidecar imports it from its namespace. */
bool sidecar_imports(struct view *v, const struct entry *e);
/* All such hosts: fn for each, maybe several times. */
void sidecar_needed(struct view *v, void (*fn)(void *ctx, struct str host), void *ctx);
/* exportTo of an object of namespace `owner`; empty list: everyone. */
bool exported_to(char *const *list, size_t n, struct str owner, struct str ns);
