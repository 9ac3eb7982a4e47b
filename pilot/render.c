/* DOC: `pilot --replay FILE --render NODE.json`: what one proxy would be sent, as canonical JSON, without a daemon. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/json.h"
#include "pilot/pilot.h"
#include "pilot/translate/translate.h"

static bool model_of_recording(const char *path, struct model **out, struct err *e)
{
	struct bus_recording *r;
	const struct bus_change *changes;
	size_t n;
	uint64_t at;
	struct model *m = model_empty();

	if (!bus_recording_open(path, &r, e))
		return model_unref(m), false;
	while (bus_recording_next(r, &changes, &n, &at, e)) {
		struct read_keys touched = {0};
		struct model *next = model_apply(m, changes, n, &touched);
		read_keys_done(&touched);
		model_unref(m);
		m = next;
	}
	bus_recording_close(r);
	if (e->kind != ERR_NONE)
		return model_unref(m), false;
	*out = m;
	return true;
}

static bool render(const char *replay, const char *node_file, struct strbuf *out, struct err *e)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(free_p) char *text = NULL;
	size_t len;
	struct proxy *p;
	struct model *m;

	if (!file_read(node_file, LIMIT_NODE_METADATA_BYTES, &text, &len, e))
		return err_in(e, "--render");
	const Core__Node *node = pb_from_json_text(a, &core__node__descriptor, str_n(text, len), e);
	if (!node || !proxy_parse(a, node, &p, e))
		return err_in(e, "--render %s", node_file);
	p->verified_ns = p->ns;
	p->verified_account = p->service_account;
	if (!model_of_recording(replay, &m, e))
		return err_in(e, "--replay %s", replay);
	translate_render(m, p, out);
	model_unref(m);
	return true;
}

int pilot_render(const char *replay, const char *node_file)
{
	struct strbuf out = {0};
	struct err e = {0};
	bool ok = render(replay, node_file, &out, &e);

	if (ok)
		(void)printf("%s\n", out.ptr ? out.ptr : "");
	else
		(void)fprintf(stderr, "pilot: %s\n", e.text);
	strbuf_done(&out);
	return ok ? 0 : 1;
}
