/*
 * DOC: Two questions to the API server for each certificate that is asked for another: the caller's pod by its name (its UID must be the token's, so
 * that a token outlives its pod by nothing), and the pods of the wanted account on that node, selected by the server, so that neither a
 * watch of all pods nor their memory is needed. A pod that has ended runs nothing; a mirror of a static pod is whatever its kubelet says and may have no
 * account (Kubernetes refuses it one), so it counts for nothing here.
 */
#include "citadel/kube/node_account.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/metric.h"

#define REQUEST_MS 5000u
#define PODS_MAX 5u /* the server has selected them: more say nothing new */

METRIC(questions, COUNTER, "citadel_node_authorizations_total",
	"certificates that node accounts asked for others, by what became of it", "result");

struct open {
	struct node_accounts *owner;
	struct arena *arena;
	struct node_question q;
	struct str node;
	node_done done;
	void *ctx;
	struct open *next, **at;
};

struct node_accounts {
	struct kube *api;
	struct open *first;
	size_t n;
	char error[256]; /* of the API server's last answer */
};

/* ---- answers of the API server */

static struct str text_at(const json_t *o, const char *first, const char *second)
{
	const json_t *t = json_object_get(json_object_get(o, first), second);
	return json_is_string(t) ? str_n(json_string_value(t), json_string_length(t)) : STR("");
}

static bool is_mirror(const json_t *pod)
{
	return json_object_get(
		json_object_get(json_object_get(pod, "metadata"), "annotations"), "kubernetes.io/config.mirror");
}

static bool has_ended(const json_t *pod)
{
	const struct str phase = text_at(pod, "status", "phase");
	return str_eq(phase, STR("Succeeded")) || str_eq(phase, STR("Failed"));
}

/* As names of Kubernetes are; a part of a URL. */
static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!((s.ptr[i] >= 'a' && s.ptr[i] <= 'z') || (s.ptr[i] >= '0' && s.ptr[i] <= '9') || s.ptr[i] == '-' ||
			    s.ptr[i] == '.'))
			return false;
	return s.len && s.len <= 253 && s.ptr[0] != '.';
}

static bool judge_caller(
	struct arena *a, const json_t *pod, const struct node_question *q, struct str *node, struct err *e)
{
	const struct str uid = text_at(pod, "metadata", "uid"), account = text_at(pod, "spec", "serviceAccountName"),
			 on = text_at(pod, "spec", "nodeName");
	if (!str_eq(text_at(pod, "metadata", "namespace"), q->ns) ||
		!str_eq(text_at(pod, "metadata", "name"), q->pod.name))
		return err_set(e, ERR_PEER, "the API server's answer is another pod");
	if (!str_eq(uid, q->pod.uid))
		return err_set(e, ERR_DENIED,
			"the caller's pod " STR_FMT "/" STR_FMT " is another one by now: its UID is " STR_FMT
			", the token's " STR_FMT,
			STR_ARG(q->ns), STR_ARG(q->pod.name), STR_ARG(uid), STR_ARG(q->pod.uid));
	if (!str_eq(account, q->account))
		return err_set(e, ERR_DENIED,
			"the caller's pod " STR_FMT "/" STR_FMT " has the account " STR_FMT ", not the token's",
			STR_ARG(q->ns), STR_ARG(q->pod.name), STR_ARG(account));
	if (has_ended(pod) || is_mirror(pod) || !is_name(on))
		return err_set(e, ERR_DENIED, "the caller's pod " STR_FMT "/" STR_FMT " %s", STR_ARG(q->ns),
			STR_ARG(q->pod.name),
			has_ended(pod)   ? "has ended"
			: is_mirror(pod) ? "is a static pod"
					 : "is on no node");
	*node = arena_str(a, on);
	return true;
}

bool node_of_caller(
	struct arena *a, struct str pod_json, const struct node_question *q, struct str *node, struct err *e)
{
	json_t *pod = json_loadb(pod_json.ptr ? pod_json.ptr : "", pod_json.len, 0, NULL);
	const bool ok = json_is_object(pod) ? judge_caller(a, pod, q, node, e)
					    : err_set(e, ERR_PEER, "the API server's answer is no Pod");
	json_decref(pod);
	return ok;
}

static bool runs(const json_t *pod, const struct node_question *q, struct str node)
{
	return str_eq(text_at(pod, "metadata", "namespace"), q->wanted.ns) &&
	       str_eq(text_at(pod, "spec", "serviceAccountName"), q->wanted.service_account) &&
	       str_eq(text_at(pod, "spec", "nodeName"), node) && !has_ended(pod) && !is_mirror(pod);
}

bool node_runs_account(struct str list_json, const struct node_question *q, struct str node, struct err *e)
{
	json_t *list = json_loadb(list_json.ptr ? list_json.ptr : "", list_json.len, 0, NULL), *pod;
	const json_t *items = json_object_get(list, "items");
	const bool is_list = json_is_array(items) || json_is_null(items);
	bool found = false;
	size_t i;
	json_array_foreach(items, i, pod) found |= runs(pod, q, node);
	json_decref(list);
	if (!is_list)
		return err_set(e, ERR_PEER, "the API server's answer is no list of pods");
	return found || err_set(e, ERR_DENIED, "no pod of " STR_FMT "/" STR_FMT " runs on the caller's node " STR_FMT,
				STR_ARG(q->wanted.ns), STR_ARG(q->wanted.service_account), STR_ARG(node));
}

bool node_accounts_check(const char *const *accounts, struct err *e)
{
	struct str ns, name;
	for (size_t i = 0; accounts && accounts[i]; i++)
		if (!str_cut(str_of(accounts[i]), '/', &ns, &name) || !is_name(ns) || !is_name(name))
			return err_set(e, ERR_PEER, "\"%.100s\" is not <namespace>/<service account>", accounts[i]);
	return true;
}

/* ---- asking */

static void answer(struct open *o, enum node_result result, struct str text)
{
	static const char *const labels[NODE_RESULT_COUNT] = {"granted", "refused", "no_answer"};
	metric_add(&questions, 1, labels[result]);
	*o->at = o->next;
	if (o->next)
		o->next->at = o->at;
	o->owner->n--;
	o->done(o->ctx, result, text);
	arena_free(o->arena);
	free(o);
}

static void no_answer(struct open *o, int status, struct str why)
{
	char *error = o->owner->error;
	(void)snprintf(error, sizeof(o->owner->error), "%d: " STR_FMT, status,
		STR_ARG(str_sub(why, 0, min_size(why.len, 200))));
	answer(o, NODE_NO_ANSWER,
		str_of(arena_printf(
			o->arena, "the API server does not say what runs on the caller's node: %s", error)));
}

/* An answer that was understood, and was "no"; or was none. */
static void not_granted(struct open *o, const struct err *e)
{
	if (e->kind == ERR_DENIED)
		answer(o, NODE_REFUSED, str_of(e->text));
	else
		no_answer(o, 0, str_of(e->text));
}

static void on_pods(void *ctx, int status, struct str body)
{
	struct open *o = ctx;
	struct err e = {0};
	if (status != 200)
		no_answer(o, status, body);
	else if (node_runs_account(body, &o->q, o->node, &e))
		answer(o, NODE_GRANTED, o->node);
	else
		not_granted(o, &e);
}

static void on_caller(void *ctx, int status, struct str body)
{
	struct open *o = ctx;
	struct err e = {0};
	if (status == 404) {
		answer(o, NODE_REFUSED,
			str_of(arena_printf(o->arena, "the caller's pod " STR_FMT "/" STR_FMT " does not exist",
				STR_ARG(o->q.ns), STR_ARG(o->q.pod.name))));
		return;
	}
	if (status != 200) {
		no_answer(o, status, body);
		return;
	}
	if (!node_of_caller(o->arena, body, &o->q, &o->node, &e)) {
		not_granted(o, &e);
		return;
	}
	o->owner->error[0] = '\0';
	const struct kube_request r = {.timeout_ms = REQUEST_MS,
		.path = arena_printf(o->arena,
			"/api/v1/namespaces/" STR_FMT "/pods?limit=%u&fieldSelector=spec.nodeName%%3D" STR_FMT
			"%%2Cspec.serviceAccountName%%3D" STR_FMT
			"%%2Cstatus.phase%%21%%3DSucceeded%%2Cstatus.phase%%21%%3DFailed",
			STR_ARG(o->q.wanted.ns), PODS_MAX, STR_ARG(o->node), STR_ARG(o->q.wanted.service_account))};
	kube_send(o->owner->api, &r, on_pods, o);
}

static void copy_question(struct open *o, const struct node_question *q)
{
	struct arena *a = o->arena;
	o->q = (struct node_question){.ns = arena_str(a, q->ns),
		.account = arena_str(a, q->account),
		.pod = {arena_str(a, q->pod.name), arena_str(a, q->pod.uid)},
		.wanted = {arena_str(a, q->wanted.trust_domain), arena_str(a, q->wanted.ns),
			arena_str(a, q->wanted.service_account)}};
}

static const char *problem(const struct node_accounts *n, const struct node_question *q)
{
	if (!is_name(q->ns) || !is_name(q->pod.name) || !q->pod.uid.len)
		return "the caller's token names no pod that it is bound to";
	if (!is_name(q->wanted.ns) || !is_name(q->wanted.service_account))
		return "the wanted identity is of no account that Kubernetes could have";
	return NULL;
}

void node_accounts_ask(struct node_accounts *n, const struct node_question *q, node_done done, void *ctx)
{
	const char *why = problem(n, q);
	if (why || n->n >= LIMIT_NODE_QUESTIONS) {
		metric_add(&questions, 1, why ? "refused" : "no_answer");
		done(ctx, why ? NODE_REFUSED : NODE_NO_ANSWER,
			why ? str_of(why) : STR("too many node accounts wait for the API server"));
		return;
	}
	struct open *o = xzalloc(sizeof(*o));
	*o = (struct open){
		.owner = n, .arena = arena_new(), .done = done, .ctx = ctx, .next = n->first, .at = &n->first};
	if (o->next)
		o->next->at = &o->next;
	n->first = o;
	n->n++;
	copy_question(o, q);
	const struct kube_request r = {.timeout_ms = REQUEST_MS,
		.path = arena_printf(o->arena, "/api/v1/namespaces/" STR_FMT "/pods/" STR_FMT, STR_ARG(o->q.ns),
			STR_ARG(o->q.pod.name))};
	kube_send(n->api, &r, on_caller, o);
}

/* ---- life */

struct node_accounts *node_accounts_new(struct kube *api)
{
	struct node_accounts *n = xzalloc(sizeof(*n));
	n->api = api;
	return n;
}

void node_accounts_free(struct node_accounts *n)
{
	if (!n)
		return;
	while (n->first)
		answer(n->first, NODE_NO_ANSWER, STR("citadel stops"));
	free(n);
}

void node_accounts_debug(const struct node_accounts *n, struct strbuf *json)
{
	strbuf_addf(json, "{\"open\":%zu,\"limit\":%u,\"error\":", n->n, LIMIT_NODE_QUESTIONS);
	strbuf_add_json(json, str_of(n->error));
	strbuf_addc(json, '}');
}
