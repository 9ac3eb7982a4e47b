#include "galley/gateway_names.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/resolve.h"

/*
 * DOC: EDS takes no names, so a gateway that a load balancer names instead of numbering it must be looked up here. getaddrinfo(3) tells no time to
 * live; a minute is what Envoy takes between look-ups of a mesh's own names. Answers are in order, so that galleys that get the same one publish
 * the same bytes.
 */

#define AGAIN_MS 60000

LOG_SCOPE(names_log, "gateways", "names of networks' gateways");

struct name {
	struct gateway_names *owner;
	char *host;
	struct resolve *asked; /* NULL: nothing is under way */
	char *problem; /* of the last look-up, NULL: none */
	bool wanted;
};

struct gateway_names {
	struct loop *loop;
	struct galley *galley;
	void (*changed)(void *ctx);
	void *ctx;
	struct map *names; /* by host */
	struct timer *again;
};

static void name_free(struct name *n)
{
	resolve_cancel(n->asked);
	free(n->problem);
	free(n->host);
	free(n);
}

static void failed(struct name *n, const char *why)
{
	if (!n->problem || !streq(n->problem, why))
		log_warn(&names_log, "the name of a network's gateway cannot be looked up; what was known of it stays",
			KV("name", n->host), KV("error", why));
	free(n->problem);
	n->problem = xstrdup(why);
}

static void on_answer(void *ctx, const struct addr *list, size_t n, const struct err *why)
{
	struct name *x = ctx;
	cleanup(arena_free_p) struct arena *a = arena_new();
	char **texts = ARENA_ARRAY(a, char *, n + 1);
	x->asked = NULL;
	if (!n) {
		failed(x, why->text);
		return;
	}
	free(take(x->problem));
	for (size_t i = 0; i < n; i++) {
		char text[128];
		struct str host;
		uint16_t port;
		struct err e = {0};
		addr_format(&list[i], text);
		if (!addr_split(str_of(text), &host, &port, &e))
			host = str_of(text);
		texts[i] = arena_cstr(a, host);
	}
	if (galley_gateway_found(x->owner->galley, x->host, texts, n))
		x->owner->changed(x->owner->ctx);
}

static void ask(struct name *n)
{
	if (!n->asked)
		n->asked = resolve_start(n->owner->loop, n->host, 1, on_answer, n);
}

static void ask_all(void *ctx)
{
	struct gateway_names *n = ctx;
	struct str key;
	void *value;
	for (size_t i = 0; map_next(n->names, &i, &key, &value);)
		ask(value);
}

struct gateway_names *gateway_names_new(struct loop *l, struct galley *g, void (*changed)(void *ctx), void *ctx)
{
	struct gateway_names *n = xzalloc(sizeof(*n));
	*n = (struct gateway_names){l, g, changed, ctx, map_new(), NULL};
	n->again = timer_new(l, ask_all, n);
	timer_start(n->again, AGAIN_MS, AGAIN_MS);
	return n;
}

void gateway_names_free(struct gateway_names *n)
{
	struct str key;
	void *value;
	if (!n)
		return;
	for (size_t i = 0; map_next(n->names, &i, &key, &value);)
		name_free(value);
	map_free(n->names);
	timer_free(n->again);
	free(n);
}

static void want(void *ctx, const char *host)
{
	struct gateway_names *n = ctx;
	struct name *x = map_get(n->names, str_of(host));
	if (!x) {
		x = xzalloc(sizeof(*x));
		x->owner = n;
		x->host = xstrdup(host);
		(void)map_put(n->names, str_of(host), x);
		ask(x);
	}
	x->wanted = true;
}

void gateway_names_sync(struct gateway_names *n)
{
	struct str key;
	void *value;
	galley_gateway_hosts(n->galley, want, n);
	for (size_t i = 0; map_next(n->names, &i, &key, &value);) {
		struct name *x = value;
		if (!x->wanted) {
			(void)map_del(n->names, key);
			name_free(x);
		} else {
			x->wanted = false;
		}
	}
}

void gateway_names_debug(const struct gateway_names *n, struct strbuf *json)
{
	struct str key;
	void *value;
	bool first = true;
	strbuf_addc(json, '{');
	for (size_t i = 0; map_next(n->names, &i, &key, &value);) {
		const struct name *x = value;
		strbuf_adds(json, first ? "" : ",");
		first = false;
		strbuf_add_json(json, key);
		strbuf_adds(json, ":");
		strbuf_add_json(json, str_of(x->problem ? x->problem : x->asked ? "is asked for" : "is known"));
	}
	strbuf_addc(json, '}');
}
