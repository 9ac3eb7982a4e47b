/*
 * DOC: Load for CreateCertificate, as agents make it: the first certificate is asked for with a join token, all others with that one as client
 * certificate. Three runs, each after its own warm-up: `kept` (some connections, some calls open on each), `new` (a mutual TLS connection for
 * every certificate) and `handshake` (connect, be accepted, close). What counts is CPU time of the daemons (--pid, with their children), not
 * how long it took: so the client may be on the same two cores. A run in which any call fails has no figure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ca/ca.pb-c.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/daemon/option.h"
#include "common/io/file.h"
#include "common/io/grpc.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"
#include "tests/bench/csr/cpu.h"

#define METHOD "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define POOL 16 /* different CSRs, sent in turn */

struct config {
	const char *address, *server_name, *id, *roots, *token, *json, *run;
	const char **pids;
	uint32_t connections, window, requests;
	bool help;
};

static const struct option_row rows[] = {
	{.name = "address",
		OPT_STR(struct config, address, "127.0.0.1:8060", "of citadel (or of pilot, which relays)")},
	{.name = "server-name", OPT_STR(struct config, server_name, "citadel", "that its certificate must have")},
	{.name = "roots", OPT_STR(struct config, roots, NULL, "file with the CA's root, PEM (required)")},
	{.name = "token", OPT_STR(struct config, token, NULL, "file with a join token (required)")},
	{.name = "id",
		OPT_STR(struct config, id, "spiffe://cluster.local/ns/bench/sa/load",
			"the workload's, as in the token")},
	{.name = "pid", OPT_LIST(struct config, pids, "whose CPU time counts, with children (required)")},
	{.name = "connections", OPT_U32(struct config, connections, "10", 1, 1000, "open at a time")},
	{.name = "window", OPT_U32(struct config, window, "10", 1, 100, "calls open on each kept connection")},
	{.name = "requests",
		OPT_U32(struct config, requests, "20000", 100, 0,
			"certificates on kept connections; a tenth of it on new ones")},
	{.name = "run", OPT_STR(struct config, run, "all", "kept, new, handshake or all")},
	{.name = "json", OPT_STR(struct config, json, NULL, "file for the figures")},
	{.name = "help", OPT_BOOL(struct config, help, "print this text and end")},
};

enum kind { KEPT, NEW, HANDSHAKE, KINDS };

struct bench {
	struct config cfg;
	struct arena *arena;
	struct loop *loop;
	struct tls_context *tls;
	struct pki_key *key;
	struct buf *pool[POOL];
	struct str chain, root; /* of the last answer; chain with all below the root */
	enum kind kind;
	uint32_t to_start, open, done;
	struct err failure; /* the first one */
};

/* One connection; in the runs with new ones its channel is made again for each use. */
struct slot {
	struct bench *b;
	struct grpc_channel *channel;
	bool used;
};

static void fail(struct bench *b, const char *what, const char *why)
{
	if (!b->failure.text[0])
		(void)err_set(&b->failure, ERR_PEER, "%s: %s", what, why);
	b->to_start = 0;
}

static struct buf *request_of(struct bench *b, const struct pki_key *k)
{
	char *csr = NULL;
	struct buf *out = NULL;
	const char *uris[] = {b->cfg.id, NULL};
	if (pki_csr_new(k, uris, NULL, &csr, &b->failure)) {
		Ca__IstioCertificateRequest *q = PB_NEW(
			b->arena, Ca__IstioCertificateRequest, ca__istio_certificate_request);
		q->csr = arena_strdup(b->arena, csr);
		q->validity_duration = 3600;
		struct str bytes = pb_pack(b->arena, q);
		out = buf_copy(bytes.ptr, bytes.len);
	}
	free(csr);
	return out;
}

/* Keeps the answer; whether its certificates hold is looked at once a run. */
static bool take_answer(struct bench *b, struct arena *a, const uint8_t *data, size_t len)
{
	struct strbuf chain cleanup(strbuf_done) = {0};
	const Ca__IstioCertificateResponse *r = PB_UNPACK(
		a, Ca__IstioCertificateResponse, ca__istio_certificate_response, data, len, &b->failure);
	if (!r || r->n_cert_chain < 2)
		return false;
	for (size_t i = 0; i + 1 < r->n_cert_chain; i++)
		strbuf_addf(&chain, "%s\n", r->cert_chain[i]);
	b->chain = arena_str(b->arena, strbuf_str(&chain));
	b->root = str_of(arena_strdup(b->arena, r->cert_chain[r->n_cert_chain - 1]));
	return true;
}

static void next(struct slot *s);

static void again(void *ctx)
{
	struct slot *s = ctx;
	if (s->b->kind != KEPT && s->used) {
		grpc_channel_free(s->channel);
		s->channel = NULL;
	}
	next(s);
}

static void finished(struct slot *s)
{
	s->b->open--;
	s->b->done++;
	s->used = true;
	loop_post(s->b->loop, again, s); /* not in the callback of what is going to be freed */
}

static void on_answer(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len)
{
	struct slot *s = ctx;
	struct bench *b = s->b;
	char text[300];
	(void)snprintf(text, sizeof(text), "%s: " STR_FMT, grpc_status_name(st), STR_ARG(message));
	if (st != GRPC_OK || !data)
		fail(b, "CreateCertificate", text);
	else if (b->to_start == 0 && b->open == 1) {
		struct arena *a cleanup(arena_free_p) = arena_new();
		if (!take_answer(b, a, data, len))
			fail(b, "CreateCertificate", "an answer without a certificate and a root");
	}
	finished(s);
}

static void on_state(void *ctx, bool connected, const char *reason)
{
	struct slot *s = ctx;
	if (!connected)
		fail(s->b, "connection", reason);
	if (s->b->kind == HANDSHAKE && !s->used)
		finished(s);
}

static void connect_slot(struct slot *s)
{
	const struct grpc_channel_options o = {.target = s->b->cfg.address,
		.tls = s->b->tls,
		.on_state = on_state,
		.ctx = s,
		.eager = s->b->kind == HANDSHAKE};
	s->used = false;
	s->channel = grpc_channel_new(s->b->loop, &o);
}

static void call(struct slot *s, const char *const *headers)
{
	(void)grpc_channel_unary(s->channel, METHOD, headers, 20000, s->b->pool[s->b->to_start % POOL], on_answer, s);
}

static void next(struct slot *s)
{
	struct bench *b = s->b;
	if (b->to_start == 0) {
		if (b->open == 0)
			loop_stop(b->loop);
		return;
	}
	b->to_start--;
	b->open++;
	if (!s->channel)
		connect_slot(s);
	if (b->kind != HANDSHAKE)
		call(s, NULL);
}

/* n operations; true when none failed. */
static bool run(struct bench *b, uint32_t n)
{
	uint32_t connections = b->cfg.connections < n ? b->cfg.connections : n;
	struct slot *slots = xzalloc(connections * sizeof(*slots));
	b->to_start = n;
	b->done = 0;
	for (uint32_t i = 0; i < connections; i++)
		slots[i].b = b;
	for (uint32_t w = 0; w < (b->kind == KEPT ? b->cfg.window : 1); w++)
		for (uint32_t i = 0; i < connections; i++)
			next(&slots[i]);
	loop_run(b->loop);
	for (uint32_t i = 0; i < connections; i++)
		grpc_channel_free(slots[i].channel);
	free(slots);
	return !b->failure.text[0];
}

static bool tls_with(struct bench *b, struct str roots, struct err *e)
{
	const char *names[] = {b->cfg.server_name, NULL};
	tls_context_free(b->tls);
	b->tls = tls_context_new(&(struct tls_options){.server = false});
	return tls_context_set_roots(b->tls, roots, e) && tls_context_set_server_names(b->tls, names, e);
}

/* The first certificate, by token; after it the TLS context has an identity. */
static bool join(struct bench *b, struct err *e)
{
	struct str roots = {0}, token = {0};
	char *text = NULL, *key = NULL;
	size_t len = 0;
	if (!file_read(b->cfg.roots, LIMIT_PEM_BYTES, &text, &len, e))
		return err_in(e, "--roots");
	roots = arena_str(b->arena, str_n(text, len));
	free(text);
	if (!file_read(b->cfg.token, LIMIT_JWT_BYTES, &text, &len, e))
		return err_in(e, "--token");
	token = str_trim(str_n(text, len));
	const char *headers[] = {"authorization", arena_printf(b->arena, "Bearer " STR_FMT, STR_ARG(token)), NULL};
	free(text);
	if (!tls_with(b, roots, e))
		return false;
	struct slot s = {.b = b};
	b->to_start = 0;
	b->open = 1;
	connect_slot(&s);
	(void)grpc_channel_unary(s.channel, METHOD, headers, 20000, b->pool[0], on_answer, &s);
	loop_run(b->loop);
	grpc_channel_free(s.channel);
	if (b->failure.text[0])
		return false;
	bool ok = pki_key_pem(b->key, &key, e) && tls_with(b, b->root, e) &&
		  tls_context_set_identity(b->tls, b->chain, str_of(key), e);
	secret_free(key);
	return ok;
}

static bool measure(struct bench *b, enum kind kind, double *per_cpu_s, struct err *e)
{
	uint32_t n = kind == KEPT ? b->cfg.requests : b->cfg.requests / 10;
	double before = 0, after = 0;
	b->kind = kind;
	if (!run(b, n / 20 + 1) || !cpu_of(b->cfg.pids, &before, e))
		return false;
	uint64_t start = clock_mono_ms();
	if (!run(b, n) || !cpu_of(b->cfg.pids, &after, e))
		return false;
	if (kind != HANDSHAKE && !pki_verify(b->chain, b->root, clock_wall_ms(), e))
		return err_in(e, "the certificates that were issued");
	if (after <= before)
		return err_set(e, ERR_SYSTEM, "the processes used no CPU time: are these the right --pid?");
	*per_cpu_s = (double)n / (after - before);
	(void)printf("%-10s %6u in %.1f s, %.2f s of CPU: ", (const char *[]){"kept", "new", "handshake"}[kind], n,
		(double)(clock_mono_ms() - start) / 1000, after - before);
	return true;
}

static bool measure_all(struct bench *b, struct err *e)
{
	static const char *const names[KINDS] = {"kept", "new", "handshake"};
	static const char *const keys[KINDS] = {"csr_kept_per_cpu_s", "csr_new_per_cpu_s", "tls_handshakes_per_cpu_s"};
	struct strbuf json cleanup(strbuf_done) = {0};
	struct floors f;
	if (!floors_measure(&f, e) || !join(b, e))
		return false;
	/* A CSR: one verification, one signature. A handshake: two agreements' halves, a signature, the peer's certificate and proof. */
	const double csr = f.verify_s + f.sign_s, handshake = f.sign_s + f.agree_s + f.sign_s / 2 + 2 * f.verify_s;
	const double floor_s[KINDS] = {csr, csr + handshake, handshake};
	for (size_t i = 0; i < KINDS; i++) {
		double rate = 0, floor = 1 / floor_s[i];
		if (!streq(b->cfg.run, "all") && !streq(b->cfg.run, names[i]))
			continue;
		if (!measure(b, (enum kind)i, &rate, e))
			return false;
		(void)printf("%.0f per CPU-second, %.2f times the floor (%.0f, OpenSSL's operations alone)\n", rate,
			floor / rate, floor);
		(void)fflush(stdout);
		strbuf_addf(&json, "%s\"%s\": %.0f, \"%s_floor\": %.0f", json.len ? ", " : "{", keys[i], rate, keys[i],
			floor);
	}
	strbuf_adds(&json, "}\n");
	return !b->cfg.json || file_write_atomic(b->cfg.json, strbuf_str(&json), 0644, e);
}

static bool prepare(struct bench *b, struct err *e)
{
	b->loop = loop_new();
	b->key = pki_key_new(PKI_P256, e);
	for (size_t i = 0; b->key && i < POOL; i++) {
		struct pki_key *k = i ? pki_key_new(PKI_P256, e) : b->key;
		b->pool[i] = k ? request_of(b, k) : NULL;
		if (i)
			pki_key_free(k);
		if (!b->pool[i])
			return false;
	}
	return b->key != NULL;
}

int main(int argc, char **argv)
{
	struct bench b = {.arena = arena_new()};
	const char *const *rest = NULL;
	struct err e = {0};
	(void)!log_set_levels(STR("warn"), NULL);
	bool ok = options_parse(b.arena, "csr-client", rows, ARRAY_LEN(rows), argc, argv, &b.cfg, &rest, &e);
	if (ok && b.cfg.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("csr_client",
			"measures certificates and handshakes per CPU-second; tests/bench/csr/run starts it with a "
			"citadel of its own",
			rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	if (ok && (!b.cfg.roots || !b.cfg.token || !b.cfg.pids || !b.cfg.pids[0]))
		ok = err_set(&e, ERR_PEER, "--roots, --token and --pid are needed");
	ok = ok && prepare(&b, &e) && measure_all(&b, &e);
	if (!ok)
		(void)fprintf(stderr, "csr_client: %s\n", e.text[0] ? e.text : b.failure.text);
	for (size_t i = 0; i < POOL; i++)
		buf_unref(b.pool[i]);
	tls_context_free(b.tls);
	pki_key_free(b.key);
	loop_free(b.loop);
	arena_free(b.arena);
	return ok ? 0 : 1;
}
