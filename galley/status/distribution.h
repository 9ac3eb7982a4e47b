/*
 * Who has what: the reports of pilots (protos/cfg/model.proto, Distribution) against what galley has published. For each value it answers how
 * many of all proxies have it as galley published it last. A report counts for a value only once the pilot was seen to hold the same content
 * of its topic, so a pilot that has not heard of a change yet counts as one whose proxies lack it. No I/O and no clock: time is an argument.
 */
#pragma once

#include "common/bus/bus.h"

struct distribution;
struct distribution *distribution_new(void);
void distribution_free(struct distribution *d); /* NULL is fine */

/* What was published, as the bus has it. */
void distribution_published(struct distribution *d, const struct bus_change *changes, size_t n);
/* A pilot's report; false: it could not be read. */
bool distribution_reported(
	struct distribution *d, const char *instance, struct str value, uint64_t now_ms, struct err *e) MUST_CHECK;
/* Forgets pilots that were not heard for DISTRIBUTION_EXPIRY_MS. True: somebody was. */
#define DISTRIBUTION_EXPIRY_MS 20000u
bool distribution_expire(struct distribution *d, uint64_t now_ms);
/* Changes whenever an answer may. */
uint64_t distribution_version(const struct distribution *d);

struct share {
	uint32_t proxies; /* that have accepted their first configuration */
	uint32_t connecting; /* that have not */
	uint32_t accepted, rejected;
	const char *error; /* words of a proxy that rejects it; "" */
	const char *refusal; /* words of a proxy that refuses a response, for whatever cause; "" */
	size_t pilots;
};
/* Of one value; texts live until the next call that is not const. */
struct share distribution_of(const struct distribution *d, uint32_t topic, struct str key);
/* Of several at once: what has all of them. */
void share_meet(struct share *into, const struct share *other);
/* {"pilots": [{"instance", "proxies", "connecting", "pending", "current": {topic: bool}, "heard_ms_ago"}]} */
void distribution_debug(const struct distribution *d, uint64_t now_ms, struct strbuf *json);
