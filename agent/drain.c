/*
 * DOC: `agent drain`: asks the agent of this network namespace to drain its Envoy, which goes on. It is the preStop hook of a proxy that is a native
 * sidecar: the kubelet runs it when the pod begins to end, and stops the proxy itself only behind the application. Callers learn of the end while both
 * still serve.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/daemon.h"
#include "agent/subcommand.h"
#include "common/io/http.h"

struct command {
	const char *url;
	uint64_t timeout_ms;
	bool help;
};

struct draining {
	struct loop *loop;
	int status;
	char *answer;
};

static const struct option_row rows[] = {
	{.name = "url", OPT_STR(struct command, url, "http://127.0.0.1:15020/drain", "what drains")},
	{.name = "timeout", OPT_MS(struct command, timeout_ms, "2s", 1, 60000, "how long to wait for the answer")},
	{.name = "help", OPT_BOOL(struct command, help, "print this text and end")},
};

static void on_answer(void *ctx, int status, struct str body, struct str type)
{
	struct draining *d = ctx;
	body = str_trim(str_sub(body, 0, 300));
	d->status = status;
	d->answer = xstrndup(body.ptr ? body.ptr : "", body.len);
	loop_stop(d->loop);
}

static int drain(const void *config)
{
	const struct command *c = config;
	struct draining d = {.loop = loop_new()};
	struct http_client *http = http_client_new(d.loop);
	const struct http_request r = {.method = "POST", .url = c->url, .timeout_ms = c->timeout_ms};
	(void)http_send(http, &r, on_answer, &d);
	loop_run(d.loop);
	http_client_free(http);
	loop_free(d.loop);
	if (d.status != 200)
		(void)fprintf(stderr, "agent drain: %s: %s%.0d: %s\n", c->url, d.status ? "status " : "no answer",
			d.status, d.answer);
	free(d.answer);
	return d.status == 200 ? 0 : 1;
}

int drain_main(int argc, char **argv)
{
	static const struct subcommand s = {"drain", "drains the proxy, which goes on", rows, ARRAY_LEN(rows),
		offsetof(struct command, help), drain};
	struct command c = {0};
	return subcommand_main(&s, argc, argv, &c);
}
