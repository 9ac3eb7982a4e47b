/*
 * What a proxy has, or what pilot sent it: xDS resources as JSON, from either side in one form. Envoy writes field names as in the .proto
 * files and pilot in lowerCamelCase; dump_at() reads both.
 */
#pragma once

#include <jansson.h>

#include "common/base/err.h"

enum dump_part {
	DUMP_LISTENERS,
	DUMP_ROUTES,
	DUMP_CLUSTERS,
	DUMP_ENDPOINTS,
	DUMP_SECRETS,
	DUMP_BOOTSTRAP,
	DUMP_PART_COUNT
};
extern const char *const dump_part_names[DUMP_PART_COUNT]; /* "listeners" ... */

struct dump {
	/* Arrays of {"name", "version", "state", "resource"}; never NULL after dump_from_...; bootstrap has one item at most. */
	json_t *parts[DUMP_PART_COUNT];
	json_t *health; /* Envoy's /clusters?format=json, NULL: not known */
};

/* From an item of pilot's page config_dump. */
void dump_from_pilot(const json_t *item, struct dump *out);
/* From Envoy's /config_dump?include_eds; false: not its form. Private keys are left out. */
bool dump_from_envoy(const json_t *config_dump, struct dump *out, struct err *e) MUST_CHECK;
void dump_done(struct dump *d);

/* The value at a dotted path of .proto field names, in either spelling; numbers index lists. Borrowed, NULL: absent. */
json_t *dump_at(const json_t *value, const char *path);
const char *dump_text(const json_t *value, const char *path); /* "" when absent or no string */
