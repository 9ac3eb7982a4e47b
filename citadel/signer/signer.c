/*
 * DOC: One link = one signer process with its end of a socket pair. Requests carry numbers and are answered in order; those that come in one
 * round of the loop are written together before it waits again. A link that ends takes
 * its open requests with it (UNAVAILABLE: the caller may repeat them) and is replaced after a delay that doubles up to 5 s.
 */
#include "citadel/signer/signer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "citadel/signer/frame.h"
#include "common/base/arena.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/io/proc.h"
#include "common/pki/pki.h"

#define PENDING_MAX 4096u
#define BACKOFF_MAX_MS 5000u

LOG_SCOPE(scope, "signer", "the process that holds the CA's key");
METRIC(starts, COUNTER, "citadel_signer_starts_total", "Signer processes started");

struct pending {
	uint32_t id;
	void (*done)(void *ctx, enum signer_result r, const struct signer_answer *a);
	void *ctx;
};

/* What a signer said hello with: of its link while it lives, and of the daemon as long as nobody follows. */
struct greeting {
	struct arena *arena;
	struct signer_ca ca;
	unsigned users;
};

struct link {
	struct signer *owner;
	struct proc *proc;
	int fd;
	struct watch *watch;
	struct strbuf in, out;
	bool ready;
	struct greeting *greeting; /* once ready */
	VEC(struct pending) pending;
};

struct signer {
	struct loop *loop;
	struct signer_options o;
	struct link *current, *next;
	struct link *leaving; /* replaced, and still owes answers */
	struct timer *restart;
	struct before_wait *flush;
	uint64_t backoff_ms;
	uint32_t last_id;
	struct greeting *greeting; /* of the last that was in use */
};

static void greeting_unref(struct greeting *g)
{
	if (!g || --g->users)
		return;
	arena_free(g->arena);
	free(g);
}

static void take_over(struct link *k);

static void link_end(struct link *k, const char *why)
{
	const struct signer_answer a = {.why = str_of(why)};
	for (size_t i = 0; i < k->pending.len; i++)
		k->pending.items[i].done(k->pending.items[i].ctx, SIGNER_UNAVAILABLE, &a);
	vec_done(&k->pending);
	watch_free(k->watch);
	(void)close(k->fd);
	proc_free(k->proc);
	greeting_unref(k->greeting);
	strbuf_done(&k->in);
	strbuf_done(&k->out);
	free(k);
}

/* The link is gone; when it was the one in use, another must come. */
static void link_lost(struct link *k, const char *why)
{
	struct signer *s = k->owner;
	bool in_use = s->current == k;
	char text[512];
	(void)snprintf(text, sizeof(text), "%s", why);
	log_error(&scope, in_use || s->leaving == k ? "signer ended" : "new CA not taken", KV("reason", text));
	s->current = in_use ? NULL : s->current;
	s->next = s->next == k ? NULL : s->next;
	s->leaving = s->leaving == k ? NULL : s->leaving;
	link_end(k, text);
	if (s->current)
		return;
	if (s->next && s->next->ready) { /* better the new CA too early than none */
		take_over(s->next);
		return;
	}
	timer_start(s->restart, s->backoff_ms, 0);
	s->backoff_ms = s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : s->backoff_ms * 2;
	if (s->o.on_down)
		s->o.on_down(s->o.ctx, text);
}

static const char *const *links_of(struct arena *a, struct str chain)
{
	struct pki_cert *certs = NULL;
	size_t n = 0;
	if (chain.len && !pki_certs_parse(a, chain, &certs, &n, NULL))
		n = 0; /* cannot be: the signer has read it */
	const char **out = ARENA_ARRAY(a, const char *, n + 1);
	for (size_t i = 0; i < n; i++) {
		char *pem = pki_cert_pem(&certs[i]);
		out[i] = arena_strdup(a, pem);
		free(pem);
	}
	return out;
}

static int64_t time_of(struct str text)
{
	uint64_t ms = 0;
	return str_u64(text, INT64_MAX, &ms) ? (int64_t)ms : 0;
}

/* What the old one was asked it answers; nobody asks it any more. */
static void let_go(struct signer *s, struct link *old)
{
	if (s->leaving)
		link_end(take(s->leaving), "the CA was loaded again");
	if (old->pending.len)
		s->leaving = old;
	else
		link_end(old, "the CA was loaded again");
}

static void take_over(struct link *k)
{
	struct signer *s = k->owner;
	struct link *old = s->current == k ? NULL : s->current;
	greeting_unref(s->greeting);
	s->greeting = k->greeting;
	s->greeting->users++;
	s->current = k;
	s->next = s->next == k ? NULL : s->next;
	s->backoff_ms = 100;
	if (old)
		let_go(s, old);
	log_info(&scope, "signer ready", KV("pid", proc_pid(k->proc)));
	s->o.on_ready(s->o.ctx);
}

static void on_hello(struct link *k, const struct frame *f)
{
	struct signer *s = k->owner;
	struct arena *a = arena_new();
	k->greeting = xzalloc(sizeof(*k->greeting));
	*k->greeting = (struct greeting){.arena = a,
		.users = 1,
		.ca = {.cert = arena_cstr(a, f->fields[0]),
			.chain = arena_cstr(a, f->fields[1]),
			.roots = arena_cstr(a, f->fields[2]),
			.links = links_of(a, f->fields[1]),
			.phase = arena_cstr(a, f->fields[3]),
			.since_ms = time_of(f->fields[4]),
			.next_ms = time_of(f->fields[5]),
			.step = arena_cstr(a, f->fields[6])}};
	k->ready = true;
	if (s->current == k || !signer_up(s) || !s->o.may_take || s->o.may_take(s->o.ctx, &k->greeting->ca))
		take_over(k);
}

static void on_answer(struct link *k, const struct frame *f)
{
	static const enum signer_result results[FRAME_TYPE_COUNT] = {
		[FRAME_SIGNED] = SIGNER_OK, [FRAME_REFUSED] = SIGNER_REFUSED, [FRAME_FAILED] = SIGNER_FAILED};
	enum signer_result result = results[f->type];
	uint64_t not_after_ms = 0;
	struct signer_answer a = {.why = f->fields[0], .ca = &k->greeting->ca};
	if (result == SIGNER_OK && str_u64(f->fields[2], INT64_MAX, &not_after_ms))
		a = (struct signer_answer){.der = f->fields[0],
			.serial_hex = f->fields[1],
			.not_after_ms = (int64_t)not_after_ms,
			.ca = a.ca};
	else if (result == SIGNER_OK)
		result = SIGNER_FAILED;
	for (size_t i = 0; i < k->pending.len; i++) {
		struct pending p = k->pending.items[i];
		if (p.id != f->id)
			continue;
		k->pending.items[i] = k->pending.items[--k->pending.len];
		p.done(p.ctx, result, &a);
		return;
	}
}

/* False: the link is gone. */
static bool take_frames(struct link *k)
{
	struct strbuf got cleanup(strbuf_done) = k->in; /* moved: a callback may end the link */
	k->in = (struct strbuf){0};
	struct str rest = strbuf_str(&got);
	struct err e = {0};
	for (;;) {
		struct frame f;
		size_t used = 0;
		if (!frame_read(rest, &f, &used, &e)) {
			link_lost(k, e.text);
			return false;
		}
		if (!used)
			break;
		rest = str_from(rest, used);
		if (!k->ready && f.type == FRAME_FAILED && f.n == 1) {
			struct strbuf why cleanup(strbuf_done) = {0};
			strbuf_add(&why, f.fields[0]);
			link_lost(k, why.ptr ? why.ptr : "");
			return false;
		}
		if (!k->ready && f.type == FRAME_HELLO && f.n == SIGNER_HELLO_FIELDS)
			on_hello(k, &f);
		else if (k->ready && f.n == (f.type == FRAME_SIGNED ? 3 : 1))
			on_answer(k, &f);
	}
	strbuf_add(&k->in, rest);
	if (k != k->owner->leaving || k->pending.len)
		return true;
	link_end(take(k->owner->leaving), "the CA was loaded again");
	return false;
}

static bool flush(struct link *k)
{
	size_t done = 0;
	while (done < k->out.len) {
		ssize_t n = send(k->fd, k->out.ptr + done, k->out.len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (done) {
		memmove(k->out.ptr, k->out.ptr + done, k->out.len - done);
		k->out.len -= done;
	}
	watch_set(k->watch, k->out.len ? WATCH_READ | WATCH_WRITE : WATCH_READ);
	return true;
}

static void on_link(void *ctx, int events)
{
	struct link *k = ctx;
	char chunk[65536];
	if ((events & WATCH_WRITE) && !flush(k)) {
		link_lost(k, "the signer process has ended");
		return;
	}
	if (!(events & WATCH_READ))
		return;
	ssize_t n = recv(k->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		link_lost(k, "the signer process has ended");
		return;
	}
	strbuf_add(&k->in, str_n(chunk, (size_t)n));
	(void)take_frames(k);
}

static void on_flush(void *ctx)
{
	struct signer *s = ctx;
	if (signer_up(s) && s->current->out.len && !flush(s->current))
		link_lost(s->current, "the signer process has ended");
}

static const char *const *arguments(struct arena *a, const struct signer_options *o)
{
	VEC(const char *) v = {0};
	vec_push(&v, str_empty(o->program) ? "/proc/self/exe" : o->program);
	vec_push(&v, "signer");
	if (o->ca_dir)
		vec_push(&v, arena_printf(a, "--ca-dir=%s", o->ca_dir));
	if (o->state_dir)
		vec_push(&v, arena_printf(a, "--state-dir=%s", o->state_dir));
	vec_push(&v, arena_printf(a, "--root-key=%s", o->root_key));
	vec_push(&v, arena_printf(a, "--trust-domain=%s", o->trust_domain));
	vec_push(&v, arena_printf(a, "--root-ttl=%llu", (unsigned long long)o->root_ttl_ms));
	vec_push(&v, arena_printf(a, "--max-ttl=%llu", (unsigned long long)o->max_ttl_ms));
	vec_push(&v, arena_printf(a, "--root-distribution=%llums", (unsigned long long)o->distribution_ms));
	if (o->rotate)
		vec_push(&v, "--rotate");
	for (size_t i = 0; o->dns && o->dns[i]; i++)
		vec_push(&v, arena_printf(a, "--dns=%s", o->dns[i]));
	vec_push(&v, NULL);
	const char *const *out = arena_dup(a, v.items, v.len * sizeof(*v.items));
	vec_done(&v);
	return out;
}

static struct link *link_new(struct signer *s, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		(void)err_errno(e, "signer: socketpair");
		return NULL;
	}
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = arguments(a, &s->o);
	o.stdout_fd = pair[1];
	struct proc *p = proc_start(s->loop, &o, NULL, NULL, e);
	(void)close(pair[1]);
	if (!p) {
		(void)close(pair[0]);
		return NULL;
	}
	metric_add(&starts, 1);
	struct link *k = xzalloc(sizeof(*k));
	k->owner = s;
	k->proc = p;
	k->fd = pair[0];
	k->watch = watch_new(s->loop, k->fd, WATCH_READ, on_link, k);
	return k;
}

static void on_restart(void *ctx)
{
	struct signer *s = ctx;
	struct err e = {0};
	if (s->current)
		return;
	s->current = link_new(s, &e);
	if (s->current)
		return;
	log_error(&scope, "signer does not start", KV("error", e.text));
	timer_start(s->restart, BACKOFF_MAX_MS, 0);
}

struct signer *signer_new(struct loop *l, const struct signer_options *o, struct err *e)
{
	struct signer *s = xzalloc(sizeof(*s));
	s->loop = l;
	s->o = *o;
	s->backoff_ms = 100;
	s->restart = timer_new(l, on_restart, s);
	s->flush = before_wait_new(l, on_flush, s);
	s->current = link_new(s, e);
	if (s->current)
		return s;
	signer_free(s);
	return NULL;
}

void signer_free(struct signer *s)
{
	if (!s)
		return;
	timer_free(s->restart);
	before_wait_free(s->flush);
	if (s->leaving)
		link_end(take(s->leaving), "citadel stops");
	if (s->next)
		link_end(take(s->next), "citadel stops");
	if (s->current)
		link_end(take(s->current), "citadel stops");
	greeting_unref(s->greeting);
	free(s);
}

const struct signer_ca *signer_ca(const struct signer *s)
{
	return s->greeting ? &s->greeting->ca : NULL;
}

bool signer_up(const struct signer *s)
{
	return s->current && s->current->ready;
}

int signer_pid(const struct signer *s)
{
	return s->current ? proc_pid(s->current->proc) : 0;
}

void signer_reload(struct signer *s)
{
	struct err e = {0};
	if (s->next)
		link_end(take(s->next), "loaded again");
	s->next = signer_up(s) ? link_new(s, &e) : NULL;
	if (e.kind)
		log_error(&scope, "signer does not start", KV("error", e.text));
}

const struct signer_ca *signer_next_ca(const struct signer *s)
{
	return s->next && s->next->ready ? &s->next->greeting->ca : NULL;
}

void signer_take_next(struct signer *s)
{
	if (s->next && s->next->ready)
		take_over(s->next);
}

/* Before there is anything to wait for. */
static bool refused(struct signer *s, size_t n_dns, struct signer_answer *why, enum signer_result *result)
{
	*result = SIGNER_UNAVAILABLE;
	if (n_dns + 3 > FRAME_FIELDS) {
		*result = SIGNER_REFUSED;
		why->why = STR("too many DNS names");
	} else if (!signer_up(s)) {
		why->why = STR("the signer is not running");
	} else if (s->current->pending.len >= PENDING_MAX) {
		why->why = STR("too many requests wait for the signer");
	}
	return why->why.len != 0;
}

void signer_sign(struct signer *s, struct str csr, const char *uri, const char *const *dns, uint64_t ttl_ms,
	void (*done)(void *ctx, enum signer_result r, const struct signer_answer *a), void *ctx)
{
	char ttl[32];
	size_t n_dns = 0;
	struct signer_answer why = {0};
	enum signer_result result;
	while (dns && dns[n_dns])
		n_dns++;
	if (refused(s, n_dns, &why, &result)) {
		done(ctx, result, &why);
		return;
	}
	(void)snprintf(ttl, sizeof(ttl), "%llu", (unsigned long long)ttl_ms);
	struct frame f = {.type = FRAME_SIGN, .id = ++s->last_id, .n = 3, .fields = {csr, str_of(uri), str_of(ttl)}};
	for (size_t i = 0; i < n_dns; i++)
		f.fields[f.n++] = str_of(dns[i]);
	vec_push(&s->current->pending, ((struct pending){f.id, done, ctx}));
	frame_write(&s->current->out, &f); /* on_flush() sends it */
}
