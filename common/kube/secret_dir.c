/* DOC: See the header. Every step is one request; what the API server refuses for the moment (no answer, 429, 5xx) is asked again. */
#include "common/kube/secret_dir.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/file.h"

#define TIMEOUT_MS 60000u
#define RETRY_MS 500u
#define SCRATCH "/tmp/fairlead-secret-XXXXXX"

struct job {
	const struct kube_secret_options *o;
	struct loop *loop;
	struct kube *kube;
	struct timer *retry, *deadline;
	const char *ns;
	char *body; /* of the POST, once made */
	json_t *secret; /* the answer that counts */
	bool made, failed, edited;
	struct err error;
};

static void ask(void *ctx);

static void fail(struct job *j, enum err_kind kind, const char *what, struct str why)
{
	j->failed = true;
	(void)err_set(&j->error, kind, "%s Secret %s/%s: " STR_FMT, what, j->ns, j->o->name, STR_ARG(why));
	loop_stop(j->loop);
}

static bool passing(int status)
{
	return status == 0 || status == 429 || status >= 500;
}

static void again(struct job *j, const char *what, struct str why)
{
	(void)err_set(&j->error, ERR_PEER, "%s Secret %s/%s: " STR_FMT, what, j->ns, j->o->name, STR_ARG(why));
	timer_start(j->retry, RETRY_MS, 0);
}

static void put_edited(struct job *j);

static void take_answer(struct job *j, struct str text)
{
	json_decref(j->secret);
	j->secret = json_loadb(text.ptr, text.len, 0, NULL);
	if (!j->secret)
		fail(j, ERR_PEER, "read", STR("the answer is not JSON"));
	else if (j->o->edit && !j->edited)
		put_edited(j);
	else
		loop_stop(j->loop);
}

/* ---- make */

static bool add_file(json_t *data, const char *scratch, const char *name, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", scratch, name), *content = NULL;
	size_t len;
	struct strbuf encoded = {0};
	if (!file_read(path, LIMIT_PEM_BYTES, &content, &len, e))
		return false;
	base64_write(str_n(content, len), &encoded);
	(void)json_object_set_new(data, name, json_string(encoded.ptr ? encoded.ptr : ""));
	explicit_bzero(content, len);
	free(content);
	if (encoded.ptr)
		explicit_bzero(encoded.ptr, encoded.len);
	strbuf_done(&encoded);
	(void)unlink(path);
	return true;
}

/* The scratch folder's files become entries and are removed. */
static bool collect(json_t *data, const char *scratch, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandir(scratch, &names, NULL, alphasort);
	bool ok = n >= 0 || err_errno(e, "read %s", scratch);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.')
			ok = add_file(data, scratch, names[i]->d_name, e) && ok;
		free(names[i]);
	}
	free(names);
	return ok;
}

static void wipe_json(char *body)
{
	if (body)
		explicit_bzero(body, strlen(body));
	free(body);
}

static bool make_body(struct job *j, struct err *e)
{
	char scratch[] = SCRATCH;
	json_t *data = json_object();
	bool ok = mkdtemp(scratch) || err_errno(e, "make a folder in /tmp");
	ok = ok && j->o->make(j->o->ctx, scratch, e) && collect(data, scratch, e);
	(void)rmdir(scratch);
	json_t *s = json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:o}", "apiVersion", "v1", "kind", "Secret",
		"type", "Opaque", "metadata", "name", j->o->name, "namespace", j->ns, "labels",
		"app.kubernetes.io/managed-by", "fairlead", "data", data);
	if (ok)
		j->body = json_dumps(s, JSON_COMPACT);
	json_decref(s);
	return ok;
}

/* ---- files */

static bool write_file(const char *dir, const char *name, struct str content, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", dir, name), *held = NULL;
	size_t len = 0;
	bool same = file_exists(path) && file_read(path, LIMIT_PEM_BYTES, &held, &len, NULL) &&
		    str_eq(str_n(held, len), content);
	if (held)
		explicit_bzero(held, len);
	free(held);
	return same || file_write_atomic(path, content, 0600, e);
}

/* Files of entries that are gone. */
static bool remove_others(const char *dir, const json_t *data, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, NULL, NULL);
	bool ok = n >= 0 || err_errno(e, "read %s", dir);
	for (int i = 0; i < n; i++) {
		char *path cleanup(free_p) = xasprintf("%s/%s", dir, names[i]->d_name);
		if (ok && names[i]->d_type == DT_REG && names[i]->d_name[0] != '.' &&
			!json_object_get(data, names[i]->d_name))
			ok = unlink(path) == 0 || err_errno(e, "remove %s", path);
		free(names[i]);
	}
	free(names);
	return ok;
}

static bool write_files(const struct job *j, const char *dir, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const json_t *data = json_object_get(j->secret, "data");
	const char *name;
	json_t *value;
	bool ok = file_mkdirs(dir, 0700, e);
	json_object_foreach((json_t *)data, name, value)
	{
		struct str content;
		if (!ok || strchr(name, '/') || name[0] == '.')
			continue;
		ok = base64_read(a, str_of(json_string_value(value)), &content) ||
		     err_set(e, ERR_PEER, "Secret %s/%s: entry %s is not base64", j->ns, j->o->name, name);
		ok = ok && write_file(dir, name, content, e);
		if (ok && content.len)
			explicit_bzero((char *)(uintptr_t)content.ptr, content.len);
	}
	return ok && (!j->o->edit || remove_others(dir, data, e));
}

/* ---- edit */

static void on_put(void *ctx, int status, struct str text)
{
	struct job *j = ctx;
	j->edited = status == 200;
	if (j->edited)
		take_answer(j, text);
	else if (status == 409 || passing(status))
		again(j, "write", text); /* from what it holds by then */
	else
		fail(j, ERR_DENIED, "write", text);
}

static void send_edited(struct job *j)
{
	char *path cleanup(free_p) = xasprintf(
		"/api/v1/namespaces/%s/secrets/%s?fieldManager=fairlead", j->ns, j->o->name);
	char *body = json_dumps(j->secret, JSON_COMPACT);
	const struct kube_request r = {.method = "PUT", .path = path, .body = str_of(body)};
	kube_send(j->kube, &r, on_put, j);
	wipe_json(body);
}

static void put_edited(struct job *j)
{
	char scratch[] = SCRATCH;
	struct err e = {0};
	json_t *data = json_object();
	bool changed = false;
	bool ok = mkdtemp(scratch) || err_errno(&e, "make a folder in /tmp");
	ok = ok && write_files(j, scratch, &e) && j->o->edit(j->o->ctx, scratch, &changed, &e);
	ok = collect(data, scratch, &e) && ok; /* removes the files in any case */
	(void)rmdir(scratch);
	if (ok && changed)
		(void)json_object_set(j->secret, "data", data);
	json_decref(data);
	if (!ok) {
		fail(j, e.kind, "edit", str_of(e.text));
	} else if (changed) {
		send_edited(j);
	} else {
		j->edited = true;
		loop_stop(j->loop);
	}
}

static void on_posted(void *ctx, int status, struct str text)
{
	struct job *j = ctx;
	j->made = status == 201;
	if (j->made)
		take_answer(j, text);
	else if (status == 409 || passing(status))
		again(j, "make", text); /* by now it may be there */
	else
		fail(j, ERR_DENIED, "make", text);
}

static void post(struct job *j)
{
	char *path cleanup(free_p) = xasprintf("/api/v1/namespaces/%s/secrets?fieldManager=fairlead", j->ns);
	struct err e = {0};
	if (!j->body && !make_body(j, &e)) {
		fail(j, e.kind, "make", str_of(e.text));
		return;
	}
	const struct kube_request r = {.method = "POST", .path = path, .body = str_of(j->body)};
	kube_send(j->kube, &r, on_posted, j);
}

static void on_got(void *ctx, int status, struct str text)
{
	struct job *j = ctx;
	if (status == 200)
		take_answer(j, text);
	else if (status == 404 && j->o->make)
		post(j);
	else if (passing(status))
		again(j, "read", text);
	else
		fail(j, ERR_DENIED, "read", text);
}

static void ask(void *ctx)
{
	struct job *j = ctx;
	char *path cleanup(free_p) = xasprintf("/api/v1/namespaces/%s/secrets/%s", j->ns, j->o->name);
	const struct kube_request r = {.path = path};
	kube_send(j->kube, &r, on_got, j);
}

static void on_deadline(void *ctx)
{
	struct job *j = ctx;
	j->failed = true;
	loop_stop(j->loop);
}

static bool run(struct job *j, struct err *e)
{
	j->kube = kube_new(j->loop, &j->o->api, e);
	if (!j->kube)
		return false;
	j->ns = j->o->namespace ? j->o->namespace : kube_namespace(j->kube);
	j->retry = timer_new(j->loop, ask, j);
	j->deadline = timer_new(j->loop, on_deadline, j);
	timer_start(j->deadline, j->o->timeout_ms ? j->o->timeout_ms : TIMEOUT_MS, 0);
	ask(j);
	loop_run(j->loop);
	bool ok = !j->failed && j->secret;
	if (!ok)
		*e = j->error.kind ? j->error : (struct err){ERR_PEER, "the API server does not answer"};
	ok = ok && (!j->o->dir || write_files(j, j->o->dir, e));
	kube_free(j->kube);
	timer_free(j->retry);
	timer_free(j->deadline);
	return ok;
}

bool kube_secret_dir(const struct kube_secret_options *o, bool *made, struct err *e)
{
	struct job j = {.o = o, .loop = loop_new()};
	struct err why = {0};
	bool ok = run(&j, &why);
	if (ok)
		*made = j.made;
	else if (e)
		*e = why;
	json_decref(j.secret);
	wipe_json(j.body);
	loop_free(j.loop);
	return ok;
}
