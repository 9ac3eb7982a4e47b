/*
 * Delegates of VirtualServices: a rule with `delegate` stands for the rules of another VirtualService, which has no hosts. Each of
 * those is narrowed by the conditions of the root's rule and takes over the root's actions where it has none of its own. Pure;
 * results are in the arena and share everything that did not change with the two objects, which must outlive them.
 */
#pragma once

#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/arena.h"

/* A rule of the result and where it stands in the delegate. */
struct delegated {
	const Cfg__HTTPRoute *rule;
	size_t index;
};

/* Whether a root in namespace `root_ns` may use the delegate. */
bool delegate_visible(const Cfg__VirtualService *delegate, struct str delegate_ns, struct str root_ns);
/* The delegate's rules as the root's rule allows them, in order; those whose conditions contradict the root's are left out. At most
 * delegate->n_http. */
struct delegated *delegate_merge(
	struct arena *a, const Cfg__HTTPRoute *root, const Cfg__VirtualService *delegate, size_t *n);
