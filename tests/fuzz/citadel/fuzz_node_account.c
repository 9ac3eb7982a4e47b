/* DOC: The API server's answers about pods. Oracle: whoever is refused is told why, and a node that is found has a name of Kubernetes'. */
#include "citadel/kube/node_account.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct node_question q = {.ns = STR("a"),
		.account = STR("b"),
		.pod = {STR("c"), STR("d")},
		.wanted = {STR("t"), STR("a"), STR("b")}};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str node = STR("n");
	struct err e = {0};
	if (node_of_caller(a, str_n(data, size), &q, &node, &e))
		assert(node.len && node.len <= 253 && !memchr(node.ptr, ',', node.len) &&
			!memchr(node.ptr, '/', node.len));
	else
		assert(e.text[0]);
	e.text[0] = '\0';
	if (!node_runs_account(str_n(data, size), &q, node, &e))
		assert(e.text[0]);
	return 0;
}
