/*
 * Settings of injection that are no options: the file that Istio keeps in the ConfigMap istio-sidecar-injector under the key `config`. Templates of
 * the user's, which ones pods get, selectors. Immutable; who reads it owns it, and it outlives the options that point to it. Pure, but for reading.
 */
#pragma once

#include <jansson.h>

#include "common/base/err.h"
#include "common/base/str.h"

#define LIMIT_INJECT_SETTINGS_BYTES (1u << 20) /* a ConfigMap is no longer */

struct inject_settings;

/* Everything is checked, templates too: what is wrong is said before a pod comes. */
bool inject_settings_parse(const char *yaml, struct inject_settings **out, struct err *e) MUST_CHECK;
void inject_settings_free(struct inject_settings *s);
/* A file; the caller frees *out. */
bool inject_settings_read(const char *path, struct inject_settings **out, struct err *e) MUST_CHECK;

/* ---- for injection; all take NULL settings, which say nothing */

enum inject_choice { INJECT_DEFAULT, INJECT_ALWAYS, INJECT_NEVER };

/* What the selectors say of a pod with these labels, and if they say nothing, the policy. */
enum inject_choice inject_settings_choice(const struct inject_settings *s, const json_t *labels);
/* The names in the annotation, or the default ones if it is NULL, with aliases resolved: a list, the caller's. */
json_t *inject_settings_names(const struct inject_settings *s, const char *annotation);
/* Of a template of the user's; NULL: there is none. */
const char *inject_settings_template(const struct inject_settings *s, const char *name);
/* All names, for errors: "custom, gateway, sidecar". The caller frees it. */
char *inject_settings_known(const struct inject_settings *s);
/* Annotations that pods get; NULL: none. */
const json_t *inject_settings_annotations(const struct inject_settings *s);
/* Those of injection that hold where a pod has none; NULL: none. */
const json_t *inject_settings_defaults(const struct inject_settings *s);
