/* What subscribers reported about objects, for the debug page alone: the pipeline never reads it. Owner: the daemon; one thread. */
#pragma once

#include "common/bus/bus.h"

struct reports;

struct reports *reports_new(void);
void reports_free(struct reports *r); /* NULL is fine */
/* A report replaces the one before of the same subscriber and object; one without a value takes it back. Beyond a bound new ones are dropped. */
void reports_note(struct reports *r, const char *role, const char *instance, const struct bus_change *c);
void reports_debug(const struct reports *r, struct strbuf *json);
