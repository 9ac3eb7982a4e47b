/*
 * What a scalar's text means. The rules are those by which Kubernetes reads YAML (YAML 1.1 as sigs.k8s.io/yaml resolves
 * it); JSON's numbers and words are a subset. Internal to common/pb.
 */
#pragma once

#include "common/pb/node.h"

/* The type of a plain scalar. */
enum node_type scalar_type(struct str text);
/* A scalar of NODE_BOOL. */
bool scalar_is_true(struct str text);

/* A number: an integer when it is written as one (or is integral), else floating point. */
struct number {
	bool integral;
	bool negative; /* with integral: value is -magnitude */
	uint64_t magnitude; /* with integral */
	double real; /* always */
};
bool scalar_number(struct str text, struct number *out) MUST_CHECK;
/* False also when out of the range. */
bool number_i64(const struct number *n, int64_t min, int64_t max, int64_t *out) MUST_CHECK;
bool number_u64(const struct number *n, uint64_t max, uint64_t *out) MUST_CHECK;

/* The shortest decimal text that reads back as the same value; a float when `single`. Not for NaN and infinities. */
#define REAL_TEXT_MAX 40
void real_text(double value, bool single, char out[REAL_TEXT_MAX]);
