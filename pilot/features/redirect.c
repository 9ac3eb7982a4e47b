/*
 * DOC: redirect: parts of the URL are replaced; 301 unless the rule says otherwise. A port that is the scheme's own is not said, unless the
 * Host of the request may say another one, which Envoy would keep.
 */
#include "pilot/translate/feature.h"

static Rds__RedirectAction__RedirectResponseCode code_of(uint32_t code)
{
	static const struct {
		uint32_t code;
		Rds__RedirectAction__RedirectResponseCode action;
	} codes[] = {
		{302, RDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__FOUND},
		{303, RDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__SEE_OTHER},
		{307, RDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__TEMPORARY_REDIRECT},
		{308, RDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__PERMANENT_REDIRECT},
	};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (codes[i].code == code)
			return codes[i].action;
	return RDS__REDIRECT_ACTION__REDIRECT_RESPONSE_CODE__MOVED_PERMANENTLY;
}

static void set_path(const Cfg__HTTPRedirect *in, Rds__RedirectAction *out)
{
	if (!str_empty(in->prefix_rewrite)) {
		out->prefix_rewrite = in->prefix_rewrite;
		out->path_rewrite_specifier_case = RDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE;
	} else if (!str_empty(in->uri)) {
		out->path_redirect = in->uri;
		out->path_rewrite_specifier_case = RDS__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT;
	}
}

/* 0: the request's own, as far as its Host says one. */
static uint32_t port_of(const struct route_context *r, const Cfg__HTTPRedirect *in)
{
	bool https = str_empty(in->scheme) ? r->tls : streq(in->scheme, "https");
	bool may_say_other = str_empty(in->authority) && r->port != 80 && r->port != 443;
	uint32_t usual = https ? 443 : 80, port = in->port;

	if (in->redirect_port_case == CFG__HTTPREDIRECT__REDIRECT_PORT__NOT_SET)
		return 0;
	if (in->redirect_port_case == CFG__HTTPREDIRECT__REDIRECT_PORT_DERIVE_PORT)
		port = in->derive_port == CFG__HTTPREDIRECT__REDIRECT_PORT_SELECTION__FROM_REQUEST_PORT ? r->port
													: usual;
	return port == usual && !may_say_other ? 0 : port;
}

static void redirect_route(const struct route_context *r)
{
	const Cfg__HTTPRedirect *in = r->rule ? r->rule->redirect : NULL;
	Rds__RedirectAction *out;

	if (!in)
		return;
	out = PB_NEW(r->a, Rds__RedirectAction, rds__redirect_action);
	out->host_redirect = in->authority;
	out->response_code = code_of(in->redirect_code);
	set_path(in, out);
	out->port_redirect = port_of(r, in);
	if (!str_empty(in->scheme)) {
		out->scheme_redirect = in->scheme;
		out->scheme_rewrite_specifier_case = RDS__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT;
	}
	r->route->redirect = out;
	r->route->action_case = RDS__ROUTE__ACTION_REDIRECT;
}

const struct feature redirect_feature = {.name = "redirect", .on_route = redirect_route};
