/* DOC: Where a VirtualService leads. A Sidecar that imports it imports these hosts, too: without their clusters its routes lead nowhere. */
#include "pilot/model/destinations.h"

struct walk {
	bool (*fn)(void *ctx, const char *host);
	void *ctx;
};

static bool at(const struct walk *w, const Cfg__Destination *d)
{
	return d && w->fn(w->ctx, d->host);
}

static bool of_http(const struct walk *w, const Cfg__HTTPRoute *r)
{
	for (size_t i = 0; i < r->n_route; i++)
		if (at(w, r->route[i]->destination))
			return true;
	for (size_t i = 0; i < r->n_mirrors; i++)
		if (at(w, r->mirrors[i]->destination))
			return true;
	return at(w, r->mirror);
}

static bool of_layer4(const struct walk *w, Cfg__RouteDestination *const *routes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (at(w, routes[i]->destination))
			return true;
	return false;
}

bool each_destination(const Cfg__VirtualService *vs, bool (*fn)(void *ctx, const char *host), void *ctx)
{
	const struct walk w = {fn, ctx};

	for (size_t i = 0; i < vs->n_http; i++)
		if (of_http(&w, vs->http[i]))
			return true;
	for (size_t i = 0; i < vs->n_tls; i++)
		if (of_layer4(&w, vs->tls[i]->route, vs->tls[i]->n_route))
			return true;
	for (size_t i = 0; i < vs->n_tcp; i++)
		if (of_layer4(&w, vs->tcp[i]->route, vs->tcp[i]->n_route))
			return true;
	return false;
}
