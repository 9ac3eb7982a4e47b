/*
 * DOC: The admin HTTP server. libmicrohttpd runs without a thread: it has one epoll descriptor, which the loop
 * watches, and a timeout, which a timer of the loop keeps. A handler that cannot answer at once simply returns; its
 * connection is then suspended until admin_respond() resumes it. A request's memory belongs to the server until the
 * library says that the request is over.
 */
#include "common/daemon/admin.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/vec.h"
#include "common/daemon/gzip.h"
#include "common/io/net.h"

#define IDLE_TIMEOUT_S 120u
#define MAX_CONNECTIONS 256u
#define GZIP_FROM_BYTES 1024u /* less fits a packet as it is */
#define CONNECTION_MEMORY_BYTES ((size_t)64 << 10)

struct route {
	char *method;
	char *path;
	void (*fn)(void *ctx, struct admin_request *r);
	void *ctx;
};

struct admin {
	struct MHD_Daemon *http;
	struct watch *watch;
	struct timer *timer;
	char *chain_pem, *key_pem; /* NULL: no TLS */
	VEC(struct route) routes;
	struct admin_request *requests; /* all that are alive */
};

struct admin_request {
	struct admin *admin;
	struct admin_request *next;
	struct admin_request *prev;
	struct MHD_Connection *connection;
	char *uri; /* as sent, with the query */
	char *path; /* decoded */
	struct strbuf body;
	bool too_large;
	bool started; /* the headers have been seen */
	bool dispatched;
	bool suspended;
	bool answered;
	unsigned status;
	struct MHD_Response *response;
};

static void request_free(struct admin_request *r)
{
	if (r->prev)
		r->prev->next = r->next;
	else
		r->admin->requests = r->next;
	if (r->next)
		r->next->prev = r->prev;
	if (r->response)
		MHD_destroy_response(r->response);
	strbuf_done(&r->body);
	free(r->uri);
	free(r->path);
	free(r);
}

/* Comes first, with the request line; what it returns is the request's context from then on. */
static void *on_uri(void *ctx, const char *uri, struct MHD_Connection *connection)
{
	struct admin *a = ctx;
	struct admin_request *r = xzalloc(sizeof(*r));

	r->admin = a;
	r->connection = connection;
	r->uri = xstrdup(uri);
	r->next = a->requests;
	if (r->next)
		r->next->prev = r;
	a->requests = r;
	return r;
}

static void on_completed(
	void *ctx, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode code)
{
	if (*request)
		request_free(*request);
	*request = NULL;
}

static bool route_covers(const struct route *route, struct str path)
{
	struct str own = str_of(route->path);

	return str_ends(own, STR("/")) ? str_starts(path, own) : str_eq(own, path);
}

/* The longest path that covers the request's; *other_method is set when only the method is wrong. */
static const struct route *find_route(const struct admin *a, struct str path, const char *method, bool *other_method)
{
	const struct route *best = NULL;
	size_t covered = 0;

	for (size_t i = 0; i < a->routes.len; i++) {
		const struct route *route = &a->routes.items[i];

		if (!route_covers(route, path) || strlen(route->path) < covered)
			continue;
		if (strlen(route->path) > covered)
			best = NULL;
		covered = strlen(route->path);
		if (streq(route->method, method))
			best = route;
	}
	*other_method = !best && covered > 0;
	return best;
}

static enum MHD_Result send_answer(struct admin_request *r)
{
	return MHD_queue_response(r->connection, r->status, r->response);
}

static void dispatch(struct admin_request *r, const char *method)
{
	const char *wanted = streq(method, "HEAD") ? "GET" : method;
	bool other_method;
	const struct route *route = find_route(r->admin, str_of(r->path), wanted, &other_method);

	r->dispatched = true;
	if (r->too_large)
		admin_respond(r, 413, "text/plain", STR("the body is larger than 4 MiB\n"));
	else if (route)
		route->fn(route->ctx, r);
	else if (other_method)
		admin_respond(r, 405, "text/plain", STR("this path does not take that method\n"));
	else
		admin_respond(r, 404, "text/plain", STR("no such page; see /debug/list\n"));
}

/* Comes with the headers, then for each piece of the body, then without data; again after a resume. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *data, size_t *data_len, void **request)
{
	struct admin_request *r = *request;

	if (!r)
		return MHD_NO;
	if (!r->started) {
		r->started = true;
		r->path = xstrdup(url);
		return MHD_YES;
	}
	if (*data_len > 0) {
		if (r->body.len + *data_len > LIMIT_HTTP_BODY_BYTES)
			r->too_large = true;
		else
			strbuf_add(&r->body, str_n(data, *data_len));
		*data_len = 0;
		return MHD_YES;
	}
	if (!r->dispatched)
		dispatch(r, method);
	if (r->answered)
		return send_answer(r);
	if (!r->suspended) {
		r->suspended = true;
		MHD_suspend_connection(r->connection);
	}
	return MHD_YES;
}

static void run(struct admin *a)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	MHD_run(a->http);
	if (MHD_get_timeout(a->http, &timeout_ms) == MHD_YES)
		timer_start(a->timer, timeout_ms, 0);
	else
		timer_stop(a->timer);
}

static void on_ready(void *ctx, int events)
{
	run(ctx);
}

static void on_timer(void *ctx)
{
	run(ctx);
}

static struct MHD_Response *plain_response(struct str body)
{
	void *copy = xmalloc(body.len + 1);

	if (body.len > 0)
		memcpy(copy, body.ptr, body.len);
	return MHD_create_response_from_buffer(body.len, copy, MHD_RESPMEM_MUST_FREE);
}

/* NULL: the caller takes no gzip, or it is not worth it. */
static struct MHD_Response *packed_response(const struct admin_request *r, struct str body)
{
	struct MHD_Response *response;
	void *packed;
	size_t len;

	if (body.len < GZIP_FROM_BYTES || !gzip_accepted(admin_request_header(r, "Accept-Encoding")) ||
		!gzip_pack(body, &packed, &len))
		return NULL;
	response = MHD_create_response_from_buffer(len, packed, MHD_RESPMEM_MUST_FREE);
	assert(response);
	(void)MHD_add_response_header(response, "Content-Encoding", "gzip");
	return response;
}

void admin_respond(struct admin_request *r, unsigned status, const char *content_type, struct str body)
{
	assert(!r->answered);
	r->answered = true;
	r->status = status;
	r->response = packed_response(r, body);
	if (!r->response)
		r->response = plain_response(body);
	assert(r->response);
	(void)MHD_add_response_header(r->response, "Vary", "Accept-Encoding");
	(void)MHD_add_response_header(r->response, "Content-Type", content_type);
	(void)MHD_add_response_header(r->response, "Cache-Control", "no-store");
	(void)MHD_add_response_header(r->response, "X-Content-Type-Options", "nosniff");
	if (r->suspended) {
		r->suspended = false;
		MHD_resume_connection(r->connection);
		/* Not from here: the caller may be inside the library, by way of another request's handler. */
		timer_start(r->admin->timer, 0, 0);
	}
}

static int open_listener(const char *address, uint16_t *bound_port, struct err *e)
{
	struct addr addr;
	int fd = -1;

	if (!addr_parse(str_of(address), &addr, e))
		return -1;
	if (!net_listen(&addr, &fd, bound_port, e))
		(void)err_in(e, "cannot listen on %s", address);
	return fd;
}

static bool start_http(struct admin *a, int listener, struct err *e)
{
	const struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, a->chain_pem},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, a->key_pem}, {MHD_OPTION_END, 0, NULL}};
	const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (a->chain_pem ? MHD_USE_TLS : 0);

	a->http = MHD_start_daemon(flags, 0, NULL, NULL, on_request, a, MHD_OPTION_ARRAY, a->chain_pem ? tls : none,
		MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_URI_LOG_CALLBACK, on_uri, a, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, a, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT,
		MAX_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, MHD_OPTION_END);
	if (!a->http) {
		close(listener);
		return err_set(e, ERR_LIBRARY, "libmicrohttpd did not start%s",
			a->chain_pem ? ": is the certificate not that of the key?" : "");
	}
	return true;
}

static void forget_key(struct admin *a)
{
	if (a->key_pem)
		explicit_bzero(a->key_pem, strlen(a->key_pem));
	free(a->key_pem);
	free(a->chain_pem);
}

struct admin *admin_new(struct loop *l, const char *address, uint16_t *bound_port, struct err *e)
{
	return admin_new_tls(l, address, NULL, NULL, bound_port, e);
}

struct admin *admin_new_tls(struct loop *l, const char *address, const char *chain_pem, const char *key_pem,
	uint16_t *bound_port, struct err *e)
{
	int listener = open_listener(address, bound_port, e);
	const union MHD_DaemonInfo *info;
	struct admin *a;

	if (listener < 0)
		return NULL;
	a = xzalloc(sizeof(*a));
	a->chain_pem = chain_pem ? xstrdup(chain_pem) : NULL;
	a->key_pem = key_pem ? xstrdup(key_pem) : NULL;
	if (!start_http(a, listener, e)) {
		forget_key(a);
		free(a);
		return NULL;
	}
	info = MHD_get_daemon_info(a->http, MHD_DAEMON_INFO_EPOLL_FD);
	assert(info);
	a->watch = watch_new(l, info->epoll_fd, WATCH_READ, on_ready, a);
	a->timer = timer_new(l, on_timer, a);
	return a;
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	watch_free(a->watch);
	timer_free(a->timer);
	/* The library does not stop while a connection is suspended. */
	for (struct admin_request *r = a->requests; r; r = r->next) {
		if (r->suspended)
			MHD_resume_connection(r->connection);
	}
	MHD_stop_daemon(a->http);
	while (a->requests)
		request_free(a->requests);
	for (size_t i = 0; i < a->routes.len; i++) {
		free(a->routes.items[i].method);
		free(a->routes.items[i].path);
	}
	vec_done(&a->routes);
	forget_key(a);
	free(a);
}

void admin_route(struct admin *a, const char *method, const char *path, void (*fn)(void *ctx, struct admin_request *r),
	void *ctx)
{
	struct route route = {.method = xstrdup(method), .path = xstrdup(path), .fn = fn, .ctx = ctx};

	vec_push(&a->routes, route);
}

struct str admin_request_path(const struct admin_request *r)
{
	return str_of(r->path);
}

struct str admin_request_query(const struct admin_request *r, const char *key)
{
	return str_of(MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, key));
}

struct str admin_request_query_string(const struct admin_request *r)
{
	struct str path;
	struct str query;

	(void)str_cut(str_of(r->uri), '?', &path, &query);
	return query;
}

struct str admin_request_header(const struct admin_request *r, const char *name)
{
	return str_of(MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name));
}

struct str admin_request_body(const struct admin_request *r)
{
	return strbuf_str(&r->body);
}

bool admin_request_is_local(const struct admin_request *r)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *sa = info ? info->client_addr : NULL;

	if (!sa)
		return false;
	if (sa->sa_family == AF_UNIX)
		return true;
	if (sa->sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
	if (sa->sa_family == AF_INET6) {
		const struct in6_addr *ip = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};

		return IN6_IS_ADDR_LOOPBACK(ip) || memcmp(ip, mapped, sizeof(mapped)) == 0;
	}
	return false;
}
