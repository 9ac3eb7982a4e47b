/*
 * DOC: The HTTP client: libcurl's multi interface, driven by the loop's watches and one timer. libcurl does HTTP, connection
 * reuse and time-outs; here are the limits (protocols, body size, no proxies, no redirects) and the exactly-once answer. done() is
 * called outside libcurl, so it may send the next request or free the client.
 *
 * Sockets are opened and closed here, because libcurl keeps an HTTP/2 connection on which a request timed out and sends the next ones on it:
 * behind a peer that is gone without a word nothing would ever be heard again. The kernel ends a connection that is not acknowledged, and
 * end_silent() one that is acknowledged by something that serves nothing (a load balancer that has lost its backend).
 */
#include "common/io/http.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/vec.h"
#include "common/io/scopes.h"

#define CONNECT_TIMEOUT_MS 10000u
#define OVERDUE_MS 1000u /* how long libcurl may be late with a time-out */
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5

struct http_call {
	struct http_call *prev, *next;
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	struct strbuf body;
	size_t max_body;
	uint64_t timeout_ms;
	uint64_t due_ms; /* by our clock; 0: an answer is coming in */
	bool too_large, refused;
	bool deferred; /* sent from inside on_data(): libcurl takes it when that has returned */
	char *request_body;
	char error[CURL_ERROR_SIZE];
	bool (*on_data)(void *ctx, struct str piece);
	void (*on_start)(void *ctx);
	void (*done)(void *ctx, int status, struct str body, struct str content_type);
	void *ctx;
};

/* A socket of libcurl's that we watch. */
struct sock {
	struct http_client *client;
	curl_socket_t fd;
	struct watch *watch;
};

struct http_client {
	struct loop *loop;
	CURLM *multi;
	struct timer *timer;
	struct timer *overdue;
	struct http_call *list;
	VEC(int) sockets; /* open ones */
	unsigned busy;
	bool freed;
};

static void unlink_pending(struct http_call *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		p->client->list = p->next;
	if (p->next)
		p->next->prev = p->prev;
}

static void release(struct http_call *p)
{
	(void)curl_multi_remove_handle(p->client->multi, p->easy);
	curl_easy_cleanup(p->easy);
	curl_slist_free_all(p->headers);
	strbuf_done(&p->body);
	free(p->request_body);
	free(p);
}

static void finish(struct http_call *p, int status, struct str body, struct str type)
{
	unlink_pending(p);
	if (p->done)
		p->done(p->ctx, status, body, type);
	release(p);
}

void http_cancel(struct http_call *p)
{
	unlink_pending(p);
	release(p);
}

/* ---- sockets */

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct http_client *c = ctx;
	static const int on = 1, idle_s = KEEPALIVE_IDLE_S, interval_s = KEEPALIVE_INTERVAL_S,
			 dead_ms = HTTP_DEAD_PEER_MS;
	(void)purpose;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	/* Whichever request opens a connection, others may wait on it for hours. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
	vec_push(&c->sockets, fd);
	return fd;
}

static int close_socket(void *ctx, curl_socket_t fd)
{
	struct http_client *c = ctx;
	size_t kept = 0;
	for (size_t i = 0; i < c->sockets.len; i++)
		if (c->sockets.items[i] != fd)
			c->sockets.items[kept++] = c->sockets.items[i];
	c->sockets.len = kept;
	return close(fd);
}

static bool is_of(const struct http_call *p, int fd)
{
	struct sockaddr_storage a = {0};
	socklen_t len = sizeof(a);
	long port = 0;
	if (curl_easy_getinfo(p->easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK || port <= 0 ||
		getsockname(fd, (struct sockaddr *)&a, &len))
		return false;
	return a.ss_family == AF_INET    ? ntohs(((const struct sockaddr_in *)&a)->sin_port) == port
	       : a.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&a)->sin6_port) == port
					 : false;
}

/* Of a request that timed out: where nothing came for half of its time, nothing will, for nobody. */
static void end_silent(const struct http_call *p)
{
	for (size_t i = 0; i < p->client->sockets.len; i++) {
		int fd = p->client->sockets.items[i];
		struct tcp_info t = {0};
		socklen_t len = sizeof(t);
		if (!is_of(p, fd) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) ||
			t.tcpi_last_data_recv < p->timeout_ms / 2)
			continue;
		log_warn(&io_log, "a connection is silent and is ended", KV("silent_ms", t.tcpi_last_data_recv));
		(void)shutdown(fd, SHUT_RDWR);
	}
}

static void finish_with(struct http_call *p, CURLcode result)
{
	long status = 0;
	const char *type = NULL, *url = "";
	(void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(p->easy, CURLINFO_CONTENT_TYPE, &type);
	(void)curl_easy_getinfo(p->easy, CURLINFO_EFFECTIVE_URL, &url);
	if (result == CURLE_OK) {
		finish(p, (int)status, strbuf_str(&p->body), str_of(type ? type : ""));
		return;
	}
	if (result == CURLE_OPERATION_TIMEDOUT)
		end_silent(p);
	cleanup(free_p) char *why = p->refused ? xasprintf("%s: the answer was not understood", url)
				    : p->too_large
					    ? xasprintf("%s: the answer is larger than %zu bytes", url, p->max_body)
					    : xasprintf("%s: %s", url,
						      p->error[0] ? p->error : curl_easy_strerror(result));
	finish(p, 0, str_of(why), STR(""));
}

static void destroy(struct http_client *c)
{
	(void)curl_multi_cleanup(c->multi); /* still closes sockets through on_socket() */
	timer_free(c->timer);
	timer_free(c->overdue);
	vec_done(&c->sockets);
	free(c);
}

static void collect(struct http_client *c)
{
	int left;
	CURLMsg *m;
	for (struct http_call *p = c->list; p; p = p->next)
		if (p->deferred)
			p->deferred = curl_multi_add_handle(c->multi, p->easy) != CURLM_OK;
	c->busy++;
	while (!c->freed && (m = curl_multi_info_read(c->multi, &left))) {
		struct http_call *p = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&p);
		finish_with(p, m->data.result);
	}
	if (--c->busy == 0 && c->freed)
		destroy(c);
}

static struct http_call *find_overdue(const struct http_client *c)
{
	struct http_call *p = c->list;
	while (p && (p->due_ms == 0 || clock_mono_ms() < p->due_ms))
		p = p->next;
	return p;
}

/* libcurl counts no time while a request waits for the connection of another one. */
static void end_overdue(void *ctx)
{
	struct http_client *c = ctx;
	struct http_call *p;
	c->busy++;
	while (!c->freed && (p = find_overdue(c))) {
		const char *url = "";
		(void)curl_easy_getinfo(p->easy, CURLINFO_EFFECTIVE_URL, &url);
		cleanup(free_p) char *why = xasprintf(
			"%s: no answer within %llu ms", url, (unsigned long long)p->timeout_ms);
		finish(p, 0, str_of(why), STR(""));
	}
	if (!c->list)
		timer_stop(c->overdue);
	if (--c->busy == 0 && c->freed)
		destroy(c);
}

static void on_ready(void *ctx, int events)
{
	const struct sock *s = ctx;
	struct http_client *c = s->client;
	int running;
	int mask = ((events & WATCH_READ) ? CURL_CSELECT_IN : 0) | ((events & WATCH_WRITE) ? CURL_CSELECT_OUT : 0);
	(void)curl_multi_socket_action(c->multi, s->fd, mask, &running); /* may free s */
	collect(c);
}

static void on_timer(void *ctx)
{
	struct http_client *c = ctx;
	int running;
	(void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(c);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	(void)easy;
	struct http_client *c = ctx;
	struct sock *s = socket_ctx;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			watch_free(s->watch);
		free(s);
		return 0;
	}
	int events = (what & CURL_POLL_IN ? WATCH_READ : 0) | (what & CURL_POLL_OUT ? WATCH_WRITE : 0);
	if (s) {
		watch_set(s->watch, events);
		return 0;
	}
	s = xzalloc(sizeof(*s));
	*s = (struct sock){.client = c, .fd = fd};
	s->watch = watch_new(c->loop, fd, events, on_ready, s);
	(void)curl_multi_assign(c->multi, fd, s);
	return 0;
}

static int on_timeout(CURLM *multi, long ms, void *ctx)
{
	(void)multi;
	struct http_client *c = ctx;
	if (ms < 0)
		timer_stop(c->timer);
	else
		timer_start(c->timer, (uint64_t)ms, 0);
	return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct http_call *p = ctx;
	size_t len = size * n;
	long status = 0;
	(void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	if (p->on_data && status / 100 == 2) {
		p->refused = !p->on_data(p->ctx, str_n(data, len));
		return p->refused ? 0 : len;
	}
	if (p->body.len + len > p->max_body) {
		p->too_large = true;
		return 0; /* ends the transfer */
	}
	strbuf_add(&p->body, str_n(data, len));
	return len;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
	struct http_call *p = ctx;
	size_t len = size * n;
	long status = 0;
	(void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	if (str_trim(str_n(data, len)).len || status / 100 != 2)
		return len;
	p->due_ms = 0;
	if (p->on_start)
		p->on_start(p->ctx);
	return len;
}

struct http_client *http_client_new(struct loop *l)
{
	(void)curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; the first call is made before there are threads */
	struct http_client *c = xzalloc(sizeof(*c));
	c->loop = l;
	c->multi = curl_multi_init();
	assert(c->multi);
	c->timer = timer_new(l, on_timer, c);
	c->overdue = timer_new(l, end_overdue, c);
	(void)curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	(void)curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	(void)curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c || c->freed)
		return;
	c->freed = true;
	c->busy++;
	while (c->list)
		finish(c->list, 0, STR("the HTTP client is being closed"), STR(""));
	if (--c->busy == 0)
		destroy(c);
}

static void set_body(struct http_call *p, const struct http_request *r)
{
	bool post = r->method && streq(r->method, "POST");
	if (!r->body.len && !post)
		return;
	p->request_body = xstrndup(r->body.ptr ? r->body.ptr : "", r->body.len);
	(void)curl_easy_setopt(p->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
	(void)curl_easy_setopt(p->easy, CURLOPT_POSTFIELDS, p->request_body);
}

static void set_tls(CURL *e, const struct http_request *r)
{
	if (r->ca_file) {
		(void)curl_easy_setopt(e, CURLOPT_CAINFO, r->ca_file);
		/* Nobody else is trusted; besides, GnuTLS would hold the system's authorities once more for each connection, 4 MB. */
		(void)curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	}
	/* Requests that begin together wait for the first one's connection and share it, where it is HTTP/2. Not so without TLS: there libcurl
	 * never speaks HTTP/2, and lets them wait for the whole of the first one's answer, or for ever when that has no end. */
	if (str_starts(str_of(r->url), STR("https:")))
		(void)curl_easy_setopt(e, CURLOPT_PIPEWAIT, 1L);
	if (r->cert_file)
		(void)curl_easy_setopt(e, CURLOPT_SSLCERT, r->cert_file);
	if (r->key_file)
		(void)curl_easy_setopt(e, CURLOPT_SSLKEY, r->key_file);
}

static void set_source(CURL *e, const char *source)
{
	char *text cleanup(free_p) = xasprintf("host!%s", source ? source : "");
	if (source)
		(void)curl_easy_setopt(e, CURLOPT_INTERFACE, text);
}

static void set_times(struct http_call *p, const struct http_request *r)
{
	CURL *e = p->easy;
	p->timeout_ms = r->timeout_ms ? r->timeout_ms : 5000;
	p->due_ms = clock_mono_ms() + p->timeout_ms + (r->on_data ? CONNECT_TIMEOUT_MS : 0) + OVERDUE_MS;
	if (!timer_active(p->client->overdue))
		timer_start(p->client->overdue, OVERDUE_MS, OVERDUE_MS);
	(void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	if (r->on_data) { /* libcurl counts silence in whole seconds */
		(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
		(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, ((long)p->timeout_ms + 999) / 1000);
	} else {
		(void)curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)p->timeout_ms);
	}
}

static void set_callbacks(struct http_call *p)
{
	CURL *e = p->easy;
	(void)curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	(void)curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, p->client);
	(void)curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	(void)curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, p->client);
	(void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(e, CURLOPT_WRITEDATA, p);
	if (!p->on_data)
		return;
	(void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(e, CURLOPT_HEADERDATA, p);
}

static void set_options(struct http_call *p, const struct http_request *r)
{
	CURL *e = p->easy;
	(void)curl_easy_setopt(e, CURLOPT_PRIVATE, (char *)p);
	(void)curl_easy_setopt(e, CURLOPT_URL, r->url);
	(void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(e, CURLOPT_PROXY, ""); /* local ports: never by http_proxy from the environment */
	(void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(e, CURLOPT_USERAGENT, "fairlead/" FAIRLEAD_VERSION);
	(void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, p->error);
	set_times(p, r);
	set_callbacks(p);
	set_body(p, r);
	if (r->method && streq(r->method, "HEAD"))
		(void)curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	else if (r->method)
		(void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
	for (const char *const *h = r->headers; h && *h; h++)
		p->headers = curl_slist_append(p->headers, *h);
	(void)curl_easy_setopt(e, CURLOPT_HTTPHEADER, p->headers);
	if (r->unix_socket)
		(void)curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
	set_source(e, r->source);
	set_tls(e, r);
	if (r->insecure) {
		(void)curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
		(void)curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

struct http_call *http_send(struct http_client *c, const struct http_request *r,
	void (*done)(void *ctx, int status, struct str body, struct str content_type), void *ctx)
{
	struct http_call *p = xzalloc(sizeof(*p));
	*p = (struct http_call){.client = c, .on_data = r->on_data, .on_start = r->on_start, .done = done, .ctx = ctx};
	p->max_body = r->max_body_bytes ? r->max_body_bytes : LIMIT_HTTP_BODY_BYTES;
	p->easy = curl_easy_init();
	assert(p->easy);
	p->next = c->list;
	if (p->next)
		p->next->prev = p;
	c->list = p;
	set_options(p, r);
	/* Asks for the timer: the rest comes from the loop. */
	p->deferred = curl_multi_add_handle(c->multi, p->easy) == CURLM_RECURSIVE_API_CALL;
	return p;
}
