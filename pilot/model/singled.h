/*
 * Which namespaces the mesh treats unlike the others. What a sidecar sees of the mesh depends on its namespace only where an object says
 * so, and most objects do not: the sidecars of all namespaces that nothing singles out share their scopes (view.c).
 *
 * Made with each model whose services or rules changed, immutable, counted.
 */
#pragma once

#include "pilot/model/model.h"

/* Bits; 0: nothing singles the namespace out. */
#define SINGLED_VIEW 1u /* its sidecars see other services, rules or routes than those of other namespaces */
#define SINGLED_NAMES 2u /* its sidecars know hosts by short names (host_aliases()) */

struct singled;

struct singled *singled_make(const struct model *m); /* of its topics; one use */
struct singled *singled_ref(struct singled *s); /* NULL is fine, here and below: nothing is singled out */
void singled_unref(struct singled *s);
unsigned singled_get(const struct singled *s, struct str ns);
/* The question of each namespace for which the two differ. */
void singled_touch(const struct singled *old, const struct singled *new, struct read_keys *touched);
