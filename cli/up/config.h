/* What the runner itself must know of the configuration, by galley's own reading of it. */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"

/* The mesh config's trust domain. What is wrong with the configuration is printed on standard error: it starts nothing less. */
bool config_read(struct arena *a, const char *dir, const char **trust_domain, struct err *e) MUST_CHECK;
