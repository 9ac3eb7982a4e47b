/*
 * DOC: The signer: loads (or makes) the CA, says hello with the public part, enters the sandbox, and then turns CSRs into certificates, one
 * after the other. It is executed afresh, not only forked, so that nothing of the daemon's memory is in it and nothing of it in the daemon.
 * It trusts the daemon no further than it must: proof of possession, key strength, CA bit, names and lifetime are judged here again,
 * by the limits it was started with. It ends when the descriptor is closed.
 */
#include "citadel/signer/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "citadel/ca/load.h"
#include "citadel/ca/policy.h"
#include "citadel/ca/rotation.h"
#include "citadel/signer/frame.h"
#include "citadel/signer/sandbox.h"
#include "common/base/clock.h"
#include "common/daemon/option.h"

#define CHANNEL_FD 1
#define SKEW_MS (2 * 60 * 1000)
/* Four milliseconds' work when as many wait: the first is not kept long, and citadel writes to each of its connections once for all. */
#define ANSWERS_TOGETHER 32

struct child {
	struct ca_options ca_options;
	struct rotation_plan plan;
	uint64_t max_ttl_ms;
	const char **dns;
	struct ca ca;
	struct pki_issuer *issuer;
};

static const struct option_row rows[] = {
	{.name = "ca-dir", OPT_STR(struct child, ca_options.ca_dir, NULL, "plugged-in CA")},
	{.name = "state-dir", OPT_STR(struct child, ca_options.state_dir, NULL, "own root")},
	{.name = "root-key", OPT_STR(struct child, ca_options.root_key, "p256", "kind of an own root's key")},
	{.name = "root-ttl",
		OPT_MS(struct child, ca_options.root_ttl_ms, "87600h", 1000, 0, "lifetime of an own root")},
	{.name = "trust-domain",
		OPT_STR(struct child, ca_options.trust_domain, "cluster.local", "the only one that is signed for")},
	{.name = "max-ttl", OPT_MS(struct child, max_ttl_ms, "2160h", 1000, 0, "longest lifetime")},
	{.name = "rotate", OPT_BOOL(struct child, plan.automatic, "rotate an own root before it ends")},
	{.name = "root-distribution",
		OPT_MS(struct child, plan.distribute_ms, "24h", 0, 0,
			"how long both roots are out before the new one signs")},
	{.name = "dns", OPT_LIST(struct child, dns, "DNS names that may be signed")},
};

static bool send_all(struct str bytes)
{
	while (bytes.len) {
		ssize_t n = write(CHANNEL_FD, bytes.ptr, bytes.len);
		if (n < 0 && errno != EINTR)
			return false;
		bytes = str_from(bytes, n > 0 ? (size_t)n : 0);
	}
	return true;
}

static bool reply(const struct frame *f)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	frame_write(&b, f);
	return send_all(strbuf_str(&b));
}

static bool sign(struct arena *a, const struct child *c, const struct frame *f, struct pki_issued *out, struct err *e)
{
	struct pki_csr csr;
	uint64_t ttl_ms = 0;
	if (f->type != FRAME_SIGN || f->n < 3 || !str_u64(f->fields[2], INT64_MAX / 2, &ttl_ms))
		return err_set(e, ERR_PEER, "the signer was asked for something else");
	const char *uris[] = {arena_cstr(a, f->fields[1]), NULL};
	const char **dns = ARENA_ARRAY(a, const char *, f->n - 2);
	for (size_t i = 3; i < f->n; i++)
		dns[i - 3] = arena_cstr(a, f->fields[i]);
	const struct policy policy = {c->ca_options.trust_domain, c->dns};
	if (!pki_csr_verify(a, f->fields[0], &csr, e) || !policy_names(&policy, uris[0], dns, e) ||
		!policy_csr(&csr, uris[0], dns, e))
		return false;
	if (ttl_ms < 1000 || ttl_ms > c->max_ttl_ms)
		return err_set(e, ERR_DENIED, "lifetime of %llu ms; 1 s to %llu ms are allowed",
			(unsigned long long)ttl_ms, (unsigned long long)c->max_ttl_ms);
	int64_t now_ms = clock_wall_ms(), end_ms = now_ms + (int64_t)ttl_ms;
	struct pki_cert_request r = {.spki_der = csr.spki_der,
		.uris = uris,
		.dns = dns,
		.not_before_ms = now_ms - SKEW_MS,
		.not_after_ms = end_ms < c->ca.not_after_ms ? end_ms : c->ca.not_after_ms,
		.path_len = -1};
	if (r.not_after_ms <= now_ms)
		return err_set(e, ERR_SYSTEM, "the CA certificate itself has expired");
	return pki_issuer_sign(a, c->issuer, &r, out, e);
}

static void answer(const struct child *c, const struct frame *f, struct strbuf *out)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	struct pki_issued cert = {0};
	struct frame r = {.id = f->id};
	if (sign(a, c, f, &cert, &e)) {
		r.type = FRAME_SIGNED;
		r.n = 3;
		r.fields[0] = cert.der;
		r.fields[1] = cert.serial_hex;
		r.fields[2] = str_of(arena_printf(a, "%lld", (long long)cert.not_after_ms));
	} else {
		bool refused = e.kind == ERR_DENIED || e.kind == ERR_PEER || e.kind == ERR_LIMIT;
		r.type = refused ? FRAME_REFUSED : FRAME_FAILED;
		r.n = 1;
		r.fields[0] = str_of(e.text);
	}
	frame_write(out, &r);
}

/* Answers what is whole in *in, some at a time in one write; what is left moves to the front. False: the end. */
static bool answer_all(const struct child *c, struct strbuf *in, int *code)
{
	struct str rest = strbuf_str(in);
	struct strbuf out cleanup(strbuf_done) = {0};
	struct frame f;
	size_t used = 0, n = 0;
	do {
		if (!frame_read(rest, &f, &used, NULL)) {
			*code = 1;
			return false;
		}
		if (used)
			answer(c, &f, &out);
		rest = str_from(rest, used);
		if (out.len && (!used || ++n % ANSWERS_TOGETHER == 0)) {
			if (!send_all(strbuf_str(&out)))
				return false;
			out.len = 0;
		}
	} while (used);
	memmove(in->ptr, rest.ptr, rest.len);
	in->len = rest.len;
	return true;
}

static int serve(const struct child *c)
{
	struct strbuf in cleanup(strbuf_done) = {0};
	char chunk[65536];
	int code = 0;
	for (;;) {
		ssize_t n = read(CHANNEL_FD, chunk, sizeof(chunk));
		if (n == 0 || (n < 0 && errno != EINTR))
			return 0;
		strbuf_add(&in, str_n(chunk, n > 0 ? (size_t)n : 0));
		if (in.len && !answer_all(c, &in, &code))
			return code;
	}
}

static bool start(struct arena *a, struct child *c, int argc, char **argv, struct err *e)
{
	const char *const *rest = NULL;
	if (!options_parse(a, "citadel-signer", rows, ARRAY_LEN(rows), argc, argv, c, &rest, e))
		return false;
	enum rotation_step step = ROTATION_STAY;
	int64_t next_ms = 0;
	struct rotation r = {0};
	const char *dir = c->ca_options.ca_dir ? c->ca_options.ca_dir : c->ca_options.state_dir;
	c->plan.drain_ms = c->max_ttl_ms;
	/* A folder that comes from elsewhere is rotated there. */
	if (!c->ca_options.ca_dir && !rotation_run(dir, &c->ca_options, &c->plan, clock_wall_ms(), &step, &next_ms, e))
		return err_in(e, "rotation of the root");
	if (!ca_load(a, &c->ca_options, &c->ca, e) || !rotation_read(dir, &r, e))
		return false;
	c->issuer = pki_issuer_new(c->ca.key, c->ca.cert, e);
	if (!c->issuer || !sandbox_enter(e))
		return false;
	const struct frame hello = {.type = FRAME_HELLO,
		.n = SIGNER_HELLO_FIELDS,
		.fields = {c->ca.cert, c->ca.chain, c->ca.roots, str_of(rotation_phase_name(r.phase)),
			str_of(arena_printf(a, "%lld", (long long)r.since_ms)),
			str_of(arena_printf(a, "%lld", (long long)next_ms)), str_of(rotation_step_name(step))}};
	return reply(&hello) || err_errno(e, "signer: hello");
}

int signer_command(int argc, char **argv)
{
	struct arena *a = arena_new();
	struct child c = {0};
	struct err e = {0};
	int code = 1;
	if (start(a, &c, argc, argv, &e))
		code = serve(&c);
	else
		(void)reply(&(struct frame){.type = FRAME_FAILED, .n = 1, .fields = {str_of(e.text)}});
	pki_issuer_free(c.issuer);
	pki_key_free(c.ca.key);
	arena_free(a);
	return code;
}
