/* The state of struct galley, for the files that make it up: pipeline.c, spaces.c, emit.c, report.c. Nothing outside galley/ includes this. */
#pragma once

#include "galley/discovery/discovery.h"
#include "galley/galley.h"
#include "galley/store.h"

struct inputs {
	VEC(const struct object *) of[KIND_COUNT];
};

struct slot_list {
	VEC(struct slot *) slots; /* each knows its place */
};

/* A namespace: what discovery reads of it and what was made of that. */
struct space {
	char *ns;
	struct slot_list members; /* slots with an object of a kind that discovery reads */
	bool dirty; /* all services are made anew */
	struct map *hosts; /* ... or these alone; NULL: none */
	struct inputs inputs; /* while it is made anew */
	struct discovery_output found;
	struct discovered
		*items; /* of found, when services were made anew since all were; else they are in the arena */
	struct arena *arena; /* of what was made last for all */
	VEC(struct arena *) later; /* of the services made anew since then */
	size_t endpoints; /* of found */
};

/* Made by networks.c. */
struct networks {
	struct arena *arena;
	struct network_list list; /* in it */
	struct map *hosts; /* names of gateways -> struct looked_up */
	uint64_t members; /* hash of what says which network a workload is in */
	bool by_service; /* a gateway is said by the name of its Service */
	bool by_node; /* a gateway has the addresses of nodes */
	bool dirty;
};

struct published {
	uint64_t hash;
};

struct galley {
	char *domain_suffix, *cluster, *revision;
	bool assume_sidecars, slices_only, guard_secrets;
	struct store store;
	struct map *spaces; /* by namespace */
	struct map *published; /* "<topic>/<key>" -> struct published */
	bool changed_kinds[KIND_COUNT]; /* since galley_kind_changed() was last asked */
	bool mesh_dirty; /* the mesh's defaults changed: everything that has defaults is made again */
	bool nodes_dirty;
	bool namespaces_dirty; /* labels of namespaces changed: who belongs to the mesh is decided again */
	struct slot_list nodes;
	struct networks networks;
	VEC(const struct slot *) changed; /* of kinds that have a topic, during a commit */

	struct arena *batch; /* the changes of the last commit */
	VEC(struct bus_change) changes;
};

const Mesh__MeshConfig *galley_mesh(
	const struct galley *g, struct arena *scratch); /* normalised; the default when there is none */
struct label_set galley_namespace_labels(struct galley *g, const char *ns); /* none when no object defines it */
bool galley_selects(struct galley *g, const Mesh__MeshConfig *mesh, const char *ns); /* the mesh is to have it */

/* spaces.c: an object that discovery reads came, went or changed; services and endpoints of what was noted are made and emitted. */
void space_note(struct galley *g, struct slot *slot, const struct object *before);
void space_note_node(struct galley *g, struct slot *slot, const struct object *before);
void spaces_discover(struct galley *g, const Mesh__MeshConfig *mesh);
void space_free(struct space *s);

/* networks.c. True: who is in which network changed, so that all endpoints are to be made again. */
void networks_note(struct galley *g, const struct slot *slot, const struct object *before);
bool networks_make(struct galley *g, const Mesh__MeshConfig *mesh) MUST_CHECK;
void networks_done(struct networks *n);

/* emit.c: adds a change when the value differs from what was published. */
void galley_emit(struct galley *g, uint32_t topic, const char *key, struct str value, const char *origin);
void galley_emit_delete(struct galley *g, uint32_t topic, const char *key);
struct str pack_object(struct arena *a, const struct object *o, const Mesh__MeshConfig *mesh);
struct str pack_namespace(struct arena *a, const struct object *o);
