/* DOC: The directory source on a real folder, with the time given: which files count, when they are read, and what is put off. */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "galley/source/directory.h"

#define LATER (INT64_MAX / 4) /* nothing is fresh by then */

struct bench {
	char root[64];
	struct directory *directory;
	struct strbuf log; /* "+name " and "-name " in order */
	bool whole;
};

static void put(void *ctx, struct str file, struct str text)
{
	struct bench *b = ctx;
	strbuf_addf(&b->log, "+" STR_FMT " ", STR_ARG(str_from(file, strlen(b->root) + 1)));
	(void)text;
}

static void drop(void *ctx, struct str file)
{
	struct bench *b = ctx;
	strbuf_addf(&b->log, "-" STR_FMT " ", STR_ARG(str_from(file, strlen(b->root) + 1)));
}

static bool looks_whole(void *ctx, struct str file, struct str text)
{
	(void)file;
	(void)text;
	return ((struct bench *)ctx)->whole;
}

static const struct directory_ops ops = {looks_whole, NULL, put, drop};

static int setup(void **state)
{
	struct bench *b = xzalloc(sizeof(*b));
	(void)snprintf(b->root, sizeof(b->root), "/tmp/galley-directory-XXXXXX");
	if (!mkdtemp(b->root))
		return -1;
	b->directory = directory_new(b->root);
	b->whole = true;
	*state = b;
	return 0;
}

static void write_file(struct bench *b, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", b->root, name);
	struct err e;
	assert_true(file_write_atomic(path, str_of(text), 0600, &e));
	free(path);
}

static void remove_file(struct bench *b, const char *name)
{
	char *path = xasprintf("%s/%s", b->root, name);
	(void)unlink(path);
	free(path);
}

static const char *scan_at(struct bench *b, int64_t now, uint64_t *retry)
{
	struct err e = {0};
	strbuf_clear(&b->log);
	assert_true(directory_scan(b->directory, now, &ops, b, retry, &e));
	return b->log.ptr ? b->log.ptr : "";
}

static const char *scan(struct bench *b)
{
	uint64_t retry;
	const char *log = scan_at(b, LATER, &retry);
	assert_int_equal(retry, 0);
	return log;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	static const char *const files[] = {
		"a.yaml", "b.yml", "c.json", "sub/d.yaml", ".hidden.yaml", "#x.yaml", "n.txt", "a.yaml~"};
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		remove_file(b, files[i]);
	char *sub = xasprintf("%s/sub", b->root);
	(void)rmdir(sub);
	free(sub);
	(void)rmdir(b->root);
	directory_free(b->directory);
	strbuf_done(&b->log);
	free(b);
	return 0;
}

static void G14_only_configuration_files_count(void **state)
{
	struct bench *b = *state;
	char *sub = xasprintf("%s/sub", b->root);
	assert_int_equal(mkdir(sub, 0700), 0);
	free(sub);
	static const char *const others[] = {".hidden.yaml", "#x.yaml", "n.txt", "a.yaml~"};
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		write_file(b, others[i], "x");
	write_file(b, "a.yaml", "x");
	assert_string_equal(scan(b), "+a.yaml ");
	write_file(b, "b.yml", "x");
	assert_string_equal(scan(b), "+b.yml ");
	write_file(b, "c.json", "x");
	assert_string_equal(scan(b), "+c.json ");
	write_file(b, "sub/d.yaml", "x");
	assert_string_equal(scan(b), "+sub/d.yaml ");
	assert_int_equal(directory_files(b->directory), 4);
}

static void G14_only_what_changed_is_read(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml", "x");
	assert_string_equal(scan(b), "+a.yaml ");
	assert_string_equal(scan(b), "");
	write_file(b, "a.yaml", "y");
	assert_string_equal(scan(b), "+a.yaml ");
}

static void missing_file_is_given_time_to_come_back(void **state)
{
	struct bench *b = *state;
	uint64_t retry;
	write_file(b, "a.yaml", "x");
	assert_string_equal(scan(b), "+a.yaml ");
	remove_file(b, "a.yaml");
	assert_string_equal(scan_at(b, LATER, &retry), "");
	assert_true(retry > 0);
	assert_string_equal(scan_at(b, LATER + DIRECTORY_PATIENCE_MS - 1, &retry), "");
	assert_string_equal(scan_at(b, LATER + DIRECTORY_PATIENCE_MS, &retry), "-a.yaml ");
	assert_int_equal(retry, 0);
}

static void fresh_file_waits_and_one_change_is_one_batch(void **state)
{
	struct bench *b = *state;
	uint64_t retry;
	struct stat st;
	write_file(b, "a.yaml", "x");
	char *path = xasprintf("%s/a.yaml", b->root);
	assert_int_equal(stat(path, &st), 0);
	free(path);
	int64_t changed = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	assert_string_equal(scan_at(b, changed + DIRECTORY_SETTLE_MS - 1, &retry), "");
	assert_int_equal(retry, DIRECTORY_SETTLE_MS);
	assert_string_equal(scan_at(b, changed + DIRECTORY_SETTLE_MS, &retry), "+a.yaml ");
}

static void half_written_file_is_reported_after_some_patience(void **state)
{
	struct bench *b = *state;
	uint64_t retry;
	struct stat st;
	b->whole = false;
	write_file(b, "a.yaml", "x: [");
	char *path = xasprintf("%s/a.yaml", b->root);
	assert_int_equal(stat(path, &st), 0);
	free(path);
	int64_t changed = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	assert_string_equal(scan_at(b, changed + DIRECTORY_PATIENCE_MS - 1, &retry), "");
	assert_true(retry > 0);
	assert_string_equal(scan_at(b, changed + DIRECTORY_PATIENCE_MS, &retry), "+a.yaml ");
}

static int64_t changed_at(struct bench *b, const char *name)
{
	struct stat st;
	char *path = xasprintf("%s/%s", b->root, name);
	assert_int_equal(stat(path, &st), 0);
	free(path);
	return (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

static void age_by(struct bench *b, const char *name, int64_t at_ms)
{
	const struct timespec times[2] = {{.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000},
		{.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000}};
	char *path = xasprintf("%s/%s", b->root, name);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	free(path);
}

static void file_that_the_kernel_calls_complete_does_not_wait(void **state)
{
	struct bench *b = *state;
	uint64_t retry;
	char *path = xasprintf("%s/a.yaml", b->root);
	write_file(b, "a.yaml", "x");
	directory_hint(b->directory, path, true);
	assert_string_equal(scan_at(b, changed_at(b, "a.yaml") + 1, &retry), "+a.yaml ");
	assert_int_equal(retry, 0);
	write_file(b, "a.yaml", "yy");
	directory_hint(b->directory, path, false); /* somebody writes */
	assert_string_equal(scan_at(b, changed_at(b, "a.yaml") + 1, &retry), "");
	assert_int_equal(retry, DIRECTORY_SETTLE_MS);
	directory_hint(b->directory, path, true);
	assert_string_equal(scan_at(b, changed_at(b, "a.yaml") + 1, &retry), "+a.yaml ");
	free(path);
}

/* Changes without a pause: what has settled does not wait for what has not, after the first patience only for a moment. */
static void steady_changes_do_not_hold_back_what_has_settled(void **state)
{
	struct bench *b = *state;
	uint64_t retry;
	write_file(b, "a.yaml", "x");
	write_file(b, "b.yml", "x");
	int64_t now = changed_at(b, "a.yaml") + 10;
	age_by(b, "b.yml", now - 1); /* fresh all the time */
	assert_string_equal(scan_at(b, now, &retry), "");
	now += DIRECTORY_PATIENCE_MS;
	age_by(b, "b.yml", now - 1);
	assert_string_equal(scan_at(b, now, &retry), "+a.yaml ");
	assert_int_equal(retry, DIRECTORY_SETTLE_MS);
	write_file(b, "a.yaml", "y");
	age_by(b, "a.yaml", now);
	now += DIRECTORY_SETTLE_MS;
	age_by(b, "b.yml", now - 1);
	assert_string_equal(scan_at(b, now, &retry), "");
	now += DIRECTORY_BUSY_MS;
	age_by(b, "b.yml", now - 1);
	assert_string_equal(scan_at(b, now, &retry), "+a.yaml ");
	now += DIRECTORY_SETTLE_MS;
	assert_string_equal(scan_at(b, now, &retry), "+b.yml ");
	assert_int_equal(retry, 0);
}

static void root_that_is_gone_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct err e = {0};
	uint64_t retry;
	struct directory *d = directory_new("/nowhere/at/all");
	assert_false(directory_scan(d, LATER, &ops, b, &retry, &e));
	assert_int_equal(e.kind, ERR_SYSTEM);
	directory_free(d);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(G14_only_configuration_files_count),
		CASE(G14_only_what_changed_is_read),
		CASE(missing_file_is_given_time_to_come_back),
		CASE(fresh_file_waits_and_one_change_is_one_batch),
		CASE(half_written_file_is_reported_after_some_patience),
		CASE(file_that_the_kernel_calls_complete_does_not_wait),
		CASE(steady_changes_do_not_hold_back_what_has_settled),
		CASE(root_that_is_gone_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
