/*
 * DOC: What a proxy does with connections and requests whoever they are for: names and headers that it adds (proxyHeaders), what gateways trust
 * of those in front of them (gatewayTopology), time-outs and limits (connectionSettings), paths (pathNormalization). Defaults are Istio's.
 * The profile EDGE of connectionSettings is for gateways: Envoy's own advice for a proxy that anybody may talk to.
 */
#include "pilot/translate/connection_manager.h"

#include "xds/preserve_case.pb-c.h"
#include "xds/proxy_protocol.pb-c.h"

static const Mesh__ProxyConfig__ProxyHeaders *headers_of(struct view *v)
{
	static const Mesh__ProxyConfig__ProxyHeaders none = MESH__PROXY_CONFIG__PROXY_HEADERS__INIT;
	const Mesh__ProxyConfig__ProxyHeaders *h = view_proxy_config(v)->proxy_headers;

	return h ? h : &none;
}

/* ---- certificates of clients */
static Hcm__HttpConnectionManager__ForwardClientCertDetails forwarded(
	Mesh__ForwardClientCertDetails wanted, Hcm__HttpConnectionManager__ForwardClientCertDetails otherwise)
{
	/* Istio's have one more in front: "not set". */
	return wanted == MESH__FORWARD_CLIENT_CERT_DETAILS__UNDEFINED
		       ? otherwise
		       : (Hcm__HttpConnectionManager__ForwardClientCertDetails)(wanted - 1);
}

#define FORWARD(x) HCM__HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_DETAILS__##x

static void set_forwarding(
	const struct chain *c, const Mesh__ProxyConfig__ProxyHeaders *h, Hcm__HttpConnectionManager *hcm)
{
	const Mesh__Topology *t = view_proxy_config(c->v)->gateway_topology;

	switch (c->direction) {
	case DIRECTION_GATEWAY:
		hcm->forward_client_cert_details = forwarded(
			t ? t->forward_client_cert_details : MESH__FORWARD_CLIENT_CERT_DETAILS__UNDEFINED,
			FORWARD(SANITIZE_SET));
		hcm->xff_num_trusted_hops = t ? t->num_trusted_proxies : 0;
		return;
	case DIRECTION_INBOUND:
		/* A plaintext peer proves nothing, so what it says about certificates is dropped. */
		hcm->forward_client_cert_details = forwarded(
			h->forwarded_client_cert, c->mutual ? FORWARD(APPEND_FORWARD) : FORWARD(SANITIZE));
		return;
	case DIRECTION_OUTBOUND:
	default:
		hcm->forward_client_cert_details = FORWARD(SANITIZE);
		return;
	}
}

static void set_client_cert(
	const struct chain *c, const Mesh__ProxyConfig__ProxyHeaders *h, Hcm__HttpConnectionManager *hcm)
{
	static const Mesh__ProxyConfig__ProxyHeaders__SetCurrentClientCertDetails none =
		MESH__PROXY_CONFIG__PROXY_HEADERS__SET_CURRENT_CLIENT_CERT_DETAILS__INIT;
	bool inbound = c->direction == DIRECTION_INBOUND;
	const Mesh__ProxyConfig__ProxyHeaders__SetCurrentClientCertDetails *s =
		inbound && h->set_current_client_cert_details ? h->set_current_client_cert_details : &none;
	Hcm__HttpConnectionManager__SetCurrentClientCertDetails *out;

	set_forwarding(c, h, hcm);
	if (hcm->forward_client_cert_details != FORWARD(APPEND_FORWARD) &&
		hcm->forward_client_cert_details != FORWARD(SANITIZE_SET))
		return;
	out = PB_NEW(c->a, Hcm__HttpConnectionManager__SetCurrentClientCertDetails,
		hcm__http_connection_manager__set_current_client_cert_details);
	out->subject = build_bool(c->a, bool_or(s->subject, true));
	out->cert = bool_or(s->cert, !inbound);
	out->chain = bool_or(s->chain, false);
	out->dns = bool_or(s->dns, true);
	out->uri = bool_or(s->uri, true);
	hcm->set_current_client_cert_details = out;
}

/* ---- headers */
static void set_headers(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	const Mesh__ProxyConfig__ProxyHeaders *h = headers_of(c->v);

	if (h->server && bool_or(h->server->disabled, false))
		hcm->server_header_transformation =
			HCM__HTTP_CONNECTION_MANAGER__SERVER_HEADER_TRANSFORMATION__PASS_THROUGH;
	else if (h->server && !str_empty(h->server->value))
		hcm->server_name = arena_strdup(c->a, h->server->value);
	else if (c->direction != DIRECTION_OUTBOUND) /* there it is Envoy's own, "envoy": Istio's habit */
		hcm->server_name = arena_strdup(c->a, "istio-envoy");
	if (h->request_id && bool_or(h->request_id->disabled, false))
		hcm->generate_request_id = build_bool(c->a, false);
	hcm->append_x_forwarded_port = h->x_forwarded_port && bool_or(h->x_forwarded_port->enabled, false);
	if (bool_or(h->preserve_http1_header_case, false))
		hcm->http_protocol_options = http1_settings(c->v, c->a);
	set_client_cert(c, h, hcm);
}

Core__Http1ProtocolOptions *http1_settings(struct view *v, struct arena *a)
{
	Core__Http1ProtocolOptions *o = PB_NEW(a, Core__Http1ProtocolOptions, core__http1_protocol_options);
	Core__Http1ProtocolOptions__HeaderKeyFormat *f;

	if (!bool_or(headers_of(v)->preserve_http1_header_case, false))
		return o;
	f = PB_NEW(a, Core__Http1ProtocolOptions__HeaderKeyFormat, core__http1_protocol_options__header_key_format);
	f->stateful_formatter = PB_NEW(a, Core__TypedExtensionConfig, core__typed_extension_config);
	f->stateful_formatter->name = arena_strdup(a, "preserve_case");
	f->stateful_formatter->typed_config = pb_any(
		a, PB_NEW(a, PreserveCase__PreserveCaseFormatterConfig, preserve_case__preserve_case_formatter_config));
	f->header_format_case = CORE__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_STATEFUL_FORMATTER;
	o->header_key_format = f;
	return o;
}

Router__Router *router_settings(struct view *v, struct arena *a)
{
	Router__Router *r = PB_NEW(a, Router__Router, router__router);
	const Mesh__ProxyConfig__ProxyHeaders *h = headers_of(v);

	r->suppress_envoy_headers = h->envoy_debug_headers && bool_or(h->envoy_debug_headers->disabled, false);
	return r;
}

/* ---- paths */
#define NORMALIZE(x) MESH__MESH_CONFIG__PROXY_PATH_NORMALIZATION__NORMALIZATION_TYPE__##x

static void set_paths(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	const Mesh__MeshConfig__ProxyPathNormalization *p = view_mesh(c->v)->path_normalization;
	Mesh__MeshConfig__ProxyPathNormalization__NormalizationType type = p ? p->normalization : NORMALIZE(DEFAULT);
	bool decode = type == NORMALIZE(DECODE_AND_MERGE_SLASHES);

	hcm->normalize_path = build_bool(c->a, type != NORMALIZE(NONE));
	hcm->merge_slashes = decode || type == NORMALIZE(MERGE_SLASHES);
	hcm->path_with_escaped_slashes_action =
		decode ? HCM__HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__UNESCAPE_AND_FORWARD
		       : HCM__HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__KEEP_UNCHANGED;
}

/* ---- connectionSettings */
static void number_or(struct view *v, Wkt__Int32Value **field, int32_t value)
{
	if (*field)
		return;
	*field = PB_NEW(v->scratch, Wkt__Int32Value, wkt__int32_value);
	(*field)->value = value;
}

static void seconds_or(struct view *v, Wkt__Duration **field, int64_t seconds)
{
	if (!*field)
		*field = build_ms(v->scratch, seconds * 1000);
}

/* NULL: nothing is said. */
static const Mesh__ProxyConfig__ConnectionSettings *settings_of(struct view *v)
{
	const Mesh__ProxyConfig__ConnectionSettings *s = view_proxy_config(v)->connection_settings;
	Mesh__ProxyConfig__ConnectionSettings *out;

	if (!s || s->profile != MESH__PROXY_CONFIG__CONNECTION_SETTINGS__PROFILE__EDGE ||
		v->scope->attributes->type != PROXY_ROUTER)
		return s;
	out = arena_array(v->scratch, 1, sizeof(*out));
	*out = *s;
	number_or(v, &out->listener_per_connection_buffer_limit_bytes, 32768);
	number_or(v, &out->cluster_per_connection_buffer_limit_bytes, 32768);
	number_or(v, &out->http_max_concurrent_streams, 100);
	number_or(v, &out->http2_initial_stream_window_size, 65536);
	number_or(v, &out->http2_initial_connection_window_size, 1048576);
	seconds_or(v, &out->http_idle_timeout, 3600);
	seconds_or(v, &out->http_request_timeout, 300);
	seconds_or(v, &out->http_request_headers_timeout, 60);
	seconds_or(v, &out->http_stream_idle_timeout, 300);
	if (!out->http_merge_slashes)
		out->http_merge_slashes = build_bool(v->scratch, true);
	if (!out->http_headers_with_underscores_action)
		out->http_headers_with_underscores_action =
			MESH__PROXY_CONFIG__CONNECTION_SETTINGS__HEADERS_WITH_UNDERSCORES_ACTION__HEADERS_WITH_UNDERSCORES_REJECT_REQUEST;
	if (!out->http_path_with_escaped_slashes_action)
		out->http_path_with_escaped_slashes_action =
			MESH__PROXY_CONFIG__CONNECTION_SETTINGS__PATH_WITH_ESCAPED_SLASHES_ACTION__UNESCAPE_AND_REDIRECT;
	return out;
}

/* Galley has checked what the mesh says; what a proxy says of itself is left out where Envoy would refuse it. */
static Wkt__UInt32Value *at_least(struct arena *a, const Wkt__Int32Value *v, int32_t least)
{
	return v && v->value >= least ? build_u32(a, (uint32_t)v->value) : NULL;
}

static void set_streams(
	struct arena *a, const Mesh__ProxyConfig__ConnectionSettings *s, Hcm__HttpConnectionManager *hcm)
{
	Core__Http2ProtocolOptions *o;

	if (!s->http_max_concurrent_streams && !s->http2_initial_stream_window_size &&
		!s->http2_initial_connection_window_size)
		return;
	o = PB_NEW(a, Core__Http2ProtocolOptions, core__http2_protocol_options);
	o->max_concurrent_streams = at_least(a, s->http_max_concurrent_streams, 1);
	o->initial_stream_window_size = at_least(a, s->http2_initial_stream_window_size, 65535);
	o->initial_connection_window_size = at_least(a, s->http2_initial_connection_window_size, 65535);
	hcm->http2_protocol_options = o;
}

static void set_limits(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	const Mesh__ProxyConfig__ConnectionSettings *s = settings_of(c->v);
	struct arena *a = c->a;

	hcm->stream_idle_timeout = build_ms(a, 0);
	if (!s)
		return;
	if (s->http_idle_timeout || s->http_max_connection_duration || s->http_max_stream_duration ||
		s->http_headers_with_underscores_action) {
		Core__HttpProtocolOptions *o = PB_NEW(a, Core__HttpProtocolOptions, core__http_protocol_options);

		o->idle_timeout = build_duration(a, s->http_idle_timeout);
		o->max_connection_duration = build_duration(a, s->http_max_connection_duration);
		o->max_stream_duration = build_duration(a, s->http_max_stream_duration);
		if (s->http_headers_with_underscores_action) /* Istio's have "not set" in front */
			o->headers_with_underscores_action =
				(Core__HttpProtocolOptions__HeadersWithUnderscoresAction)(s->http_headers_with_underscores_action -
											  1);
		hcm->common_http_protocol_options = o;
	}
	if (s->http_stream_idle_timeout)
		hcm->stream_idle_timeout = build_duration(a, s->http_stream_idle_timeout);
	hcm->request_timeout = build_duration(a, s->http_request_timeout);
	hcm->request_headers_timeout = build_duration(a, s->http_request_headers_timeout);
	hcm->drain_timeout = build_duration(a, s->http_drain_timeout);
	set_streams(a, s, hcm);
	if (s->http_merge_slashes)
		hcm->merge_slashes = s->http_merge_slashes->value;
	if (s->http_path_with_escaped_slashes_action) /* the same numbers on both sides */
		hcm->path_with_escaped_slashes_action = (Hcm__HttpConnectionManager__PathWithEscapedSlashesAction)
								s->http_path_with_escaped_slashes_action;
}

/* ---- the whole */
void connection_manager_settings(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	Hcm__HttpConnectionManager__UpgradeConfig *websocket = PB_NEW(
		c->a, Hcm__HttpConnectionManager__UpgradeConfig, hcm__http_connection_manager__upgrade_config);

	websocket->upgrade_type = arena_strdup(c->a, "websocket");
	pb_add(c->a, hcm, upgrade_configs, websocket);
	hcm->codec_type = HCM__HTTP_CONNECTION_MANAGER__CODEC_TYPE__AUTO;
	hcm->use_remote_address = build_bool(c->a, c->direction == DIRECTION_GATEWAY);
	/* "host." is the same name, fully qualified. */
	hcm->strip_trailing_host_dot = c->direction == DIRECTION_OUTBOUND;
	set_paths(c, hcm);
	set_limits(c, hcm);
	set_headers(c, hcm);
}

/* The header stands before everything else on the connection, so its filter is the first. */
static void accept_proxy_header(struct arena *a, Lds__Listener *l)
{
	Lds__ListenerFilter *f = PB_NEW(a, Lds__ListenerFilter, lds__listener_filter);

	f->name = arena_strdup(a, "envoy.filters.listener.proxy_protocol");
	f->typed_config = pb_any(a, PB_NEW(a, ProxyProto__ProxyProtocol, proxy_proto__proxy_protocol));
	f->config_type_case = LDS__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG;
	pb_add(a, l, listener_filters, f);
	for (size_t i = l->n_listener_filters - 1; i; i--)
		l->listener_filters[i] = l->listener_filters[i - 1];
	l->listener_filters[0] = f;
}

void listener_settings(struct view *v, struct arena *a, Lds__Listener *l)
{
	const Mesh__Topology *t = view_proxy_config(v)->gateway_topology;
	const Mesh__ProxyConfig__ConnectionSettings *s = settings_of(v);

	if (s)
		l->per_connection_buffer_limit_bytes = at_least(a, s->listener_per_connection_buffer_limit_bytes, 1);
	if (v->scope->attributes->type == PROXY_ROUTER && t && t->proxy_protocol)
		accept_proxy_header(a, l);
}

void cluster_settings(struct view *v, struct arena *a, Cds__Cluster *c)
{
	const Mesh__ProxyConfig__ConnectionSettings *s = settings_of(v);

	if (s)
		c->per_connection_buffer_limit_bytes = at_least(a, s->cluster_per_connection_buffer_limit_bytes, 1);
}
