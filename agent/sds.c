/*
 * DOC: The Secret Discovery Service, state of the world and delta, streams and the unary call. Envoy opens a stream per secret. `ROOTCA` is the
 * trusted roots, the identity's and the mesh's; any other name is this workload's key and chain, as Istio's agent answers (`default` is what listeners and clusters ask
 * for); but names that stand for something else (`file-cert:`, `file-root:`, `kubernetes://`) are refused, because a workload's own
 * certificate would be the wrong one. A request before there is a certificate waits for it. At most one response of a stream is the one that
 * an answer may refer to: the last, by its nonce; an answer to an older one is ignored, except for what it subscribes to in delta.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/agent.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/io/grpc.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"
#include "xds/discovery.pb-c.h"
#include "xds/tls.pb-c.h"

#define SERVICE "/envoy.service.secret.v3.SecretDiscoveryService/"
#define TYPE "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
#define ROOTS "ROOTCA"
#define NAMES_MAX 100 /* of one stream; Envoy asks for one */

METRIC(active, GAUGE, "istio_agent_total_active_connections", "SDS streams that are open");
METRIC(pushes, COUNTER, "istio_agent_total_pushes", "secrets sent to Envoy");
METRIC(push_errors, COUNTER, "istio_agent_total_push_errors",
	"secrets that Envoy refused, and names that were refused to it");

LOG_SCOPE(sds_log, "sds", "certificates for Envoy");

enum sds_mode { SDS_SOTW, SDS_DELTA, SDS_FETCH };

struct sds_route {
	struct sds *sds;
	enum sds_mode mode;
};

struct sds_stream {
	struct sds *sds;
	struct grpc_stream *grpc;
	enum sds_mode mode;
	struct map *names; /* subscribed: name -> this stream */
	char nonce[32]; /* of the last response */
	uint64_t sent; /* generation of the material in it */
	uint64_t acked;
	bool waits; /* asked, and there is nothing to answer yet */
	char refused[256]; /* why Envoy did not take the last one */
	struct sds_stream *next, **at;
};

struct sds {
	struct grpc_server *server;
	struct identity *identity;
	char *mesh_roots; /* PEM beside the identity's; "": none */
	uint64_t mesh_roots_changes;
	struct sds_route routes[3];
	struct sds_stream *streams;
	size_t n_streams;
	uint64_t responses;
};

/* ---- secrets */

static Core__DataSource *inline_data(struct arena *a, const char *pem)
{
	Core__DataSource *d = PB_NEW(a, Core__DataSource, core__data_source);
	d->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
	d->inline_bytes.len = strlen(pem);
	d->inline_bytes.data = (uint8_t *)(uintptr_t)pem;
	return d;
}

/* Of all that is told: each part only grows, so their sum is another one after each change. */
static uint64_t generation(const struct sds *s, const struct identity_material *m)
{
	return m->generation + s->mesh_roots_changes;
}

static const char *trusted(struct arena *a, const struct sds *s, const struct identity_material *m)
{
	struct str joined;
	struct err e = {0};
	if (!s->mesh_roots[0])
		return m->roots_pem;
	if (pki_bundle_join(a, str_of(m->roots_pem), str_of(s->mesh_roots), &joined, &e))
		return arena_cstr(a, joined);
	log_error(&sds_log, "roots of the mesh not used", KV("error", e.text));
	return m->roots_pem;
}

static Tls__Secret *secret_of(
	struct arena *a, const struct sds *sds, struct str name, const struct identity_material *m)
{
	Tls__Secret *s = PB_NEW(a, Tls__Secret, tls__secret);
	s->name = arena_cstr(a, name);
	if (str_eq(name, STR(ROOTS))) {
		s->type_case = TLS__SECRET__TYPE_VALIDATION_CONTEXT;
		s->validation_context = PB_NEW(
			a, Tls__CertificateValidationContext, tls__certificate_validation_context);
		s->validation_context->trusted_ca = inline_data(a, trusted(a, sds, m));
	} else {
		s->type_case = TLS__SECRET__TYPE_TLS_CERTIFICATE;
		s->tls_certificate = PB_NEW(a, Tls__TlsCertificate, tls__tls_certificate);
		s->tls_certificate->certificate_chain = inline_data(a, m->chain_pem);
		s->tls_certificate->private_key = inline_data(a, m->key_pem);
	}
	return s;
}

static bool name_is_foreign(struct str name)
{
	size_t at;
	return !name.len || str_find(name, ':', &at);
}

/* ---- responses */

static struct str sotw_response(struct arena *a, struct sds_stream *t, const struct identity_material *m)
{
	Ads__DiscoveryResponse *r = PB_NEW(a, Ads__DiscoveryResponse, ads__discovery_response);
	struct str name;
	for (size_t i = 0; map_next(t->names, &i, &name, NULL);)
		pb_add(a, r, resources, pb_any(a, secret_of(a, t->sds, name, m)));
	r->version_info = arena_printf(a, "%" PRIu64, generation(t->sds, m));
	r->type_url = arena_strdup(a, TYPE);
	r->nonce = t->nonce;
	return pb_pack(a, r);
}

static struct str delta_response(struct arena *a, struct sds_stream *t, const struct identity_material *m)
{
	Ads__DeltaDiscoveryResponse *r = PB_NEW(a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	struct str name;
	for (size_t i = 0; map_next(t->names, &i, &name, NULL);) {
		Ads__Resource *item = PB_NEW(a, Ads__Resource, ads__resource);
		item->name = arena_cstr(a, name);
		item->version = arena_printf(a, "%" PRIu64, generation(t->sds, m));
		item->resource = pb_any(a, secret_of(a, t->sds, name, m));
		pb_add(a, r, resources, item);
	}
	r->system_version_info = arena_printf(a, "%" PRIu64, generation(t->sds, m));
	r->type_url = arena_strdup(a, TYPE);
	r->nonce = t->nonce;
	return pb_pack(a, r);
}

/* Sends what the stream is subscribed to, or remembers that it waits. */
static void push(struct sds_stream *t)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const struct identity_material *m = identity_get(t->sds->identity);
	t->waits = !m;
	if (!m || !map_len(t->names))
		return;
	(void)snprintf(t->nonce, sizeof(t->nonce), "%" PRIu64 "-%" PRIu64, generation(t->sds, m), ++t->sds->responses);
	t->sent = generation(t->sds, m);
	struct str packed = t->mode == SDS_DELTA ? delta_response(a, t, m) : sotw_response(a, t, m);
	struct buf *b = buf_copy(packed.ptr, packed.len);
	explicit_bzero((char *)(uintptr_t)packed.ptr, packed.len); /* it holds the key */
	grpc_stream_send(t->grpc, b);
	buf_unref(b);
	metric_add(&pushes, map_len(t->names));
	log_debug(&sds_log, "secrets sent", KV("names", map_len(t->names)), KV("generation", t->sent));
	if (t->mode == SDS_FETCH)
		grpc_stream_finish(t->grpc, GRPC_OK, "%s", "");
}

/* ---- requests */

static bool add_names(struct sds_stream *t, char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct str name = str_of(names[i]);
		if (!name_is_foreign(name) && map_len(t->names) < NAMES_MAX) {
			(void)map_put(t->names, name, t);
			continue;
		}
		metric_add(&push_errors, 1);
		log_warn(&sds_log, "secret refused", KV("name", name));
		grpc_stream_finish(t->grpc, GRPC_NOT_FOUND,
			"secret \"%.200s\": this agent has ROOTCA and its workload's certificate (at most %d names a "
			"stream)",
			names[i], NAMES_MAX);
		return false;
	}
	return true;
}

/* An ACK or NACK of the last response. */
static void settle(struct sds_stream *t, const Rpc__Status *error)
{
	t->refused[0] = '\0';
	if (!error) {
		t->acked = t->sent;
		return;
	}
	(void)snprintf(t->refused, sizeof(t->refused), "%s", error->message);
	metric_add(&push_errors, 1);
	log_warn(&sds_log, "Envoy refused a secret", KV("nonce", t->nonce), KV("error", error->message));
}

static bool same_names(const struct sds_stream *t, char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!map_get(t->names, str_of(names[i])))
			return false;
	return map_len(t->names) == n;
}

static void recv_sotw(struct sds_stream *t, const Ads__DiscoveryRequest *r)
{
	bool first = !t->nonce[0];
	if (!first && !streq(r->response_nonce, t->nonce))
		return; /* crossed a newer response, which it will answer too */
	if (!first)
		settle(t, r->error_detail);
	if (!first && same_names(t, r->resource_names, r->n_resource_names))
		return;
	map_clear(t->names);
	if (add_names(t, r->resource_names, r->n_resource_names))
		push(t);
}

static void recv_delta(struct sds_stream *t, const Ads__DeltaDiscoveryRequest *r)
{
	if (t->nonce[0] && streq(r->response_nonce, t->nonce))
		settle(t, r->error_detail);
	for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
		(void)map_del(t->names, str_of(r->resource_names_unsubscribe[i]));
	if (!add_names(t, r->resource_names_subscribe, r->n_resource_names_subscribe))
		return;
	if (r->n_resource_names_subscribe)
		push(t);
}

static void on_message(struct grpc_stream *g, const uint8_t *data, size_t len)
{
	struct sds_stream *t = grpc_stream_user(g);
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	const char *type = NULL;
	const Ads__DeltaDiscoveryRequest *delta = NULL;
	const Ads__DiscoveryRequest *sotw = NULL;
	if (t->mode == SDS_DELTA)
		delta = PB_UNPACK(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request, data, len, &e);
	else
		sotw = PB_UNPACK(a, Ads__DiscoveryRequest, ads__discovery_request, data, len, &e);
	type = delta ? delta->type_url : sotw ? sotw->type_url : NULL;
	if (!type || (*type && !streq(type, TYPE))) {
		grpc_stream_finish(g, GRPC_INVALID_ARGUMENT, "%s%.200s",
			type ? "only secrets are served here, not " : "", type ? type : e.text);
		return;
	}
	if (delta)
		recv_delta(t, delta);
	else
		recv_sotw(t, sotw);
}

/* ---- streams */

static void on_open(struct grpc_stream *g, void *ctx)
{
	const struct sds_route *route = ctx;
	struct sds *s = route->sds;
	struct sds_stream *t = xzalloc(sizeof(*t));
	t->sds = s;
	t->grpc = g;
	t->mode = route->mode;
	t->names = map_new();
	t->next = s->streams;
	t->at = &s->streams;
	if (t->next)
		t->next->at = &t->next;
	s->streams = t;
	grpc_stream_set_user(g, t);
	metric_set(&active, ++s->n_streams);
}

static void on_half_close(struct grpc_stream *g)
{
	const struct sds_stream *t = grpc_stream_user(g);
	if (t->mode != SDS_FETCH)
		grpc_stream_finish(g, GRPC_OK, "%s", "");
	else if (!map_len(t->names))
		grpc_stream_finish(g, GRPC_INVALID_ARGUMENT, "a request without resource names");
}

static void on_close(struct grpc_stream *g, enum grpc_status status, struct str message)
{
	struct sds_stream *t = grpc_stream_user(g);
	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	metric_set(&active, --t->sds->n_streams);
	map_free(t->names);
	free(t);
}

static const struct grpc_handler handler = {
	.on_open = on_open, .on_message = on_message, .on_half_close = on_half_close, .on_close = on_close};

/* ---- the interface */

struct sds *sds_new(struct loop *l, const char *socket_path, struct identity *identity, struct err *e)
{
	static const char *const paths[] = {[SDS_SOTW] = SERVICE "StreamSecrets",
		[SDS_DELTA] = SERVICE "DeltaSecrets",
		[SDS_FETCH] = SERVICE "FetchSecrets"};
	struct sds *s = xzalloc(sizeof(*s));
	char *address cleanup(free_p) = xasprintf("unix:%s", socket_path);
	s->identity = identity;
	s->mesh_roots = xstrdup("");
	s->server = grpc_server_new(l, NULL);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		s->routes[i] = (struct sds_route){s, (enum sds_mode)i};
		grpc_server_route(s->server, paths[i], &handler, &s->routes[i]);
	}
	if (!grpc_server_listen(s->server, address, NULL, NULL, e)) {
		sds_free(s);
		return NULL;
	}
	return s;
}

void sds_free(struct sds *s)
{
	if (!s)
		return;
	grpc_server_free(s->server);
	free(s->mesh_roots);
	free(s);
}

void sds_changed(struct sds *s)
{
	for (struct sds_stream *t = s->streams, *next; t; t = next) {
		next = t->next;
		if (map_len(t->names) && (t->waits || t->sent))
			push(t);
	}
}

void sds_set_mesh_roots(struct sds *s, const char *pem)
{
	if (streq(s->mesh_roots, pem))
		return;
	free(s->mesh_roots);
	s->mesh_roots = xstrdup(pem);
	s->mesh_roots_changes++;
	for (struct sds_stream *t = s->streams, *next; t; t = next) {
		next = t->next;
		if (t->sent && map_get(t->names, STR(ROOTS)))
			push(t);
	}
}

void sds_debug(const struct sds *s, struct strbuf *json)
{
	strbuf_addf(json, "{\"responses\":%" PRIu64 ",\"streams\":[", s->responses);
	for (const struct sds_stream *t = s->streams; t; t = t->next) {
		struct str name;
		strbuf_adds(json, t == s->streams ? "{\"names\":[" : ",{\"names\":[");
		for (size_t i = 0, n = 0; map_next(t->names, &i, &name, NULL); n++) {
			strbuf_adds(json, n ? "," : "");
			strbuf_add_json(json, name);
		}
		strbuf_addf(json,
			"],\"delta\":%s,\"waits\":%s,\"sent\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"refused\":",
			t->mode == SDS_DELTA ? "true" : "false", t->waits ? "true" : "false", t->sent, t->acked);
		strbuf_add_json(json, str_of(t->refused));
		strbuf_addc(json, '}');
	}
	strbuf_adds(json, "]}");
}
