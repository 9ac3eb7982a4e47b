/* DOC: Which mesh is meant: by name, by being the only one that answers, and what is said when there is none or a choice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/target.h"
#include "common/base/str.h"
#include "common/io/addr.h"
#include "common/io/file.h"

struct bench {
	char root[32];
	char *dir; /* of configuration */
	struct arena *arena;
	int sockets[2];
	size_t n;
};

static int setup(void **state)
{
	struct bench *b = xzalloc(sizeof(*b));
	(void)snprintf(b->root, sizeof(b->root), "/tmp/tg-XXXXXX");
	b->arena = arena_new();
	*state = b;
	if (!mkdtemp(b->root))
		return -1;
	b->dir = xasprintf("%s/config", b->root);
	return setenv("XDG_RUNTIME_DIR", b->root, 1) || mkdir(b->dir, 0700);
}

static int teardown(void **state)
{
	struct bench *b = *state;
	for (size_t i = 0; i < b->n; i++)
		(void)close(b->sockets[i]);
	char *command cleanup(free_p) = xasprintf("rm -rf %s", b->root);
	int left = system(command);
	free(b->dir);
	arena_free(b->arena);
	free(b);
	return left;
}

/* A state directory on whose control socket somebody listens. */
static void run_mesh(struct bench *b, const char *state)
{
	char *path cleanup(free_p) = xasprintf("unix:%s/up.sock", state);
	struct addr a;
	struct err e = {0};
	assert_true(file_mkdirs(state, 0700, &e));
	assert_true(addr_parse(str_of(path), &a, &e));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a.sa, a.len) == 0 && listen(fd, 4) == 0);
	b->sockets[b->n++] = fd;
}

static void none_runs(void **state)
{
	struct bench *b = *state;
	const char *found = NULL;
	struct err e = {0};
	assert_false(target_state(b->arena, NULL, &found, &e));
	assert_non_null(strstr(e.text, "no mesh of this user runs here"));
	assert_non_null(strstr(e.text, b->root));
}

static void the_only_one_is_found(void **state)
{
	struct bench *b = *state;
	char *usual cleanup(free_p) = target_default_state(b->dir), *link = NULL;
	const char *found = NULL;
	struct err e = {0};
	run_mesh(b, usual);
	assert_true(target_remember(b->dir, usual, &link, &e));
	assert_null(link);
	assert_true(target_state(b->arena, NULL, &found, &e));
	assert_string_equal(found, usual);
	const char *address = NULL;
	assert_true(target_daemon(b->arena, "pilot", NULL, NULL, &address, &e));
	char *want cleanup(free_p) = xasprintf("unix:%s/pilot.admin", usual);
	assert_string_equal(address, want);
}

static void one_of_the_users_choice_is_linked(void **state)
{
	struct bench *b = *state;
	char *own cleanup(free_p) = xasprintf("%s/own", b->root), *link cleanup(free_p) = NULL;
	const char *found = NULL;
	struct err e = {0};
	run_mesh(b, own);
	assert_true(target_remember(b->dir, own, &link, &e));
	assert_non_null(link);
	assert_true(target_state(b->arena, NULL, &found, &e));
	assert_string_equal(found, own);
	target_forget(link);
	assert_false(target_state(b->arena, NULL, &found, &e));
}

static void several_must_be_named(void **state)
{
	struct bench *b = *state;
	char *usual cleanup(free_p) = target_default_state(b->dir),
		    *other cleanup(free_p) = target_default_state(b->root);
	const char *found = NULL;
	struct err e = {0};
	run_mesh(b, usual);
	run_mesh(b, other);
	assert_false(target_state(b->arena, NULL, &found, &e));
	assert_non_null(strstr(e.text, "several meshes run here"));
	assert_true(target_state(b->arena, other, &found, &e));
	assert_string_equal(found, other);
	/* One that has ended does not count, though its socket is still there. */
	(void)close(b->sockets[--b->n]);
	assert_true(target_state(b->arena, NULL, &found, &e));
	assert_string_equal(found, usual);
}

static void an_address_needs_no_mesh(void **state)
{
	struct bench *b = *state;
	const char *address = NULL;
	struct err e = {0};
	assert_true(target_daemon(b->arena, "pilot", "127.0.0.1:15014", NULL, &address, &e));
	assert_string_equal(address, "127.0.0.1:15014");
	assert_false(target_daemon(b->arena, "pilot", NULL, "/nowhere", &address, &e));
	assert_non_null(strstr(e.text, "--state /nowhere"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(none_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(the_only_one_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(one_of_the_users_choice_is_linked, setup, teardown),
		cmocka_unit_test_setup_teardown(several_must_be_named, setup, teardown),
		cmocka_unit_test_setup_teardown(an_address_needs_no_mesh, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
