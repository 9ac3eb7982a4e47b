/*
 * DOC: See the header for the phases. Each step writes what is new first and rotation.json last, from files that are still there, so that a step
 * which broke off is simply taken again; until then the old pair is in force. Only between two writes of SIGN key and certificate may not
 * fit: whoever finds that completes the step. A plugged-in CA has an issuer above it that is not ours, and is never rotated from here.
 */
#include "citadel/ca/rotation.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "citadel/ca/once.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/file.h"

#define STATE "rotation.json"

static const char *const phase_names[ROTATION_PHASE_COUNT] = {"none", "distribute", "drain"};

const char *rotation_phase_name(enum rotation_phase p)
{
	return phase_names[p];
}

const char *rotation_step_name(enum rotation_step s)
{
	static const char *const names[ROTATION_STEP_COUNT] = {"stay", "start", "sign", "finish", "abort"};
	return names[s];
}

bool rotation_parse(struct str json, struct rotation *out, struct err *e)
{
	json_t *j = json_loadb(json.ptr ? json.ptr : "", json.len, JSON_REJECT_DUPLICATES, NULL);
	const char *phase = json_string_value(json_object_get(j, "phase"));
	const char *since = json_string_value(json_object_get(j, "since"));
	struct rotation r = {.phase = ROTATION_PHASE_COUNT};
	for (int i = ROTATION_DISTRIBUTE; i < ROTATION_PHASE_COUNT; i++)
		if (streq(phase, phase_names[i]))
			r.phase = (enum rotation_phase)i;
	bool ok = r.phase < ROTATION_PHASE_COUNT && since && clock_parse(since, &r.since_ms);
	json_decref(j);
	if (!ok)
		return err_set(e, ERR_PEER,
			STATE ": wants {\"phase\": \"distribute\" or \"drain\", \"since\": a time in RFC 3339}");
	*out = r;
	return true;
}

/* ---- when */

enum rotation_step rotation_due(const struct rotation *r, const struct rotation_plan *p, int64_t from_ms, int64_t to_ms,
	int64_t now_ms, int64_t *next_ms)
{
	int64_t at_ms = 0;
	*next_ms = 0;
	if (r->phase == ROTATION_NONE)
		at_ms = p->automatic ? to_ms - (to_ms - from_ms) / 5 : 0;
	else
		at_ms = r->since_ms + (int64_t)(r->phase == ROTATION_DISTRIBUTE ? p->distribute_ms : p->drain_ms);
	if (at_ms && now_ms >= at_ms)
		return rotation_next(r->phase);
	*next_ms = at_ms;
	return ROTATION_STAY;
}

enum rotation_step rotation_next(enum rotation_phase p)
{
	static const enum rotation_step steps[ROTATION_PHASE_COUNT] = {ROTATION_START, ROTATION_SIGN, ROTATION_FINISH};
	return steps[p];
}

/* ---- the folder */

bool rotation_read(const char *dir, struct rotation *out, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *path = path_in(a, dir, STATE);
	struct str text = {0};
	*out = (struct rotation){0};
	if (!file_exists(path))
		return true;
	return read_text(a, path, &text, e) && (rotation_parse(text, out, e) || err_in(e, "%s", dir));
}

static bool write_state(struct arena *a, const char *dir, enum rotation_phase phase, int64_t now_ms, struct err *e)
{
	char since[32];
	clock_format(now_ms + 999, since); /* whole seconds: rather later than earlier */
	const char *text = arena_printf(a, "{\"phase\": \"%s\", \"since\": \"%s\"}\n", phase_names[phase], since);
	return file_write_atomic(path_in(a, dir, STATE), str_of(text), 0644, e);
}

static bool remove_file(struct arena *a, const char *dir, const char *name, struct err *e)
{
	const char *path = path_in(a, dir, name);
	return unlink(path) == 0 || errno == ENOENT || err_errno(e, "remove %s", path);
}

static bool write_public(struct arena *a, const char *dir, const char *name, struct str text, struct err *e)
{
	return file_write_atomic(path_in(a, dir, name), text, 0644, e);
}

static bool pair_fits(struct arena *a, const char *dir)
{
	struct str cert = {0};
	struct pki_key *k = read_key(path_in(a, dir, "ca-key.pem"), NULL);
	bool fits = k && read_text(a, path_in(a, dir, "ca-cert.pem"), &cert, NULL) && pki_key_fits(k, cert, NULL);
	pki_key_free(k);
	return fits;
}

/* ca-cert.pem must be one self-signed certificate. */
static bool read_own_root(struct arena *a, const char *dir, struct str *pem, struct pki_cert *out, struct err *e)
{
	struct pki_cert *certs = NULL;
	size_t n = 0;
	if (!read_text(a, path_in(a, dir, "ca-cert.pem"), pem, e) || !pki_certs_parse(a, *pem, &certs, &n, e))
		return false;
	if (n != 1 || !pki_verify(*pem, *pem, certs[0].not_before_ms + 1, NULL))
		return err_set(e, ERR_DENIED,
			"the CA in %s is not self-signed; change a plugged-in CA where it comes from, with both roots "
			"in "
			"root-cert.pem meanwhile",
			dir);
	*out = certs[0];
	return true;
}

/* ---- steps */

static bool start(struct arena *a, const char *dir, const struct ca_options *o, int64_t now_ms, struct err *e)
{
	struct str old = {0}, fresh = {0};
	struct pki_cert own;
	const char *cert = path_in(a, dir, "next-ca-cert.pem"), *key = path_in(a, dir, "next-ca-key.pem");
	if (!read_own_root(a, dir, &old, &own, e) || !remove_file(a, dir, "next-ca-key.pem", e) ||
		!remove_file(a, dir, "next-ca-cert.pem", e) || !ca_make_key(key, o, e))
		return false;
	struct pki_key *k = read_key(path_in(a, dir, "next-ca-key.pem"), e);
	bool ok = k && ca_make_cert(a, cert, o, k, e) && read_text(a, cert, &fresh, e) &&
		  write_public(a, dir, "root-cert.pem",
			  str_of(arena_printf(a, STR_FMT "\n" STR_FMT, STR_ARG(old), STR_ARG(fresh))), e) &&
		  write_state(a, dir, ROTATION_DISTRIBUTE, now_ms, e);
	pki_key_free(k);
	return ok;
}

static bool copy_key(struct arena *a, const char *dir, struct err *e)
{
	char *pem = NULL;
	size_t len = 0;
	bool ok = file_read(path_in(a, dir, "next-ca-key.pem"), LIMIT_PEM_BYTES, &pem, &len, e) &&
		  file_write_atomic(path_in(a, dir, "ca-key.pem"), str_n(pem, len), 0600, e);
	secret_free(pem);
	return ok;
}

static bool sign(struct arena *a, const char *dir, int64_t now_ms, struct err *e)
{
	struct str cert = {0};
	return read_text(a, path_in(a, dir, "next-ca-cert.pem"), &cert, e) && copy_key(a, dir, e) &&
	       write_public(a, dir, "ca-cert.pem", cert, e) && write_public(a, dir, "cert-chain.pem", cert, e) &&
	       write_state(a, dir, ROTATION_DRAIN, now_ms, e) && remove_file(a, dir, "next-ca-key.pem", e) &&
	       remove_file(a, dir, "next-ca-cert.pem", e);
}

/* What signs is what is trusted, and nothing else. */
static bool settle(struct arena *a, const char *dir, struct err *e)
{
	struct str cert = {0};
	return read_text(a, path_in(a, dir, "ca-cert.pem"), &cert, e) &&
	       write_public(a, dir, "root-cert.pem", cert, e) && remove_file(a, dir, STATE, e) &&
	       remove_file(a, dir, "next-ca-key.pem", e) && remove_file(a, dir, "next-ca-cert.pem", e);
}

bool rotation_apply(const char *dir, enum rotation_step step, const struct ca_options *o, int64_t now_ms, struct err *e)
{
	static const enum rotation_phase wants[ROTATION_STEP_COUNT] = {[ROTATION_START] = ROTATION_NONE,
		[ROTATION_SIGN] = ROTATION_DISTRIBUTE,
		[ROTATION_FINISH] = ROTATION_DRAIN,
		[ROTATION_ABORT] = ROTATION_DISTRIBUTE};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct rotation r = {0};
	if (!rotation_read(dir, &r, e))
		return false;
	if (step != ROTATION_STAY && r.phase != wants[step])
		return err_set(e, ERR_DENIED,
			"rotation of the root in %s is in phase \"%s\"; \"%s\" is for phase \"%s\"", dir,
			phase_names[r.phase], rotation_step_name(step), phase_names[wants[step]]);
	switch (step) {
	case ROTATION_START:
		return start(a, dir, o, now_ms, e);
	case ROTATION_SIGN:
		return sign(a, dir, now_ms, e);
	case ROTATION_FINISH:
	case ROTATION_ABORT:
		return settle(a, dir, e);
	case ROTATION_STAY:
	case ROTATION_STEP_COUNT:
		break;
	}
	return true;
}

static bool run_alone(const char *dir, const struct ca_options *o, const struct rotation_plan *p, int64_t now_ms,
	enum rotation_step *step, int64_t *next_ms, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct rotation r = {0};
	struct pki_cert own = {0};
	struct str pem = {0};
	struct err foreign = {0};
	if (!rotation_read(dir, &r, e))
		return false;
	if (r.phase == ROTATION_NONE && !read_own_root(a, dir, &pem, &own, &foreign)) {
		*e = foreign;
		return foreign.kind == ERR_DENIED; /* plugged in: not ours to rotate */
	}
	*step = r.phase == ROTATION_DISTRIBUTE && !pair_fits(a, dir)
			? ROTATION_SIGN
			: rotation_due(&r, p, own.not_before_ms, own.not_after_ms, now_ms, next_ms);
	if (*step == ROTATION_STAY)
		return true;
	if (!rotation_apply(dir, *step, o, now_ms, e) || !rotation_read(dir, &r, e))
		return false;
	if (r.phase == ROTATION_NONE && !read_own_root(a, dir, &pem, &own, e))
		return false;
	if (rotation_due(&r, p, own.not_before_ms, own.not_after_ms, now_ms, next_ms) != ROTATION_STAY)
		*next_ms = now_ms; /* one step at a time: others look in between */
	return true;
}

bool rotation_run(const char *dir, const struct ca_options *o, const struct rotation_plan *p, int64_t now_ms,
	enum rotation_step *step, int64_t *next_ms, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	*step = ROTATION_STAY;
	*next_ms = 0;
	if (!file_exists(path_in(a, dir, "ca-cert.pem")))
		return true;
	cleanup(close_p) int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX))
		return err_errno(e, "lock %s", dir);
	return run_alone(dir, o, p, now_ms, step, next_ms, e);
}
