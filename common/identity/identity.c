/*
 * DOC: One attempt at a time: a fresh key, a CSR, a channel of its own with the newest roots, one unary call. A fresh key each time, because
 * a key that leaked should live no longer than its certificate. The lifetime counts from when the certificate arrived: citadel (like
 * Istio) dates them back two minutes for clock skew, which is longer than some lifetimes.
 *
 * With a certificate in hand it is shown (mutual TLS); when that attempt fails, the next one uses the token alone, because after a change
 * of the root the CA cannot verify what it once issued.
 */
#include "common/identity/identity_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "ca/ca.pb-c.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 10000
#define CALL_TIMEOUT_MS 10000
#define DEFAULT_TTL_MS (24 * 3600 * 1000ull)
#define METHOD "/istio.v1.auth.IstioCertificateService/CreateCertificate"

LOG_SCOPE_SHARED(identity_log, "identity", "key and certificate of this workload");

static void on_timer(void *ctx);

static void schedule(struct identity *i, uint64_t delay_ms)
{
	i->next_at_ms = clock_wall_ms() + (int64_t)delay_ms;
	timer_start(i->timer, delay_ms, 0);
}

static void failed(struct identity *i, const struct err *e, bool with_cert)
{
	(void)snprintf(i->last_error, sizeof(i->last_error), "%s", e->text);
	i->failures++;
	i->skip_cert = with_cert;
	uint64_t delay = random_backoff(i->failures, BACKOFF_MIN_MS, BACKOFF_MAX_MS, 0.2);
	log_warn(&identity_log, "no certificate", KV("error", e->text), KV("attempt", i->failures),
		KV("retry_ms", delay));
	schedule(i, with_cert ? 0 : delay);
}

static void attempt_free(struct attempt *t)
{
	pki_key_free(t->key);
	grpc_channel_free(t->channel);
	tls_context_free(t->tls);
	free(t);
}

static void free_later(void *ctx)
{
	attempt_free(ctx);
}

static uint64_t renewal_delay(const struct identity *i, int64_t life_ms)
{
	double at = i->o.renew_at > 0 ? i->o.renew_at : 0.5;
	return random_jitter(life_ms > 0 ? (uint64_t)((double)life_ms * at) : 0, 0.1);
}

void identity_material_set(struct identity *i, char *key, char *chain, char *roots, int64_t not_after_ms)
{
	secret_free((char *)i->m.key_pem);
	free((char *)i->m.chain_pem);
	free((char *)i->m.roots_pem);
	i->m = (struct identity_material){key, chain, roots, not_after_ms, i->m.generation + 1};
}

static bool accept_chain(
	struct identity *i, const struct attempt *t, const Ca__IstioCertificateResponse *r, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct strbuf chain cleanup(strbuf_done) = {0};
	struct pki_cert *certs = NULL;
	size_t n = 0;
	if (r->n_cert_chain < 2)
		return err_set(e, ERR_PEER, "the CA answered with %zu certificates; a leaf and a root are needed",
			r->n_cert_chain);
	for (size_t k = 0; k + 1 < r->n_cert_chain; k++) {
		strbuf_adds(&chain, r->cert_chain[k]);
		if (chain.len && chain.ptr[chain.len - 1] != '\n')
			strbuf_addc(&chain, '\n');
	}
	if (!pki_certs_parse(a, strbuf_str(&chain), &certs, &n, e) || !pki_key_fits(t->key, strbuf_str(&chain), e) ||
		!pki_verify(strbuf_str(&chain), str_of(r->cert_chain[r->n_cert_chain - 1]), clock_wall_ms(), e))
		return err_in(e, "the CA's answer");
	if (!certs[0].uris[0] || certs[0].uris[1] || !streq(certs[0].uris[0], i->o.spiffe_id))
		return err_set(e, ERR_PEER, "the CA issued \"%s\", wanted \"%s\"",
			certs[0].uris[0] ? certs[0].uris[0] : "", i->o.spiffe_id);
	char *key = NULL;
	if (!pki_key_pem(t->key, &key, e))
		return false;
	free(i->ca_roots);
	i->ca_roots = xstrdup(r->cert_chain[r->n_cert_chain - 1]);
	char *pem = strbuf_take(&chain);
	identity_material_set(i, key, pem, identity_trusted(i, pem), certs[0].not_after_ms);
	return true;
}

static bool accept_answer(struct identity *i, const struct attempt *t, enum grpc_status st, struct str message,
	const uint8_t *data, size_t len, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	if (st != GRPC_OK || !data)
		return err_set(
			e, ERR_DENIED, "%s: %s: " STR_FMT, i->o.ca_address, grpc_status_name(st), STR_ARG(message));
	const Ca__IstioCertificateResponse *r = PB_UNPACK(
		a, Ca__IstioCertificateResponse, ca__istio_certificate_response, data, len, e);
	return r && accept_chain(i, t, r, e);
}

static void on_done(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len)
{
	struct attempt *t = ctx;
	struct identity *i = t->owner;
	if (!i)
		return; /* identity_free() is at it */
	struct err e = {0};
	i->attempt = NULL;
	bool ok = accept_answer(i, t, st, message, data, len, &e), with_cert = t->with_cert;
	if (i->o.on_attempt)
		i->o.on_attempt(i->o.ctx, ok, clock_mono_ms() - t->began_ms);
	loop_post(i->loop, free_later, t); /* not from within the channel's callback */
	if (!ok) {
		failed(i, &e, with_cert);
		return;
	}
	i->failures = 0;
	i->skip_cert = false;
	i->last_error[0] = '\0';
	int64_t life_ms = i->m.not_after_ms - clock_wall_ms();
	schedule(i, renewal_delay(i, life_ms));
	identity_persist(i);
	log_info(&identity_log, "certificate received", KV("id", i->o.spiffe_id), KV("lifetime_s", life_ms / 1000),
		KV("by", with_cert ? "certificate" : "token"), KV("generation", i->m.generation));
	if (i->o.on_change)
		i->o.on_change(i->o.ctx);
}

static struct buf *request_of(const struct identity *i, const char *csr)
{
	uint64_t ttl_ms = i->o.ttl_ms ? i->o.ttl_ms : DEFAULT_TTL_MS;
	Ca__IstioCertificateRequest r = CA__ISTIO_CERTIFICATE_REQUEST__INIT;
	r.csr = (char *)csr;
	r.validity_duration = (int64_t)((ttl_ms + 999) / 1000);
	struct buf *b = buf_new(ca__istio_certificate_request__get_packed_size(&r));
	(void)ca__istio_certificate_request__pack(&r, b->data);
	return b;
}

static bool make_tls(struct identity *i, struct attempt *t, struct err *e)
{
	if (!i->o.ca_roots_file && strncmp(i->o.ca_address, "unix:", 5) == 0)
		return true;
	struct tls_options o = {.peer_auth = TLS_PEER_REQUIRED};
	char *roots cleanup(free_p) = NULL;
	size_t len = 0;
	if (i->o.ca_roots_file && !file_read(i->o.ca_roots_file, LIMIT_PEM_BYTES, &roots, &len, e) && !i->m.roots_pem)
		return err_in(e, "roots of the CA");
	const char *pem = roots ? roots : i->m.roots_pem;
	if (!pem)
		return err_set(e, ERR_PEER, "no roots are known that could verify the CA");
	t->tls = tls_context_new(&o);
	if (!tls_context_set_roots(t->tls, str_of(pem), e) ||
		(i->o.ca_names && !tls_context_set_server_names(t->tls, i->o.ca_names, e)))
		return false;
	t->with_cert = identity_get(i) && !i->skip_cert;
	return !t->with_cert || tls_context_set_identity(t->tls, str_of(i->m.chain_pem), str_of(i->m.key_pem), e);
}

static bool read_token(const struct identity *i, char **out, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	if (!i->o.token_file)
		return true;
	if (!file_read(i->o.token_file, LIMIT_JWT_BYTES, &text, &len, e))
		return err_in(e, "token");
	struct str token = str_trim(str_n(text, len));
	*out = xasprintf("Bearer " STR_FMT, STR_ARG(token));
	secret_free(text);
	return true;
}

static bool begin(struct identity *i, struct attempt *t, struct err *e)
{
	const char *uris[] = {i->o.spiffe_id, NULL};
	char *csr cleanup(free_p) = NULL, *token = NULL;
	t->key = pki_key_new(i->key_type, e);
	if (!t->key || !pki_csr_new(t->key, uris, i->o.dns, &csr, e) || !make_tls(i, t, e))
		return false;
	struct err no_token = {0};
	if (!read_token(i, &token, &no_token) && !t->with_cert)
		return err_set(e, no_token.kind, "%s", no_token.text);
	struct grpc_channel_options o = {.target = i->o.ca_address, .tls = t->tls};
	t->channel = grpc_channel_new(i->loop, &o);
	const char *headers[] = {token ? "authorization" : NULL, token, NULL};
	struct buf *request = request_of(i, csr);
	t->owner = i;
	t->began_ms = clock_mono_ms();
	i->attempt = t;
	(void)grpc_channel_unary(t->channel, METHOD, headers, CALL_TIMEOUT_MS, request, on_done, t);
	buf_unref(request);
	secret_free(token);
	return true;
}

static void on_timer(void *ctx)
{
	struct identity *i = ctx;
	if (i->attempt)
		return;
	struct err e = {0};
	struct attempt *t = xzalloc(sizeof(*t));
	if (begin(i, t, &e))
		return;
	bool with_cert = t->with_cert;
	attempt_free(t);
	failed(i, &e, with_cert);
}

struct identity *identity_new(struct loop *l, const struct identity_options *o, struct err *e)
{
	if (str_empty(o->ca_address) || str_empty(o->spiffe_id)) {
		(void)err_set(e, ERR_BUG, "an identity needs the CA's address and its own SPIFFE id");
		return NULL;
	}
	enum pki_key_type key_type = PKI_P256;
	if (!str_empty(o->key_type) && !pki_key_type_parse(o->key_type, &key_type, e))
		return NULL;
	if (o->persist_dir && !file_mkdirs(o->persist_dir, 0700, e))
		return NULL;
	struct identity *i = xzalloc(sizeof(*i));
	i->loop = l;
	i->key_type = key_type;
	identity_copy_options(i, o);
	i->timer = timer_new(l, on_timer, i);
	int64_t left_ms = identity_load(i);
	identity_watch_roots(i);
	schedule(i, left_ms > 0 ? (uint64_t)left_ms : 0);
	return i;
}

void identity_free(struct identity *i)
{
	if (!i)
		return;
	timer_free(i->timer);
	if (i->attempt) {
		i->attempt->owner = NULL;
		attempt_free(i->attempt);
	}
	identity_material_set(i, NULL, NULL, NULL, 0);
	timer_free(i->look);
	free(i->ca_roots);
	free(i->file_roots);
	arena_free(i->arena);
	free(i);
}

const struct identity_material *identity_get(const struct identity *i)
{
	return i->m.key_pem && clock_wall_ms() < i->m.not_after_ms ? &i->m : NULL;
}

const char *identity_last_error(const struct identity *i)
{
	return i->last_error;
}

void identity_renew_now(struct identity *i)
{
	schedule(i, 0);
}
