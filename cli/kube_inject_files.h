/* Files of an installation as options of injection. Strings live in the arena. Errors name the file, the place and the rule. */
#pragma once

#include "common/base/arena.h"
#include "galley/webhook/inject.h"

/* The mesh config (the ConfigMap istio, key mesh): under what the options say. */
bool inject_read_mesh(struct arena *a, const char *path, struct inject_options *o, struct err *e) MUST_CHECK;
/* Helm values (the ConfigMap istio-sidecar-injector, key values): for options that have their defaults. */
bool inject_read_values(struct arena *a, const char *path, struct inject_options *o, struct err *e) MUST_CHECK;
