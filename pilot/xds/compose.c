/*
 * DOC: Writing of responses. The dirty slots are compared with the cache; what differs is new, what is no more is absent. A response
 * is its header, packed here, and the shared pieces of its resources. Clusters and listeners in a state of the world are always
 * the whole state; endpoints and routes may be a part, which is why their state's version sums up what the client holds, not what
 * the response holds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/metric.h"
#include "pilot/xds/watch.h"

METRIC(pushes, COUNTER, "pilot_xds_pushes", "responses sent", "type");
static const double size_buckets[] = {1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 4e7, 0};
METRIC(config_size, HISTOGRAM, "pilot_xds_config_size_bytes", "size of responses", "type");

__attribute__((constructor)) static void set_buckets(void)
{
	config_size.buckets = size_buckets;
}

struct found {
	xds_entry_list fresh; /* the client does not have this version */
	xds_entry_list absent; /* the client must be told that it is no more */
};

static void found_done(struct found *f)
{
	entry_list_clear(&f->fresh);
	entry_list_clear(&f->absent);
}

static void mark_all(struct xds_watch *w)
{
	if (!w->all_dirty)
		return;
	w->all_dirty = false;
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));)
		watch_mark(w, i);
}

static void examine_slot(struct xds_session *s, struct xds_watch *w, struct xds_slot *slot, struct found *f)
{
	const struct xds_resource *now = watch_current(slot);

	if (now) {
		if (now->version != slot->version)
			entry_list_add(&f->fresh, slot->entry);
	} else if (slot->version > XDS_VERSION_ABSENT) {
		/* Clusters go last, when nothing uses them any more. */
		entry_list_add(w->type == XDS_CDS ? &w->gone : &f->absent, slot->entry);
	} else if (!slot->named) {
		watch_drop(w, slot);
	} else if (s->mode == XDS_DELTA && slot->version == XDS_VERSION_NONE) {
		entry_list_add(&f->absent, slot->entry);
	}
}

static void examine(struct xds_session *s, struct xds_watch *w, struct found *f)
{
	watch_refresh_names(s, w);
	mark_all(w);
	xds_entry_list dirty = w->dirty;
	w->dirty = (xds_entry_list){0};
	for (size_t i = 0; i < dirty.len; i++) {
		struct xds_slot *slot = slots_find(&w->slots, dirty.items[i]);
		if (!slot || !slot->dirty)
			continue;
		slot->dirty = 0;
		examine_slot(s, w, slot, f);
	}
	entry_list_clear(&dirty);
}

static void add_piece(struct xds_response *out, struct buf *b)
{
	if (out->n_pieces == out->cap_pieces) {
		out->cap_pieces = out->cap_pieces ? out->cap_pieces * 2 : 64;
		out->pieces = xrealloc(out->pieces, out->cap_pieces * sizeof(*out->pieces));
	}
	out->pieces[out->n_pieces++] = b;
	out->bytes += b ? b->len : 0;
}

static void add_resource(const struct xds_session *s, struct xds_response *out, const struct xds_resource *r)
{
	if (s->mode == XDS_DELTA)
		add_piece(out, r->head);
	add_piece(out, r->body);
	out->resources++;
}

static void begin_response(struct xds_watch *w, struct xds_response *out)
{
	static struct buf *const header_place;

	buf_unref_p(&out->header);
	out->header = NULL;
	out->type = w->type;
	out->resources = out->removed = out->bytes = 0;
	out->n_pieces = 0;
	add_piece(out, header_place);
}

/* The causal chain: the nonce begins with the model's version. */
static void next_nonce(struct xds_session *s, struct xds_watch *w)
{
	(void)snprintf(w->nonce, sizeof(w->nonce), "%" PRIu64 "-%" PRIu64, model_version(engine_model(s->engine)),
		++s->nonces);
	xds_version_format(w->sum, w->sent);
}

static bool finish(struct xds_session *s, struct xds_watch *w, const ProtobufCMessage *header, struct xds_response *out)
{
	out->header = buf_new(protobuf_c_message_get_packed_size(header));
	(void)protobuf_c_message_pack(header, out->header->data);
	out->pieces[0] = out->header;
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

static bool finish_delta(
	struct xds_session *s, struct xds_watch *w, const xds_entry_list *removed, struct xds_response *out)
{
	Ads__DeltaDiscoveryResponse h = ADS__DELTA_DISCOVERY_RESPONSE__INIT;
	Core__ControlPlane pilot = CORE__CONTROL_PLANE__INIT;
	cleanup(free_p) char **names = xzalloc((removed->len + 1) * sizeof(*names));

	next_nonce(s, w);
	for (size_t i = 0; i < removed->len; i++)
		names[i] = (char *)(uintptr_t)removed->items[i]->name.ptr;
	pilot.identifier = (char *)(uintptr_t) "fairlead-pilot/" FAIRLEAD_VERSION;
	h.control_plane = &pilot;
	h.system_version_info = w->sent;
	h.nonce = w->nonce;
	h.type_url = (char *)(uintptr_t)xds_type_info(w->type)->url;
	h.removed_resources = names;
	h.n_removed_resources = out->removed = removed->len;
	return finish(s, w, &h.base, out);
}

static void add_fresh(struct xds_session *s, struct xds_watch *w, const xds_entry_list *fresh, struct xds_response *out)
{
	for (size_t i = 0; i < fresh->len; i++) {
		const struct xds_resource *r = xds_entry_get(fresh->items[i]);
		add_resource(s, out, r);
		watch_set_version(w, slots_find(&w->slots, fresh->items[i]), r->version);
	}
}

static void in_flight(struct xds_watch *w, const xds_entry_list *fresh)
{
	if (!w->outstanding)
		entry_list_clear(&w->in_flight);
	for (size_t i = 0; i < fresh->len; i++)
		entry_list_add(&w->in_flight, fresh->items[i]);
}

/* The client forgets it, or was told that it does not exist. */
static void forget(struct xds_watch *w, const xds_entry_list *absent)
{
	for (size_t i = 0; i < absent->len; i++) {
		struct xds_slot *slot = slots_find(&w->slots, absent->items[i]);
		if (slot && slot->named)
			watch_set_version(w, slot, XDS_VERSION_ABSENT);
		else if (slot)
			watch_drop(w, slot);
	}
}

/* Everything that is there, and what is about to go but must not yet. */
static void add_whole_state(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		const struct xds_resource *r = watch_current(i);
		if (!r && i->version > XDS_VERSION_ABSENT)
			r = i->entry->res ? i->entry->res : i->entry->last;
		if (!r)
			continue;
		add_resource(s, out, r);
		watch_set_version(w, i, r->version);
	}
}

static bool compose_sotw(struct xds_session *s, struct xds_watch *w, struct found *f, struct xds_response *out)
{
	bool whole = xds_type_info(w->type)->wildcard;

	if (!w->must && !f->fresh.len && !(whole && f->absent.len)) {
		w->answer = false;
		return false;
	}
	begin_response(w, out);
	if (whole) {
		forget(w, &f->absent);
		add_whole_state(s, w, out);
	} else {
		add_fresh(s, w, &f->fresh, out);
	}
	in_flight(w, &f->fresh);
	return finish_sotw(s, w, out);
}

static bool compose_delta(struct xds_session *s, struct xds_watch *w, struct found *f, struct xds_response *out)
{
	if (!w->must && !f->fresh.len && !f->absent.len) {
		w->answer = false;
		if (!w->pushes) { /* resumed: what the client listed still holds */
			xds_version_format(w->sum, w->sent);
			memcpy(w->acked, w->sent, sizeof(w->acked));
		}
		return false;
	}
	begin_response(w, out);
	add_fresh(s, w, &f->fresh, out);
	forget(w, &f->absent);
	in_flight(w, &f->fresh);
	return finish_delta(s, w, &f->absent, out);
}

bool compose_changes(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	cleanup(found_done) struct found f = {0};
	examine(s, w, &f);
	return s->mode == XDS_SOTW ? compose_sotw(s, w, &f, out) : compose_delta(s, w, &f, out);
}

bool compose_removals(struct xds_session *s, struct xds_watch *w, struct xds_response *out)
{
	cleanup(found_done) struct found f = {0};
	xds_entry_list gone = w->gone;

	w->gone = (xds_entry_list){0};
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));)
		i->seen = 0;
	for (size_t i = 0; i < gone.len; i++) {
		struct xds_slot *slot = slots_find(&w->slots, gone.items[i]);
		if (!slot || slot->version <= XDS_VERSION_ABSENT)
			continue;
		if (slot->seen || watch_current(slot)) /* twice in the list, or it came back */
			continue;
		slot->seen = 1;
		entry_list_add(&f.absent, gone.items[i]);
	}
	entry_list_clear(&gone);
	if (!f.absent.len)
		return false;
	begin_response(w, out);
	forget(w, &f.absent);
	if (s->mode == XDS_DELTA)
		return finish_delta(s, w, &f.absent, out);
	add_whole_state(s, w, out);
	return finish_sotw(s, w, out);
}

void xds_response_done(struct xds_response *r)
{
	buf_unref_p(&r->header);
	free(r->pieces);
	*r = (struct xds_response){0};
}
