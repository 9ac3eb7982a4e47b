/*
 * DOC: Writing of responses. What is new and what is no more is the answer of a holding (holding.h), for each scope. A
 * response is its header, written here, and the shared slices of its resources. Clusters and listeners in a state of the world are always
 * the whole state; endpoints and routes may be a part, which is why their state's version sums up what the client holds, not what
 * the response holds.
 */
#include <stdlib.h>

#include "common/base/metric.h"
#include "pilot/xds/watch.h"
#include "pilot/xds/wire.h"

METRIC(pushes, COUNTER, "pilot_xds_pushes", "responses sent", "type");
static const double size_buckets[] = {1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 4e7, 0};
METRIC(config_size, HISTOGRAM, "pilot_xds_config_size_bytes", "size of responses", "type");

__attribute__((constructor)) static void set_buckets(void)
{
	config_size.buckets = size_buckets;
}

static void add_slice(struct xds_response *out, struct buf_slice b)
{
	if (out->n_pieces == out->cap_pieces) {
		out->cap_pieces = out->cap_pieces ? out->cap_pieces * 2 : 64;
		out->pieces = xrealloc(out->pieces, out->cap_pieces * sizeof(*out->pieces));
	}
	out->pieces[out->n_pieces++] = b;
	out->bytes += b.len;
}

static void add_answer(struct xds_response *out, const struct xds_answer *a)
{
	for (size_t i = 0; a && i < a->slices.len; i++)
		add_slice(out, a->slices.items[i]);
	out->resources += a ? a->fresh.len : 0;
}

static void begin_response(struct xds_watch *w, struct xds_response *out)
{
	static const struct buf_slice header_place;

	buf_unref_p(&out->header);
	out->header = NULL;
	out->type = w->type;
	out->resources = out->removed = out->bytes = 0;
	out->n_pieces = 0;
	add_slice(out, header_place);
}

static char *put_number(char *p, uint64_t v)
{
	char text[20];
	size_t n = 0;
	do
		text[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*p++ = text[--n];
	return p;
}

/* The causal chain: the nonce begins with the model's version. */
static void next_nonce(struct xds_session *s, struct xds_watch *w)
{
	char *p = put_number(w->nonce, model_version(engine_model(s->engine)));
	*p++ = '-';
	*put_number(p, ++s->nonces) = 0;
	xds_version_format(watch_sum(w), w->sent);
	w->sent_model = model_version(engine_model(s->engine));
}

/* The answers of all scopes. */
struct found {
	struct xds_answer *of[SCOPE_KIND_COUNT];
	size_t fresh, absent;
};

static void found_done(struct found *f)
{
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		answer_unref(f->of[k]);
}

static struct found find(struct xds_watch *w, struct xds_answer *(*step)(struct xds_holding **h))
{
	struct found f = {0};
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		f.of[k] = step(&w->held[k]);
		f.fresh += f.of[k] ? f.of[k]->fresh.len : 0;
		f.absent += f.of[k] ? f.of[k]->absent.len : 0;
	}
	return f;
}

/* What goes around the resources of a response. A push writes thousands of them, so no message is made of it and packed. */
#define CONTROL_PLANE "fairlead-pilot/" FAIRLEAD_VERSION
enum { FIELD_VERSION = 1, FIELD_TYPE = 4, FIELD_NONCE = 5, FIELD_REMOVED = 6 };
static const unsigned control_plane_field[XDS_MODE_COUNT] = {[XDS_SOTW] = 6, [XDS_DELTA] = 7};

static size_t removed_len(const struct found *removed)
{
	size_t len = 0;
	for (unsigned k = 0; removed && k < SCOPE_KIND_COUNT; k++)
		for (size_t i = 0; removed->of[k] && i < removed->of[k]->absent.len; i++)
			len += wire_field_len(removed->of[k]->absent.items[i]->name.len);
	return len;
}

static uint8_t *put_removed(uint8_t *p, const struct found *removed)
{
	for (unsigned k = 0; removed && k < SCOPE_KIND_COUNT; k++)
		for (size_t i = 0; removed->of[k] && i < removed->of[k]->absent.len; i++) {
			struct str name = removed->of[k]->absent.items[i]->name;
			p = wire_put_bytes(p, FIELD_REMOVED, name.ptr, name.len);
		}
	return p;
}

/* removed: of a delta response, else NULL. */
static bool finish(struct xds_session *s, struct xds_watch *w, const struct found *removed, struct xds_response *out)
{
	next_nonce(s, w);
	struct str url = str_of(xds_type_info(w->type)->url), plane = STR(CONTROL_PLANE), nonce = str_of(w->nonce);
	size_t identifier = wire_field_len(plane.len);
	size_t len = wire_field_len(XDS_VERSION_TEXT - 1) + wire_field_len(url.len) + wire_field_len(nonce.len) +
		     removed_len(removed) + wire_field_len(identifier);

	out->header = buf_new(len);
	uint8_t *p = out->header->data;
	p = wire_put_bytes(p, FIELD_VERSION, w->sent, XDS_VERSION_TEXT - 1);
	p = wire_put_bytes(p, FIELD_TYPE, url.ptr, url.len);
	p = wire_put_bytes(p, FIELD_NONCE, nonce.ptr, nonce.len);
	p = put_removed(p, removed);
	p = wire_put_field(p, control_plane_field[s->mode], identifier);
	p = wire_put_bytes(p, 1, plane.ptr, plane.len);
	assert(p == out->header->data + len);
	out->removed = removed ? removed->absent : 0;
	out->pieces[0] = (struct buf_slice){out->header, out->header->data, len};
	out->bytes += len;
	w->answer = w->must = false;
	metric_add(&pushes, 1, xds_type_info(w->type)->name);
	metric_observe(&config_size, out->bytes, xds_type_info(w->type)->name);
	return true;
}

static void in_flight(struct xds_watch *w, struct found *f)
{
	if (!w->outstanding)
		watch_answered(w);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		if (f->of[k] && f->of[k]->fresh.len)
			vec_push(&w->in_flight, take(f->of[k]));
}

static bool compose_sotw(struct xds_session *s, struct xds_watch *w, struct found *f, struct xds_response *out)
{
	bool whole = xds_type_info(w->type)->wildcard;

	if (!w->must && !f->fresh && !(whole && f->absent)) {
		w->answer = false;
		return false;
	}
	begin_response(w, out);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		add_answer(out, whole && w->held[k] ? holding_whole(w->held[k]) : f->of[k]);
	in_flight(w, f);
	return finish(s, w, NULL, out);
}

static bool compose_delta(struct xds_session *s, struct xds_watch *w, struct found *f, struct xds_response *out)
{
	if (!w->must && !f->fresh && !f->absent) {
		w->answer = false;
		if (!w->pushes) { /* resumed: what the client listed still holds */
			xds_version_format(watch_sum(w), w->sent);
			memcpy(w->acked, w->sent, sizeof(w->acked));
		}
		return false;
	}
	begin_response(w, out);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		add_answer(out, f->of[k]);
	bool done = finish(s, w, f, out);
	in_flight(w, f);
	return done;
}

bool compose_changes(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	uint64_t changed_us = watch_changed_us(w);
	cleanup(found_done) struct found f = find(w, holding_answer);
	if (!(s->mode == XDS_SOTW ? compose_sotw(s, w, &f, out) : compose_delta(s, w, &f, out)))
		return false;
	w->flight_us = changed_us;
	return true;
}

bool compose_removals(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	cleanup(found_done) struct found f = find(w, holding_removal);

	if (!f.absent)
		return false;
	begin_response(w, out);
	if (s->mode == XDS_DELTA)
		return finish(s, w, &f, out);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		add_answer(out, w->held[k] ? holding_whole(w->held[k]) : NULL);
	return finish(s, w, NULL, out);
}

void xds_response_done(struct xds_response *r)
{
	buf_unref_p(&r->header);
	free(r->pieces);
	*r = (struct xds_response){0};
}
