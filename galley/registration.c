/*
 * DOC: An entry is known by its name, and lives by the word of the pilots that its workload is connected to. A pilot says when it is gone; a pilot
 * that has said nothing for EXPIRY_MS, although it repeats itself four times in that time, vouches for nobody any more. Labels are the
 * group's template's, then the group's, then the workload's own; the identity is the one that its certificate proved, and a group that names
 * a service account takes no other (Istio's rules). What is wrong with the outcome, galley finds as in any document.
 */
#include "galley/registration.h"

#include <jansson.h>
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "cfg/networking/workload_group.pb-c.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/labels.h"
#include "common/pb/json.h"
#include "galley/pipeline.h"

#define EXPIRY_MS 120000u
#define PREFIX "workload/"
#define ENTRIES_MAX 10000u

METRIC(entries_gauge, GAUGE, "galley_registered_workloads", "WorkloadEntries of workloads that registered themselves");
METRIC(errors_total, COUNTER, "auto_registration_errors_total", "workloads that could not be registered");

LOG_SCOPE(registration_log, "registration", "workloads that register themselves");

struct voucher {
	char *pilot;
	json_t *said; /* an object of texts */
	uint64_t seen_ms;
};

struct entry_record {
	char *key; /* "ns/name" */
	char *ns, *name;
	VEC(struct voucher) vouchers;
	uint64_t since_ms; /* for one that only a file of the last run knows */
	char *document; /* that was put, NULL: none */
	char *problem; /* why there is none; logged once */
};

struct registrations {
	const struct registration_ops *ops;
	void *ctx;
	struct map *entries;
};

struct registrations *registrations_new(const struct registration_ops *ops, void *ctx)
{
	struct registrations *r = xzalloc(sizeof(*r));
	r->ops = ops;
	r->ctx = ctx;
	r->entries = map_new();
	return r;
}

static void voucher_done(struct voucher *v)
{
	free(v->pilot);
	json_decref(v->said);
}

static void record_free(struct entry_record *x)
{
	for (size_t i = 0; i < x->vouchers.len; i++)
		voucher_done(&x->vouchers.items[i]);
	vec_done(&x->vouchers);
	free(x->key);
	free(x->ns);
	free(x->name);
	free(x->document);
	free(x->problem);
	free(x);
}

void registrations_free(struct registrations *r)
{
	struct str key;
	void *x;
	if (!r)
		return;
	for (size_t i = 0; map_next(r->entries, &i, &key, &x);)
		record_free(x);
	map_free(r->entries);
	free(r);
}

/* ---- reports */

static struct entry_record *record_need(struct registrations *r, struct str ns, struct str name)
{
	char *key cleanup(free_p) = xasprintf(STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name));
	struct entry_record *x = map_get(r->entries, str_of(key));
	if (x || map_len(r->entries) >= ENTRIES_MAX)
		return x;
	x = xzalloc(sizeof(*x));
	x->key = xstrdup(key);
	x->ns = xstrndup(ns.ptr, ns.len);
	x->name = xstrndup(name.ptr, name.len);
	(void)map_put(r->entries, str_of(x->key), x);
	metric_set(&entries_gauge, (double)map_len(r->entries));
	return x;
}

static struct voucher *voucher_find(struct entry_record *x, struct str pilot)
{
	for (size_t i = 0; i < x->vouchers.len; i++)
		if (str_eqc(pilot, x->vouchers.items[i].pilot))
			return &x->vouchers.items[i];
	return NULL;
}

static void voucher_drop(struct entry_record *x, struct voucher *v)
{
	voucher_done(v);
	*v = x->vouchers.items[--x->vouchers.len];
}

static json_t *texts_of(struct str value)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const Fl__Object *o = PB_UNPACK(a, Fl__Object, fl__object, value.ptr, value.len, NULL);
	json_t *j = o ? json_object() : NULL;
	for (size_t i = 0; o && i < o->n_annotations; i++)
		(void)json_object_set_new(j, o->annotations[i]->key, json_string(o->annotations[i]->value));
	return j;
}

bool registrations_report(struct registrations *r, const struct bus_change *c, uint64_t mono_ms)
{
	struct str rest, ns, name, pilot;
	if (!str_starts(c->key, STR(PREFIX)))
		return false;
	rest = str_from(c->key, strlen(PREFIX));
	if (!str_cut(rest, '/', &ns, &rest) || !str_cut(rest, '/', &name, &pilot) || !ns.len || !name.len || !pilot.len)
		return false;
	struct entry_record *x = record_need(r, ns, name);
	struct voucher *v = x ? voucher_find(x, pilot) : NULL;
	json_t *said = c->value.len ? texts_of(c->value) : NULL;
	if (!x || (c->value.len && !said))
		return false;
	if (!said && v)
		voucher_drop(x, v);
	if (!said)
		return true;
	if (!v) {
		vec_push(&x->vouchers, ((struct voucher){.pilot = xstrndup(pilot.ptr, pilot.len)}));
		v = &x->vouchers.items[x->vouchers.len - 1];
	}
	json_decref(v->said);
	v->said = said;
	v->seen_ms = mono_ms;
	return true;
}

/* ---- the document */

static const char *text(const struct voucher *v, const char *key)
{
	const char *s = json_string_value(json_object_get(v->said, key));
	return s ? s : "";
}

/* Of several pilots' words the last connection's. */
static const struct voucher *best_voucher(const struct entry_record *x)
{
	const struct voucher *best = NULL;
	for (size_t i = 0; i < x->vouchers.len; i++) {
		const struct voucher *v = &x->vouchers.items[i];
		int c = best ? strcmp(text(v, "connected"), text(best, "connected")) : 1; /* "true" after "false" */
		if (c > 0 || (c == 0 && strcmp(text(v, "connectedAt"), text(best, "connectedAt")) > 0))
			best = v;
	}
	return best;
}

static json_t *as_json(const void *message)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	if (message)
		pb_to_json(message, &(struct pb_encode_options){0}, &b);
	return b.len ? json_loads(b.ptr, 0, NULL) : json_object();
}

static void add_labels(json_t *labels, struct label_set more)
{
	for (size_t i = 0; i < more.n; i++) {
		struct label l = label_at(more, i);
		(void)json_object_set_new(labels, l.key, json_string(l.value));
	}
}

static json_t *labels_of(const Cfg__WorkloadGroup *g, const struct voucher *v)
{
	json_t *labels = json_object(), *own = json_loads(text(v, "labels"), 0, NULL);
	if (g->template_)
		add_labels(labels, LABELS(g->template_, labels));
	if (g->metadata)
		add_labels(labels, LABELS(g->metadata, labels));
	if (json_is_object(own))
		(void)json_object_update(labels, own);
	(void)json_object_del(labels, "istio-locality"); /* has become the entry's locality */
	json_decref(own);
	return labels;
}

static json_t *annotations_of(const struct object *group, const Cfg__WorkloadGroup *g, const struct voucher *v)
{
	bool here = streq(text(v, "connected"), "true");
	json_t *j = json_pack("{s:s}", "istio.io/autoRegistrationGroup", group->name);
	if (g->metadata)
		add_labels(j, LABELS(g->metadata, annotations));
	(void)json_object_set_new(j, "istio.io/workloadController", json_string(v->pilot));
	(void)json_object_set_new(j, here ? "istio.io/connectedAt" : "istio.io/disconnectedAt",
		json_string(text(v, here ? "connectedAt" : "disconnectedAt")));
	if (streq(text(v, "probed"), "true"))
		(void)json_object_set_new(j, "proxy.istio.io/health-checks-enabled", json_string("true"));
	return j;
}

static void set_or(json_t *spec, const char *key, const char *value)
{
	if (!str_empty(value))
		(void)json_object_set_new(spec, key, json_string(value));
}

static json_t *spec_of(const Cfg__WorkloadGroup *g, const struct voucher *v, json_t *labels)
{
	json_t *spec = as_json(g->template_);
	set_or(spec, "address", text(v, "address"));
	set_or(spec, "network", text(v, "network"));
	set_or(spec, "locality", text(v, "locality"));
	set_or(spec, "serviceAccount", text(v, "serviceAccount"));
	(void)json_object_set(spec, "labels", labels);
	return spec;
}

static json_t *status_of(const struct voucher *v)
{
	bool healthy = streq(text(v, "healthy"), "true");
	if (!*text(v, "healthy"))
		return NULL;
	return json_pack("{s:[{s:s, s:s, s:s, s:s, s:s}]}", "conditions", "type", "Healthy", "status",
		healthy ? "True" : "False", "lastProbeTime", text(v, "healthAt"), "lastTransitionTime",
		text(v, "healthAt"), "message", text(v, "healthMessage"));
}

static json_t *owner_of(const struct object *group)
{
	return json_pack("[{s:s, s:s, s:s, s:s, s:b}]", "apiVersion", "networking.istio.io/v1", "kind", "WorkloadGroup",
		"name", group->name, "uid", group->meta->uid, "controller", 1);
}

static char *document_of(const struct entry_record *x, const struct object *group, const struct voucher *v)
{
	const Cfg__WorkloadGroup *g = (const Cfg__WorkloadGroup *)group->message;
	json_t *labels = labels_of(g, v), *status = status_of(v);
	json_t *j = json_pack("{s:s, s:s, s:{s:s, s:s, s:O, s:o}, s:o}", "apiVersion", "networking.istio.io/v1", "kind",
		"WorkloadEntry", "metadata", "name", x->name, "namespace", x->ns, "labels", labels, "annotations",
		annotations_of(group, g, v), "spec", spec_of(g, v, labels));
	if (!str_empty(group->meta->uid))
		(void)json_object_set_new(json_object_get(j, "metadata"), "ownerReferences", owner_of(group));
	if (status)
		(void)json_object_set_new(j, "status", status);
	char *out = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(labels);
	json_decref(j);
	return out;
}

/* ---- the other side: what an agent must be told */

static const struct object *find_group(const struct galley *g, const char *ns, const char *name)
{
	char *key cleanup(free_p) = xasprintf("WorkloadGroup/%s/%s", ns, name);
	const struct slot *slot = map_get(g->store.slots, str_of(key));
	return slot ? slot->good : NULL;
}

bool galley_group_config(const struct galley *g, const char *ns, const char *group, struct strbuf *json, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const struct object *o = find_group(g, ns, group);
	if (!o)
		return err_set(e, ERR_PEER, "there is no WorkloadGroup %s/%s", ns, group);
	const Cfg__WorkloadGroup *spec = (const Cfg__WorkloadGroup *)o->message;
	const Cfg__WorkloadEntry *t = spec->template_;
	json_t *labels = json_object(), *config = as_json(galley_mesh(g, a)->default_config);
	if (spec->metadata)
		add_labels(labels, LABELS(spec->metadata, labels));
	if (spec->probe)
		(void)json_object_set_new(config, "readinessProbe", as_json(spec->probe));
	json_t *j = json_pack("{s:s, s:s, s:s, s:o, s:o}", "serviceAccount",
		t && !str_empty(t->service_account) ? t->service_account : "default", "network", t ? t->network : "",
		"locality", t ? t->locality : "", "labels", labels, "proxyConfig", config);
	char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	strbuf_adds(json, text);
	free(text);
	json_decref(j);
	return true;
}

/* ---- what is to be stored */

static void complain(struct entry_record *x, char *problem)
{
	if (!x->problem || !streq(x->problem, problem)) {
		metric_add(&errors_total, 1);
		log_warn(&registration_log, "workload not registered", KV("entry", x->key), KV("reason", problem));
	}
	free(x->problem);
	x->problem = problem;
}

/* NULL: it cannot be registered, and x->problem says why. */
static char *wanted(struct entry_record *x, const struct galley *g, const struct voucher *v)
{
	const char *group = text(v, "group");
	const struct object *o = find_group(g, x->ns, group);
	if (!o) {
		complain(x, xasprintf("there is no WorkloadGroup %s/%s", x->ns, group));
		return NULL;
	}
	const Cfg__WorkloadGroup *spec = (const Cfg__WorkloadGroup *)o->message;
	const char *account = spec->template_ ? spec->template_->service_account : "";
	if (!str_empty(account) && !streq(account, text(v, "serviceAccount"))) {
		complain(x, xasprintf("WorkloadGroup %s/%s is for service account %s, not %s", x->ns, group, account,
				    text(v, "serviceAccount")));
		return NULL;
	}
	free(take(x->problem));
	return document_of(x, o, v);
}

static void take_away(struct registrations *r, struct entry_record *x)
{
	if (x->document)
		r->ops->remove(r->ctx, x->ns, x->name);
	free(take(x->document));
}

static void expire(struct entry_record *x, uint64_t mono_ms)
{
	for (size_t i = x->vouchers.len; i-- > 0;)
		if (mono_ms - x->vouchers.items[i].seen_ms > EXPIRY_MS)
			voucher_drop(x, &x->vouchers.items[i]);
}

static void sync_one(struct registrations *r, struct entry_record *x, const struct galley *g)
{
	const struct voucher *v = best_voucher(x);
	char *document = wanted(x, g, v);
	if (!document) {
		take_away(r, x);
	} else if (!x->document || !streq(x->document, document)) {
		free(x->document);
		x->document = xstrdup(document);
		r->ops->put(r->ctx, x->ns, x->name, document);
	}
	free(document);
}

void registrations_sync(struct registrations *r, const struct galley *g, uint64_t mono_ms)
{
	struct str key;
	void *value;
	for (size_t i = 0; map_next(r->entries, &i, &key, &value);) {
		struct entry_record *x = value;
		expire(x, mono_ms);
		if (x->vouchers.len) {
			x->since_ms = 0;
			sync_one(r, x, g);
		} else if (!x->since_ms || mono_ms - x->since_ms > EXPIRY_MS) {
			take_away(r, x);
			(void)map_del(r->entries, key);
			record_free(x);
		}
	}
	metric_set(&entries_gauge, (double)map_len(r->entries));
}

void registrations_failed(struct registrations *r, const char *ns, const char *name)
{
	char *key cleanup(free_p) = xasprintf("%s/%s", ns, name);
	struct entry_record *x = map_get(r->entries, str_of(key));
	metric_add(&errors_total, 1);
	if (x)
		free(take(x->document));
}

/* ---- over a restart */

void registrations_save(const struct registrations *r, struct strbuf *json)
{
	struct str key;
	void *value;
	json_t *all = json_object();
	for (size_t i = 0; map_next(r->entries, &i, &key, &value);) {
		const struct entry_record *x = value;
		if (x->document)
			(void)json_object_set_new(all, x->key, json_string(x->document));
	}
	char *out = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
	strbuf_adds(json, out ? out : "{}");
	free(out);
	json_decref(all);
}

bool registrations_load(struct registrations *r, struct str json, uint64_t mono_ms, struct err *e)
{
	json_error_t error;
	json_t *all = json_loadb(json.ptr, json.len, 0, &error), *document;
	const char *key;
	if (!json_is_object(all)) {
		json_decref(all);
		return err_set(e, ERR_PEER, "a JSON object is expected");
	}
	json_object_foreach(all, key, document)
	{
		struct str ns, name;
		struct entry_record *x = str_cut(str_of(key), '/', &ns, &name) && json_is_string(document)
						 ? record_need(r, ns, name)
						 : NULL;
		if (!x)
			continue;
		x->since_ms = mono_ms ? mono_ms : 1;
		free(x->document);
		x->document = xstrdup(json_string_value(document));
		r->ops->put(r->ctx, x->ns, x->name, x->document);
	}
	json_decref(all);
	return true;
}

void registrations_debug(const struct registrations *r, struct strbuf *json)
{
	struct str key;
	void *value;
	size_t n = 0;
	strbuf_addc(json, '[');
	for (size_t i = 0; map_next(r->entries, &i, &key, &value);) {
		const struct entry_record *x = value;
		strbuf_adds(json, n++ ? ",{\"entry\":" : "{\"entry\":");
		strbuf_add_json(json, str_of(x->key));
		strbuf_addf(json, ",\"pilots\":%zu,\"problem\":", x->vouchers.len);
		strbuf_add_json(json, str_of(x->problem ? x->problem : ""));
		strbuf_adds(json, ",\"document\":");
		strbuf_adds(json, x->document ? x->document : "null");
		strbuf_addc(json, '}');
	}
	strbuf_addc(json, ']');
}
