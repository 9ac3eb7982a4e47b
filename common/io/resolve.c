/*
 * DOC: libuv cannot call back a request that its thread is at, so a question that nobody waits for any more stays alive until it is answered.
 * What cannot even be asked is answered from a timer, so that the caller sees one way only.
 */
#include "common/io/resolve.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define ADDRESSES_MAX 256u /* a headless Service has an address per pod */

struct resolve {
	uv_getaddrinfo_t req;
	struct timer *refused; /* libuv did not take the question */
	resolve_done done; /* NULL: cancelled */
	void *ctx;
	char *host;
	struct err why;
};

static void resolve_free(struct resolve *r)
{
	timer_free(r->refused);
	free(r->host);
	free(r);
}

static bool listed(const struct addr *list, size_t n, const struct addrinfo *ai)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].len == ai->ai_addrlen && memcmp(&list[i].sa, ai->ai_addr, ai->ai_addrlen) == 0)
			return true;
	return false;
}

static size_t take_list(const struct addrinfo *from, struct addr *list)
{
	size_t n = 0;
	for (const struct addrinfo *ai = from; ai && n < ADDRESSES_MAX; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof(list[n].sa) || listed(list, n, ai))
			continue;
		list[n].len = ai->ai_addrlen;
		memcpy(&list[n++].sa, ai->ai_addr, ai->ai_addrlen);
	}
	return n;
}

static void answer(struct resolve *r, const struct addr *list, size_t n)
{
	resolve_done done = r->done;
	void *ctx = r->ctx;
	struct err why = r->why;
	resolve_free(r);
	if (done)
		done(ctx, list, n, &why);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *from)
{
	struct resolve *r = container_of(req, struct resolve, req);
	struct addr *list = xzalloc(ADDRESSES_MAX * sizeof(*list));
	size_t n = status ? 0 : take_list(from, list);
	if (!n)
		(void)err_set(&r->why, ERR_SYSTEM, "resolve \"%s\": %s", r->host,
			status ? uv_strerror(status) : "no address");
	uv_freeaddrinfo(from);
	answer(r, list, n);
	free(list);
}

static void on_refused(void *ctx)
{
	answer(ctx, NULL, 0);
}

struct resolve *resolve_start(struct loop *l, const char *host, uint16_t port, resolve_done done, void *ctx)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct resolve *r = xzalloc(sizeof(*r));
	char service[8];
	r->done = done;
	r->ctx = ctx;
	r->host = xstrdup(host);
	(void)snprintf(service, sizeof(service), "%u", port);
	int bad = uv_getaddrinfo(loop_uv(l), &r->req, on_resolved, host, service, &hints);
	if (!bad)
		return r;
	(void)err_set(&r->why, ERR_SYSTEM, "resolve \"%s\": %s", host, uv_strerror(bad));
	r->refused = timer_new(l, on_refused, r);
	timer_start(r->refused, 0, 0);
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (r && r->refused) {
		resolve_free(r);
	} else if (r) {
		r->done = NULL;
		(void)uv_cancel((uv_req_t *)&r->req); /* when no thread is at it yet */
	}
}
