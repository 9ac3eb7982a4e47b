/*
 * DOC: One request at a time: get the Lease, and if it is ours or nobody's, or has run out, write it with the version that was read. The write
 * of another one in between is a conflict, and the next turn sees who it was. Times of other machines are never compared with ours.
 */
#include "common/kube/lease.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/kube/kube_internal.h"

METRIC(held_gauge, GAUGE, "kube_lease_held", "whether this process holds the lease", "lease");

LOG_SCOPE(lease_log, "kube-lease", "who of several replicas does what only one may do");

struct kube_lease {
	struct kube *api;
	struct timer *timer;
	char *path, *name, *namespace, *identity;
	uint64_t duration_ms;
	void (*changed)(void *ctx, bool held);
	void *ctx;
	bool held;
	uint64_t sent_ms, renewed_ms; /* our clock: when the request went out, when the last successful one did */
	char *record; /* holder and time of renewal as last seen */
	uint64_t record_ms; /* when they were seen to change */
	json_t *object; /* as last read; NULL: there is none */
	char error[256];
};

static const char *text_at(const json_t *o, const char *a, const char *b)
{
	const char *text = json_string_value(json_object_get(json_object_get(o, a), b));
	return text ? text : "";
}

static uint64_t renew_ms(const struct kube_lease *l)
{
	return l->duration_ms / 5;
}

/* Two thirds of the time the holder is sure; the rest is for whoever takes over to be late. */
static bool is_sure(const struct kube_lease *l)
{
	return clock_mono_ms() - l->renewed_ms < l->duration_ms / 3 * 2;
}

bool kube_lease_held(const struct kube_lease *l)
{
	return l->held && is_sure(l);
}

static void set_held(struct kube_lease *l, bool held)
{
	if (held == l->held)
		return;
	l->held = held;
	metric_set(&held_gauge, held, (const char *)l->name);
	log_info(&lease_log, held ? "the lease is ours" : "the lease is lost", KV("lease", (const char *)l->name),
		KV("holder", text_at(l->object, "spec", "holderIdentity")));
	if (l->changed)
		l->changed(l->ctx, held);
}

static void later(struct kube_lease *l)
{
	if (l->held && !is_sure(l))
		set_held(l, false);
	timer_start(l->timer, random_jitter(renew_ms(l), 0.1), 0);
}

static void failed(struct kube_lease *l, int status, struct str text)
{
	(void)snprintf(
		l->error, sizeof(l->error), "%d " STR_FMT, status, STR_ARG(str_sub(text, 0, min_size(text.len, 240))));
	log_warn(&lease_log, "the lease cannot be kept", KV("lease", (const char *)l->name),
		KV("error", (const char *)l->error));
}

/* ---- writing */

static void on_written(void *ctx, int status, struct str text)
{
	struct kube_lease *l = ctx;
	if (status == 200 || status == 201) {
		l->renewed_ms = l->sent_ms;
		l->error[0] = '\0';
		set_held(l, true);
	} else if (status == 409) {
		set_held(l, false);
	} else {
		failed(l, status, text);
	}
	later(l);
}

/* RFC 3339 with the six digits that the API server insists on. */
static void micro_time(char out[48])
{
	char text[32];
	int64_t now = clock_wall_ms();
	clock_format(now, text);
	struct str whole = str_of(text);
	(void)snprintf(out, 48, STR_FMT ".%03d000Z", STR_ARG(str_sub(whole, 0, whole.len - 1)), (int)(now % 1000));
}

static json_t *wanted(const struct kube_lease *l, bool mine)
{
	char now[48];
	json_t *o = l->object
			    ? json_deep_copy(l->object)
			    : json_pack("{s:s, s:s, s:{s:s, s:s}, s:{}}", "apiVersion", "coordination.k8s.io/v1",
				      "kind", "Lease", "metadata", "name", l->name, "namespace", l->namespace, "spec");
	json_t *spec = json_object_get(o, "spec");
	if (!spec) {
		spec = json_object();
		(void)json_object_set_new(o, "spec", spec);
	}
	json_int_t transitions = json_integer_value(json_object_get(spec, "leaseTransitions"));
	micro_time(now);
	(void)json_object_set_new(spec, "holderIdentity", json_string(l->identity));
	(void)json_object_set_new(spec, "leaseDurationSeconds", json_integer((json_int_t)(l->duration_ms / 1000)));
	(void)json_object_set_new(spec, "renewTime", json_string(now));
	if (!mine) {
		(void)json_object_set_new(spec, "acquireTime", json_string(now));
		(void)json_object_set_new(spec, "leaseTransitions", json_integer(transitions + (l->object != NULL)));
	}
	return o;
}

static void write_lease(struct kube_lease *l, bool mine)
{
	json_t *o = wanted(l, mine);
	char *body = json_dumps(o, JSON_COMPACT);
	char *own cleanup(free_p) = xasprintf("%s/%s", l->path, l->name);
	const struct kube_request r = {
		.method = l->object ? "PUT" : "POST", .path = l->object ? own : l->path, .body = str_of(body)};
	l->sent_ms = clock_mono_ms();
	kube_send(l->api, &r, on_written, l);
	free(body);
	json_decref(o);
}

/* ---- reading */

/* Whether its holder has let it run out, by our own clock. */
static bool ran_out(struct kube_lease *l)
{
	uint64_t now = clock_mono_ms();
	json_int_t seconds = json_integer_value(
		json_object_get(json_object_get(l->object, "spec"), "leaseDurationSeconds"));
	char *record = xasprintf(
		"%s %s", text_at(l->object, "spec", "holderIdentity"), text_at(l->object, "spec", "renewTime"));
	if (!streq(record, l->record)) {
		free(l->record);
		l->record = record;
		l->record_ms = now;
		return false;
	}
	free(record);
	return now - l->record_ms >= (uint64_t)(seconds > 0 ? seconds : 1) * 1000;
}

static void on_read(void *ctx, int status, struct str text)
{
	struct kube_lease *l = ctx;
	if (status != 200 && status != 404) {
		failed(l, status, text);
		later(l);
		return;
	}
	json_decref(l->object);
	l->object = status == 200 ? json_loadb(text.ptr, text.len, 0, NULL) : NULL;
	const char *holder = text_at(l->object, "spec", "holderIdentity");
	bool mine = streq(holder, l->identity);
	if (!l->object || mine || !*holder || ran_out(l)) {
		write_lease(l, mine);
		return;
	}
	l->error[0] = '\0';
	set_held(l, false);
	later(l);
}

static void turn(void *ctx)
{
	struct kube_lease *l = ctx;
	char *own cleanup(free_p) = xasprintf("%s/%s", l->path, l->name);
	const struct kube_request r = {.path = own};
	kube_send(l->api, &r, on_read, l);
}

/* ---- life */

struct kube_lease *kube_lease_new(struct kube *k, const struct kube_lease_options *o)
{
	struct kube_lease *l = xzalloc(sizeof(*l));
	l->api = k;
	l->name = xstrdup(o->name);
	l->namespace = xstrdup(o->namespace);
	l->identity = xstrdup(o->identity);
	l->path = xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases", o->namespace);
	l->duration_ms = o->duration_ms < 1000 ? 1000 : o->duration_ms;
	l->changed = o->changed;
	l->ctx = o->ctx;
	l->timer = timer_new(kube_loop(k), turn, l);
	timer_start(l->timer, 0, 0);
	return l;
}

void kube_lease_free(struct kube_lease *l)
{
	if (!l)
		return;
	timer_free(l->timer);
	json_decref(l->object);
	free(l->record);
	free(l->path);
	free(l->name);
	free(l->namespace);
	free(l->identity);
	free(l);
}

void kube_lease_debug(const struct kube_lease *l, struct strbuf *json)
{
	strbuf_adds(json, "{\"name\":");
	strbuf_add_json(json, str_of(l->name));
	strbuf_adds(json, ",\"holder\":");
	strbuf_add_json(json, str_of(text_at(l->object, "spec", "holderIdentity")));
	strbuf_addf(json, ",\"held\":%s,\"error\":", kube_lease_held(l) ? "true" : "false");
	strbuf_add_json(json, str_of(l->error));
	strbuf_addc(json, '}');
}
