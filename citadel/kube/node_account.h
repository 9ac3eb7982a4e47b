/*
 * Who may have the certificate of another: the account of a node's proxy or agent (ztunnel, CNI; Istio's CA_TRUSTED_NODE_ACCOUNTS), for accounts of
 * pods that run on the caller's own node. The caller is known by a token of the cluster that is bound to its pod; the API server says on which
 * node this pod is and whether a pod of the wanted account is there, too. Nothing is remembered: the answer is of the moment. At most
 * LIMIT_NODE_QUESTIONS are under way. Owner thread: the loop's.
 */
#pragma once

#include "citadel/authn/authn.h"
#include "common/kube/kube.h"
#include "common/mesh/spiffe.h"

struct node_accounts;

struct node_question {
	struct str ns, account; /* of the caller, by its token */
	struct authn_pod pod; /* the same */
	struct spiffe_id wanted;
};

enum node_result { NODE_GRANTED, NODE_REFUSED, NODE_NO_ANSWER, NODE_RESULT_COUNT };
/* text: the node, or why not; borrowed for the call. */
typedef void (*node_done)(void *ctx, enum node_result result, struct str text);

struct node_accounts *node_accounts_new(struct kube *api);
void node_accounts_free(struct node_accounts *n); /* who waits gets NODE_NO_ANSWER */
/* done() comes exactly once, perhaps at once. The question is copied. */
void node_accounts_ask(struct node_accounts *n, const struct node_question *q, node_done done, void *ctx);
void node_accounts_debug(const struct node_accounts *n, struct strbuf *json);

/* ---- pure: what may be asked at all, and the API server's answers */
/* Every entry is "namespace/account". */
bool node_accounts_check(const char *const *accounts, struct err *e) MUST_CHECK;
/* The caller's pod, as it is now: the one of the token, of the account, alive and on a node, which is *node (in the arena). */
bool node_of_caller(struct arena *a, struct str pod_json, const struct node_question *q, struct str *node,
	struct err *e) MUST_CHECK;
/* A list of pods of which one runs the wanted account on the node. */
bool node_runs_account(struct str list_json, const struct node_question *q, struct str node, struct err *e) MUST_CHECK;
