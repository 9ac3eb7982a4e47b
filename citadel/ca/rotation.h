/*
 * Rotation of a self-signed root, step by step in the CA's own folder (or Secret), so that it survives restarts and all replicas see the same:
 *
 *   none        ca-key.pem, ca-cert.pem: what signs; root-cert.pem: what is trusted
 *   distribute  next-ca-key.pem, next-ca-cert.pem are there and root-cert.pem holds both roots; the old one still signs
 *   drain       the new one signs; root-cert.pem holds both until nothing that the old one signed is valid any more
 *
 * rotation.json says which, and since when. The same files work for istiod, which knows nothing of the last two.
 */
#pragma once

#include "citadel/ca/load.h"

enum rotation_phase { ROTATION_NONE, ROTATION_DISTRIBUTE, ROTATION_DRAIN, ROTATION_PHASE_COUNT };
const char *rotation_phase_name(enum rotation_phase p);

struct rotation {
	enum rotation_phase phase;
	int64_t since_ms;
};

/* When to go on by itself. */
struct rotation_plan {
	bool automatic; /* begin when a fifth of the root's life is left */
	uint64_t distribute_ms; /* after which everybody trusts the new root */
	uint64_t drain_ms; /* after which nothing that the old root signed is valid: the longest lifetime */
};

enum rotation_step {
	ROTATION_STAY,
	ROTATION_START,
	ROTATION_SIGN,
	ROTATION_FINISH,
	ROTATION_ABORT,
	ROTATION_STEP_COUNT
};
const char *rotation_step_name(enum rotation_step s);

/* rotation.json. Pure. */
bool rotation_parse(struct str json, struct rotation *out, struct err *e) MUST_CHECK;
/* What is to be done now, and (*next_ms) when to look again; 0: not by itself. The root is valid from..to. Pure. */
enum rotation_step rotation_due(const struct rotation *r, const struct rotation_plan *p, int64_t from_ms, int64_t to_ms,
	int64_t now_ms, int64_t *next_ms);
/* The step that follows by hand: START, SIGN, FINISH. */
enum rotation_step rotation_next(enum rotation_phase p);

/* Absent file: none. */
bool rotation_read(const char *dir, struct rotation *out, struct err *e) MUST_CHECK;
/* Takes a step in the folder; one that does not fit the phase is an error that says so. Repeating a step that broke off completes it. */
bool rotation_apply(
	const char *dir, enum rotation_step step, const struct ca_options *o, int64_t now_ms, struct err *e) MUST_CHECK;
/* Takes the step that is due, alone among those that share the folder. *step: which; *next_ms: as above. */
bool rotation_run(const char *dir, const struct ca_options *o, const struct rotation_plan *p, int64_t now_ms,
	enum rotation_step *step, int64_t *next_ms, struct err *e) MUST_CHECK;
