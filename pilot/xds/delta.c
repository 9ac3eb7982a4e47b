/*
 * DOC: Requests of the incremental protocol. A request may subscribe and unsubscribe, and with a nonce it also answers a response.
 * The first of a type may list what the client holds (initial_resource_versions): what is unchanged is not sent again, what is gone is
 * named as removed. A name that is subscribed to again is sent again. A name that does not exist is answered as removed, and sent as
 * soon as it exists. The first request of clusters or listeners that subscribes to nothing means everything, as "*" does.
 */
#include "common/base/limits.h"
#include "common/base/metric.h"
#include "pilot/xds/watch.h"

METRIC(delta_resumed, COUNTER, "pilot_xds_delta_resumed", "resources that a client listed and that still held", "type");

/* The client holds something that we do not know: unlike NONE it is removed when it does not exist. */
#define VERSION_FOREIGN ((1ull << XDS_VERSION_BITS) - 1)

static bool subscribe(
	struct xds_session *s, struct xds_watch *w, const Ads__DeltaDiscoveryRequest *r, bool first, struct err *e)
{
	for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
		struct str name = str_of(r->resource_names_subscribe[i]);
		struct xds_slot *slot;
		w->answer = true;
		if (str_eqc(name, "*") && xds_type_info(w->type)->wildcard) {
			watch_set_wildcard(w, true);
			w->legacy = false;
			continue;
		}
		if (!watch_name(s, w, name, &slot, e))
			return false;
		watch_set_version(w, slot, XDS_VERSION_NONE);
		watch_mark(w, slot);
	}
	if (first && !r->n_resource_names_subscribe && xds_type_info(w->type)->wildcard) {
		w->legacy = w->answer = true;
		watch_set_wildcard(w, true);
	}
	return true;
}

static void unsubscribe(struct xds_session *s, struct xds_watch *w, const Ads__DeltaDiscoveryRequest *r)
{
	for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++) {
		struct str name = str_of(r->resource_names_unsubscribe[i]);
		if (str_eqc(name, "*")) {
			watch_set_wildcard(w, false);
			continue;
		}
		struct xds_slot *slot = watch_peek(s, w, name);
		if (!slot || !slot->named)
			continue;
		if (slot->listed) { /* still part of the wildcard: the client must hear that it keeps it */
			watch_set_version(w, slot, XDS_VERSION_NONE);
			watch_mark(w, slot);
			w->answer = true;
		}
		watch_unname(w, slot);
	}
}

static bool initial_versions(
	struct xds_session *s, struct xds_watch *w, const Ads__DeltaDiscoveryRequest *r, struct err *e)
{
	if (r->n_initial_resource_versions > LIMIT_XDS_NAMES)
		return err_set(e, ERR_LIMIT, "more than %u initial resource versions", LIMIT_XDS_NAMES);
	for (size_t i = 0; i < r->n_initial_resource_versions; i++) {
		struct str name = str_of(r->initial_resource_versions[i]->key);
		uint64_t version = xds_version_parse(str_of(r->initial_resource_versions[i]->value));
		struct xds_slot *slot = w->wildcard ? watch_slot(s, w, name) : watch_peek(s, w, name);
		if (!slot || (!w->wildcard && !slot->named))
			continue;
		watch_set_version(w, slot, version > XDS_VERSION_ABSENT ? version : VERSION_FOREIGN);
		watch_mark(w, slot);
		metric_add(&delta_resumed, 1, xds_type_info(w->type)->name);
	}
	return true;
}

static bool begin(struct xds_session *s, struct xds_watch *w, const Ads__DeltaDiscoveryRequest *r, struct err *e)
{
	watch_done(w);
	w->open = true;
	if (!subscribe(s, w, r, true, e) || !initial_versions(s, w, r, e))
		return false;
	w->must = w->wildcard && !r->n_initial_resource_versions;
	if (w->type == XDS_EDS)
		watch_follow_clusters(s, &s->watches[XDS_CDS].in_flight);
	return true;
}

bool delta_recv(struct xds_session *s, const Ads__DeltaDiscoveryRequest *r, uint64_t now_us, struct err *e)
{
	struct str nonce = str_of(r->response_nonce);
	struct xds_watch *w = session_watch(s, str_of(r->type_url));

	if (!w)
		return true;
	if (!w->open)
		return begin(s, w, r, e);
	if (nonce.len && r->error_detail)
		session_nacked(s, w, nonce, r->error_detail);
	else if (nonce.len && str_eqc(nonce, w->nonce))
		session_acked(s, w, now_us);
	if (!subscribe(s, w, r, false, e))
		return false;
	unsubscribe(s, w, r);
	return true;
}
