/* DOC: What the API server's answers about pods mean for a node account that asks for another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "citadel/kube/node_account.h"

#define POD(uid, account, node, phase, more) \
	"{\"metadata\":{\"namespace\":\"istio-system\",\"name\":\"z-1\",\"uid\":\"" uid "\"" more "}," \
	"\"spec\":{\"serviceAccountName\":\"" account "\",\"nodeName\":\"" node "\"},\"status\":{\"phase\":\"" phase \
	"\"}}"
#define GOOD POD("u1", "ztunnel", "n1", "Running", "")
#define MIRROR ",\"annotations\":{\"kubernetes.io/config.mirror\":\"h\"}"

static struct node_question question(void)
{
	return (struct node_question){.ns = STR("istio-system"),
		.account = STR("ztunnel"),
		.pod = {STR("z-1"), STR("u1")},
		.wanted = {STR("cluster.local"), STR("istio-system"), STR("ztunnel")}};
}

static void C11_the_callers_pod_must_be_the_one_of_its_token(void **state)
{
	static const struct {
		const char *json, *words; /* NULL: good */
		enum err_kind kind;
	} rows[] = {
		{GOOD, NULL, 0},
		{POD("u1", "ztunnel", "n1", "Pending", ""), NULL, 0},
		{POD("u2", "ztunnel", "n1", "Running", ""), "its UID is u2, the token's u1", ERR_DENIED},
		{POD("", "ztunnel", "n1", "Running", ""), "another one by now", ERR_DENIED},
		{POD("u1", "other", "n1", "Running", ""), "has the account other", ERR_DENIED},
		{POD("u1", "ztunnel", "n1", "Succeeded", ""), "has ended", ERR_DENIED},
		{POD("u1", "ztunnel", "n1", "Failed", ""), "has ended", ERR_DENIED},
		{POD("u1", "ztunnel", "n1", "Running", MIRROR), "is a static pod", ERR_DENIED},
		{POD("u1", "ztunnel", "", "Running", ""), "is on no node", ERR_DENIED},
		{POD("u1", "ztunnel", "n1,status.phase=x", "Running", ""), "is on no node", ERR_DENIED},
		{"{\"metadata\":{\"namespace\":\"x\",\"name\":\"z-1\",\"uid\":\"u1\"}}", "another pod", ERR_PEER},
		{"{}", "another pod", ERR_PEER},
		{"[]", "no Pod", ERR_PEER},
		{"", "no Pod", ERR_PEER},
	};
	const struct node_question q = question();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena *a = arena_new();
		struct str node = {0};
		struct err e = {0};
		const bool ok = node_of_caller(a, str_of(rows[i].json), &q, &node, &e);
		assert_int_equal(ok, !rows[i].words);
		if (ok)
			assert_true(str_eq(node, STR("n1")));
		else
			assert_true(e.kind == rows[i].kind && strstr(e.text, rows[i].words) && !node.ptr);
		arena_free(a);
	}
}

static void C11_one_living_pod_of_the_account_on_the_node_is_enough(void **state)
{
	static const struct {
		const char *json, *words;
		enum err_kind kind;
	} rows[] = {
		{"{\"items\":[" GOOD "]}", NULL, 0},
		{"{\"items\":[" POD("u9", "ztunnel", "n1", "Failed", "") "," POD(
			 "u8", "ztunnel", "n1", "Pending", "") "]}",
			NULL, 0},
		{"{\"items\":[]}", "no pod of istio-system/ztunnel runs on the caller's node n1", ERR_DENIED},
		{"{\"items\":null}", "no pod of", ERR_DENIED},
		/* The server has selected them; it is not believed blindly. */
		{"{\"items\":[" POD("u9", "ztunnel", "n2", "Running", "") "]}", "no pod of", ERR_DENIED},
		{"{\"items\":[" POD("u9", "other", "n1", "Running", "") "]}", "no pod of", ERR_DENIED},
		{"{\"items\":[" POD("u9", "ztunnel", "n1", "Succeeded", "") "]}", "no pod of", ERR_DENIED},
		{"{\"items\":[" POD("u9", "ztunnel", "n1", "Running", MIRROR) "]}", "no pod of", ERR_DENIED},
		{"{\"items\":[1,{}]}", "no pod of", ERR_DENIED},
		{"{\"items\":{}}", "no list of pods", ERR_PEER},
		{"{", "no list of pods", ERR_PEER},
	};
	const struct node_question q = question();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = {0};
		const bool ok = node_runs_account(str_of(rows[i].json), &q, STR("n1"), &e);
		assert_int_equal(ok, !rows[i].words);
		if (!ok)
			assert_true(e.kind == rows[i].kind && strstr(e.text, rows[i].words));
	}
	/* The same pod, for somebody of another namespace. */
	struct node_question other = question();
	struct err e = {0};
	other.wanted.ns = STR("shop");
	assert_false(node_runs_account(STR("{\"items\":[" GOOD "]}"), &other, STR("n1"), &e));
}

static void C11_accounts_are_named_with_their_namespace(void **state)
{
	static const char *const good[] = {"istio-system/ztunnel", "kube-system/istio-cni", NULL};
	static const char *const bad[] = {"ztunnel", "/ztunnel", "a/", "a/b/c", "A/b", "a/b c", ""};
	struct err e = {0};
	(void)state;
	assert_true(node_accounts_check(good, &e) && node_accounts_check(NULL, &e));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *const list[] = {good[0], bad[i], NULL};
		assert_false(node_accounts_check(list, &e));
		assert_non_null(strstr(e.text, "is not <namespace>/<service account>"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(C11_the_callers_pod_must_be_the_one_of_its_token),
		cmocka_unit_test(C11_one_living_pod_of_the_account_on_the_node_is_enough),
		cmocka_unit_test(C11_accounts_are_named_with_their_namespace),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
