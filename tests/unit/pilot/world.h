/* Test help: a mesh of files that go through galley into a model, and a cache of resources that is kept up by touched keys. */
#pragma once

#include "galley/galley.h"
#include "pilot/model/model.h"
#include "pilot/translate/translate.h"

struct world {
	struct galley *galley;
	struct model *model;
	struct read_keys touched; /* of the last commit */
};
void world_init(struct world *w);
void world_done(struct world *w);
void world_put(struct world *w, const char *file, const char *yaml);
void world_remove(struct world *w, const char *file);
void world_commit(struct world *w);

struct proxy *world_proxy(
	struct arena *a, const char *type, const char *ip, const char *name, const char *ns, const char *labels_json);

/* One resource with the questions that were asked for it. */
struct built {
	char *name;
	struct read_keys reads;
	char *bytes; /* NULL: the resource does not exist */
	size_t len;
	unsigned builds; /* how often it was made */
};

/* What a serving side holds for one proxy. */
struct cache {
	const struct proxy *proxy;
	char *scope_key[SCOPE_KIND_COUNT];
	struct read_keys scope_reads[SCOPE_KIND_COUNT];
	struct read_keys name_reads[SCOPE_KIND_COUNT][XDS_TYPE_COUNT];
	struct built *built[SCOPE_KIND_COUNT][XDS_TYPE_COUNT];
	size_t n[SCOPE_KIND_COUNT][XDS_TYPE_COUNT];
	unsigned rebuilt; /* resources made by the last update */
};
/* Rebuilds what `touched` touches (NULL: everything). */
void cache_update(struct cache *c, const struct model *m, const struct proxy *p, const struct read_keys *touched);
void cache_done(struct cache *c);
const struct built *cache_get(const struct cache *c, enum xds_type type, const char *name);
/* True: same names, same bytes. Prints the first difference. */
bool cache_equal(const struct cache *a, const struct cache *b);
