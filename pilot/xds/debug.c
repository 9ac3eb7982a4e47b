/*
 * DOC: What the debug pages show of a session: how far a proxy is with each type, and what it was sent, decoded from the very bytes
 * that went out.
 */
#include <inttypes.h>

#include "common/pb/json.h"
#include "common/pb/pb.h"
#include "pilot/xds/watch.h"

static const char *const proxy_types[PROXY_TYPE_COUNT] = {"sidecar", "router", "waypoint"};

static const char *status_of(const struct xds_watch *w)
{
	if (!w->open || (!w->pushes && !*w->acked))
		return "NOT SENT";
	if (w->nack)
		return "NACK";
	return w->outstanding ? "STALE" : "SYNCED";
}

static void member(struct strbuf *json, const char *key, struct str value)
{
	strbuf_addf(json, "\"%s\":", key);
	strbuf_add_json(json, value);
	strbuf_addc(json, ',');
}

static void debug_watch(const struct xds_watch *w, struct strbuf *json)
{
	size_t named, len = watch_len(w, &named);
	strbuf_addf(json, "\"%s\":{", xds_type_info(w->type)->name);
	member(json, "status", str_of(status_of(w)));
	member(json, "sent", str_of(w->sent));
	member(json, "acked", str_of(w->acked));
	member(json, "nonce", str_of(w->nonce));
	member(json, "error", str_of(w->nack));
	strbuf_addf(json,
		"\"resources\":%zu,\"named\":%zu,\"wildcard\":%s,\"pushes\":%" PRIu64 ",\"nacks\":%" PRIu64
		",\"bytes\":%" PRIu64 "}",
		len, named, w->wildcard ? "true" : "false", w->pushes, w->nacks, w->bytes);
}

static void debug_isolated(const struct xds_session *s, struct strbuf *json)
{
	strbuf_adds(json, "\"isolated\":[");
	for (size_t i = 0; i < s->trial.isolated.len; i++) {
		const struct xds_isolated *x = &s->trial.isolated.items[i];

		strbuf_adds(json, i ? ",{" : "{");
		member(json, "object", str_of(x->object));
		member(json, "origin", str_of(x->origin));
		strbuf_adds(json, "\"error\":");
		strbuf_add_json(json, str_of(x->text));
		strbuf_addc(json, '}');
	}
	strbuf_addc(json, ']');
}

void session_debug_sync(const struct xds_session *s, struct strbuf *json)
{
	const struct proxy *p = s->proxy;

	strbuf_adds(json, "{\"proxy\":");
	cleanup(arena_free_p) struct arena *a = arena_new();
	strbuf_add_json(json, str_of(arena_printf(a, STR_FMT "." STR_FMT, STR_ARG(p->name), STR_ARG(p->ns))));
	strbuf_addc(json, ',');
	member(json, "id", p->id);
	member(json, "proxy_type", str_of(proxy_types[p->type]));
	member(json, "cluster_id", p->cluster_id);
	member(json, "istio_version", p->version);
	strbuf_addf(json, "\"protocol\":\"%s\",\"connected_us\":%" PRIu64 ",\"cluster_status\":{",
		s->mode == XDS_DELTA ? "delta" : "sotw", s->connected_us);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		if (t)
			strbuf_addc(json, ',');
		debug_watch(&s->watches[t], json);
	}
	strbuf_adds(json, "},");
	if (s->withheld)
		member(json, "secrets_withheld", str_of(s->withheld));
	debug_isolated(s, json);
	strbuf_addc(json, '}');
}

static void dump_resource(const struct xds_slot *slot, bool body, struct strbuf *json)
{
	char version[XDS_VERSION_TEXT];
	const struct xds_resource *r = body ? xds_entry_bytes(slot->entry) : NULL;

	xds_version_format(slot->version, version);
	strbuf_adds(json, "{\"name\":");
	strbuf_add_json(json, slot->entry->name);
	strbuf_addf(json, ",\"version\":\"%s\"", version);
	if (body && r && slot->entry->type != XDS_SDS) { /* private keys are on no page */
		cleanup(arena_free_p) struct arena *a = arena_new();
		struct str bytes = xds_resource_message(r);
		const ProtobufCMessageDescriptor *d = pb_find_descriptor(
			str_of(xds_type_info(slot->entry->type)->message));
		const ProtobufCMessage *m = d ? pb_unpack(a, d, bytes.ptr, bytes.len, NULL) : NULL;
		if (m) {
			const struct pb_encode_options options = {0};
			strbuf_adds(json, ",\"resource\":");
			pb_to_json(m, &options, json);
		}
	}
	strbuf_addc(json, '}');
}

static void dump_holding(const struct xds_holding *h, bool bodies, bool *first, struct strbuf *json)
{
	for (struct xds_slot *i = NULL; h && (i = slots_next(&h->slots, i));) {
		if (i->version <= XDS_VERSION_ABSENT)
			continue;
		if (!*first)
			strbuf_addc(json, ',');
		*first = false;
		dump_resource(i, bodies, json);
	}
}

void session_debug_dump(struct xds_session *s, bool bodies, struct strbuf *json)
{
	strbuf_adds(json, "{\"proxy\":");
	strbuf_add_json(json, s->proxy->id);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		bool first = true;
		strbuf_addf(json, ",\"%s\":[", xds_type_info((enum xds_type)t)->name);
		for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
			dump_holding(s->watches[t].held[k], bodies, &first, json);
		strbuf_addc(json, ']');
	}
	strbuf_addc(json, '}');
}

bool session_is(const struct xds_session *s, struct str proxy)
{
	struct str name, ns;

	if (!s->proxy)
		return false;
	if (!proxy.len || str_eq(proxy, s->proxy->id) || str_eq(proxy, s->proxy->name))
		return true;
	size_t dot;
	if (!str_rfind(proxy, '.', &dot))
		return false;
	name = str_sub(proxy, 0, dot);
	ns = str_from(proxy, dot + 1);
	return str_eq(name, s->proxy->name) && str_eq(ns, s->proxy->ns);
}
