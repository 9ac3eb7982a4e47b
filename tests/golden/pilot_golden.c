/*
 * DOC: Golden runner of pilot: `pilot_golden NODE.json FILE.yaml...` puts the files through galley in this process, makes a model of
 * the changes and prints what the proxy described by NODE.json would be sent, as canonical JSON.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/pb/json.h"
#include "common/pb/pb.h"
#include "galley/galley.h"
#include "pilot/model/model.h"
#include "pilot/translate/translate.h"

static void read_file(const char *path, struct strbuf *out)
{
	FILE *f = fopen(path, "r");
	char chunk[4096];
	size_t n;

	if (!f) {
		perror(path);
		exit(2);
	}
	while ((n = fread(chunk, 1, sizeof(chunk), f)))
		strbuf_add(out, str_n(chunk, n));
	(void)fclose(f);
}

static struct model *load(int n, char **paths)
{
	const struct galley_options options = {.assume_sidecars = true};
	struct galley *g = galley_new(&options);
	struct read_keys touched = {0};
	struct model *empty = model_empty(), *m;
	const struct bus_change *changes;
	size_t n_changes;

	for (int i = 0; i < n; i++) {
		struct strbuf text cleanup(strbuf_done) = {0};

		read_file(paths[i], &text);
		galley_put(g, str_of(paths[i]), strbuf_str(&text));
	}
	changes = galley_commit(g, &n_changes);
	m = model_apply(empty, changes, n_changes, &touched);
	read_keys_done(&touched);
	model_unref(empty);
	galley_free(g);
	return m;
}

int main(int argc, char **argv)
{
	struct strbuf node cleanup(strbuf_done) = {0}, json cleanup(strbuf_done) = {0};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	struct model *m;
	struct proxy *p;
	Core__Node *n;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: pilot_golden NODE.json FILE.yaml...\n");
		return 2;
	}
	read_file(argv[1], &node);
	n = pb_from_json_text(a, &core__node__descriptor, strbuf_str(&node), &e);
	if (!n || !proxy_parse(a, n, &p, &e)) {
		(void)fprintf(stderr, "%s: %s\n", argv[1], e.text);
		return 2;
	}
	p->verified_ns = p->ns;
	m = load(argc - 2, argv + 2);
	translate_render(m, p, &json);
	model_unref(m);
	(void)fwrite(json.ptr, 1, json.len, stdout);
	return 0;
}
