/*
 * DOC: Requests of the state-of-the-world protocol. Rules (xDS protocol, "the xDS transport protocol"): an empty nonce begins a type,
 * and then version_info is what the client still holds; a nonce that is not the last one is out of date and ignored, because the
 * client will ask again with the newest; with error_detail it is a NACK. The list of names replaces the one before. For clusters and
 * listeners an empty list in the first request means everything, until a name was given once; "*" means everything, too.
 */
#include "common/base/metric.h"
#include "pilot/xds/watch.h"

METRIC(expired_nonce, COUNTER, "pilot_xds_expired_nonce", "requests that answer a response which is not the last",
	"type");
METRIC(resumed, COUNTER, "pilot_xds_resumed", "first requests whose content still held, so that nothing was sent",
	"type");

static void drop_unnamed(struct xds_watch *w)
{
	xds_entry_list drop = {0};
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		if (i->named && !i->seen)
			entry_list_add(&drop, i->entry);
	}
	for (size_t i = 0; i < drop.len; i++)
		watch_unname(w, slots_find(&w->slots, drop.items[i]));
	entry_list_clear(&drop);
}

static bool set_names(
	struct xds_session *s, struct xds_watch *w, const Ads__DiscoveryRequest *r, bool *all, struct err *e)
{
	*all = false;
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));)
		i->seen = 0;
	for (size_t i = 0; i < r->n_resource_names; i++) {
		struct str name = str_of(r->resource_names[i]);
		struct xds_slot *slot;
		size_t before = w->named;
		if (str_eqc(name, "*") && xds_type_info(w->type)->wildcard) {
			*all = true;
			continue;
		}
		if (!watch_name(s, w, name, &slot, e))
			return false;
		slot->seen = 1;
		w->answer |= w->named != before && slot->version <= XDS_VERSION_ABSENT;
	}
	drop_unnamed(w);
	return true;
}

static bool subscribe(
	struct xds_session *s, struct xds_watch *w, const Ads__DiscoveryRequest *r, bool first, struct err *e)
{
	bool all;
	if (!set_names(s, w, r, &all, e))
		return false;
	if (r->n_resource_names)
		w->legacy = false;
	else if (first)
		w->legacy = xds_type_info(w->type)->wildcard;
	all |= w->legacy;
	w->answer |= all && !w->wildcard;
	watch_set_wildcard(w, all);
	return true;
}

/* The client holds exactly what it would get: then it gets nothing. */
static bool resume(struct xds_session *s, struct xds_watch *w, struct str version)
{
	char now[XDS_VERSION_TEXT];

	if (!version.len)
		return false;
	watch_refresh_names(s, w);
	xds_version_format(watch_full_sum(w), now);
	if (!str_eqc(version, now))
		return false;
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		const struct xds_resource *held = watch_current(i);
		watch_set_version(w, i, held ? held->version : XDS_VERSION_NONE);
		i->dirty = 0;
	}
	entry_list_clear(&w->dirty);
	memcpy(w->sent, now, sizeof(w->sent));
	memcpy(w->acked, now, sizeof(w->acked));
	metric_add(&resumed, 1, xds_type_info(w->type)->name);
	return true;
}

static bool begin(struct xds_session *s, struct xds_watch *w, const Ads__DiscoveryRequest *r, struct err *e)
{
	watch_done(w);
	w->open = true;
	if (!subscribe(s, w, r, true, e))
		return false;
	bool held = resume(s, w, str_of(r->version_info));
	w->answer = !held;
	/* Clusters and listeners are answered even when there are none: Envoy's start waits for it. */
	w->must = !held && xds_type_info(w->type)->wildcard;
	if (w->type == XDS_EDS)
		watch_follow_clusters(s, &s->watches[XDS_CDS].in_flight);
	return true;
}

bool sotw_recv(struct xds_session *s, const Ads__DiscoveryRequest *r, uint64_t now_us, struct err *e)
{
	struct str nonce = str_of(r->response_nonce);
	struct xds_watch *w = session_watch(s, str_of(r->type_url));

	if (!w)
		return true;
	if (!nonce.len || !w->open)
		return begin(s, w, r, e);
	if (!str_eqc(nonce, w->nonce)) {
		metric_add(&expired_nonce, 1, xds_type_info(w->type)->name);
		return true;
	}
	if (r->error_detail)
		session_nacked(s, w, nonce, r->error_detail);
	else
		session_acked(s, w, now_us);
	return subscribe(s, w, r, false, e);
}
