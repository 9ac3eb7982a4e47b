/*
 * DOC: With files as the source an entry is a document under the name "registered/<namespace>/<name>", as if a file held it, and all of them are
 * in registered.json of the state folder, so that a galley that starts does not forget workloads before their pilots have reported again. In
 * a cluster an entry is applied (server-side apply, which makes or changes it) and comes back by the watch like any other; its status,
 * which carries the health condition, is a resource of its own there.
 */
#include "galley/registered.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/io/file.h"

#define FILE_NAME "registered.json"
#define MANAGER "fieldManager=fairlead-registration&force=true"
#define APPLY "application/apply-patch+yaml"

LOG_SCOPE(registered_log, "registered", "entries of workloads that registered themselves");

struct registered {
	struct registered_options o;
	char *file; /* NULL: none */
	struct registrations *registrations;
	bool unsaved;
};

/* ---- documents of this galley */

static void put_document(struct registered *r, const char *ns, const char *name, const char *document)
{
	char *file cleanup(free_p) = xasprintf("registered/%s/%s", ns, name);
	r->unsaved = true;
	if (document)
		r->o.put(r->o.ctx, str_of(file), str_of(document));
	else
		r->o.remove(r->o.ctx, str_of(file));
}

static void save(struct registered *r)
{
	struct strbuf json cleanup(strbuf_done) = {0};
	struct err e = {0};
	if (!r->unsaved || !r->file)
		return;
	registrations_save(r->registrations, &json);
	r->unsaved = false;
	if (!file_write_atomic(r->file, strbuf_str(&json), 0600, &e))
		log_error(&registered_log, "registered workloads not written", KV("error", e.text));
}

static void load(struct registered *r, uint64_t mono_ms)
{
	struct err e = {0};
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	if (!r->file || !file_exists(r->file))
		return;
	if (!file_read(r->file, LIMIT_FILE_BYTES, &text, &len, &e) ||
		!registrations_load(r->registrations, str_n(text, len), mono_ms, &e))
		log_warn(&registered_log, "registered workloads not read", KV("file", r->file), KV("error", e.text));
	r->unsaved = false;
}

/* ---- objects of the cluster */

struct write {
	struct registered *owner;
	char *ns, *name;
	char *status; /* still to be applied, NULL: none */
	bool removal;
};

static void write_free(struct write *w)
{
	free(w->ns);
	free(w->name);
	free(w->status);
	free(w);
}

static void send_write(struct write *w, const char *method, const char *sub, const char *body);

static void on_written(void *ctx, int status, struct str text)
{
	struct write *w = ctx;
	bool ok = (status >= 200 && status < 300) || (w->removal && status == 404);
	char *condition cleanup(free_p) = take(w->status);
	if (ok && condition) {
		send_write(w, "PATCH", "/status", condition);
		return;
	}
	if (!ok) {
		log_warn(&registered_log, "WorkloadEntry not written", KV("namespace", w->ns), KV("name", w->name),
			KV("status", status), KV("reason", text));
		registrations_failed(w->owner->registrations, w->ns, w->name);
	}
	write_free(w);
}

static void send_write(struct write *w, const char *method, const char *sub, const char *body)
{
	char *path cleanup(free_p) = xasprintf("/apis/networking.istio.io/v1/namespaces/%s/workloadentries/%s%s%s",
		w->ns, w->name, sub, body ? "?" MANAGER : "");
	const struct kube_request q = {
		.method = method, .path = path, .content_type = APPLY, .body = str_of(body ? body : "")};
	kube_send(w->owner->o.api, &q, on_written, w);
}

/* The object without its status, and with nothing but it: the API server takes each by its own path. */
static void split_status(const char *document, char **object, char **status)
{
	json_t *j = json_loads(document, 0, NULL), *condition = json_incref(json_object_get(j, "status"));
	(void)json_object_del(j, "status");
	*object = json_dumps(j, JSON_COMPACT);
	(void)json_object_del(j, "spec");
	(void)json_object_set_new(j, "metadata",
		json_pack("{s:O, s:O}", "name", json_object_get(json_object_get(j, "metadata"), "name"), "namespace",
			json_object_get(json_object_get(j, "metadata"), "namespace")));
	(void)json_object_set(j, "status", condition);
	*status = condition ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(condition);
	json_decref(j);
}

static void put_object(struct registered *r, const char *ns, const char *name, const char *document)
{
	struct write *w = xzalloc(sizeof(*w));
	char *object cleanup(free_p) = NULL;
	*w = (struct write){.owner = r, .ns = xstrdup(ns), .name = xstrdup(name), .removal = !document};
	if (document)
		split_status(document, &object, &w->status);
	send_write(w, document ? "PATCH" : "DELETE", "", object);
}

/* ---- the interface */

static void on_put(void *ctx, const char *ns, const char *name, const char *document)
{
	struct registered *r = ctx;
	if (r->o.api)
		put_object(r, ns, name, document);
	else
		put_document(r, ns, name, document);
}

static void on_remove(void *ctx, const char *ns, const char *name)
{
	on_put(ctx, ns, name, NULL);
}

struct registered *registered_new(const struct registered_options *o, uint64_t mono_ms)
{
	static const struct registration_ops ops = {on_put, on_remove};
	struct registered *r = xzalloc(sizeof(*r));
	r->o = *o;
	r->file = o->state_dir && !o->api ? xasprintf("%s/" FILE_NAME, o->state_dir) : NULL;
	r->registrations = registrations_new(&ops, r);
	load(r, mono_ms);
	return r;
}

void registered_free(struct registered *r)
{
	if (!r)
		return;
	save(r);
	registrations_free(r->registrations);
	free(r->file);
	free(r);
}

bool registered_report(struct registered *r, const struct bus_change *changes, size_t n, uint64_t mono_ms)
{
	bool any = false;
	for (size_t i = 0; i < n; i++)
		any |= registrations_report(r->registrations, &changes[i], mono_ms);
	return any;
}

void registered_sync(struct registered *r, const struct galley *g, uint64_t mono_ms)
{
	registrations_sync(r->registrations, g, mono_ms);
	save(r);
}

void registered_debug(const struct registered *r, struct strbuf *json)
{
	registrations_debug(r->registrations, json);
}
