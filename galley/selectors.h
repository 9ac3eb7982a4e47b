/*
 * What the mesh config says of whole namespaces, by their labels: which belong to the mesh, and how far their ServiceEntries may be seen.
 * Pure; the labels are those of the Namespace object, or only its name when there is none.
 */
#pragma once

#include "cfg/mesh.pb-c.h"
#include "common/mesh/labels.h"

/* As in Kubernetes: all pairs of matchLabels and all matchExpressions; an empty selector matches everything. */
bool selector_matches(const Mesh__LabelSelector *s, struct label_set labels, const char *ns);
/* discoverySelectors: any one of them (none: all namespaces); the root namespace always. */
bool namespace_selected(const Mesh__MeshConfig *mesh, struct label_set labels, const char *ns);
/* serviceEntryVisibility for sidecars: the first policy that matches, else the default; PUBLIC when nothing is said. */
Mesh__ServiceEntryVisibility__Visibility namespace_visibility(
	const Mesh__MeshConfig *mesh, struct label_set labels, const char *ns);
