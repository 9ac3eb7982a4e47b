/*
 * DOC: Sessions that stay with one endpoint, by a cookie or a header that Envoy itself writes: for services with Istio's label
 * istio.io/persistent-session ("cookie name", "cookie name:/path", which wins) or istio.io/persistent-session-header ("header name"). A
 * draining endpoint keeps its sessions. The filter does nothing on routes of other services, and is absent where there are none.
 */
#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"
#include "xds/stateful_session.pb-c.h"
#include "xds/stateful_session_cookie.pb-c.h"
#include "xds/stateful_session_header.pb-c.h"

static const char filter[] = "envoy.filters.http.stateful_session";

static void persistent_session_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	if (c->direction == DIRECTION_INBOUND || !view_has_sessions(c->v) || !view_has_extension(c->v, filter))
		return;
	hcm_add_filter(
		c->a, hcm, filter, PB_NEW(c->a, StatefulSession__StatefulSession, stateful_session__stateful_session));
}

static Core__TypedExtensionConfig *extension(struct arena *a, const char *name, const void *config)
{
	Core__TypedExtensionConfig *x = PB_NEW(a, Core__TypedExtensionConfig, core__typed_extension_config);

	x->name = arena_strdup(a, name);
	x->typed_config = pb_any(a, config);
	return x;
}

static Core__TypedExtensionConfig *by_cookie(struct arena *a, struct str label)
{
	SessionCookie__CookieBasedSessionState *s = PB_NEW(
		a, SessionCookie__CookieBasedSessionState, session_cookie__cookie_based_session_state);
	struct str name, path;

	if (!str_cut(label, ':', &name, &path)) {
		name = label;
		path = STR("/");
	}
	s->cookie = PB_NEW(a, TypeHttp__Cookie, type_http__cookie);
	s->cookie->name = arena_cstr(a, name);
	s->cookie->path = arena_cstr(a, path);
	return extension(a, "envoy.http.stateful_session.cookie", s);
}

static Core__TypedExtensionConfig *by_header(struct arena *a, const char *name)
{
	SessionHeader__HeaderBasedSessionState *s = PB_NEW(
		a, SessionHeader__HeaderBasedSessionState, session_header__header_based_session_state);

	s->name = arena_strdup(a, name);
	return extension(a, "envoy.http.stateful_session.header", s);
}

static const Fl__Service *service_of(const struct route_context *r)
{
	bool one = r->action->cluster_specifier_case == RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
	bool many = r->action->cluster_specifier_case == RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
	const char *name = one ? r->action->cluster : many ? r->action->weighted_clusters->clusters[0]->name : "";
	struct cluster_name parsed;

	if (!cluster_name_parse(str_of(name), &parsed) || !str_eqc(parsed.direction, "outbound"))
		return NULL;
	return view_service(r->v, parsed.host);
}

static void persistent_session_route(const struct route_context *r)
{
	const Fl__Service *s = r->action && view_has_extension(r->v, filter) ? service_of(r) : NULL;
	const char *cookie = s ? label_get(LABELS(s, labels), LABEL_SESSION_COOKIE) : NULL;
	const char *header = s ? label_get(LABELS(s, labels), LABEL_SESSION_HEADER) : NULL;
	StatefulSession__StatefulSessionPerRoute *config;

	if (str_empty(cookie) && str_empty(header))
		return;
	config = PB_NEW(r->a, StatefulSession__StatefulSessionPerRoute, stateful_session__stateful_session_per_route);
	config->stateful_session = PB_NEW(r->a, StatefulSession__StatefulSession, stateful_session__stateful_session);
	config->stateful_session->session_state = !str_empty(cookie) ? by_cookie(r->a, str_of(cookie))
								     : by_header(r->a, header);
	config->override_case = STATEFUL_SESSION__STATEFUL_SESSION_PER_ROUTE__OVERRIDE_STATEFUL_SESSION;
	route_add_filter_config(r->a, r->route, filter, config);
}

const struct feature persistent_session_feature = {
	.name = "persistent_session", .on_hcm = persistent_session_hcm, .on_route = persistent_session_route};
