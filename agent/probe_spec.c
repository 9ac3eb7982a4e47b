/*
 * DOC: ISTIO_KUBE_APP_PROBERS: a JSON object of the agent's paths, each with a handler in Kubernetes' form (httpGet, tcpSocket, grpc; ports are
 * numbers) and timeoutSeconds. Everything is checked when the agent starts: a probe that cannot be done would be found by a pod that never gets
 * ready, without a word why.
 */
#include "agent/probe.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/limits.h"

#define PROBE_TIMEOUT_S 1
#define HOOK_TIMEOUT_S 60 /* Kubernetes gives hooks as long as the pod has to end */
#define TIMEOUT_MAX_S 3600
#define SERVICE_MAX 200u
#define HEADERS_MAX 100u
#define COMMAND_MAX 100u

static const char *text_of(const json_t *o, const char *key, const char *fallback)
{
	const char *s = json_string_value(json_object_get(o, key));
	return str_empty(s) ? fallback : s;
}

static bool parse_port(const json_t *handler, unsigned *out, struct err *e)
{
	json_int_t port = json_integer_value(json_object_get(handler, "port"));
	*out = (unsigned)port;
	return (port > 0 && port <= 65535) || err_set(e, ERR_PEER, "port: a number of 1..65535 is expected");
}

/* A line of HTTP must stay one line. */
static bool is_line(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static bool is_token(const char *s)
{
	bool ok = *s != 0;
	for (; ok && *s; s++)
		ok = *s > 0x20 && *s < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", *s);
	return ok;
}

static bool parse_headers(const json_t *list, char ***out, struct err *e)
{
	size_t n = json_array_size(list);
	if (n > HEADERS_MAX)
		return err_set(e, ERR_LIMIT, "httpHeaders: more than %u", HEADERS_MAX);
	*out = xzalloc((n + 1) * sizeof(**out));
	for (size_t i = 0; i < n; i++) {
		const json_t *h = json_array_get(list, i);
		const char *name = text_of(h, "name", ""), *value = text_of(h, "value", "");
		if (!is_token(name) || !is_line(value))
			return err_set(e, ERR_PEER, "httpHeaders[%zu]: not a header of HTTP", i);
		(*out)[i] = *value ? xasprintf("%s: %s", name, value) : xasprintf("%s;", name);
	}
	return true;
}

/* The path as a URL may hold it; '#' would begin something that is not sent. */
static void add_path(struct strbuf *out, const char *path)
{
	if (*path != '/')
		strbuf_addc(out, '/');
	for (; *path; path++)
		if ((unsigned char)*path <= 0x20 || (unsigned char)*path >= 0x7f || *path == '#')
			strbuf_addf(out, "%%%02X", (unsigned)(unsigned char)*path);
		else
			strbuf_addc(out, *path);
}

static bool parse_http(const json_t *handler, const char *host, struct probe_spec *out, struct err *e)
{
	struct strbuf url = {0};
	unsigned port;
	const char *scheme = text_of(handler, "scheme", "HTTP");
	bool tls = streq(scheme, "HTTPS") || streq(scheme, "https");
	out->kind = PROBE_HTTP;
	host = text_of(handler, "host", host);
	if (!tls && !streq(scheme, "HTTP") && !streq(scheme, "http"))
		return err_set(e, ERR_PEER, "scheme: \"%.20s\" is neither HTTP nor HTTPS", scheme);
	if (!parse_port(handler, &port, e) || !parse_headers(json_object_get(handler, "httpHeaders"), &out->headers, e))
		return false;
	strbuf_addf(&url, "%s://%s:%u", tls ? "https" : "http", host, port);
	add_path(&url, text_of(handler, "path", "/"));
	out->url = strbuf_take(&url);
	return true;
}

static bool parse_tcp(const json_t *handler, const char *host, struct probe_spec *out, struct err *e)
{
	unsigned port;
	out->kind = PROBE_TCP;
	host = text_of(handler, "host", host);
	if (!parse_port(handler, &port, e))
		return false;
	out->target = xasprintf("%s:%u", host, port);
	return true;
}

static bool parse_grpc(const json_t *handler, const char *host, struct probe_spec *out, struct err *e)
{
	const char *service = text_of(handler, "service", "");
	if (!parse_tcp(handler, host, out, e))
		return false;
	out->kind = PROBE_GRPC;
	out->service = xstrdup(service);
	return strlen(service) <= SERVICE_MAX || err_set(e, ERR_LIMIT, "service: longer than %u", SERVICE_MAX);
}

static bool parse_exec(const json_t *handler, const char *host, struct probe_spec *out, struct err *e)
{
	const json_t *list = json_object_get(handler, "command");
	size_t n = json_array_size(list);
	(void)host;
	out->kind = PROBE_EXEC;
	if (!n || n > COMMAND_MAX)
		return err_set(e, ERR_PEER, "command: a list of 1..%u texts is expected", COMMAND_MAX);
	out->command = xzalloc((n + 1) * sizeof(*out->command));
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(list, i));
		if (!text)
			return err_set(e, ERR_PEER, "command[%zu]: a text is expected", i);
		out->command[i] = xstrdup(text);
	}
	return true;
}

static bool parse_timeout(const char *path, const json_t *prober, struct probe_spec *out, struct err *e)
{
	bool hook = str_starts(str_of(path), STR("/app-lifecycle/"));
	const json_t *timeout = json_object_get(prober, "timeoutSeconds");
	json_int_t s = timeout ? json_integer_value(timeout) : 0;
	if (timeout && (!json_is_integer(timeout) || s < 0 || s > TIMEOUT_MAX_S))
		return err_set(e, ERR_PEER, "timeoutSeconds: a number of 0..%d is expected", TIMEOUT_MAX_S);
	out->timeout_ms = 1000u * (uint64_t)(s ? s : hook ? HOOK_TIMEOUT_S : PROBE_TIMEOUT_S);
	return true;
}

/* A handler by its kind; `host` is where the application is unless the handler says another (Istio's readiness probes may). */
static bool parse_handler(const json_t *prober, const char *host, bool commands, struct probe_spec *out, struct err *e)
{
	static const struct {
		const char *kind;
		bool (*parse)(const json_t *handler, const char *host, struct probe_spec *out, struct err *e);
	} rows[] = {{"httpGet", parse_http}, {"tcpSocket", parse_tcp}, {"grpc", parse_grpc}, {"exec", parse_exec}};
	for (size_t i = 0; i < ARRAY_LEN(rows) - !commands; i++) {
		const json_t *handler = json_object_get(prober, rows[i].kind);
		if (json_is_object(handler))
			return rows[i].parse(handler, host, out, e) || err_in(e, "%s", rows[i].kind);
	}
	return err_set(e, ERR_PEER, "httpGet, tcpSocket%s grpc%s is needed", commands ? "," : " or",
		commands ? " or exec" : "");
}

static bool parse_one(const char *path, const json_t *prober, const char *host, struct probe_spec *out, struct err *e)
{
	if (!str_starts(str_of(path), STR("/app-health/")) && !str_starts(str_of(path), STR("/app-lifecycle/")))
		return err_set(e, ERR_PEER, "neither below /app-health/ nor below /app-lifecycle/");
	if (!parse_timeout(path, prober, out, e))
		return false;
	out->path = xstrdup(path);
	return parse_handler(prober, host, false, out, e);
}

/* The pod's own address, where capture lets 127.0.0.6 pass; by IPv6 the loopback, since only a captured pod has ::6. */
static char *host_of(const char *pod_ip)
{
	uint8_t ip[16];
	unsigned bits;
	bool known = ip_parse(str_of(pod_ip), ip, &bits);
	return xstrdup(known && bits == 32 ? pod_ip : known ? "[::1]" : "127.0.0.1");
}

static bool parse_all(const json_t *all, const char *host, struct probe_specs *out, struct err *e)
{
	const char *path;
	const json_t *prober;
	if (!json_is_object(all))
		return err_set(e, ERR_PEER, "a JSON object is expected");
	if (json_object_size(all) > LIMIT_PROBERS)
		return err_set(e, ERR_LIMIT, "more than %u probes", LIMIT_PROBERS);
	out->items = xzalloc((json_object_size(all) + 1) * sizeof(*out->items));
	json_object_foreach((json_t *)(uintptr_t)all, path, prober)
	{
		if (!parse_one(path, prober, host, &out->items[out->len++], e))
			return err_in(e, "%.200s", path);
	}
	return true;
}

bool probe_specs_parse(const char *json, const char *pod_ip, struct probe_specs *out, struct err *e)
{
	struct probe_specs specs = {0};
	char *host cleanup(free_p) = host_of(pod_ip);
	json_error_t error;
	json_t *all = str_empty(json) ? json_object() : json_loads(json, JSON_REJECT_DUPLICATES, &error);
	bool ok = all ? parse_all(all, host, &specs, e) : err_set(e, ERR_PEER, "line %d: %s", error.line, error.text);
	json_decref(all);
	if (ok)
		*out = specs;
	else
		probe_specs_done(&specs);
	return ok;
}

static void free_list(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

static void spec_done(struct probe_spec *p)
{
	free_list(p->headers);
	free_list(p->command);
	free(p->path);
	free(p->url);
	free(p->target);
	free(p->service);
}

void probe_specs_done(struct probe_specs *s)
{
	for (size_t i = 0; i < s->len; i++)
		spec_done(&s->items[i]);
	free(s->items);
	*s = (struct probe_specs){0};
}

const struct probe_spec *probe_specs_find(const struct probe_specs *s, struct str path)
{
	for (size_t i = 0; i < s->len; i++)
		if (str_eqc(path, s->items[i].path))
			return &s->items[i];
	return NULL;
}

/* ---- readiness of a workload outside Kubernetes */

/* proto3's JSON has numbers only where they are not 0, and 0 means Kubernetes' default. */
static bool seconds(const json_t *probe, const char *key, unsigned fallback, unsigned *out, struct err *e)
{
	const json_t *v = json_object_get(probe, key);
	json_int_t s = json_integer_value(v);
	if (v && (!json_is_integer(v) || s < 0 || s > TIMEOUT_MAX_S))
		return err_set(e, ERR_PEER, "%s: a number of 0..%d is expected", key, TIMEOUT_MAX_S);
	*out = s ? (unsigned)s : fallback;
	return true;
}

static bool readiness_of(const json_t *probe, const char *host, struct readiness *out, struct err *e)
{
	unsigned delay, period, timeout;
	if (!json_is_object(probe))
		return err_set(e, ERR_PEER, "an object is expected");
	if (!seconds(probe, "initialDelaySeconds", 0, &delay, e) || !seconds(probe, "periodSeconds", 10, &period, e) ||
		!seconds(probe, "timeoutSeconds", 1, &timeout, e) ||
		!seconds(probe, "successThreshold", 1, &out->success, e) ||
		!seconds(probe, "failureThreshold", 1, &out->failure, e))
		return false;
	out->initial_delay_ms = 1000ull * delay;
	out->period_ms = 1000ull * period;
	out->spec.timeout_ms = 1000ull * timeout;
	return parse_handler(probe, host, true, &out->spec, e);
}

bool readiness_parse(const char *proxy_config, const char *pod_ip, struct readiness **out, struct err *e)
{
	json_error_t error;
	json_t *config = str_empty(proxy_config) ? NULL : json_loads(proxy_config, 0, &error);
	const json_t *probe = json_object_get(config, "readinessProbe");
	char *host cleanup(free_p) = host_of(pod_ip);
	bool ok = true;
	*out = NULL;
	if (probe) {
		*out = xzalloc(sizeof(**out));
		ok = readiness_of(probe, host, *out, e) || err_in(e, "readinessProbe");
	}
	if (!ok) {
		readiness_free(*out);
		*out = NULL;
	}
	json_decref(config);
	return ok;
}

void readiness_free(struct readiness *r)
{
	if (!r)
		return;
	spec_done(&r->spec);
	free(r);
}

/* HealthCheckRequest{string service = 1}; the length needs a second byte from 128 on. */
void probe_health_request(const char *service, struct strbuf *out)
{
	size_t len = strlen(service);
	if (!len)
		return;
	strbuf_addc(out, 0x0a);
	if (len >= 128)
		strbuf_addc(out, (char)(0x80u | (len & 0x7fu)));
	strbuf_addc(out, (char)(len >= 128 ? len >> 7 : len));
	strbuf_adds(out, service);
}

/* HealthCheckResponse{ServingStatus status = 1}, SERVING = 1: the message's only field. */
bool probe_health_is_serving(struct str response)
{
	return response.len == 2 && response.ptr[0] == 0x08 && response.ptr[1] == 0x01;
}
