/*
 * DOC: An xDS stream whose client sends anything. The first byte chooses the protocol; then come records of an operation, a length of two
 * bytes and as many bytes: a packed request, or a change of the mesh. Whatever comes, a session must not crash, must stop having something
 * to send, and every response must unpack and name its resources once.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/io/buf.h"
#include "common/pb/pb.h"
#include "pilot/xds/session.h"
#include "tests/unit/pilot/world.h"
#include "xds/discovery.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RESPONSES_MAX 200 /* one request or change can not cause more: four types, and both scopes */

static const char mesh[] =
	"{apiVersion: v1, kind: Service, metadata: {name: a, namespace: d}, spec: {clusterIP: 10.0.0.1, ports: [{name: "
	"http, port: 80}]}}\n"
	"---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, namespace: d, labels: "
	"{kubernetes.io/service-name: a}}, ports: [{name: http, port: 80}], endpoints: [{addresses: [10.1.0.1]}]}\n"
	"---\n{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a, namespace: d}, spec: "
	"{hosts: [a], http: "
	"[{route: [{destination: {host: a}}]}]}}\n";
static const char changed[] = "{apiVersion: v1, kind: Service, metadata: {name: b, namespace: d}, spec: {clusterIP: "
			      "10.0.0.2, ports: [{name: http, port: 81}]}}\n";

static void fail(const char *why)
{
	(void)fprintf(stderr, "%s\n", why);
	abort();
}

static struct str bytes_of(struct arena *a, const struct xds_response *r)
{
	char *out = arena_alloc(a, r->bytes + 1);
	size_t at = 0;
	for (size_t i = 0; i < r->n_pieces; i++) {
		if (at + r->pieces[i].len > r->bytes)
			fail("a response has more bytes than it says");
		memcpy(out + at, r->pieces[i].ptr, r->pieces[i].len);
		at += r->pieces[i].len;
	}
	return str_n(out, at);
}

static void check_response(enum xds_mode mode, const struct xds_response *r)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct str bytes = bytes_of(a, r);
	struct err e = {0};
	if (mode == XDS_SOTW) {
		const Ads__DiscoveryResponse *m = PB_UNPACK(
			a, Ads__DiscoveryResponse, ads__discovery_response, bytes.ptr, bytes.len, &e);
		if (!m || m->n_resources != r->resources)
			fail("a response does not unpack to what was announced");
		return;
	}
	const Ads__DeltaDiscoveryResponse *m = PB_UNPACK(
		a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, bytes.ptr, bytes.len, &e);
	if (!m || m->n_resources != r->resources || m->n_removed_resources != r->removed)
		fail("a delta response does not unpack to what was announced");
	for (size_t i = 1; i < m->n_resources; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(m->resources[i]->name, m->resources[k]->name))
				fail("a delta response has a resource twice");
}

static void pump(struct xds_session *s, enum xds_mode mode, uint64_t now, struct xds_response *out)
{
	size_t n = 0;
	while (session_next(s, now, out)) {
		check_response(mode, out);
		if (++n > RESPONSES_MAX)
			fail("a session never stops sending");
	}
}

static void change(struct world *w, struct engine *e, bool add)
{
	if (add)
		world_put(w, "b.yaml", changed);
	else
		world_remove(w, "b.yaml");
	world_commit(w);
	engine_update(e, w->model, &w->touched, 1);
}

static void run(struct world *w, struct engine *e, struct str input)
{
	enum xds_mode mode = input.ptr[0] & 1 ? XDS_DELTA : XDS_SOTW;
	struct xds_session *s = session_new(e, mode, &(struct session_ops){0}, NULL);
	struct xds_response out = {0};
	struct err error = {0};
	uint64_t now = 1000;
	for (size_t at = 1; at + 3 <= input.len; now += 700000) {
		const uint8_t *record = (const uint8_t *)input.ptr + at;
		size_t len = (size_t)record[1] << 8 | record[2];
		at += 3;
		if (len > input.len - at)
			break;
		if (record[0] & 1)
			change(w, e, (record[0] & 2) != 0);
		else if (!session_recv(s, input.ptr + at, len, now, &error))
			break;
		at += len;
		pump(s, mode, now, &out);
	}
	xds_response_done(&out);
	session_free(s, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 14)
		return 0;
	struct engine_source source = {.scope_of = scope_of};
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		source.translators[t] = translator_get((enum xds_type)t);
	struct world w;
	world_init(&w);
	world_put(&w, "a.yaml", mesh);
	world_commit(&w);
	struct engine *e = engine_new(&source);
	engine_update(e, w.model, NULL, 1);
	run(&w, e, str_n((const char *)data, size));
	engine_free(e);
	world_done(&w);
	return 0;
}
