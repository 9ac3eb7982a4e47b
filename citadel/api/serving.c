/*
 * DOC: Citadel's own server certificate, signed by its own signer, and the self-probe that proves signing works (readiness follows it). The
 * key of the server certificate is an ordinary one and lives here; it is not the CA's.
 */
#include <stdlib.h>

#include "citadel/daemon.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"

#define SERVER_TTL_MS (24 * 3600 * 1000ull)

METRIC(probes, COUNTER, "citadel_probe_total", "Self-probes: certificates signed for a test", "result");

static char *own_csr(const struct citadel *c, const struct pki_key *k, struct err *e)
{
	const char *uris[] = {c->own_id, NULL};
	char *csr = NULL;
	return k && pki_csr_new(k, uris, c->own_dns, &csr, e) ? csr : NULL;
}

static bool listen_all(struct citadel *c, struct err *e)
{
	uint16_t port = 0;
	if (!grpc_server_listen(c->server, c->cfg->address, c->tls, &port, e))
		return err_in(e, "--address");
	log_info(&citadel_log, "signing", KV("address", c->cfg->address), KV("port", port));
	if (c->cfg->unix_path) {
		char *path cleanup(free_p) = xasprintf("unix:%s", c->cfg->unix_path);
		if (!grpc_server_listen(c->server, path, NULL, NULL, e))
			return err_in(e, "--unix");
	}
	c->listening = true;
	return true;
}

static bool install(struct citadel *c, struct str leaf, struct err *e)
{
	const struct signer_ca *ca = signer_ca(c->signer);
	char *key = NULL, *chain = xasprintf(STR_FMT "\n%s", STR_ARG(leaf), ca->chain);
	bool ok = pki_key_pem(c->server_key, &key, e) &&
		  tls_context_set_identity(c->tls, str_of(chain), str_of(key), e) &&
		  tls_context_set_roots(c->tls, str_of(ca->roots), e);
	secret_free(key);
	free(chain);
	return ok;
}

static void on_server_cert(void *ctx, enum signer_result r, struct str text)
{
	struct citadel *c = ctx;
	struct err e = {0};
	bool ok = r == SIGNER_OK && install(c, text, &e);
	if (r != SIGNER_OK)
		(void)err_set(&e, ERR_SYSTEM, STR_FMT, STR_ARG(text));
	pki_key_free(take(c->server_key));
	timer_start(c->renew, ok ? random_jitter(SERVER_TTL_MS / 2, 0.1) : 1000, 0);
	if (!ok) {
		log_error(&citadel_log, "no server certificate", KV("error", e.text));
		return;
	}
	if (!c->listening && !listen_all(c, &e))
		daemon_fail(c->daemon, &e);
}

void serving_renew(struct citadel *c)
{
	struct err e = {0};
	if (c->server_key || !signer_up(c->signer))
		return;
	c->server_key = pki_key_new(PKI_P256, &e);
	char *csr cleanup(free_p) = own_csr(c, c->server_key, &e);
	uint64_t ttl_ms = SERVER_TTL_MS < c->cfg->max_ttl_ms ? SERVER_TTL_MS : c->cfg->max_ttl_ms;
	if (csr)
		signer_sign(c->signer, str_of(csr), c->own_id, c->own_dns, ttl_ms, on_server_cert, c);
	else
		on_server_cert(c, SIGNER_FAILED, str_of(e.text));
}

static void on_renew(void *ctx)
{
	serving_renew(ctx);
}

void serving_start(struct citadel *c)
{
	c->renew = timer_new(daemon_loop(c->daemon), on_renew, c);
}

static void on_probe(void *ctx, enum signer_result r, struct str text)
{
	struct citadel *c = ctx;
	struct err e = {0};
	const struct signer_ca *ca = signer_ca(c->signer);
	char *chain cleanup(free_p) = ca ? xasprintf(STR_FMT "\n%s", STR_ARG(text), ca->chain) : NULL;
	bool ok = r == SIGNER_OK && chain && pki_verify(str_of(chain), str_of(ca->roots), clock_wall_ms(), &e);
	if (r != SIGNER_OK)
		(void)err_set(&e, ERR_SYSTEM, STR_FMT, STR_ARG(text));
	metric_add(&probes, 1, ok ? "ok" : "failed");
	if (ok)
		daemon_ready(c->daemon, "signer");
	else
		daemon_not_ready(c->daemon, "signer", "the self-probe failed: no certificate could be signed");
	if (!ok)
		log_error(&citadel_log, "self-probe failed", KV("error", e.text));
}

void probe_now(struct citadel *c)
{
	struct err e = {0};
	struct pki_key *k = pki_key_new(PKI_P256, &e);
	char *csr cleanup(free_p) = own_csr(c, k, &e);
	if (csr)
		signer_sign(c->signer, str_of(csr), c->own_id, c->own_dns,
			60000 < c->cfg->max_ttl_ms ? 60000 : c->cfg->max_ttl_ms, on_probe, c);
	else
		on_probe(c, SIGNER_FAILED, str_of(e.text));
	pki_key_free(k);
}

static void on_probe_timer(void *ctx)
{
	probe_now(ctx);
}

void probe_start(struct citadel *c)
{
	c->probe = timer_new(daemon_loop(c->daemon), on_probe_timer, c);
	timer_start(c->probe, c->cfg->probe_interval_ms, c->cfg->probe_interval_ms);
}
