/* DOC: Watching directories, and the HTTP client against libmicrohttpd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <microhttpd.h>

#include "common/base/clock.h"
#include "common/io/file.h"
#include "common/io/http.h"

static struct loop *loop;

#define WAIT_FOR(condition) \
	do { \
		uint64_t until_ = clock_mono_ms() + 10000; \
		while (!(condition)) { \
			loop_run_once(loop, 20); \
			assert_true(clock_mono_ms() < until_); \
		} \
	} while (0)

static void count_change(void *ctx)
{
	(*(int *)ctx)++;
}

static void put(const char *dir, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);
	struct err e = {0};
	assert_true(file_write_atomic(path, str_of(text), 0644, &e));
	free(path);
}

static void remove_tree(char *dir)
{
	char *cmd = xasprintf("rm -rf '%s'", dir);
	assert_int_equal(system(cmd), 0);
	free(cmd);
}

static void directory_changes_are_seen(void **state)
{
	(void)state;
	struct err e = {0};
	char dir[] = "/tmp/fairlead-watch-XXXXXX";
	int n = 0;
	loop = loop_new();
	assert_non_null(mkdtemp(dir));
	struct dir_watch *w = dir_watch_new(loop, dir, 10, count_change, &n, &e);
	assert_non_null(w);
	put(dir, "a", "1");
	put(dir, "b", "1");
	WAIT_FOR(n == 1); /* both at once */

	char *sub = xasprintf("%s/x/y", dir);
	assert_true(file_mkdirs(sub, 0755, &e));
	WAIT_FOR(n == 2);
	put(sub, "deep", "1"); /* in a folder that did not exist when the watch began */
	WAIT_FOR(n == 3);

	/* As Kubernetes updates a mounted ConfigMap: a new folder, then the link is swapped. */
	char *old = xasprintf("%s/..2026", dir), *data = xasprintf("%s/..data", dir), *tmp = xasprintf("%s/..tmp", dir);
	assert_true(file_mkdirs(old, 0755, &e));
	assert_int_equal(symlink("..2026", tmp), 0);
	WAIT_FOR(n >= 4);
	int before = n;
	assert_int_equal(rename(tmp, data), 0);
	WAIT_FOR(n > before);

	before = n;
	char *a = xasprintf("%s/a", dir);
	assert_int_equal(unlink(a), 0);
	WAIT_FOR(n > before);
	dir_watch_free(w);
	remove_tree(dir);
	loop_free(loop);
	free(sub);
	free(old);
	free(data);
	free(tmp);
	free(a);
}

static void constant_change_is_reported_all_the_same(void **state)
{
	(void)state;
	struct err e = {0};
	char dir[] = "/tmp/fairlead-watch-XXXXXX";
	int n = 0;
	loop = loop_new();
	assert_non_null(mkdtemp(dir));
	struct dir_watch *w = dir_watch_new(loop, dir, 50, count_change, &n, &e);
	uint64_t begin = clock_mono_ms();
	while (!n && clock_mono_ms() - begin < 5000) {
		put(dir, "a", "again");
		loop_run_once(loop, 5);
	}
	assert_int_equal(n, 1);
	assert_true(clock_mono_ms() - begin < 1000); /* four quiet periods, and room for a busy machine */
	dir_watch_free(w);
	remove_tree(dir);
	loop_free(loop);
}

/* ---- HTTP */

static enum MHD_Result serve(void *cls, struct MHD_Connection *c, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_size, void **req)
{
	(void)cls;
	(void)version;
	static __thread char body[64];
	if (!*req) {
		*req = body;
		body[0] = 0;
		return MHD_YES;
	}
	if (*upload_size) {
		(void)snprintf(body, sizeof(body), "%.*s", (int)*upload_size, upload);
		*upload_size = 0;
		return MHD_YES;
	}
	char text[256];
	if (streq(url, "/slow"))
		(void)usleep(600000);
	const char *header = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "X-Test");
	int n = snprintf(text, sizeof(text), "%s %s %s %s", method, url, header ? header : "-", body);
	struct MHD_Response *r = MHD_create_response_from_buffer((size_t)n, text, MHD_RESPMEM_MUST_COPY);
	(void)MHD_add_response_header(r, "Content-Type", "text/x-test");
	enum MHD_Result ok = MHD_queue_response(c, streq(url, "/missing") ? 404 : 200, r);
	MHD_destroy_response(r);
	return ok;
}

struct got {
	int n, status;
	char body[512], type[64];
	struct http_client *free_me;
};

static void on_done(void *ctx, int status, struct str body, struct str type)
{
	struct got *g = ctx;
	g->n++;
	g->status = status;
	(void)snprintf(g->body, sizeof(g->body), STR_FMT, STR_ARG(body));
	(void)snprintf(g->type, sizeof(g->type), STR_FMT, STR_ARG(type));
	http_client_free(g->free_me);
}

static void http_requests(void **state)
{
	(void)state;
	loop = loop_new();
	struct MHD_Daemon *d = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, NULL, MHD_OPTION_END);
	assert_non_null(d);
	unsigned port = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port;
	struct http_client *c = http_client_new(loop);
	struct got g = {0};
	char url[64];
	const char *const headers[] = {"X-Test: yes", NULL};

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/a", port);
	http_send(c, &(struct http_request){.url = url, .headers = headers}, on_done, &g);
	assert_int_equal(g.n, 0);
	WAIT_FOR(g.n == 1);
	assert_int_equal(g.status, 200);
	assert_string_equal(g.body, "GET /a yes ");
	assert_string_equal(g.type, "text/x-test");

	http_send(c, &(struct http_request){.method = "POST", .url = url, .body = STR("data")}, on_done, &g);
	WAIT_FOR(g.n == 2);
	assert_string_equal(g.body, "POST /a - data");

	http_send(c, &(struct http_request){.url = url, .max_body_bytes = 3}, on_done, &g);
	WAIT_FOR(g.n == 3);
	assert_int_equal(g.status, 0);
	assert_non_null(strstr(g.body, "larger than 3 bytes"));

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/missing", port);
	http_send(c, &(struct http_request){.url = url}, on_done, &g);
	WAIT_FOR(g.n == 4);
	assert_int_equal(g.status, 404);

	http_send(c, &(struct http_request){.url = "file:///etc/passwd"}, on_done, &g);
	WAIT_FOR(g.n == 5);
	assert_int_equal(g.status, 0);

	MHD_stop_daemon(d);
	http_send(c, &(struct http_request){.url = url}, on_done, &g);
	WAIT_FOR(g.n == 6);
	assert_int_equal(g.status, 0);
	assert_non_null(strstr(g.body, url));

	/* Freed inside done(): what else is pending is told, then nothing is left. */
	struct got other = {0};
	g.free_me = c;
	http_send(c, &(struct http_request){.url = url}, on_done, &g);
	http_send(c, &(struct http_request){.url = url}, on_done, &other);
	WAIT_FOR(g.n == 7 && other.n == 1);
	loop_free(loop);
}

/* Nothing of HTTP/2 can be hoped for without TLS: the second one gets a connection of its own. */
static void a_slow_answer_holds_up_no_other_request(void **state)
{
	(void)state;
	loop = loop_new();
	struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
		NULL, NULL, serve, NULL, MHD_OPTION_END);
	assert_non_null(d);
	unsigned port = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port;
	struct http_client *c = http_client_new(loop);
	struct got slow = {0}, quick = {0};
	char url[64];
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/slow", port);
	http_send(c, &(struct http_request){.url = url}, on_done, &slow);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/quick", port);
	http_send(c, &(struct http_request){.url = url}, on_done, &quick);
	WAIT_FOR(quick.n == 1);
	assert_int_equal(slow.n, 0);
	WAIT_FOR(slow.n == 1);
	assert_int_equal(slow.status + quick.status, 400);
	http_client_free(c);
	MHD_stop_daemon(d);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_changes_are_seen),
		cmocka_unit_test(constant_change_is_reported_all_the_same),
		cmocka_unit_test(http_requests),
		cmocka_unit_test(a_slow_answer_holds_up_no_other_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
