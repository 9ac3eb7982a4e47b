/* DOC: Galley's pipeline over the directory, once, before any daemon runs: its trust domain is every daemon's, and its problems are told at once. */
#include "cli/up/config.h"

#include <stdio.h>
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "galley/galley.h"
#include "cfg/mesh.pb-c.h"

static const Mesh__MeshConfig *mesh_config(struct arena *a, const struct bus_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (changes[i].topic != TOPIC_MESH)
			continue;
		const Fl__Object *o = PB_UNPACK(
			a, Fl__Object, fl__object, changes[i].value.ptr, changes[i].value.len, NULL);
		return o ? PB_UNPACK(a, Mesh__MeshConfig, mesh__mesh_config, o->spec.data, o->spec.len, NULL) : NULL;
	}
	return NULL;
}

static void print_problems(struct arena *a, const struct galley *g)
{
	struct diags diags;
	diags_init(&diags, a);
	galley_diags(g, &diags);
	for (size_t i = 0; i < diags.len; i++) {
		char *line cleanup(free_p) = diag_format(&diags.items[i]);
		if (diags.items[i].severity != DIAG_INFO)
			(void)fprintf(stderr, "%s\n", line);
	}
	if (diags.errors)
		(void)fprintf(stderr, "fairlead up: %zu error%s in the configuration; what is accepted is in force\n",
			diags.errors, diags.errors == 1 ? "" : "s");
}

bool config_read(struct arena *a, const char *dir, const char **trust_domain, struct err *e)
{
	struct galley *g = galley_new(NULL);
	bool ok = galley_load(g, dir, e);
	size_t n = 0;
	const struct bus_change *changes = ok ? galley_commit(g, &n) : NULL;
	const Mesh__MeshConfig *mesh = mesh_config(a, changes, n);
	if (ok)
		print_problems(a, g);
	*trust_domain = mesh && !str_empty(mesh->trust_domain) ? mesh->trust_domain : "cluster.local";
	galley_free(g);
	return ok;
}
