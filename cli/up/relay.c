/*
 * DOC: A TCP relay of one direction-pair per connection. Each direction has one buffer; it reads only while the buffer is empty and writes
 * only while it is full, so memory is bounded and a slow side slows the other.
 */
#include "cli/up/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/io/addr.h"

#define RELAY_BUFFER 16384

LOG_SCOPE(relay_log, "relay", "connections from the machine into the mesh");

struct pipe_half {
	uint8_t data[RELAY_BUFFER];
	size_t start, end;
	bool eof, shut;
};

struct link {
	struct relay *relay;
	struct link *next, *prev;
	int fd[2]; /* 0: the machine's side, 1: inside */
	struct watch *watch[2];
	struct pipe_half half[2]; /* half[i]: read from fd[i], written to fd[1 - i] */
	bool connecting;
};

struct relay {
	struct loop *loop;
	int fd;
	struct addr to; /* len 0: none */
	struct watch *watch;
	struct link *links;
};

int relay_bind(const char *address, char bound[128], struct err *e)
{
	struct addr a;
	if (!addr_parse(str_of(address), &a, e))
		return -1;
	int fd = socket(a.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
		bind(fd, (struct sockaddr *)&a.sa, a.len) || listen(fd, 128)) {
		(void)err_errno(e, "listen on %s", address);
		close_p(&fd);
		return -1;
	}
	a.len = sizeof(a.sa);
	(void)getsockname(fd, (struct sockaddr *)&a.sa, &a.len);
	addr_format(&a, bound);
	return fd;
}

static void link_free(struct link *k)
{
	for (int i = 0; i < 2; i++) {
		watch_free(k->watch[i]);
		if (k->fd[i] >= 0)
			(void)close(k->fd[i]);
	}
	if (k->prev)
		k->prev->next = k->next;
	else
		k->relay->links = k->next;
	if (k->next)
		k->next->prev = k->prev;
	free(k);
}

/* False: the connection is over. */
static bool move_half(struct link *k, int from)
{
	struct pipe_half *h = &k->half[from];
	int to = 1 - from;
	if (h->start == h->end && !h->eof) {
		ssize_t n = recv(k->fd[from], h->data, sizeof(h->data), 0);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		h->eof = n == 0;
		h->start = 0;
		h->end = (size_t)n;
	}
	while (h->start < h->end) {
		ssize_t n = send(k->fd[to], h->data + h->start, h->end - h->start, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		h->start += (size_t)n;
	}
	if (h->eof && !h->shut) {
		h->shut = true;
		(void)shutdown(k->fd[to], SHUT_WR);
	}
	return !(k->half[0].shut && k->half[1].shut);
}

static void set_interest(struct link *k)
{
	for (int i = 0; i < 2; i++) {
		const struct pipe_half *in = &k->half[i], *out = &k->half[1 - i];
		int events = 0;
		if (in->start == in->end && !in->eof)
			events |= WATCH_READ;
		if (out->start < out->end)
			events |= WATCH_WRITE;
		watch_set(k->watch[i], events);
	}
}

static void pump(struct link *k)
{
	if (move_half(k, 0) && move_half(k, 1))
		set_interest(k);
	else
		link_free(k);
}

static void on_ready(void *ctx, int events)
{
	struct link *k = ctx;
	(void)events;
	if (k->connecting) {
		int error = 0;
		socklen_t len = sizeof(error);
		(void)getsockopt(k->fd[1], SOL_SOCKET, SO_ERROR, &error, &len);
		if (error) {
			log_debug(&relay_log, "no connection inside", KV("error", strerror(error)));
			link_free(k);
			return;
		}
		k->connecting = false;
	}
	pump(k);
}

static void on_accept(void *ctx, int events)
{
	struct relay *r = ctx;
	(void)events;
	int fd = accept4(r->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	int inside = r->to.len ? socket(r->to.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	if (inside < 0 || (connect(inside, (struct sockaddr *)&r->to.sa, r->to.len) && errno != EINPROGRESS)) {
		(void)close(fd);
		if (inside >= 0)
			(void)close(inside);
		return;
	}
	struct link *k = xzalloc(sizeof(*k));
	k->relay = r;
	k->fd[0] = fd;
	k->fd[1] = inside;
	k->connecting = true;
	k->next = r->links;
	if (r->links)
		r->links->prev = k;
	r->links = k;
	k->watch[0] = watch_new(r->loop, fd, 0, on_ready, k);
	k->watch[1] = watch_new(r->loop, inside, WATCH_WRITE, on_ready, k);
}

struct relay *relay_new(struct loop *l, int listen_fd)
{
	struct relay *r = xzalloc(sizeof(*r));
	r->loop = l;
	r->fd = listen_fd;
	r->watch = watch_new(l, listen_fd, WATCH_READ, on_accept, r);
	return r;
}

bool relay_target(struct relay *r, const char *to, struct err *e)
{
	struct addr parsed = {0};
	if (to && !addr_parse(str_of(to), &parsed, e))
		return false;
	r->to = parsed;
	return true;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	for (struct link *k = r->links, *next; k; k = next) {
		next = k->next;
		link_free(k);
	}
	watch_free(r->watch);
	if (r->fd >= 0)
		(void)close(r->fd);
	free(r);
}
