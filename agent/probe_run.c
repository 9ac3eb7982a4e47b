/*
 * DOC: Questions under way. The parts of each are freed from the loop, never inside a callback of the client that calls us. The application is
 * asked at the pod's own address from 127.0.0.6, which is what capture lets pass, so that the answer is the application's and not Envoy's.
 * What is answered is the application's status; anything that is no answer is 500, with the reason.
 */
#include "agent/probe_run.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/io/grpc.h"
#include "common/io/http.h"
#include "common/io/net.h"
#include "common/io/proc.h"

#define BODY_MAX 10240u /* what the kubelet reads */
#define SOURCE "127.0.0.6"

struct probe_call {
	struct probe_call *next;
	struct prober *owner;
	const struct probe_spec *spec;
	const char *user_agent;
	prober_done done; /* NULL: answered */
	void *ctx;
	bool asking; /* inside prober_ask() */
	unsigned status; /* of an answer that came inside it */
	char *text;
	struct timer *limit;
	struct http_call *http;
	struct strbuf body; /* the beginning of the application's answer */
	struct grpc_channel *channel;
	int fd;
	struct watch *watch;
	struct proc *proc;
};

struct prober {
	struct loop *loop;
	struct http_client *http;
	struct timer *reaper;
	struct probe_call *calls;
	size_t n_calls;
};

/* ---- the end of a call */

static void free_call(struct probe_call *c)
{
	timer_free(c->limit);
	watch_free(c->watch);
	proc_free(c->proc);
	if (c->fd >= 0)
		(void)close(c->fd);
	grpc_channel_free(c->channel);
	strbuf_done(&c->body);
	free(c->text);
	free(c);
}

static void reap(void *ctx)
{
	struct prober *p = ctx;
	for (struct probe_call **at = &p->calls; *at;) {
		struct probe_call *c = *at;
		if (c->done) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		p->n_calls--;
		free_call(c);
	}
}

static void answer(struct probe_call *c, unsigned status, struct str body)
{
	prober_done done = c->done;
	if (!done)
		return;
	if (c->asking) { /* said by on_limit(), at once */
		c->status = status;
		free(c->text);
		c->text = xstrndup(body.ptr ? body.ptr : "", body.len);
		timer_start(c->limit, 0, 0);
		return;
	}
	c->done = NULL;
	if (c->http)
		http_cancel(take(c->http));
	timer_start(c->owner->reaper, 0, 0);
	done(c->ctx, status, body);
}

static void fail(struct probe_call *c, const char *why)
{
	char *text cleanup(free_p) = xasprintf("%s\n", why);
	answer(c, 500, str_of(text));
}

static void on_limit(void *ctx)
{
	struct probe_call *c = ctx;
	if (c->status)
		answer(c, c->status, str_of(c->text));
	else
		fail(c, "the application did not answer in time");
}

/* ---- HTTP */

static bool on_http_data(void *ctx, struct str piece)
{
	struct probe_call *c = ctx;
	strbuf_add(&c->body, str_sub(piece, 0, BODY_MAX - min_size(BODY_MAX, c->body.len)));
	return true;
}

static void on_http_done(void *ctx, int status, struct str body, struct str type)
{
	struct probe_call *c = ctx;
	c->http = NULL;
	if (status)
		answer(c, (unsigned)status, c->body.len ? strbuf_str(&c->body) : str_sub(body, 0, BODY_MAX));
	else if (c->done)
		fail(c, body.len ? body.ptr : "no answer");
}

/* Our own client's name would be news to applications that know the kubelet's. */
static void start_http(struct probe_call *c)
{
	char *line cleanup(free_p) = xasprintf(
		"User-Agent: %s", str_empty(c->user_agent) ? "kube-probe/1.0" : c->user_agent);
	const char *headers[128] = {"Connection: close"}; /* more than a spec may have */
	bool named = false;
	size_t n = 1;
	for (char **h = c->spec->headers; h && *h && n < ARRAY_LEN(headers) - 2; h++) {
		named = named || str_ieq(str_sub(str_of(*h), 0, 10), STR("user-agent"));
		headers[n++] = *h;
	}
	if (!named)
		headers[n] = line;
	const struct http_request ask = {.url = c->spec->url,
		.headers = headers,
		.timeout_ms = c->spec->timeout_ms,
		.source = strchr(c->spec->url, '[') ? NULL : SOURCE,
		.insecure = true,
		.on_data = on_http_data};
	c->http = http_send(c->owner->http, &ask, on_http_done, c);
}

/* ---- TCP */

static bool source_of(const char *target, struct addr *out, struct err *e)
{
	return *target != '[' && addr_parse(STR(SOURCE ":0"), out, e);
}

static void on_tcp(void *ctx, int events)
{
	struct probe_call *c = ctx;
	struct err e = {0};
	(void)events;
	watch_free(take(c->watch));
	if (net_connected(c->fd, &e))
		answer(c, 200, STR("connected\n"));
	else
		fail(c, e.text);
}

static void start_tcp(struct probe_call *c)
{
	struct addr target, source;
	struct err e = {0};
	bool from = source_of(c->spec->target, &source, &e);
	if (addr_parse(str_of(c->spec->target), &target, &e) && net_connect(&target, from ? &source : NULL, &c->fd, &e))
		c->watch = watch_new(c->owner->loop, c->fd, WATCH_WRITE, on_tcp, c);
	else
		fail(c, e.text);
}

/* ---- gRPC */

static void on_health(void *ctx, enum grpc_status status, struct str message, const uint8_t *data, size_t len)
{
	struct probe_call *c = ctx;
	if (!c->done)
		return; /* its time was over, or the agent ends */
	char *why cleanup(free_p) = xasprintf("%s: " STR_FMT, grpc_status_name(status), STR_ARG(message));
	if (status == GRPC_OK && probe_health_is_serving(str_n(data, len)))
		answer(c, 200, STR("serving\n"));
	else
		fail(c, status == GRPC_OK ? "not serving" : why);
}

/* A probe does not wait for an application that is not there to come. */
static void on_state(void *ctx, bool connected, const char *reason)
{
	struct probe_call *c = ctx;
	if (!connected && c->done)
		fail(c, reason);
}

static void start_grpc(struct probe_call *c)
{
	struct addr source;
	struct strbuf request cleanup(strbuf_done) = {0};
	bool from = source_of(c->spec->target, &source, NULL);
	const struct grpc_channel_options o = {.target = c->spec->target,
		.source = from ? &source : NULL,
		.connect_timeout_ms = c->spec->timeout_ms,
		.max_message_bytes = 4096,
		.on_state = on_state,
		.ctx = c};
	probe_health_request(c->spec->service, &request);
	struct buf *message = buf_copy(request.ptr ? request.ptr : "", request.len);
	c->channel = grpc_channel_new(c->owner->loop, &o);
	(void)grpc_channel_unary(
		c->channel, "/grpc.health.v1.Health/Check", NULL, c->spec->timeout_ms, message, on_health, c);
	buf_unref(message);
}

/* ---- a command */

static void on_exit_of(void *ctx, int status, int signo)
{
	struct probe_call *c = ctx;
	char *why cleanup(free_p) = signo ? xasprintf("the command ended by signal %d", signo)
					  : xasprintf("the command ended with status %d", status);
	if (status == 0 && signo == 0)
		answer(c, 200, STR("succeeded\n"));
	else if (c->done)
		fail(c, why);
}

static void start_exec(struct probe_call *c)
{
	struct proc_options o = PROC_OPTIONS_INIT;
	struct err e = {0};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	o.argv = (const char *const *)c->spec->command;
	o.stdout_fd = o.stderr_fd = null;
	c->proc = proc_start(c->owner->loop, &o, on_exit_of, c, &e);
	if (null >= 0)
		(void)close(null);
	if (!c->proc)
		fail(c, e.text);
}

/* ---- the interface */

void prober_ask(struct prober *p, const struct probe_spec *spec, const char *user_agent, prober_done done, void *ctx)
{
	static void (*const start[])(struct probe_call * c) = {[PROBE_HTTP] = start_http,
		[PROBE_TCP] = start_tcp,
		[PROBE_GRPC] = start_grpc,
		[PROBE_EXEC] = start_exec};
	struct probe_call *c = xzalloc(sizeof(*c));
	*c = (struct probe_call){.owner = p,
		.spec = spec,
		.user_agent = user_agent,
		.done = done,
		.ctx = ctx,
		.asking = true,
		.fd = -1,
		.next = p->calls};
	p->calls = c;
	p->n_calls++;
	c->limit = timer_new(p->loop, on_limit, c);
	timer_start(c->limit, spec->timeout_ms, 0);
	start[spec->kind](c);
	c->asking = false;
	c->user_agent = NULL;
}

size_t prober_busy(const struct prober *p)
{
	return p->n_calls;
}

struct prober *prober_new(struct loop *l)
{
	struct prober *p = xzalloc(sizeof(*p));
	p->loop = l;
	p->http = http_client_new(l);
	p->reaper = timer_new(l, reap, p);
	return p;
}

void prober_free(struct prober *p)
{
	if (!p)
		return;
	for (struct probe_call *c = p->calls; c; c = c->next)
		if (c->done)
			fail(c, "the agent ends");
	reap(p);
	http_client_free(p->http);
	timer_free(p->reaper);
	free(p);
}
