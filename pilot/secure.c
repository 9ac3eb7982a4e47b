/*
 * DOC: Pilot's own certificate, from citadel like any workload's, and the TLS listener, which opens with the first certificate. Workers
 * get copies, because a TLS context belongs to a loop.
 */
#include <stdlib.h>

#include "common/identity/identity.h"
#include "common/io/grpc.h"
#include "common/base/log.h"
#include "pilot/pilot.h"

LOG_SCOPE(secure_log, "identity", "pilot's own certificate");

static void on_change(void *ctx)
{
	struct pilot *p = ctx;
	const struct identity_material *m = p->identity ? identity_get(p->identity) : NULL;
	struct err e = {0};
	uint16_t port;

	if (!m)
		return;
	for (size_t i = 0; i < p->n_workers; i++)
		worker_identity(p->workers[i], m->key_pem, m->chain_pem, m->roots_pem);
	if (p->tls)
		return;
	const struct tls_options o = {
		.server = true, .peer_auth = TLS_PEER_OPTIONAL, .trust_domain = p->config->trust_domain};
	p->tls = tls_context_new(&o);
	if (!grpc_server_listen(p->front, p->config->xds_tls_address, p->tls, &port, &e)) {
		(void)err_in(&e, "--xds-tls-address");
		daemon_fail(p->daemon, &e);
		return;
	}
	log_info(&secure_log, "TLS is open", KV("address", p->config->xds_tls_address));
	daemon_ready(p->daemon, "certificate");
}

bool secure_start(struct pilot *p, struct err *e)
{
	static const char *const dns[] = {"istiod.istio-system.svc", NULL};
	const struct pilot_config *c = p->config;
	const char *dir = daemon_state_dir(p->daemon);

	if (str_empty(c->ca_token) || str_empty(c->ca_address))
		return true;
	cleanup(free_p) char *id = xasprintf("spiffe://%s/%s", c->trust_domain, c->identity);
	cleanup(free_p) char *persist = dir ? xasprintf("%s/identity", dir) : NULL;
	const struct identity_options o = {
		.ca_address = c->ca_address,
		.ca_roots_file = c->ca_roots,
		.ca_names = c->ca_names,
		.token_file = c->ca_token,
		.spiffe_id = id,
		.dns = c->identity_dns && c->identity_dns[0] ? c->identity_dns : dns,
		.persist_dir = persist,
		.on_change = on_change,
		.ctx = p,
	};
	p->identity = identity_new(p->loop, &o, e);
	if (!p->identity)
		return err_in(e, "identity");
	daemon_not_ready(p->daemon, "certificate", "no certificate yet: proxies cannot connect by TLS");
	on_change(p);
	return true;
}

void secure_stop(struct pilot *p)
{
	if (p->identity)
		identity_free(p->identity);
	tls_context_free(p->tls);
}
