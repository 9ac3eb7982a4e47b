/*
 * The admission webhooks' HTTPS server (Istio's port 15017 and paths: /validate, /inject...). Its certificate comes from citadel, or from a folder
 * with tls.crt and tls.key; a new one is taken without a restart. Everything that is answered is a function of the request and the options: a
 * replica needs no state, and an outage of all of them costs what register.h says.
 */
#pragma once

#include "common/io/loop.h"
#include "common/kube/kube.h"
#include "galley/galley.h"
#include "galley/webhook/inject.h"

struct webhook;

struct webhook_options {
	const char *address; /* "*:15017" */
	const char *domain_suffix;
	/* One of the two: a folder, or citadel. */
	const char *cert_dir;
	const char *ca_address, *ca_roots, *ca_token, *trust_domain;
	const char *const *ca_names;
	const char *const *dns; /* names that the API server calls us by, NULL: "galley" */
	const struct galley *galley; /* knows the namespaces */
	struct inject_options inject; /* image NULL: /inject is not served */
	const char
		*inject_config; /* file with its settings, inject_settings.h; read again when it changes; NULL: none */
	const char *namespace; /* of galley's own identity */
	void (*on_serving)(void *ctx); /* after each start of the server; NULL: not told */
	void *ctx;
	const char *state_dir; /* keeps the certificate over a restart; NULL: not */
	/* Webhook configurations whose caBundle is kept right; NULL api: none. */
	const struct kube_options *api;
	const char *const *configurations; /* "validating/NAME", "mutating/NAME"; NULL-terminated */
};

struct webhook *webhook_new(struct loop *l, const struct webhook_options *o, struct err *e) MUST_CHECK;
void webhook_free(struct webhook *w);
/* What injection needs of the configuration, where it changed: the mesh's defaultConfig (which stands for the option's if it says anything), and
 * the ProxyConfig resources. */
void webhook_take(struct webhook *w, struct galley *g);
bool webhook_serving(const struct webhook *w);
void webhook_debug(const struct webhook *w, struct strbuf *json);
