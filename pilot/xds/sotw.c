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

/* The client holds exactly what it would get: then it gets nothing. */
static bool resume(struct xds_watch *w, struct str version)
{
	char now[XDS_VERSION_TEXT];
	uint64_t sum = 0;

	if (!version.len)
		return false;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		sum += holding_full_sum(w->held[k]);
	xds_version_format(sum, now);
	if (!str_eqc(version, now))
		return false;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		answer_unref(holding_answer(&w->held[k]));
	memcpy(w->sent, now, sizeof(w->sent));
	memcpy(w->acked, now, sizeof(w->acked));
	metric_add(&resumed, 1, xds_type_info(w->type)->name);
	return true;
}

static void begin(struct xds_session *s, struct xds_watch *w, const struct xds_request *r)
{
	watch_done(w);
	w->open = true;
	watch_request(s, w, r, true);
	bool held = resume(w, r->version);
	w->answer = !held;
	/* Clusters and listeners are answered even when there are none: Envoy's start waits for it. */
	w->must = !held && xds_type_info(w->type)->wildcard;
	if (w->type == XDS_EDS)
		watch_follow_clusters(s);
}

bool sotw_recv(struct xds_session *s, const struct xds_request *r, uint64_t now_us, struct err *e)
{
	struct xds_watch *w = session_watch(s, r->type_url);

	if (!w)
		return true;
	if (!r->nonce.len || !w->open) {
		begin(s, w, r);
		return true;
	}
	if (!str_eqc(r->nonce, w->nonce)) {
		metric_add(&expired_nonce, 1, xds_type_info(w->type)->name);
		return true;
	}
	if (!r->error.ptr)
		session_acked(s, w, now_us);
	else if (!session_nacked(s, w, r, e))
		return false;
	watch_request(s, w, r, false);
	return true;
}
