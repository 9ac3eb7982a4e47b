/* Questions to admin servers: HTTP over TCP or a Unix socket, several at once, with one time limit. Blocks until all are answered. */
#pragma once

#include <jansson.h>

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/base/str.h"

struct question {
	const char *address; /* "127.0.0.1:15014", "unix:/path" */
	const char *path; /* "/debug/syncz" */
	int status; /* answer: HTTP status; 0: none, and body holds the reason */
	struct str body; /* in the arena */
};

void ask_all(struct arena *a, struct question *items, size_t n, uint64_t timeout_ms);
/* One question, whose answer must be 200 and JSON; the caller decrefs. NULL: e names the address. */
json_t *ask_json(const char *address, const char *path, uint64_t timeout_ms, struct err *e);
/* The answer as JSON; NULL when there is none; e says why. */
json_t *question_json(const struct question *q, struct err *e);
