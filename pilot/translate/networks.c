/*
 * DOC: Networks, as Istio's split-horizon EDS has them. An endpoint is dialled directly when it is in the proxy's own network or in none, or
 * when no gateway of its network is known. Otherwise the gateways of its network stand for it, with its weight divided among them: those of its
 * cluster, if there are such, else all. They route by server name, so only endpoints that are called by mutual TLS are reached so; the others
 * are left out, and so are unhealthy ones, since a gateway cannot be told that.
 *
 * Envoy takes an address once in an assignment, the first time. So a gateway stands at the best priority of what is behind it, in the first
 * locality there, with the weight of all localities of this priority; Istio names it in each of them, and all but the first count for nothing.
 *
 * Weights are whole numbers: all are multiplied by what makes every division come out even.
 */
#include "pilot/translate/networks.h"

#include "pilot/model/query.h"
#include "pilot/translate/build.h"

#define SCALE_MAX 10000u

struct gateways {
	const char *network, *cluster; /* what they are asked for by */
	const Fl__Network__Gateway **items; /* that the proxy can dial */
	size_t n;
	bool known; /* there are some, be it that it can dial none */
};

struct reach {
	struct view *v;
	const struct calls *calls;
	struct gateways *asked;
	size_t n_asked, cap_asked;
	struct member *out;
	size_t n_direct, n; /* direct ones first, then gateways */
};

bool serves_mutual(struct view *v, const Fl__Endpoint *ep, uint32_t port)
{
	return ep->tls_istio && view_mtls_mode(v, str_of(ep->namespace_), LABELS(ep, labels), port) !=
					SEC__PEER_AUTHENTICATION__MUTUAL_TLS__MODE__DISABLE;
}

/* What the cluster's transport sockets do with it (clusters.c). */
static bool is_called_mutually(const struct reach *r, const struct member *m)
{
	const Mesh__MeshConfig *mesh = view_mesh(r->v);

	if (r->calls->policy->tls)
		return r->calls->policy->tls->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL;
	return !r->calls->service->mesh_external && bool_or(mesh->enable_auto_mtls, true) &&
	       serves_mutual(r->v, m->endpoint, m->port);
}

/* ---- gateways of an endpoint */
static bool is_dialled(const struct proxy *p, const Fl__Network__Gateway *gw)
{
	bool six = strchr(gw->address, ':') != NULL;

	return !str_empty(gw->address) && (six ? p->ipv6 : p->ipv4 || !p->ipv6);
}

static bool has_cluster(const Fl__Network *network, const char *cluster)
{
	for (size_t i = 0; i < network->n_gateways; i++)
		if (streq(network->gateways[i]->cluster, cluster))
			return true;
	return false;
}

static void find_gateways(const struct reach *r, struct gateways *out)
{
	const Fl__Network *network = view_network(r->v, str_of(out->network));
	bool own = network && has_cluster(network, out->cluster);

	if (!network)
		return;
	out->known = true;
	out->items = arena_array(r->v->scratch, network->n_gateways, sizeof(*out->items));
	for (size_t i = 0; i < network->n_gateways; i++)
		if (is_dialled(r->v->scope->attributes, network->gateways[i]) &&
			(!own || streq(network->gateways[i]->cluster, out->cluster)))
			out->items[out->n++] = network->gateways[i];
}

static const struct gateways *gateways_of(struct reach *r, const Fl__Endpoint *ep)
{
	struct gateways *grown, *g;

	for (size_t i = 0; i < r->n_asked; i++)
		if (streq(r->asked[i].network, ep->network) && streq(r->asked[i].cluster, ep->cluster))
			return &r->asked[i];
	if (r->n_asked == r->cap_asked) {
		r->cap_asked = r->cap_asked ? r->cap_asked * 2 : 4;
		grown = arena_array(r->v->scratch, r->cap_asked, sizeof(*grown));
		if (r->n_asked)
			memcpy(grown, r->asked, r->n_asked * sizeof(*grown));
		r->asked = grown;
	}
	g = &r->asked[r->n_asked++];
	*g = (struct gateways){.network = ep->network, .cluster = ep->cluster};
	find_gateways(r, g);
	return g;
}

/* NULL: it is dialled itself. */
static const struct gateways *way_to(struct reach *r, const Fl__Endpoint *ep)
{
	const struct gateways *g;

	if (str_empty(ep->network) || str_eqc(r->v->scope->attributes->network, ep->network))
		return NULL;
	g = gateways_of(r, ep);
	return g->known ? g : NULL;
}

/* ---- what the proxy asked not to see */
static bool is_seen(const struct proxy *p, const Fl__Endpoint *ep)
{
	for (size_t i = 0; i < p->n_network_view; i++)
		if (str_eqc(p->network_view[i], ep->network))
			return true;
	return !p->n_network_view || str_empty(ep->network);
}

/* ---- weights */
static uint32_t greatest_divisor(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint32_t scale_of(const struct reach *r, const struct member *m, size_t n)
{
	uint64_t scale = 1, total = 0;

	for (size_t i = 0; i < r->n_asked; i++)
		if (r->asked[i].n) {
			uint32_t count = (uint32_t)r->asked[i].n;

			scale = scale / greatest_divisor((uint32_t)scale, count) * count;
			if (scale > SCALE_MAX)
				return 1;
		}
	for (size_t i = 0; i < n; i++)
		total += m[i].weight;
	return total * scale > UINT32_MAX ? 1 : (uint32_t)scale;
}

/* A gateway that stands at a better priority already stays there as it is. */
static void add_to_gateway(struct reach *r, const struct member *m, const Fl__Network__Gateway *gw, uint32_t weight)
{
	for (size_t i = r->n_direct; i < r->n; i++) {
		struct member *have = &r->out[i];

		if (have->gateway->port != gw->port || !streq(have->gateway->address, gw->address))
			continue;
		if (have->priority == m->priority)
			have->weight = weight > UINT32_MAX - have->weight ? UINT32_MAX : have->weight + weight;
		return;
	}
	r->out[r->n++] = (struct member){.gateway = gw,
		.port = gw->port,
		.weight = weight,
		.locality = m->locality,
		.priority = m->priority,
		.order = SIZE_MAX / 2 + r->n};
}

static void add_by_gateways(struct reach *r, const struct member *m, const struct gateways *g, uint32_t scale)
{
	if (!m->ready || !g->n || !is_called_mutually(r, m))
		return;
	for (size_t i = 0; i < g->n; i++) {
		uint32_t part = m->weight * scale / (uint32_t)g->n;

		add_to_gateway(r, m, g->items[i], part ? part : 1);
	}
}

/* ---- all of it */
static bool is_simple(struct reach *r, const struct member *m, size_t n)
{
	bool simple = !r->calls->by_sni;

	for (size_t i = 0; i < n; i++)
		simple &= is_seen(r->v->scope->attributes, m[i].endpoint) && !way_to(r, m[i].endpoint);
	return simple;
}

static size_t gateways_at_most(const struct reach *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_asked; i++)
		n += r->asked[i].n;
	return n;
}

bool members_reach(struct view *v, const struct calls *c, struct member **list, size_t *n)
{
	struct reach r = {.v = v, .calls = c};
	const struct member *m = *list;
	uint32_t scale;

	if (is_simple(&r, m, *n))
		return false;
	scale = scale_of(&r, m, *n);
	r.out = arena_array(v->scratch, *n + gateways_at_most(&r) + 1, sizeof(*r.out));
	for (size_t i = 0; i < *n; i++) {
		if (!is_seen(v->scope->attributes, m[i].endpoint) || way_to(&r, m[i].endpoint) ||
			(c->by_sni && !is_called_mutually(&r, &m[i])))
			continue;
		r.out[r.n] = m[i];
		r.out[r.n++].weight *= scale;
	}
	r.n_direct = r.n;
	for (size_t i = 0; i < *n; i++) {
		const struct gateways *g = way_to(&r, m[i].endpoint);

		if (g && is_seen(v->scope->attributes, m[i].endpoint))
			add_by_gateways(&r, &m[i], g, scale);
	}
	*list = r.out;
	*n = r.n;
	return true;
}
