/*
 * DOC: Access log of the mesh config: accessLogFile (/dev/stdout and /dev/stderr by the stream loggers: the file logger cannot open
 * them after a change of user), accessLogFormat, accessLogEncoding. Without a format, Istio's default: its operators are an interface
 * that log pipelines parse. Listeners log what no filter chain takes, unless disableEnvoyListenerLog says otherwise.
 */
#include "pilot/translate/feature.h"
#include "xds/access_log_file.pb-c.h"
#include "xds/access_log_stream.pb-c.h"

#include "common/pb/json.h"

struct field {
	const char *name; /* in JSON, in the order of names */
	const char *format;
};

static const struct field json_fields[] = {
	{"authority", "%REQ(:AUTHORITY)%"},
	{"bytes_received", "%BYTES_RECEIVED%"},
	{"bytes_sent", "%BYTES_SENT%"},
	{"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
	{"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
	{"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
	{"duration", "%DURATION%"},
	{"method", "%REQ(:METHOD)%"},
	{"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
	{"protocol", "%PROTOCOL%"},
	{"request_id", "%REQ(X-REQUEST-ID)%"},
	{"requested_server_name", "%REQUESTED_SERVER_NAME%"},
	{"response_code", "%RESPONSE_CODE%"},
	{"response_code_details", "%RESPONSE_CODE_DETAILS%"},
	{"response_flags", "%RESPONSE_FLAGS%"},
	{"route_name", "%ROUTE_NAME%"},
	{"start_time", "%START_TIME%"},
	{"upstream_cluster", "%UPSTREAM_CLUSTER%"},
	{"upstream_host", "%UPSTREAM_HOST%"},
	{"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
	{"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
	{"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
	{"user_agent", "%REQ(USER-AGENT)%"},
	{"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
};

static const char text_format[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
	"%RESPONSE_FLAGS% "
	"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" "
	"%BYTES_RECEIVED% "
	"%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" "
	"\"%REQ(USER-AGENT)%\" "
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% "
	"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static Wkt__Struct *json_struct(struct arena *a, const char *custom)
{
	struct err e = {0};
	Wkt__Struct *s = str_empty(custom) ? NULL : pb_from_json_text(a, &wkt__struct__descriptor, str_of(custom), &e);

	/* Galley warns about a format that is no JSON object; then the default holds. */
	if (s)
		return s;
	s = build_struct(a);
	for (size_t i = 0; i < ARRAY_LEN(json_fields); i++)
		struct_put(a, s, json_fields[i].name, json_fields[i].format);
	return s;
}

static Core__SubstitutionFormatString *format_of(struct arena *a, const Mesh__MeshConfig *mesh)
{
	Core__SubstitutionFormatString *f;

	if (mesh->access_log_encoding != MESH__MESH_CONFIG__ACCESS_LOG_ENCODING__JSON)
		return build_format(a, str_empty(mesh->access_log_format) ? text_format : mesh->access_log_format);
	f = PB_NEW(a, Core__SubstitutionFormatString, core__substitution_format_string);
	f->json_format = json_struct(a, mesh->access_log_format);
	f->format_case = CORE__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT;
	return f;
}

static Al__AccessLog *build_log(struct view *v, struct arena *a)
{
	const Mesh__MeshConfig *mesh = view_mesh_named(v);
	AlStream__StdoutAccessLog *out;
	AlStream__StderrAccessLog *err;
	AlFile__FileAccessLog *file;

	if (str_empty(mesh->access_log_file))
		return NULL;
	if (streq(mesh->access_log_file, "/dev/stdout")) {
		out = PB_NEW(a, AlStream__StdoutAccessLog, al_stream__stdout_access_log);
		out->log_format = format_of(a, mesh);
		out->access_log_format_case = AL_STREAM__STDOUT_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT;
		return build_access_log(a, "envoy.access_loggers.stdout", out);
	}
	if (streq(mesh->access_log_file, "/dev/stderr")) {
		err = PB_NEW(a, AlStream__StderrAccessLog, al_stream__stderr_access_log);
		err->log_format = format_of(a, mesh);
		err->access_log_format_case = AL_STREAM__STDERR_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT;
		return build_access_log(a, "envoy.access_loggers.stderr", err);
	}
	file = PB_NEW(a, AlFile__FileAccessLog, al_file__file_access_log);
	file->path = mesh->access_log_file;
	file->log_format = format_of(a, mesh);
	file->access_log_format_case = AL_FILE__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT;
	return build_access_log(a, "envoy.access_loggers.file", file);
}

static void access_log_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	Al__AccessLog *log = build_log(c->v, c->a);

	if (log && view_has_extension(c->v, log->name))
		pb_add(c->a, hcm, access_log, log);
}

/* The metrics make the proxy log when a connection is made, too; people want one line, at its end. */
static void access_log_tcp(const struct chain *c, Tcp__TcpProxy *tcp)
{
	Al__AccessLog *log = build_log(c->v, c->a);

	if (!log || !view_has_extension(c->v, log->name))
		return;
	access_log_only(c->a, log, AL_DATA__ACCESS_LOG_TYPE__TcpConnectionEnd);
	pb_add(c->a, tcp, access_log, log);
}

/* Connections that no filter chain takes are seen by nothing but their listener. */
static void access_log_listener(struct view *v, struct arena *a, Lds__Listener *l)
{
	Al__AccessLog *log = view_mesh(v)->disable_envoy_listener_log ? NULL : build_log(v, a);

	if (!log || !view_has_extension(v, log->name))
		return;
	access_log_unmatched(a, log);
	pb_add(a, l, access_log, log);
}

const struct feature access_log_feature = {
	.name = "access_log", .on_hcm = access_log_hcm, .on_tcp = access_log_tcp, .on_listener = access_log_listener};
