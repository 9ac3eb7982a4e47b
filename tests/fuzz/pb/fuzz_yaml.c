/*
 * DOC: Any bytes as a YAML file. What was read must be written as YAML that reads as the same tree.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/pb/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *why, const char *text)
{
	(void)fprintf(stderr, "%s\n%s\n", why, text);
	abort();
}

static void check_document(struct arena *a, const struct node *n)
{
	struct strbuf json = {0};
	struct strbuf yaml = {0};
	struct strbuf again = {0};
	struct documents docs;
	struct diags d;
	diags_init(&d, a);
	node_write_json(n, &json);
	node_write_yaml(n, &yaml);
	if (!yaml_parse(a, strbuf_str(&yaml), "again", &docs, &d) || docs.len != 1)
		fail(d.len ? d.items[0].text : "not one document", yaml.ptr);
	node_write_json(docs.items[0], &again);
	if (!str_eq(strbuf_str(&json), strbuf_str(&again)))
		fail(json.ptr, again.ptr);
	strbuf_done(&json);
	strbuf_done(&yaml);
	strbuf_done(&again);
}

/* A list whose items are documents would be taken apart again. */
static bool is_list(const struct node *n)
{
	return str_eqc(node_text(n, "kind"), "List");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new();
	struct documents docs;
	struct diags d;
	diags_init(&d, a);
	bool ok = yaml_parse(a, str_n(data, size), "fuzz", &docs, &d);
	if (ok != (d.errors == 0))
		fail("result and diagnostics disagree", "");
	for (size_t i = 0; i < docs.len && i < 16; i++)
		if (!is_list(docs.items[i]))
			check_document(a, docs.items[i]);
	arena_free(a);
	return 0;
}
