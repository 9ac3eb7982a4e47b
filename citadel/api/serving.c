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

/* A certificate for citadel's own id and names; done() comes once, perhaps at once. */
static void ask(struct citadel *c, const struct pki_key *k, uint64_t ttl_ms,
	void (*done)(void *ctx, enum signer_result r, const struct signer_answer *a))
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *uris[] = {c->own_id, NULL};
	char *csr cleanup(free_p) = NULL;
	struct str der = {0};
	struct err e = {0};
	if (k && pki_csr_new(k, uris, c->own_dns, &csr, &e) && pki_csr_der(a, str_of(csr), &der, &e))
		signer_sign(c->signer, der, c->own_id, c->own_dns,
			ttl_ms < c->cfg->max_ttl_ms ? ttl_ms : c->cfg->max_ttl_ms, done, c);
	else
		done(c, SIGNER_FAILED, &(struct signer_answer){.why = str_of(k ? e.text : "no key could be made")});
}

/* The certificate with what leads from it to the roots; the caller frees it. */
static char *chain_of(const struct signer_answer *a)
{
	char *leaf cleanup(free_p) = pki_pem("CERTIFICATE", (const unsigned char *)a->der.ptr, a->der.len);
	return xasprintf("%s%s", leaf, a->ca->chain);
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

static bool install(struct citadel *c, const struct signer_answer *a, struct err *e)
{
	char *key = NULL, *chain = chain_of(a);
	bool ok = pki_key_pem(c->server_key, &key, e) &&
		  tls_context_set_identity(c->tls, str_of(chain), str_of(key), e) &&
		  tls_context_set_roots(c->tls, str_of(citadel_roots(c)), e);
	secret_free(key);
	free(chain);
	return ok;
}

static void on_server_cert(void *ctx, enum signer_result r, const struct signer_answer *a)
{
	struct citadel *c = ctx;
	struct err e = {0};
	bool ok = r == SIGNER_OK && install(c, a, &e);
	if (r != SIGNER_OK)
		(void)err_set(&e, ERR_SYSTEM, STR_FMT, STR_ARG(a->why));
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
	ask(c, c->server_key, SERVER_TTL_MS, on_server_cert);
}

static void on_renew(void *ctx)
{
	serving_renew(ctx);
}

void serving_start(struct citadel *c)
{
	c->renew = timer_new(daemon_loop(c->daemon), on_renew, c);
}

static void on_probe(void *ctx, enum signer_result r, const struct signer_answer *a)
{
	struct citadel *c = ctx;
	struct err e = {0};
	char *chain cleanup(free_p) = r == SIGNER_OK ? chain_of(a) : NULL;
	bool ok = chain && pki_verify(str_of(chain), str_of(citadel_roots(c)), clock_wall_ms(), &e);
	if (r != SIGNER_OK)
		(void)err_set(&e, ERR_SYSTEM, STR_FMT, STR_ARG(a->why));
	metric_add(&probes, 1, ok ? "ok" : "failed");
	trust_count_expiry(c);
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
	ask(c, k, 60000, on_probe);
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
