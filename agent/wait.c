/*
 * DOC: `agent wait`: ends when Envoy is ready. It is the postStart hook of a proxy that the application's containers wait for: the kubelet starts the
 * next container when the hook has ended.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/daemon.h"
#include "agent/subcommand.h"
#include "common/base/clock.h"
#include "common/io/http.h"

struct command {
	const char *url;
	uint64_t timeout_ms, period_ms;
	bool help;
};

struct waiting {
	const struct command *c;
	struct loop *loop;
	struct http_client *http;
	struct timer *next;
	uint64_t end_ms;
	bool ready;
	struct err last;
};

static const struct option_row rows[] = {
	{.name = "url",
		OPT_STR(struct command, url, "http://127.0.0.1:15021/healthz/ready", "what answers 200 when ready")},
	{.name = "timeout", OPT_MS(struct command, timeout_ms, "60s", 1, 3600000, "how long to wait in all")},
	{.name = "period", OPT_MS(struct command, period_ms, "500ms", 1, 60000, "pause between two questions")},
	{.name = "help", OPT_BOOL(struct command, help, "print this text and end")},
};

static void on_answer(void *ctx, int status, struct str body, struct str type)
{
	struct waiting *w = ctx;
	w->ready = status == 200;
	(void)err_set(&w->last, ERR_PEER, "%s%d: " STR_FMT, status ? "status " : "no answer ", status,
		STR_ARG(str_trim(str_sub(body, 0, 300))));
	if (w->ready || clock_mono_ms() + w->c->period_ms > w->end_ms)
		loop_stop(w->loop);
	else
		timer_start(w->next, w->c->period_ms, 0);
}

static void ask(void *ctx)
{
	struct waiting *w = ctx;
	const struct http_request r = {.url = w->c->url, .timeout_ms = w->c->period_ms};
	(void)http_send(w->http, &r, on_answer, w);
}

static int wait_for(const void *config)
{
	const struct command *c = config;
	struct waiting w = {.c = c, .loop = loop_new(), .end_ms = clock_mono_ms() + c->timeout_ms};
	w.http = http_client_new(w.loop);
	w.next = timer_new(w.loop, ask, &w);
	timer_start(w.next, 0, 0);
	loop_run(w.loop);
	timer_free(w.next);
	http_client_free(w.http);
	loop_free(w.loop);
	if (!w.ready)
		(void)fprintf(stderr, "agent wait: not ready after %llu ms: %s\n", (unsigned long long)c->timeout_ms,
			w.last.text);
	return w.ready ? 0 : 1;
}

int wait_main(int argc, char **argv)
{
	static const struct subcommand s = {"wait", "ends when the proxy is ready", rows, ARRAY_LEN(rows),
		offsetof(struct command, help), wait_for};
	struct command c = {0};
	return subcommand_main(&s, argc, argv, &c);
}
