#include "galley/discovery/discovery.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/map.h"
#include "common/mesh/labels.h"
#include "common/pb/pb.h"

/*
 * DOC: Assembly. Every Service and every host of a ServiceEntry is one service. Several that name the same host in one namespace are
 * merged, the Kubernetes Service first and then by age and name: the first says what the service is, the others add ports, addresses
 * and endpoints. Endpoints are in order of address and pod, so that equal sets are equal bytes.
 */

struct build {
	struct arena *arena;
	const struct discovery_input *in;
	struct map *by_host;
	struct discovered *items;
	size_t n, cap;
};

static struct discovered *item_for(struct build *b, const char *host, bool *is_new)
{
	struct discovered *d = map_get(b->by_host, str_of(host));
	*is_new = !d;
	if (d)
		return d;
	d = ARENA_NEW(b->arena, struct discovered);
	d->endpoints = PB_NEW(b->arena, Fl__EndpointSet, fl__endpoint_set);
	d->endpoints->hostname = arena_strdup(b->arena, host);
	d->endpoints->namespace_ = arena_strdup(b->arena, b->in->ns);
	(void)map_put(b->by_host, str_of(host), d);
	return d;
}

static void merge(struct arena *a, Fl__Service *into, const Fl__Service *from)
{
	for (size_t i = 0; i < from->n_ports; i++) {
		bool there = false;
		for (size_t k = 0; k < into->n_ports; k++)
			there |= into->ports[k]->number == from->ports[i]->number ||
				 streq(into->ports[k]->name, from->ports[i]->name);
		if (!there)
			pb_add(a, into, ports, from->ports[i]);
	}
	for (size_t i = 0; i < from->n_addresses; i++) {
		bool there = false;
		for (size_t k = 0; k < into->n_addresses; k++)
			there |= streq(into->addresses[k], from->addresses[i]);
		if (!there)
			pb_add(a, into, addresses, from->addresses[i]);
	}
}

/* Traffic to a host name needs some address to dial; a wildcard has no one address, and NONE goes where the client dialled. */
static bool wants_address(const Fl__Service *s)
{
	const char *label = label_get(LABELS(s, labels), "networking.istio.io/enable-autoallocate-ip");
	if (streq(label, "false"))
		return false;
	return s->n_addresses == 0 && !s->headless && s->hostname[0] != '*' && s->resolution != FL__RESOLUTION__NONE &&
	       s->resolution != FL__RESOLUTION__DYNAMIC_DNS && s->resolution != FL__RESOLUTION__ALIAS;
}

static void add_service(struct build *b, const struct object *o)
{
	bool is_new;
	Fl__Service *s = discovery_service(b->arena, b->in, o);
	struct discovered *d = item_for(b, s->hostname, &is_new);
	d->service = s;
	d->origin = arena_strdup(b->arena, o->origin ? o->origin : ""); /* the object may go before this */
	discovery_service_endpoints(b->arena, b->in, o, d->endpoints);
}

static void add_entry(struct build *b, const struct object *o)
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	for (size_t i = 0; i < se->n_hosts; i++) {
		bool is_new;
		Fl__Service *s = discovery_entry(b->arena, b->in, o, se->hosts[i]);
		struct discovered *d = item_for(b, s->hostname, &is_new);
		if (is_new) {
			d->service = s;
			d->origin = arena_strdup(b->arena, o->origin ? o->origin : "");
		} else {
			merge(b->arena, d->service, s);
		}
		discovery_entry_endpoints(b->arena, b->in, o, se->hosts[i], d->endpoints);
	}
}

static int by_age(const void *a, const void *b)
{
	const struct object *x = *(const struct object *const *)a, *y = *(const struct object *const *)b;
	if (x->created_ms != y->created_ms)
		return x->created_ms < y->created_ms ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int by_address(const void *a, const void *b)
{
	const Fl__Endpoint *x = *(Fl__Endpoint *const *)a, *y = *(Fl__Endpoint *const *)b;
	int c = strcmp(x->address, y->address);
	if (c)
		return c;
	c = strcmp(x->pod, y->pod);
	if (c)
		return c;
	uint32_t px = x->n_ports ? x->ports[0]->number : 0, py = y->n_ports ? y->ports[0]->number : 0;
	return px < py ? -1 : px > py;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(Fl__PortNumber *const *)a)->name, (*(Fl__PortNumber *const *)b)->name);
}

static void order(Fl__EndpointSet *set)
{
	for (size_t i = 0; i < set->n_endpoints; i++)
		if (set->endpoints[i]->n_ports > 1)
			qsort(set->endpoints[i]->ports, set->endpoints[i]->n_ports, sizeof(*set->endpoints[i]->ports),
				by_name);
	if (set->n_endpoints > 1)
		qsort(set->endpoints, set->n_endpoints, sizeof(*set->endpoints), by_address);
}

static void index_done_p(struct label_index **x)
{
	label_index_done(*x);
}

/* Slices name their pods: looked up for each endpoint, of which there are as many as pods. */
static void index_pod(const struct object *pod, struct map *names, struct map *addresses)
{
	const Kube__PodStatus *s = ((const Kube__Pod *)pod->message)->status;
	(void)map_put(names, str_of(pod->name), (void *)(uintptr_t)pod);
	if (s && !str_empty(s->podip) && !map_get(addresses, str_of(s->podip)))
		(void)map_put(addresses, str_of(s->podip), (void *)(uintptr_t)pod);
}

void discovery_build(struct arena *a, const struct discovery_input *given, struct discovery_output *out)
{
	cleanup(arena_free_p) struct arena *scratch = arena_new();
	cleanup(index_done_p) struct label_index *workloads = label_index_new(scratch),
						 *pods = label_index_new(scratch);
	cleanup(map_free_p) struct map *by_host = map_new(), *names = map_new(), *addresses = map_new();
	struct discovery_input copy = *given, *in = &copy;
	struct build b = {.arena = a, .in = in, .by_host = by_host};
	for (size_t i = 0; i < in->workloads.n; i++)
		label_index_add(
			workloads, LABELS((const Cfg__WorkloadEntry *)in->workloads.items[i]->message, labels), i);
	for (size_t i = 0; i < in->pods.n; i++) {
		label_index_add(pods, LABELS(in->pods.items[i]->meta, labels), i);
		index_pod(in->pods.items[i], names, addresses);
	}
	copy.pod_names = names;
	copy.pod_addresses = addresses;
	copy.workload_index = workloads;
	copy.pod_index = pods;
	for (size_t i = 0; i < in->services.n; i++)
		add_service(&b, in->services.items[i]);
	const struct object **entries = ARENA_ARRAY(a, const struct object *, in->entries.n);
	for (size_t i = 0; i < in->entries.n; i++)
		entries[i] = in->entries.items[i];
	if (in->entries.n > 1)
		qsort(entries, in->entries.n, sizeof(*entries), by_age);
	bool seen = in->visibility != MESH__SERVICE_ENTRY_VISIBILITY__VISIBILITY__NONE;
	for (size_t i = 0; seen && i < in->entries.n; i++)
		add_entry(&b, entries[i]);

	out->n = map_len(by_host);
	out->items = ARENA_ARRAY(a, struct discovered, out->n);
	struct str *hosts = map_keys_sorted(by_host);
	for (size_t i = 0; i < out->n; i++) {
		out->items[i] = *(struct discovered *)map_get(by_host, hosts[i]);
		out->items[i].wants_address = wants_address(out->items[i].service);
		order(out->items[i].endpoints);
		pb_sort_maps(out->items[i].service);
		pb_sort_maps(out->items[i].endpoints);
	}
	free(hosts);
}

/* 240.240.0.1 .. 240.240.255.254, and 2001:2::1 on, as Istio has them. Each key has a place by its hash; who comes later in the order of keys moves on. */
#define FIRST_ADDRESS 0xf0f00001u
#define ADDRESSES 65534u

void allocate_addresses(struct arena *a, const struct str *keys, size_t n, struct allocated *out)
{
	bool *used = ARENA_ARRAY(a, bool, ADDRESSES);
	for (size_t i = 0; i < n; i++) {
		out[i] = (struct allocated){"", ""};
		if (i >= ADDRESSES)
			continue; /* full: the rest have none, and are reached by host name at HTTP ports */
		uint32_t at = (uint32_t)(hash64(keys[i]) % ADDRESSES);
		while (used[at])
			at = (at + 1) % ADDRESSES;
		used[at] = true;
		uint32_t ip = FIRST_ADDRESS + at;
		out[i].v4 = arena_printf(a, "%u.%u.%u.%u", ip >> 24, (ip >> 16) & 255, (ip >> 8) & 255, ip & 255);
		out[i].v6 = arena_printf(a, "2001:2::%x", at + 1);
	}
}
