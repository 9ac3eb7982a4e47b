/*
 * DOC: Rotation of a root in a folder: when a step is due, what each one leaves, and that a step which broke off at any write is completed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "citadel/ca/once.h"
#include "citadel/ca/rotation.h"
#include "common/base/clock.h"
#include "common/io/file.h"

#define DAY_MS (24 * 3600 * 1000ll)

static const struct ca_options options = {
	.root_key = "p256", .root_ttl_ms = 100 * DAY_MS, .trust_domain = "cluster.local"};

static void N15_when_a_step_is_due(void **state)
{
	static const struct rotation_plan plan = {true, DAY_MS, 10 * DAY_MS}, by_hand = {false, DAY_MS, 10 * DAY_MS};
	static const struct {
		enum rotation_phase phase;
		int64_t since_day, now_day;
		const struct rotation_plan *plan;
		enum rotation_step step;
		int64_t next_day;
	} rows[] = {
		{ROTATION_NONE, 0, 0, &plan, ROTATION_STAY, 80}, /* a root of 100 days */
		{ROTATION_NONE, 0, 79, &plan, ROTATION_STAY, 80},
		{ROTATION_NONE, 0, 80, &plan, ROTATION_START, 0},
		{ROTATION_NONE, 0, 101, &plan, ROTATION_START, 0},
		{ROTATION_NONE, 0, 99, &by_hand, ROTATION_STAY, 0},
		{ROTATION_DISTRIBUTE, 80, 80, &plan, ROTATION_STAY, 81},
		{ROTATION_DISTRIBUTE, 80, 81, &by_hand, ROTATION_SIGN, 0},
		{ROTATION_DRAIN, 81, 90, &plan, ROTATION_STAY, 91},
		{ROTATION_DRAIN, 81, 91, &by_hand, ROTATION_FINISH, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct rotation r = {rows[i].phase, rows[i].since_day * DAY_MS};
		int64_t next_ms = -1;
		assert_int_equal(rotation_due(&r, rows[i].plan, 0, 100 * DAY_MS, rows[i].now_day * DAY_MS, &next_ms),
			rows[i].step);
		assert_int_equal(next_ms, rows[i].next_day * DAY_MS);
	}
}

static void N15_what_the_file_may_say(void **state)
{
	static const char *const bad[] = {"", "{}", "[]", "{\"phase\": \"none\", \"since\": \"2026-01-02T03:04:05Z\"}",
		"{\"phase\": \"drain\"}", "{\"phase\": \"drain\", \"since\": \"yesterday\"}",
		"{\"phase\": 1, \"since\": 2}",
		"{\"phase\": \"drain\", \"phase\": \"distribute\", \"since\": \"2026-01-02T03:04:05Z\"}"};
	struct rotation r = {0};
	struct err e = {0};
	assert_true(rotation_parse(STR("{\"phase\": \"drain\", \"since\": \"1970-01-02T00:00:00Z\"}"), &r, &e));
	assert_int_equal(r.phase, ROTATION_DRAIN);
	assert_int_equal(r.since_ms, DAY_MS);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		e = (struct err){0};
		assert_false(rotation_parse(str_of(bad[i]), &r, &e));
		assert_non_null(strstr(e.text, "rotation.json"));
	}
}

/* ---- folders */

struct folder {
	struct arena *a;
	char path[32];
};

static int setup(void **state)
{
	struct folder *f = xzalloc(sizeof(*f));
	struct ca ca = {0};
	struct ca_options o = options;
	struct err e = {0};
	(void)snprintf(f->path, sizeof(f->path), "/tmp/rotation-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->a = arena_new();
	o.state_dir = f->path;
	assert_true(ca_load(f->a, &o, &ca, &e));
	pki_key_free(ca.key);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"ca-key.pem", "ca-cert.pem", "root-cert.pem", "cert-chain.pem",
		"rotation.json", "next-ca-key.pem", "next-ca-cert.pem"};
	struct folder *f = *state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)unlink(path_in(f->a, f->path, names[i]));
	assert_int_equal(rmdir(f->path), 0); /* and nothing else was left */
	arena_free(f->a);
	free(f);
	return 0;
}

static struct str file(const struct folder *f, const char *name)
{
	struct str text = {0};
	struct err e = {0};
	if (file_exists(path_in(f->a, f->path, name)))
		assert_true(read_text(f->a, path_in(f->a, f->path, name), &text, &e));
	return text;
}

static void write_file(const struct folder *f, const char *name, struct str text)
{
	struct err e = {0};
	if (text.ptr)
		assert_true(file_write_atomic(path_in(f->a, f->path, name), text, 0600, &e));
	else
		(void)unlink(path_in(f->a, f->path, name));
}

static size_t roots_in(const struct folder *f)
{
	struct pki_cert *list = NULL;
	size_t n = 0;
	struct err e = {0};
	assert_true(pki_certs_parse(f->a, file(f, "root-cert.pem"), &list, &n, &e));
	return n;
}

static void loads(const struct folder *f)
{
	struct ca ca = {0};
	struct ca_options o = options;
	struct err e = {0};
	o.state_dir = f->path;
	if (!ca_load(f->a, &o, &ca, &e))
		fail_msg("%s", e.text);
	pki_key_free(ca.key);
}

static void apply(const struct folder *f, enum rotation_step step)
{
	struct err e = {0};
	if (!rotation_apply(f->path, step, &options, clock_wall_ms(), &e))
		fail_msg("%s: %s", rotation_step_name(step), e.text);
	loads(f);
}

static void N15_each_step_leaves_a_ca_that_works(void **state)
{
	struct folder *f = *state;
	struct err e = {0};
	const struct str old = file(f, "ca-cert.pem");
	apply(f, ROTATION_START);
	assert_true(str_eq(file(f, "ca-cert.pem"), old));
	assert_int_equal(roots_in(f), 2);
	const struct str fresh = file(f, "next-ca-cert.pem");
	assert_false(rotation_apply(f->path, ROTATION_FINISH, &options, clock_wall_ms(), &e));
	assert_non_null(strstr(e.text, "\"finish\" is for phase \"drain\""));
	apply(f, ROTATION_SIGN);
	assert_true(str_eq(file(f, "ca-cert.pem"), fresh));
	assert_int_equal(roots_in(f), 2);
	assert_null(file(f, "next-ca-key.pem").ptr);
	apply(f, ROTATION_FINISH);
	assert_int_equal(roots_in(f), 1);
	assert_true(str_eq(file(f, "root-cert.pem"), fresh));
	assert_null(file(f, "rotation.json").ptr);
	apply(f, ROTATION_START);
	apply(f, ROTATION_ABORT);
	assert_true(str_eq(file(f, "root-cert.pem"), fresh));
	assert_int_equal(roots_in(f), 1);
}

/* The process died after the first k writes of a step: the next look at the folder completes it. */
static void N15_a_step_that_broke_off_is_completed(void **state)
{
	static const char *const order[] = {"ca-key.pem", "ca-cert.pem", "cert-chain.pem", "rotation.json"};
	static const struct rotation_plan plan = {true, DAY_MS, 10 * DAY_MS};
	struct folder *f = *state;
	struct str before[ARRAY_LEN(order)], after[ARRAY_LEN(order)];
	apply(f, ROTATION_START);
	const struct str key = file(f, "next-ca-key.pem"), cert = file(f, "next-ca-cert.pem");
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		before[i] = file(f, order[i]);
	apply(f, ROTATION_SIGN);
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		after[i] = file(f, order[i]);
	for (size_t done = 1; done <= ARRAY_LEN(order); done++) {
		enum rotation_step step = ROTATION_STAY;
		int64_t next_ms = 0, now_ms = clock_wall_ms() + (done > 1 && done < 4 ? 2 * DAY_MS : 0);
		struct err e = {0};
		write_file(f, "next-ca-key.pem", key);
		write_file(f, "next-ca-cert.pem", cert);
		for (size_t i = 0; i < ARRAY_LEN(order); i++)
			write_file(f, order[i], i < done ? after[i] : before[i]);
		if (!rotation_run(f->path, &options, &plan, now_ms, &step, &next_ms, &e))
			fail_msg("%zu writes: %s", done, e.text);
		assert_int_equal(step, done < 4 ? ROTATION_SIGN : ROTATION_STAY);
		assert_true(str_eq(file(f, "ca-key.pem"), key) && str_eq(file(f, "ca-cert.pem"), cert));
		assert_true(next_ms > now_ms);
		loads(f);
	}
	write_file(f, "next-ca-key.pem", (struct str){0});
	write_file(f, "next-ca-cert.pem", (struct str){0});
}

static void N15_an_issuer_below_a_root_is_not_ours_to_rotate(void **state)
{
	static const struct rotation_plan plan = {true, DAY_MS, 10 * DAY_MS};
	struct folder *f = *state;
	struct err e = {0};
	struct pki_key *root = pki_key_parse(file(f, "ca-key.pem"), &e), *own = pki_key_new(PKI_P256, &e);
	struct pki_cert_request r = {.organization = "x",
		.not_before_ms = clock_wall_ms() - 1000,
		.not_after_ms = clock_wall_ms() + 1000,
		.ca = true,
		.path_len = -1};
	char *pem = NULL, *key = NULL;
	enum rotation_step step = ROTATION_START;
	int64_t next_ms = 1;
	assert_true(pki_spki_of(own, f->a, &r.spki_der, &e) && pki_issue(root, file(f, "ca-cert.pem"), &r, &pem, &e) &&
		    pki_key_pem(own, &key, &e));
	write_file(f, "ca-cert.pem", str_of(pem));
	write_file(f, "ca-key.pem", str_of(key));
	assert_true(rotation_run(f->path, &options, &plan, clock_wall_ms(), &step, &next_ms, &e));
	assert_int_equal(step, ROTATION_STAY);
	assert_int_equal(next_ms, 0);
	e = (struct err){0};
	assert_false(rotation_apply(f->path, ROTATION_START, &options, clock_wall_ms(), &e));
	assert_int_equal(e.kind, ERR_DENIED);
	assert_non_null(strstr(e.text, "not self-signed"));
	secret_free(key);
	free(pem);
	pki_key_free(root);
	pki_key_free(own);
}

#define FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(N15_when_a_step_is_due),
		cmocka_unit_test(N15_what_the_file_may_say),
		FOLDER(N15_each_step_leaves_a_ca_that_works),
		FOLDER(N15_a_step_that_broke_off_is_completed),
		FOLDER(N15_an_issuer_below_a_root_is_not_ours_to_rotate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
