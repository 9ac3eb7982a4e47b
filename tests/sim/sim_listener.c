/*
 * DOC: Filter chain matching in Envoy's order: destination port, destination address, server name, transport protocol, application
 * protocols. Each step keeps the most specific group that matches and never comes back to a less specific one.
 */
#include <arpa/inet.h>
#include <stdlib.h>

#include "tests/sim/sim_int.h"

#define MAX_CHAINS 256

struct candidates {
	json_t *items[MAX_CHAINS];
	size_t n;
};

static json_t *match_of(json_t *chain)
{
	return json_object_get(chain, "filterChainMatch");
}

/* Specificity of a chain for one step: -1 does not match, 0 says nothing, more is more specific. */
typedef int (*step_fn)(json_t *match, const struct request *r);

static int by_port(json_t *m, const struct request *r)
{
	json_t *p = json_object_get(m, "destinationPort");

	if (!p)
		return 0;
	return json_integer_value(p) == (json_int_t)r->port ? 1 : -1;
}

static int prefix_covers(json_t *range, const char *ip)
{
	struct in_addr a, b;
	json_int_t bits = json_integer_value(json_object_get(range, "prefixLen"));
	uint32_t mask = bits ? ~0u << (32 - bits) : 0;

	if (inet_pton(AF_INET, ip, &a) != 1 || inet_pton(AF_INET, text(range, "addressPrefix", ""), &b) != 1)
		return -1;
	return (ntohl(a.s_addr) & mask) == (ntohl(b.s_addr) & mask) ? (int)bits + 1 : -1;
}

static int by_address(json_t *m, const struct request *r)
{
	json_t *ranges = json_object_get(m, "prefixRanges"), *range;
	size_t i;
	int best = -1;

	if (!json_array_size(ranges))
		return 0;
	json_array_foreach(ranges, i, range)
	{
		int s = prefix_covers(range, r->ip);

		best = s > best ? s : best;
	}
	return best;
}

static int name_covers(const char *pattern, const char *sni)
{
	size_t n = strlen(pattern), len = strlen(sni);

	if (streq(pattern, sni))
		return 1000;
	if (pattern[0] == '*' && len >= n && streq(sni + len - (n - 1), pattern + 1))
		return (int)n;
	return -1;
}

static int by_name(json_t *m, const struct request *r)
{
	json_t *names = json_object_get(m, "serverNames"), *name;
	size_t i;
	int best = -1;

	if (!json_array_size(names))
		return 0;
	json_array_foreach(names, i, name)
	{
		int s = r->tls ? name_covers(json_string_value(name), r->sni) : -1;

		best = s > best ? s : best;
	}
	return best;
}

static int by_transport(json_t *m, const struct request *r)
{
	const char *want = text(m, "transportProtocol", "");

	if (!*want)
		return 0;
	return streq(want, r->tls ? "tls" : "raw_buffer") ? 1 : -1;
}

static int by_alpn(json_t *m, const struct request *r)
{
	json_t *want = json_object_get(m, "applicationProtocols"), *offered, *name;
	size_t i, j;

	if (!json_array_size(want))
		return 0;
	json_array_foreach(want, i, name)
	{
		if (!r->tls && r->http && streq(json_string_value(name), "http/1.1"))
			return 1;
		json_array_foreach(r->alpn, j,
			offered) if (r->tls && streq(json_string_value(name), json_string_value(offered))) return 1;
	}
	return -1;
}

static void keep_best(struct candidates *c, step_fn step, const struct request *r)
{
	int best = -1;
	size_t n = 0;

	for (size_t i = 0; i < c->n; i++) {
		int s = step(match_of(c->items[i]), r);

		best = s > best ? s : best;
	}
	for (size_t i = 0; i < c->n; i++)
		if (best >= 0 && step(match_of(c->items[i]), r) == best)
			c->items[n++] = c->items[i];
	c->n = n;
}

json_t *sim_chain(json_t *listener, const struct request *r)
{
	static const step_fn steps[] = {by_port, by_address, by_name, by_transport, by_alpn};
	struct candidates c = {.n = 0};
	json_t *chain;
	size_t i;

	json_array_foreach(json_object_get(listener, "filterChains"), i, chain) if (c.n < MAX_CHAINS)
		c.items[c.n++] = chain;
	for (i = 0; i < ARRAY_LEN(steps); i++)
		keep_best(&c, steps[i], r);
	return c.n ? c.items[0] : json_object_get(listener, "defaultFilterChain");
}
