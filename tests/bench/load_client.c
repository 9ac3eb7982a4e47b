/*
 * DOC: A client's life. A response is looked through once: its header for type and nonce, its resources one by one by the hash of their
 * bytes. What a resource refers to is counted in the next type's `wanted`; names whose count leaves or reaches zero are asked for or given
 * up. Warming as Envoy does it: clusters are acknowledged when the endpoints of all of them are there.
 */
#include "tests/bench/load_client.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/io/grpc_stream.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

struct load_client *load_client_new(struct load *l, char *node_json)
{
	struct load_client *c = xzalloc(sizeof(*c));
	c->load = l;
	c->node_json = node_json;
	return c;
}

static void watch_clear(struct load_watch *w)
{
	free(w->held);
	free(w->wanted);
	free(w->absent);
	*w = (struct load_watch){0};
}

void load_client_forget(struct load_client *c)
{
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++)
		watch_clear(&c->watches[t]);
	memset(c->seen, 0, sizeof(c->seen));
}

void load_client_free(struct load_client *c)
{
	load_client_forget(c);
	free(c->node_json);
	free(c);
}

/* ---- what is held and wanted */
struct wants {
	VEC(uint32_t) added, removed;
};

static void want(struct load_client *c, const struct load_resource *r, int change, struct wants *out)
{
	struct load_watch *w = &c->watches[r->refers_to];
	for (size_t i = 0; i < r->n_refs; i++) {
		uint32_t n = r->refs[i];
		load_watch_room(w, n);
		bool before = w->wanted[n] > 0;
		w->wanted[n] = (uint16_t)(w->wanted[n] + change);
		bool after = w->wanted[n] > 0;
		if (before == after)
			continue;
		bool there = w->held[n] || w->absent[n];
		if (after) {
			w->missing += !there;
			vec_push(&out->added, n);
		} else {
			w->missing -= !there;
			w->held[n] = LOAD_NONE; /* Envoy drops what no cluster or listener names */
			w->absent[n] = false;
			vec_push(&out->removed, n);
		}
	}
}

static void hold(struct load_client *c, enum load_type t, uint32_t name, uint32_t resource, struct wants *out)
{
	struct load_watch *w = &c->watches[t];
	load_watch_room(w, name);
	uint32_t before = w->held[name];
	if (before == resource)
		return;
	if (w->wanted[name] && !before && !w->absent[name] && resource)
		w->missing--;
	w->held[name] = resource;
	w->absent[name] = false;
	if (t != LOAD_CDS && t != LOAD_LDS)
		return;
	if (resource)
		want(c, load_store_get(c->load->store, resource), 1, out);
	if (before)
		want(c, load_store_get(c->load->store, before), -1, out);
}

static void told_absent(struct load_client *c, enum load_type t, uint32_t name, struct wants *out)
{
	struct load_watch *w = &c->watches[t];
	hold(c, t, name, LOAD_NONE, out);
	if (w->wanted[name] && !w->absent[name]) {
		w->absent[name] = true;
		w->missing--;
	}
}

/* ---- changes that are being measured */
static void see(struct load_client *c, uint32_t marker, uint64_t now)
{
	struct load *l = c->load;
	if (marker < l->first_change || marker > l->last_change || !l->n_slots)
		return;
	uint32_t *seen = &c->seen[marker % l->n_slots];
	if (*seen >= marker)
		return;
	uint32_t from = *seen >= l->first_change ? *seen + l->n_slots : l->first_change;
	while (from % l->n_slots != marker % l->n_slots)
		from++;
	for (; from <= marker; from += l->n_slots) /* a merged change is there with the one that it was merged into */
		load_latency(&l->latencies, l->changed_us[from], now);
	*seen = marker;
	l->reached += marker == l->last_change;
}

/* ---- responses */
struct response {
	enum load_type type;
	struct str version, nonce;
	bool known;
};

static void read_header(struct str data, struct response *out)
{
	struct wire_field f;
	while (wire_next(&data, &f)) {
		if (f.number == 1)
			out->version = f.bytes;
		else if (f.number == 5)
			out->nonce = f.bytes;
		else if (f.number == 4)
			out->known = load_type_find(f.bytes, &out->type);
	}
}

static void take_resources(struct load_client *c, const struct response *r, struct str data, struct wants *wants)
{
	struct load *l = c->load;
	struct load_counts *count = &l->counts[r->type];
	struct wire_field f;
	while (wire_next(&data, &f)) {
		if (f.number == 2) {
			uint32_t number = load_store_resource(l->store, r->type, c->delta, f.bytes);
			const struct load_resource *res = load_store_get(l->store, number);
			count->resources++;
			if (res->marker)
				see(c, res->marker, l->last_us);
			hold(c, r->type, res->name, number, wants);
		} else if (f.number == 6 && c->delta) {
			count->removed++;
			told_absent(c, r->type, load_store_name(l->store, r->type, f.bytes), wants);
		}
	}
}

/* Without delta, clusters and listeners that are not in the response are gone. */
static void drop_others(struct load_client *c, const struct response *r, struct str data, struct wants *wants)
{
	struct load_watch *w = &c->watches[r->type];
	struct wire_field f;
	cleanup(free_p) bool *in = xzalloc(w->cap + 1);
	while (wire_next(&data, &f))
		if (f.number == 2)
			in[load_store_get(c->load->store, load_store_resource(c->load->store, r->type, false, f.bytes))
					->name] = true;
	for (uint32_t n = 1; n < w->cap; n++)
		if (w->held[n] && !in[n])
			hold(c, r->type, n, LOAD_NONE, wants);
}

static void copy_text(char out[LOAD_VERSION_MAX], struct str text)
{
	(void)snprintf(out, LOAD_VERSION_MAX, STR_FMT, STR_ARG(text));
}

static void follow(struct load_client *c, enum load_type next, struct wants *wants)
{
	vec_push(&wants->added, LOAD_NONE);
	vec_push(&wants->removed, LOAD_NONE);
	if (c->watches[next].open)
		load_send_names(c, next, wants->added.items, wants->removed.items);
}

static bool have_all(const struct load_client *c, enum load_type t)
{
	const struct load_watch *w = &c->watches[t];
	return w->open && (!w->missing || (!c->delta && w->got));
}

static void open_next(struct load_client *c)
{
	struct load_watch *w = c->watches;
	if (!w[LOAD_EDS].open && w[LOAD_CDS].got)
		load_send_first(c, LOAD_EDS);
	if (w[LOAD_CDS].ack_waits && have_all(c, LOAD_EDS)) {
		w[LOAD_CDS].ack_waits = false;
		load_send_ack(c, LOAD_CDS, str_of(w[LOAD_CDS].nonce));
	}
	if (!w[LOAD_LDS].open && have_all(c, LOAD_EDS))
		load_send_first(c, LOAD_LDS);
	if (!w[LOAD_RDS].open && w[LOAD_LDS].got)
		load_send_first(c, LOAD_RDS);
	/* One subscription without names for all hosts of all routes. */
	if (c->vhds && !w[LOAD_VHDS].open && w[LOAD_RDS].got)
		load_send_first(c, LOAD_VHDS);
	bool synced = w[LOAD_LDS].got && have_all(c, LOAD_EDS) && have_all(c, LOAD_RDS) &&
		      (!c->vhds || w[LOAD_VHDS].got);
	c->load->synced += synced && !c->synced;
	c->synced |= synced;
}

static void on_message(struct grpc_stream *g, const uint8_t *bytes, size_t len)
{
	struct load_client *c = grpc_stream_user(g);
	struct load *l = c->load;
	struct response r = {0};
	struct wants wants = {0};
	struct str data = str_n(bytes, len);

	l->last_us = clock_mono_us();
	read_header(data, &r);
	if (!r.known)
		return;
	struct load_watch *w = &c->watches[r.type];
	l->counts[r.type].responses++;
	l->counts[r.type].bytes += len;
	copy_text(w->version, r.version);
	copy_text(w->nonce, r.nonce);
	take_resources(c, &r, data, &wants);
	if (!c->delta && (r.type == LOAD_CDS || r.type == LOAD_LDS))
		drop_others(c, &r, data, &wants);
	w->got = true;
	if (r.type == LOAD_CDS || r.type == LOAD_LDS)
		follow(c, r.type == LOAD_CDS ? LOAD_EDS : LOAD_RDS, &wants);
	if (r.type == LOAD_CDS && (!c->watches[LOAD_EDS].open || c->watches[LOAD_EDS].missing))
		w->ack_waits = true;
	else
		load_send_ack(c, r.type, r.nonce);
	open_next(c);
	vec_done(&wants.added);
	vec_done(&wants.removed);
}

static void on_close(struct grpc_stream *g, enum grpc_status status, struct str message)
{
	struct load_client *c = grpc_stream_user(g);
	struct load *l = c->load;
	l->open--;
	l->synced -= c->synced;
	c->synced = false;
	if (c->grpc) { /* not by load_client_close() */
		l->failed++;
		(void)snprintf(
			l->failure, sizeof(l->failure), "%s " STR_FMT, grpc_status_name(status), STR_ARG(message));
	}
	c->grpc = NULL;
}

static const struct grpc_handler handler = {.on_message = on_message, .on_close = on_close};

static int dial(const struct load *l, struct err *e)
{
	int fd = socket(l->address.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (void)err_errno(e, "socket"), -1;
	if (connect(fd, (const struct sockaddr *)&l->address.sa, l->address.len) || fcntl(fd, F_SETFL, O_NONBLOCK)) {
		(void)err_errno(e, "%s", l->address_text);
		(void)close(fd);
		return -1;
	}
	return fd;
}

bool load_client_connect(struct load_client *c, bool delta, bool vhds, struct err *e)
{
	struct load *l = c->load;
	int fd = dial(l, e);
	if (fd < 0)
		return false;
	struct h2_conn *conn = h2_conn_new(l->env, fd, NULL, NULL, l->address_text);
	conn->authority = xstrdup(l->address_text);
	c->grpc = stream_new(l->env, &handler, c);
	c->grpc->opened = true;
	c->grpc->path = xstrdup(delta ? ADS "DeltaAggregatedResources" : ADS "StreamAggregatedResources");
	c->grpc->request = xzalloc(sizeof(char *));
	stream_link(c->grpc, &conn->streams, conn);
	stream_mark(c->grpc);
	c->delta = delta;
	c->vhds = vhds;
	l->open++;
	bool held = c->watches[LOAD_CDS].got;
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++) {
		c->watches[t].open = c->watches[t].ack_waits = false;
		c->watches[t].nonce[0] = 0;
	}
	for (unsigned t = 0; t < (held ? (unsigned)LOAD_VHDS + vhds : 1u); t++)
		load_send_first(c, (enum load_type)t);
	return true;
}

void load_client_close(struct load_client *c)
{
	struct grpc_stream *g = take(c->grpc);
	if (g && g->conn)
		h2_conn_close(g->conn, "closed");
}
