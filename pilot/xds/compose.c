/*
 * DOC: Writing of responses. What is new and what is no more is the answer of a holding (holding.h), for each scope. A
 * response is its header, packed here, and the shared slices of its resources. Clusters and listeners in a state of the world are always
 * the whole state; endpoints and routes may be a part, which is why their state's version sums up what the client holds, not what
 * the response holds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/metric.h"
#include "pilot/xds/watch.h"
#include "xds/discovery.pb-c.h"

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

/* The causal chain: the nonce begins with the model's version. */
static void next_nonce(struct xds_session *s, struct xds_watch *w)
{
	(void)snprintf(w->nonce, sizeof(w->nonce), "%" PRIu64 "-%" PRIu64, model_version(engine_model(s->engine)),
		++s->nonces);
	xds_version_format(watch_sum(w), w->sent);
	w->sent_model = model_version(engine_model(s->engine));
}

static bool finish(struct xds_session *s, struct xds_watch *w, const ProtobufCMessage *header, struct xds_response *out)
{
	out->header = buf_new(protobuf_c_message_get_packed_size(header));
	(void)protobuf_c_message_pack(header, out->header->data);
	out->pieces[0] = (struct buf_slice){out->header, out->header->data, out->header->len};
	out->bytes += out->header->len;
	w->answer = w->must = false;
	metric_add(&pushes, 1, xds_type_info(w->type)->name);
	metric_observe(&config_size, out->bytes, xds_type_info(w->type)->name);
	return true;
}

static bool finish_sotw(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	Ads__DiscoveryResponse h = ADS__DISCOVERY_RESPONSE__INIT;
	Core__ControlPlane pilot = CORE__CONTROL_PLANE__INIT;

	next_nonce(s, w);
	pilot.identifier = (char *)(uintptr_t) "fairlead-pilot/" FAIRLEAD_VERSION;
	h.control_plane = &pilot;
	h.version_info = w->sent;
	h.nonce = w->nonce;
	h.type_url = (char *)(uintptr_t)xds_type_info(w->type)->url;
	return finish(s, w, &h.base, out);
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

static bool finish_delta(struct xds_session *s, struct xds_watch *w, const struct found *f, struct xds_response *out)
{
	Ads__DeltaDiscoveryResponse h = ADS__DELTA_DISCOVERY_RESPONSE__INIT;
	Core__ControlPlane pilot = CORE__CONTROL_PLANE__INIT;
	cleanup(free_p) char **names = xzalloc((f->absent + 1) * sizeof(*names));

	next_nonce(s, w);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		for (size_t i = 0; f->of[k] && i < f->of[k]->absent.len; i++)
			names[h.n_removed_resources++] = (char *)(uintptr_t)f->of[k]->absent.items[i]->name.ptr;
	pilot.identifier = (char *)(uintptr_t) "fairlead-pilot/" FAIRLEAD_VERSION;
	h.control_plane = &pilot;
	h.system_version_info = w->sent;
	h.nonce = w->nonce;
	h.type_url = (char *)(uintptr_t)xds_type_info(w->type)->url;
	h.removed_resources = names;
	out->removed = h.n_removed_resources;
	return finish(s, w, &h.base, out);
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
	return finish_sotw(s, w, out);
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
	bool done = finish_delta(s, w, f, out);
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
		return finish_delta(s, w, &f, out);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		add_answer(out, w->held[k] ? holding_whole(w->held[k]) : NULL);
	return finish_sotw(s, w, out);
}

void xds_response_done(struct xds_response *r)
{
	buf_unref_p(&r->header);
	free(r->pieces);
	*r = (struct xds_response){0};
}
