/*
 * DOC: Which CA may take over from the one that signs. Whatever the new files say, two things must hold, or certificates in use stop working: the
 * new bundle must vouch for what the old issuer has signed, and everybody must trust the new issuer before it signs. The documented steps
 * (both roots into root-cert.pem; then the new issuer; then the old root out) keep to that. A bundle that forgets the old issuer is refused as
 * long as this process lives. A root that came while we run is given time to reach everybody before its issuer signs: the new bundle is
 * out, the old signer goes on, the new one waits. Steps of ca/rotation.h keep time themselves. Every replica decides by the same files, so that all have the same bundle.
 */
#include <stdlib.h>

#include "citadel/ca/rotation.h"
#include "citadel/daemon.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"

#define LOOK_AGAIN_MS 3600000u

METRIC(phase_gauge, GAUGE, "citadel_root_rotation_phase", "1 for the phase that the rotation of the root is in",
	"phase");
METRIC(steps, COUNTER, "citadel_root_rotation_steps_total", "steps taken by a rotation of the root", "step");
METRIC(refused_cas, COUNTER, "citadel_ca_refused_total",
	"changes of the CA that were not taken, because certificates in use would fail");

/* When a root was first in our bundle; those of the start count as old. */
struct first_seen {
	uint64_t at_ms;
};

static void remember_roots(struct citadel *c, const struct signer_ca *ca)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_cert *roots = NULL;
	size_t n = 0;
	const bool start = map_len(c->roots_seen) == 0;
	if (!pki_certs_parse(a, str_of(ca->roots), &roots, &n, NULL))
		n = 0; /* cannot be: the signer has verified itself by them */
	for (size_t i = 0; i < n; i++) {
		if (map_get(c->roots_seen, roots[i].der))
			continue;
		struct first_seen *s = xzalloc(sizeof(*s));
		s->at_ms = start ? 0 : clock_mono_ms();
		(void)map_put(c->roots_seen, roots[i].der, s);
	}
}

static bool vouches(const char *roots, const struct signer_ca *issuer)
{
	char *chain cleanup(free_p) = xasprintf("%s%s", issuer->cert, issuer->chain);
	return pki_verify(str_of(chain), str_of(roots), clock_wall_ms(), NULL);
}

const char *citadel_roots(const struct citadel *c)
{
	const struct signer_ca *next = c->hold_until_ms ? signer_next_ca(c->signer) : NULL;
	return next ? next->roots : signer_ca(c->signer)->roots;
}

/* Since when a root that vouches for this issuer is in our bundle. */
static uint64_t trusted_since(const struct citadel *c, const struct signer_ca *issuer)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_cert *roots = NULL;
	size_t n = 0;
	uint64_t since = clock_mono_ms();
	if (!pki_certs_parse(a, str_of(issuer->roots), &roots, &n, NULL))
		n = 0;
	for (size_t i = 0; i < n; i++) {
		char *pem cleanup(free_p) = pki_pem(
			"CERTIFICATE", (const unsigned char *)roots[i].der.ptr, roots[i].der.len);
		const struct first_seen *s = map_get(c->roots_seen, roots[i].der);
		if (s && s->at_ms < since && vouches(pem, issuer))
			since = s->at_ms;
	}
	return since;
}

static void refuse(struct citadel *c, const char *why)
{
	c->ca_refused = why;
	metric_add(&refused_cas, 1);
	log_error(&citadel_log, "new CA not taken; put the old and the new root into root-cert.pem first",
		KV("reason", why));
}

bool rollover_may_take(void *ctx, const struct signer_ca *next)
{
	struct citadel *c = ctx;
	const struct signer_ca *now = signer_ca(c->signer);
	c->hold_until_ms = 0;
	c->ca_refused = NULL;
	if (!vouches(next->roots, now)) {
		refuse(c, "its roots do not vouch for what is in use");
		return false;
	}
	if (streq(next->cert, now->cert) || !streq(next->phase, rotation_phase_name(ROTATION_NONE)))
		return true;
	const uint64_t since = trusted_since(c, next), now_ms = clock_mono_ms();
	remember_roots(c, next);
	if (since == 0 || now_ms >= since + c->cfg->distribution_ms)
		return true;
	c->hold_until_ms = since + c->cfg->distribution_ms;
	timer_start(c->rollover, c->hold_until_ms - now_ms, 0);
	log_info(&citadel_log, "the new CA signs when its root is everywhere", KV("in_ms", c->hold_until_ms - now_ms));
	citadel_roots_changed(c);
	return false;
}

void rollover_taken(struct citadel *c)
{
	const struct signer_ca *ca = signer_ca(c->signer);
	c->hold_until_ms = 0;
	c->ca_refused = NULL;
	remember_roots(c, ca);
	for (int p = 0; p < ROTATION_PHASE_COUNT; p++)
		metric_set(&phase_gauge, streq(ca->phase, rotation_phase_name((enum rotation_phase)p)),
			rotation_phase_name((enum rotation_phase)p));
	if (!streq(ca->step, rotation_step_name(ROTATION_STAY))) {
		metric_add(&steps, 1, ca->step);
		log_info(&citadel_log, "rotation of the root", KV("step", ca->step), KV("phase", ca->phase));
	}
	if (ca->next_ms) { /* not later than in an hour: clocks are set */
		int64_t left_ms = ca->next_ms - clock_wall_ms();
		timer_start(c->rollover, left_ms <= 0 ? 1 : min_size((size_t)left_ms, LOOK_AGAIN_MS), 0);
	}
}

static void on_timer(void *ctx)
{
	struct citadel *c = ctx;
	if (signer_next_ca(c->signer) && !c->ca_refused && c->hold_until_ms)
		signer_take_next(c->signer);
	else
		signer_reload(c->signer);
}

void rollover_start(struct citadel *c)
{
	c->roots_seen = map_new();
	c->rollover = timer_new(daemon_loop(c->daemon), on_timer, c);
}

void rollover_stop(struct citadel *c)
{
	struct str key;
	void *value;
	timer_free(c->rollover);
	for (size_t i = 0; c->roots_seen && map_next(c->roots_seen, &i, &key, &value);)
		free(value);
	map_free(c->roots_seen);
}

void rollover_debug(const struct citadel *c, struct strbuf *json)
{
	const struct signer_ca *ca = signer_ca(c->signer);
	char since[32] = "", next[32] = "";
	if (ca && ca->since_ms)
		clock_format(ca->since_ms, since);
	if (ca && ca->next_ms)
		clock_format(ca->next_ms, next);
	strbuf_addf(json, "{\"phase\":\"%s\",\"since\":\"%s\",\"nextStep\":\"%s\",\"newCaSignsInMs\":%lld,\"refused\":",
		ca ? ca->phase : "", since, next,
		c->hold_until_ms > clock_mono_ms() ? (long long)(c->hold_until_ms - clock_mono_ms()) : 0ll);
	strbuf_add_json(json, str_of(c->ca_refused ? c->ca_refused : ""));
	size_t kept = min_size(c->issued, ISSUANCES), others = 0;
	for (size_t i = 0; i < kept; i++)
		others += ca && c->ring[i].not_after_ms > clock_wall_ms() && c->ring[i].issuer != citadel_issuer(ca);
	strbuf_addf(json, ",\"validByEarlierIssuers\":%zu}", others);
}
