/*
 * A request of either protocol, looked through and not unpacked: proxies repeat thousands of names with every acknowledgement, and most of
 * the time they say what another proxy said before. So names are hashed, per scope kind and without regard to their order, with a seed
 * that nobody else knows; only who has to look at names goes through them. All strs lie in the request's bytes.
 */
#pragma once

#include "common/base/err.h"
#include "pilot/translate/translate.h"

struct xds_request {
	enum xds_mode mode;
	struct str raw;
	struct str type_url, nonce;
	struct str version; /* state of the world: of the last response that was taken */
	struct str node, error; /* messages, packed; ptr NULL: not there */
	size_t n_names, n_unsubscribed, n_initial;
};

enum request_what { REQUEST_NAME, REQUEST_UNSUBSCRIBE, REQUEST_INITIAL };

struct request_item {
	enum request_what what;
	struct str name;
	struct str version; /* REQUEST_INITIAL */
};

#define REQUEST_FEW 16

/* What of a request concerns one scope kind. */
struct request_part {
	uint64_t hash; /* of the items */
	size_t n;
	struct request_item few[REQUEST_FEW]; /* the items, if there are no more than these */
};

/* Checks all that the two below rely on: the wire format, lengths and counts. ERR_PEER, ERR_LIMIT. */
bool request_parse(enum xds_mode mode, const void *data, size_t len, struct xds_request *out, struct err *e) MUST_CHECK;
/* The names but "*"; true: there was one ("*" among the names), and among what is unsubscribed. */
void request_parts(const struct xds_request *r, const struct translator *t, struct request_part out[SCOPE_KIND_COUNT],
	bool *star, bool *unstar);
/* *cursor begins with 0. */
bool request_next(const struct xds_request *r, size_t *cursor, struct request_item *out);
