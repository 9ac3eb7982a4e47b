/* The state of struct galley, for the files that make it up: pipeline.c, emit.c, report.c. Nothing outside galley/ includes this. */
#pragma once

#include "galley/discovery/discovery.h"
#include "galley/galley.h"
#include "galley/store.h"

struct inputs {
	VEC(const struct object *) of[KIND_COUNT];
};

/* A namespace: its discovery inputs and what was made of them. */
struct space {
	char *ns;
	bool dirty;
	struct inputs inputs; /* while it is made anew */
	struct arena *arena; /* of found */
	struct discovery_output found;
};

struct published {
	uint64_t hash;
};

struct galley {
	char *domain_suffix;
	bool assume_sidecars, slices_only;
	struct store store;
	struct map *spaces; /* by namespace */
	struct map *published; /* "<topic>/<key>" -> struct published */
	bool mesh_dirty; /* the mesh's defaults changed: everything that has defaults is made again */
	bool nodes_dirty;
	bool namespaces_dirty; /* labels of namespaces changed: who belongs to the mesh is decided again */
	VEC(const struct slot *) changed; /* of kinds that have a topic, during a commit */

	struct arena *batch; /* the changes of the last commit */
	VEC(struct bus_change) changes;
};

const Mesh__MeshConfig *galley_mesh(
	const struct galley *g, struct arena *scratch); /* normalised; the default when there is none */
struct space *galley_space(struct galley *g, const char *ns);

/* emit.c: adds a change when the value differs from what was published. */
void galley_emit(struct galley *g, uint32_t topic, const char *key, struct str value, const char *origin);
void galley_emit_delete(struct galley *g, uint32_t topic, const char *key);
struct str pack_object(struct arena *a, const struct object *o, const Mesh__MeshConfig *mesh);
struct str pack_namespace(struct arena *a, const struct object *o);
