/*
 * DOC: Fixed workloads in one process, without sockets: galley's pipeline, the model, the engine and its sessions. Run under callgrind each
 * workload is a dump of its own (tests/bench/test_budgets.py reads the instruction counts); run alone it prints how many bytes of the heap
 * a service, an endpoint and a proxy take.
 *
 *     budget MESH CLIENTS FEWER                      prints bytes; MESH, CLIENTS: of gen_mesh.py; FEWER: with fewer endpoints
 *     budget MESH CLIENTS FEWER VS-FILE EDS-FILE     runs the workloads; a VirtualService and a service of MESH, to be changed
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/json.h"
#include "common/pb/pb.h"
#include "galley/galley.h"
#include "pilot/translate/translate.h"
#include "pilot/xds/session.h"
#include "tests/bench/load_store.h"
#include "xds/core.pb-c.h"

#define PROXIES 50
#define OTHER_NAMESPACE PROXIES
#define PLACES 3 /* gen_mesh.py's zones: proxies of each share their endpoints */
#define WORK(name, call) \
	do { \
		CALLGRIND_ZERO_STATS; \
		call; \
		CALLGRIND_DUMP_STATS_AT(name); \
	} while (0)

struct bench {
	struct galley *galley;
	struct model *model;
	const struct bus_change *changes;
	size_t n_changes;
	struct engine_source source;
	struct engine *engine;
	struct load_store *store;
	char *specs[PROXIES + 1]; /* of one namespace, and one of another */
};

/* A client: the requests it makes first, made from what another one received, and its stream. */
struct client {
	struct xds_session *session;
	struct xds_response out;
	struct strbuf requests[LOAD_TYPE_COUNT], initial[LOAD_TYPE_COUNT];
	size_t resources;
};

static void die(const struct err *e)
{
	(void)fprintf(stderr, "budget: %s\n", e->text);
	exit(1);
}

static size_t heap(void)
{
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

/* ---- model */
static void load(struct bench *b, const char *mesh)
{
	struct err e = {0};
	b->galley = galley_new(&(struct galley_options){.assume_sidecars = true});
	if (!galley_load(b->galley, mesh, &e))
		die(&e);
	b->changes = galley_commit(b->galley, &b->n_changes);
}

static void apply(struct bench *b, bool tell)
{
	struct read_keys touched = {0};
	struct model *next = model_apply(b->model, b->changes, b->n_changes, &touched);
	model_unref(b->model);
	b->model = next;
	if (tell)
		engine_update(b->engine, next, &touched, 1);
	read_keys_done(&touched);
}

static void change(struct bench *b, const char *file, const char *from, const char *to)
{
	struct err e = {0};
	cleanup(free_p) char *text = NULL;
	size_t len;
	struct strbuf out cleanup(strbuf_done) = {0};
	if (!file_read(file, LIMIT_FILE_BYTES, &text, &len, &e))
		die(&e);
	const char *at = strstr(text, from);
	if (!at) {
		(void)err_set(&e, ERR_PEER, "%s has no %s", file, from);
		die(&e);
	}
	strbuf_add(&out, str_n(text, (size_t)(at - text)));
	strbuf_adds(&out, to);
	strbuf_adds(&out, at + strlen(from));
	galley_put(b->galley, str_of(file), strbuf_str(&out));
	b->changes = galley_commit(b->galley, &b->n_changes);
}

/* ---- clients */
static void put_node(struct bench *b, struct strbuf *out, size_t i)
{
	char name[128], ns[64], ip[64], app[64], version[32];
	if (sscanf(b->specs[i], "%127s %63s %63s %63s %31s", name, ns, ip, app, version) != 5)
		exit(2);
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct err e = {0};
	const char *json = arena_printf(a,
		"{\"id\":\"sidecar~%s~%s-%zu.%s~%s.svc.cluster.local\",\"metadata\":{\"NAMESPACE\":\"%s\",\"WORKLOAD_"
		"NAME\":\"%s\","
		"\"INSTANCE_IPS\":\"%s\",\"LABELS\":{\"app\":\"%s\",\"version\":\"%s\",\"security.istio.io/"
		"tlsMode\":\"istio\"}}}",
		ip, name, i, ns, ns, ns, app, ip, app, version);
	const void *node = pb_from_json_text(a, &core__node__descriptor, str_of(json), &e);
	if (!node)
		die(&e);
	wire_put(out, 1, pb_pack(a, node));
}

static void learn_resource(struct bench *b, struct client *c, enum load_type t, struct str bytes)
{
	const struct load_resource *r = load_store_get(b->store, load_store_resource(b->store, t, true, bytes));
	struct strbuf entry cleanup(strbuf_done) = {0};
	for (size_t i = 0; i < r->n_refs; i++)
		wire_put(&c->requests[r->refers_to], 3, load_store_name_text(b->store, r->refers_to, r->refs[i]));
	wire_put(&entry, 1, load_store_name_text(b->store, t, r->name));
	wire_put(&entry, 2, r->version);
	wire_put(&c->initial[t], 5, strbuf_str(&entry));
}

/* Acknowledges, and with `learn` looks into it. */
static void take_response(struct bench *b, struct client *c, bool learn)
{
	struct wire_field f;
	struct strbuf whole cleanup(strbuf_done) = {0}, ack cleanup(strbuf_done) = {0};
	struct str url = str_of(xds_type_info(c->out.type)->url);
	struct err e = {0};
	enum load_type t;
	bool known = load_type_find(url, &t);
	c->resources += c->out.resources;
	for (size_t i = 0; i < (learn ? c->out.n_pieces : 1); i++)
		strbuf_add(&whole, str_n(c->out.pieces[i].ptr, c->out.pieces[i].len));
	wire_put(&ack, 2, url);
	for (struct str rest = strbuf_str(&whole); wire_next(&rest, &f);) {
		if (f.number == 5)
			wire_put(&ack, 6, f.bytes);
		else if (f.number == 2 && learn && known)
			learn_resource(b, c, t, f.bytes);
	}
	if (!session_recv(c->session, ack.ptr, ack.len, 1, &e))
		die(&e);
}

static void pump(struct bench *b, struct client *c, bool learn)
{
	while (session_next(c->session, 1, &c->out))
		take_response(b, c, learn);
}

/* from: who has received everything already; its names are asked for, with `resume` its versions are held. */
static void connect_one(struct bench *b, struct client *c, const struct client *from, bool resume, size_t i)
{
	struct err e = {0};
	static const struct session_ops ops;
	*c = (struct client){.session = session_new(b->engine, XDS_DELTA, &ops, NULL)};
	for (unsigned t = 0; t < LOAD_VHDS; t++) {
		struct strbuf request cleanup(strbuf_done) = {0};
		const struct strbuf *names = from ? &from->requests[t] : &c->requests[t];
		if (!t)
			put_node(b, &request, i);
		wire_put(&request, 2, str_of(load_urls[t]));
		strbuf_add(&request, strbuf_str(names));
		if (resume)
			strbuf_add(&request, strbuf_str(&from->initial[t]));
		if (!session_recv(c->session, request.ptr, request.len, 1, &e))
			die(&e);
		pump(b, c, !from);
	}
}

static void disconnect(struct client *c)
{
	session_free(c->session, 1);
	xds_response_done(&c->out);
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++) {
		strbuf_done(&c->requests[t]);
		strbuf_done(&c->initial[t]);
	}
}

/* ---- what is measured */
static void expect(const char *what, size_t got, size_t want)
{
	if (got == want)
		return;
	(void)fprintf(stderr, "budget: %zu resources %s, not %zu\n", got, what, want);
	exit(1);
}

static void counts(struct bench *b, const char *mesh, const char *vs_file, const char *eds_file)
{
	struct client teacher, first, next, again, back;
	WORK("galley_cold", load(b, mesh));
	WORK("model_cold", apply(b, true));
	connect_one(b, &teacher, NULL, false, 0);
	WORK("proxy_first", connect_one(b, &first, &teacher, false, OTHER_NAMESPACE));
	WORK("proxy_next", connect_one(b, &next, &teacher, false, PLACES)); /* of the same place */
	connect_one(b, &again, &teacher, true, 0);
	WORK("proxy_back", connect_one(b, &back, &teacher, true, 0));
	expect("again to who holds it", back.resources, 0);
	size_t before = next.resources;
	WORK("galley_vs", change(b, vs_file, "rev-0", "rev-1"));
	WORK("change_vs", (apply(b, true), pump(b, &teacher, false)));
	WORK("change_vs_next", pump(b, &next, false));
	expect("for one VirtualService", next.resources - before, 1);
	before = next.resources;
	WORK("galley_eds", change(b, eds_file, "10.101.", "10.250."));
	WORK("change_eds", (apply(b, true), pump(b, &teacher, false)));
	WORK("change_eds_next", pump(b, &next, false));
	expect("for one endpoint of two clusters", next.resources - before, 2);
	struct client *const all[] = {&teacher, &first, &next, &again, &back};
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		disconnect(all[i]);
}

static size_t model_heap(struct bench *b, const char *mesh, struct galley_counts *counted)
{
	load(b, mesh);
	*counted = galley_counts(b->galley);
	struct model *none = b->model;
	size_t before = heap();
	b->model = model_empty();
	apply(b, false);
	size_t taken = heap() - before;
	model_unref(b->model);
	b->model = none;
	galley_free(b->galley);
	return taken;
}

static void bytes(struct bench *b, const char *mesh, const char *fewer)
{
	struct client clients[PROXIES], first[PLACES];
	struct galley_counts many, few;
	size_t all = model_heap(b, mesh, &many), rest = model_heap(b, fewer, &few);
	size_t endpoint = (all - rest) / (many.endpoints - few.endpoints);
	load(b, mesh);
	apply(b, true);
	connect_one(b, &first[0], NULL, false, 0);
	for (size_t i = 1; i < PLACES; i++)
		connect_one(b, &first[i], &first[0], false, i);
	size_t before = heap();
	for (size_t i = 0; i < PROXIES; i++)
		connect_one(b, &clients[i], &first[0], false, i);
	size_t proxy = (heap() - before) / PROXIES;
	(void)printf("{\"service\":%zu,\"endpoint\":%zu,\"proxy\":%zu}\n",
		(all - endpoint * many.endpoints) / many.services, endpoint, proxy);
	for (size_t i = 0; i < PROXIES; i++)
		disconnect(&clients[i]);
	for (size_t i = 0; i < PLACES; i++)
		disconnect(&first[i]);
}

static void read_specs(struct bench *b, const char *file)
{
	FILE *f = fopen(file, "re");
	char line[512];
	/* Every tenth is of the first namespace. */
	for (size_t i = 0, n = 0; f && n < PROXIES && fgets(line, sizeof(line), f); i++) {
		if (i % 10 == 0)
			b->specs[n++] = xstrdup(line);
		else if (i == 1)
			b->specs[OTHER_NAMESPACE] = xstrdup(line);
	}
	if (f)
		(void)fclose(f);
	if (!b->specs[PROXIES - 1])
		exit(2);
}

int main(int argc, char **argv)
{
	struct bench b = {.model = model_empty(), .store = load_store_new()};
	if (argc != 6 && argc != 4) {
		(void)fprintf(
			stderr, "usage: budget MESH CLIENTS FEWER | budget MESH CLIENTS FEWER VS-FILE EDS-FILE\n");
		return 2;
	}
	read_specs(&b, argv[2]);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		b.source.translators[t] = translator_get((enum xds_type)t);
	b.source.scope_of = scope_of;
	b.engine = engine_new(&b.source);
	if (argc == 6)
		counts(&b, argv[1], argv[4], argv[5]);
	else
		bytes(&b, argv[1], argv[3]);
	galley_free(b.galley);
	engine_free(b.engine);
	model_unref(b.model);
	load_store_free(b.store);
	for (size_t i = 0; i < ARRAY_LEN(b.specs); i++)
		free(b.specs[i]);
	return 0;
}
