/* DOC: Naming of xDS resources. Tools of the Istio world read these names, so they are an interface. */
#include "pilot/translate/names.h"

#include <stdlib.h>

#include "common/mesh/host.h"

bool protocol_is_http2(const char *name)
{
	return streq(name, "HTTP2") || streq(name, "GRPC") || streq(name, "GRPC-WEB");
}

bool cluster_name_parse(struct str name, struct cluster_name *out)
{
	struct str rest = name, port;

	*out = (struct cluster_name){0};
	if (!str_split(&rest, '|', &out->direction) || !str_split(&rest, '|', &port) ||
		!str_cut(rest, '|', &out->subset, &out->host))
		return false;
	return str_u32(port, 65535, &out->port);
}

char *cluster_name_outbound(struct arena *a, uint32_t port, struct str subset, struct str host)
{
	return arena_printf(a, "outbound|%u|" STR_FMT "|" STR_FMT, port, STR_ARG(subset), STR_ARG(host));
}

char *cluster_name_unknown(struct view *v, struct arena *a, bool http)
{
	const Cfg__Destination *proxy = NULL;

	switch (view_unknown(v, &proxy)) {
	case UNKNOWN_REFUSE:
		return arena_strdup(a, "BlackHoleCluster");
	case UNKNOWN_PROXY:
		return cluster_name_outbound(
			a, proxy->port ? proxy->port->number : 0, str_of(proxy->subset), str_of(proxy->host));
	case UNKNOWN_DNS:
		return arena_strdup(a, http ? "AllowAnyDynamicDNSCluster" : "PassthroughCluster");
	case UNKNOWN_PASS:
		break;
	}
	return arena_strdup(a, "PassthroughCluster");
}

char *cluster_name_inbound(struct arena *a, uint32_t port)
{
	return arena_printf(a, "inbound|%u||", port);
}

char *listener_name(struct arena *a, struct str address, uint32_t port)
{
	return arena_printf(a, STR_FMT "_%u", STR_ARG(address), port);
}

bool listener_name_parse(struct str name, struct str *address, uint32_t *port)
{
	size_t at;

	if (!str_rfind(name, '_', &at) || !str_u32(str_from(name, at + 1), 65535, port))
		return false;
	*address = str_sub(name, 0, at);
	return true;
}

/* A headless service's clients dial the address of a pod; a gateway has no such address, so it balances. */
enum discovery service_discovery(const struct view *v, const Fl__Service *s)
{
	bool gateway = v->scope->attributes->type != PROXY_SIDECAR;

	switch (s->resolution) {
	case FL__RESOLUTION__DNS:
	case FL__RESOLUTION__ALIAS:
		return DISCOVERY_DNS;
	case FL__RESOLUTION__DNS_ROUND_ROBIN:
		return DISCOVERY_DNS_LOGICAL;
	case FL__RESOLUTION__STATIC:
		return s->headless && !gateway ? DISCOVERY_ORIGINAL_DST : DISCOVERY_EDS;
	case FL__RESOLUTION__NONE:
		return s->headless && gateway ? DISCOVERY_EDS : DISCOVERY_ORIGINAL_DST;
	case FL__RESOLUTION__DYNAMIC_DNS:
		return DISCOVERY_BY_NAME;
	default:
		return DISCOVERY_ORIGINAL_DST;
	}
}

void service_vips(const struct view *v, const Fl__Service *s, struct str **out, size_t *n)
{
	struct str *items = arena_array(v->scratch, s->n_addresses + 2, sizeof(*items));
	bool declared;
	size_t len = 0;

	for (size_t i = 0; i < s->n_addresses; i++)
		if (!str_empty(s->addresses[i]) && !streq(s->addresses[i], "0.0.0.0") &&
			!streq(s->addresses[i], "None"))
			items[len++] = str_of(s->addresses[i]);
	declared = len > 0;
	if (!declared && !str_empty(s->auto_address))
		items[len++] = str_of(s->auto_address);
	if (!declared && !str_empty(s->auto_address_v6) && v->scope->attributes->ipv6)
		items[len++] = str_of(s->auto_address_v6);
	*out = items;
	*n = len;
}

void name_list_add(struct arena *a, struct name_list *l, const char *name)
{
	l->items = pb_grow(a, l->items, l->n, sizeof(*l->items));
	l->items[l->n++] = str_of(name);
}

static int name_cmp(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

void name_list_finish(struct name_list *l, struct str **out, size_t *n)
{
	size_t len = 0;

	if (l->n > 1)
		qsort(l->items, l->n, sizeof(*l->items), name_cmp);
	for (size_t i = 0; i < l->n; i++)
		if (!len || !str_eq(l->items[len - 1], l->items[i]))
			l->items[len++] = l->items[i];
	*out = l->items;
	*n = len;
}
