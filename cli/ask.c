/* DOC: A loop that lives for one round of questions. */
#include "cli/ask.h"

#include "common/io/http.h"
#include "common/io/loop.h"

struct round {
	struct arena *arena;
	struct loop *loop;
	size_t open;
};

struct slot {
	struct round *round;
	struct question *question;
};

static void on_answer(void *ctx, int status, struct str body, struct str content_type)
{
	struct slot *s = ctx;
	(void)content_type;
	s->question->status = status;
	s->question->body = arena_str(s->round->arena, body);
	if (--s->round->open == 0)
		loop_stop(s->round->loop);
}

void ask_all(struct arena *a, struct question *items, size_t n, uint64_t timeout_ms)
{
	struct round round = {.arena = a, .loop = loop_new(), .open = n};
	struct http_client *client = http_client_new(round.loop);
	struct slot *slots = ARENA_ARRAY(a, struct slot, n + 1);
	for (size_t i = 0; i < n; i++) {
		struct str address = str_of(items[i].address);
		bool local = str_starts(address, STR("unix:"));
		const char *host = local ? "localhost" : items[i].address;
		char *url cleanup(free_p) = xasprintf("http://%s%s", host, items[i].path);
		const struct http_request r = {.url = url,
			.unix_socket = local ? str_from(address, 5).ptr : NULL,
			.timeout_ms = timeout_ms,
			.max_body_bytes = 1u << 30};
		slots[i] = (struct slot){&round, &items[i]};
		http_send(client, &r, on_answer, &slots[i]);
	}
	if (round.open)
		loop_run(round.loop);
	http_client_free(client);
	loop_free(round.loop);
}

json_t *question_json(const struct question *q, struct err *e)
{
	json_error_t why;
	if (q->status == 0) {
		(void)err_set(e, ERR_SYSTEM, "%s does not answer: " STR_FMT, q->address, STR_ARG(q->body));
		return NULL;
	}
	if (q->status != 200) {
		(void)err_set(e, ERR_PEER, "%s%s: status %d: " STR_FMT, q->address, q->path, q->status,
			STR_ARG(str_sub(q->body, 0, 200)));
		return NULL;
	}
	json_t *value = json_loadb(q->body.ptr, q->body.len, JSON_DECODE_ANY, &why);
	if (!value)
		(void)err_set(e, ERR_PEER, "%s%s: no JSON: %s", q->address, q->path, why.text);
	return value;
}

json_t *ask_json(const char *address, const char *path, uint64_t timeout_ms, struct err *e)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct question q = {.address = address, .path = path};
	ask_all(a, &q, 1, timeout_ms);
	return question_json(&q, e);
}
