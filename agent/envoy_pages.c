/*
 * DOC: /envoy/... on the agent's own admin server: Envoy's admin pages that only show something, passed on. Envoy's admin listens inside
 * the pod's network namespace; this is how `fairlead proxy-config` sees it from the outside. What is not in the table is not passed on.
 */
#include <stdlib.h>

#include "agent/daemon.h"
#include "common/base/limits.h"
#include "common/daemon/admin.h"
#include "common/io/http.h"

#define PREFIX "/envoy"
#define TEXT "text/plain; charset=utf-8"
#define TIMEOUT_MS 10000u

static const char *const passed_on[] = {
	"certs", "clusters", "config_dump", "init_dump", "listeners", "memory", "ready", "server_info", "stats"};

struct envoy_pages {
	struct http_client *http;
	uint32_t port;
};

static void on_answer(void *ctx, int status, struct str body, struct str type)
{
	struct admin_request *r = ctx;
	char *name cleanup(free_p) = type.len ? xstrndup(type.ptr, type.len) : xstrdup(TEXT);
	if (status)
		admin_respond(r, (unsigned)status, name, body);
	else
		admin_respond(r, 502, TEXT, STR("Envoy's admin does not answer\n"));
}

static bool is_passed_on(struct str page)
{
	for (size_t i = 0; i < ARRAY_LEN(passed_on); i++)
		if (str_eqc(page, passed_on[i]))
			return true;
	return false;
}

static void page(void *ctx, struct admin_request *r)
{
	struct envoy_pages *p = ctx;
	struct str name = str_from(admin_request_path(r), sizeof(PREFIX "/") - 1);
	struct str query = admin_request_query_string(r);
	if (!is_passed_on(name)) {
		admin_respond(r, 404, TEXT, STR("no such page of Envoy's is passed on\n"));
		return;
	}
	char *url cleanup(free_p) = xasprintf("http://127.0.0.1:%u/" STR_FMT "%s" STR_FMT, p->port, STR_ARG(name),
		query.len ? "?" : "", STR_ARG(query));
	const struct http_request ask = {
		.url = url, .timeout_ms = TIMEOUT_MS, .max_body_bytes = LIMIT_GRPC_MESSAGE_BYTES};
	http_send(p->http, &ask, on_answer, r);
}

struct envoy_pages *envoy_pages_new(struct loop *l, const struct agent_config *c, struct admin *a)
{
	struct envoy_pages *p = xzalloc(sizeof(*p));
	*p = (struct envoy_pages){.http = http_client_new(l), .port = c->envoy_admin_port};
	admin_route(a, "GET", PREFIX "/", page, p);
	return p;
}

void envoy_pages_free(struct envoy_pages *p)
{
	if (!p)
		return;
	http_client_free(p->http);
	free(p);
}
