/*
 * DOC: Requests of the incremental protocol. A request may subscribe and unsubscribe, and with a nonce it also answers a response.
 * The first of a type may list what the client holds (initial_resource_versions): what is unchanged is not sent again, what is gone is
 * named as removed. A name that is subscribed to again is sent again. A name that does not exist is answered as removed, and sent as
 * soon as it exists. The first request of clusters or listeners that subscribes to nothing means everything, as "*" does.
 */
#include "common/base/metric.h"
#include "pilot/xds/watch.h"

METRIC(delta_resumed, COUNTER, "pilot_xds_delta_resumed", "resources that a client listed and that still held", "type");

/*
 * The client works with what it lists. So its first answers are a push like any other, in which clusters come before the listeners and
 * routes that use them and go after them, although its requests come one after the other.
 */
static void resume(struct xds_session *s, struct xds_watch *w, size_t listed)
{
	metric_add(&delta_resumed, listed, xds_type_info(w->type)->name);
	if (w->type == XDS_CDS)
		s->resumed = true;
	else if (w->type == XDS_LDS || w->type == XDS_RDS)
		w->answer = false;
}

bool delta_recv(struct xds_session *s, const struct xds_request *r, uint64_t now_us, struct err *e)
{
	struct xds_watch *w = session_watch(s, r->type_url);

	if (!w)
		return true;
	if (!w->open) {
		watch_done(w);
		w->open = true;
		watch_request(s, w, r, true);
		w->must = w->wildcard && !r->n_initial;
		if (r->n_initial)
			resume(s, w, r->n_initial);
		if (w->type == XDS_EDS)
			watch_follow_clusters(s);
		return true;
	}
	if (r->nonce.len && r->error.ptr) {
		if (!session_nacked(s, w, r, e))
			return false;
	} else if (r->nonce.len && str_eqc(r->nonce, w->nonce)) {
		session_acked(s, w, now_us);
	}
	if (r->n_names || r->n_unsubscribed)
		watch_request(s, w, r, false);
	return true;
}
