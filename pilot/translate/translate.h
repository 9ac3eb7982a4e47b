/*
 * The seam between translation and serving. A translator makes the resources of one xDS type: pure functions from a view and a name
 * to a message; no I/O, no clock, no globals, same input -> same bytes.
 */
#pragma once

#include "pilot/model/view.h"
#include "pilot/xds/types.h"

struct translator {
	/* Every name of the type that proxies of the view's scope have out of this scope. Sorted. */
	void (*names)(struct view *v, struct arena *a, struct str **out, size_t *n);
	/* The resource, in the arena; NULL when it does not exist (that is recorded too). */
	const ProtobufCMessage *(*build)(struct view *v, struct str name, struct arena *a);
	/* Which scope a name belongs to ("inbound|..." and "virtualInbound" are OWN). */
	enum scope_kind (*scope)(struct str name);
};

const struct translator *translator_get(enum xds_type type);

/* All resources of all types for one proxy as canonical JSON: {"cds": [...], "eds": [...], "lds": [...], "rds": [...]}, each sorted by name. */
void translate_render(const struct model *m, const struct proxy *p, struct strbuf *json);
