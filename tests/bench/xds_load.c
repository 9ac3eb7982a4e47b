/*
 * DOC: The load client: one process that is up to ten thousand Envoys.
 *
 *     xds_load ADDRESS PIDS CLIENTS-FILE          (PIDS: "12,13", whose CPU time and private memory are summed)
 *
 * It reads commands from standard input, a line each, and answers each with a line of JSON; between commands it goes on behaving as
 * Envoys do. Any control plane that speaks ADS can stand behind ADDRESS.
 *
 *     connect MODE N            connect until there are N; answers when all have everything. sotw, delta, vhds; gateway: with delta
 *     close                     all leave; what they hold stays for
 *     reconnect                 all come back with the versions they hold
 *     forget                    all leave and hold nothing
 *     change TYPE TEMPLATE FILE the template with @ADDR@ and @REV@ filled in becomes FILE; answers when all have what it changed (TYPE cds,
 *                               lds: when nothing is sent any more)
 *     churn SECONDS RATE LIST   RATE such changes of endpoints a second; LIST has lines "eds TEMPLATE FILE"
 *     memory, cpu               of the processes; cpu answers when they rest
 *     pids PIDS                 other processes from now on
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/io/file.h"
#include "tests/bench/load_client.h"

#define IN_FLIGHT 200 /* connections that are being set up */
#define QUIET_US 250000
#define REST_CPU_NS 10000000 /* in QUIET_US: what daemons with thousands of idle connections use */
#define PATIENCE_US 180000000ull

struct bench {
	struct load load;
	struct load_pids pids;
	VEC(char *) specs; /* lines of the clients file */
	VEC(struct load_client *) clients;
	uint64_t window_us, window_cpu;
	uint64_t waits_since_us; /* for PATIENCE_US */
	struct strbuf input;
	bool end;
};

static void on_up(void *owner, struct h2_conn *c)
{
	(void)c;
	((struct load *)owner)->ups++;
}

static const struct h2_ops ops = {.up = on_up};

static bool turn(struct bench *b)
{
	loop_run_once(b->load.loop, 20);
	return clock_mono_us() - b->waits_since_us < PATIENCE_US;
}

static void begin_window(struct bench *b)
{
	struct load *l = &b->load;
	memset(l->counts, 0, sizeof(l->counts));
	l->latencies.len = 0;
	l->reached = l->failed = 0;
	b->window_cpu = load_cpu_ns(&b->pids);
	b->window_us = b->waits_since_us = l->last_us = clock_mono_us();
}

/* Until nothing comes any more and the processes rest. */
static void settle(struct bench *b)
{
	uint64_t at = clock_mono_us(), cpu = load_cpu_ns(&b->pids);
	while (turn(b)) {
		uint64_t now = clock_mono_us();
		if (now - at < QUIET_US)
			continue;
		uint64_t used = load_cpu_ns(&b->pids);
		if (now - b->load.last_us >= QUIET_US && used - cpu <= REST_CPU_NS)
			return;
		at = now;
		cpu = used;
	}
}

/* {"ok", "cpu_s", "seconds", "open", "synced", "failed", "last_ms" ..., "cds": {...} ...} */
static void answer(struct bench *b, bool ok, double cpu_s, double seconds)
{
	struct load *l = &b->load;
	(void)printf(
		"{\"ok\":%s,\"cpu_s\":%.6f,\"seconds\":%.6f,\"open\":%zu,\"synced\":%zu,\"failed\":%zu,\"unique\":%zu",
		ok ? "true" : "false", cpu_s, seconds, l->open, l->synced, l->failed, load_store_unique(l->store));
	if (l->failed)
		(void)printf(",\"failure\":\"%.100s\"", l->failure);
	if (l->latencies.len)
		(void)printf(",\"samples\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"last_ms\":%.3f", l->latencies.len,
			load_quantile_ms(&l->latencies, 0.5), load_quantile_ms(&l->latencies, 0.99),
			load_quantile_ms(&l->latencies, 1));
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++)
		(void)printf(",\"%s\":{\"responses\":%llu,\"resources\":%llu,\"removed\":%llu,\"bytes\":%llu}",
			load_names[t], (unsigned long long)l->counts[t].responses,
			(unsigned long long)l->counts[t].resources, (unsigned long long)l->counts[t].removed,
			(unsigned long long)l->counts[t].bytes);
	(void)printf("}\n");
	(void)fflush(stdout);
}

/* Counts what was used until all had it; what comes after (acknowledgements) belongs to it, too. */
static void end_window(struct bench *b, bool ok)
{
	double seconds = (double)(clock_mono_us() - b->window_us) / 1e6;
	settle(b);
	answer(b, ok, (double)(load_cpu_ns(&b->pids) - b->window_cpu) / 1e9, seconds);
}

/* ---- connecting */
static char *node_of(const struct bench *b, size_t i, bool vhds)
{
	char name[128], ns[64], ip[64], app[64], version[32];
	const char *spec = b->specs.items[i % b->specs.len];
	if (sscanf(spec, "%127s %63s %63s %63s %31s", name, ns, ip, app, version) != 5) {
		(void)fprintf(stderr, "xds_load: \"%s\": name, namespace, ip, app and version are expected\n", spec);
		exit(2);
	}
	return xasprintf(
		"{\"id\":\"sidecar~%s~%s-%zu.%s~%s.svc.cluster.local\",\"cluster\":\"%s.%s\",\"metadata\":{"
		"\"NAMESPACE\":\"%s\",\"CLUSTER_ID\":\"Kubernetes\",\"ISTIO_VERSION\":\"1.30.0\",\"MESH_ID\":\"cluster."
		"local\","
		"\"NAME\":\"%s-%zu\",\"SERVICE_ACCOUNT\":\"%s\",\"WORKLOAD_NAME\":\"%s\",\"INSTANCE_IPS\":\"%s\",%s"
		"\"LABELS\":{\"app\":\"%s\",\"version\":\"%s\",\"security.istio.io/tlsMode\":\"istio\"}},"
		"\"userAgentName\":\"envoy\"}",
		ip, name, i, ns, ns, app, ns, ns, name, i, app, app, ip, vhds ? "\"FAIRLEAD_VHDS\":\"true\"," : "", app,
		version);
}

/* A gateway of gen_mesh.py --gateway-routes. */
static char *gateway_node(size_t i)
{
	return xasprintf("{\"id\":\"router~10.9.%zu.%zu~edge-%zu.istio-system~istio-system.svc.cluster.local\","
			 "\"cluster\":\"edge.istio-system\",\"metadata\":{\"NAMESPACE\":\"istio-system\",\"CLUSTER_"
			 "ID\":\"Kubernetes\","
			 "\"ISTIO_VERSION\":\"1.30.0\",\"SERVICE_ACCOUNT\":\"edge\",\"WORKLOAD_NAME\":\"edge\","
			 "\"LABELS\":{\"istio\":\"ingressgateway\"}},\"userAgentName\":\"envoy\"}",
		i / 250, i % 250 + 1, i);
}

static bool dial(struct bench *b, size_t i, bool delta, bool vhds)
{
	struct err e = {0};
	if (load_client_connect(b->clients.items[i], delta, vhds, &e))
		return true;
	(void)fprintf(stderr, "xds_load: %s\n", e.text);
	return false;
}

static void connect_all(struct bench *b, const char *mode, size_t n)
{
	bool delta = !streq(mode, "sotw"), vhds = streq(mode, "vhds"), gateway = streq(mode, "gateway");
	struct load *l = &b->load;
	bool ok = true;
	begin_window(b);
	for (size_t i = b->clients.len; ok && i < n; i++) {
		while (ok && l->open - l->synced >= IN_FLIGHT)
			ok = turn(b);
		vec_push(&b->clients, load_client_new(l, gateway ? gateway_node(i) : node_of(b, i, vhds)));
		ok = ok && dial(b, i, delta, vhds);
	}
	while (ok && l->synced < n && !l->failed)
		ok = turn(b);
	end_window(b, ok && l->synced == n);
}

static void close_all(struct bench *b, bool forget)
{
	begin_window(b);
	for (size_t i = 0; i < b->clients.len; i++)
		load_client_close(b->clients.items[i]);
	while (b->load.open && turn(b))
		;
	for (size_t i = 0; forget && i < b->clients.len; i++)
		load_client_free(b->clients.items[i]);
	if (forget)
		b->clients.len = 0;
	end_window(b, !b->load.open);
}

static void reconnect(struct bench *b)
{
	struct load *l = &b->load;
	bool ok = true;
	size_t before = l->ups;
	begin_window(b);
	for (size_t i = 0; ok && i < b->clients.len; i++) {
		struct load_client *c = b->clients.items[i];
		while (ok && l->ups + IN_FLIGHT < before + i)
			ok = turn(b);
		ok = ok && (c->grpc || dial(b, i, c->delta, c->vhds));
	}
	while (ok && l->ups - before < b->clients.len && !l->failed)
		ok = turn(b);
	settle(b);
	end_window(b, ok && l->open == b->clients.len);
}

/* ---- changes */
static void replace(struct strbuf *out, struct str text, const char *what, const char *by)
{
	const char *at;
	while ((at = memmem(text.ptr, text.len, what, strlen(what)))) {
		strbuf_add(out, str_n(text.ptr, (size_t)(at - text.ptr)));
		strbuf_adds(out, by);
		text = str_from(text, (size_t)(at - text.ptr) + strlen(what));
	}
	strbuf_add(out, text);
}

/* Written beside the template and moved, so that a control plane that watches the folder sees one event. */
static bool write_change(struct bench *b, const char *template, const char *file, struct err *e)
{
	struct load *l = &b->load;
	char *text = NULL, by[64];
	size_t len;
	struct strbuf half cleanup(strbuf_done) = {0}, whole cleanup(strbuf_done) = {0};
	cleanup(free_p) char *beside = xasprintf("%s.new", template);
	if (!file_read(template, LIMIT_FILE_BYTES, &text, &len, e))
		return false;
	uint32_t marker = ++l->last_change;
	(void)snprintf(by, sizeof(by), "10.%u.%u.%u", 250 + marker / 65536, marker / 256 % 256, marker % 256);
	replace(&half, str_n(text, len), "@ADDR@", by);
	(void)snprintf(by, sizeof(by), "bench-change-%u", marker);
	replace(&whole, strbuf_str(&half), "@REV@", by);
	free(text);
	FILE *f = fopen(beside, "we");
	bool ok = f && fwrite(whole.ptr, 1, whole.len, f) == whole.len;
	ok = f && !fclose(f) && ok;
	l->changed_us[marker] = clock_mono_us();
	return (ok && !rename(beside, file)) || err_errno(e, "%s", file);
}

static void begin_changes(struct bench *b, uint32_t n_slots)
{
	struct load *l = &b->load;
	/* Numbers of changes that are slots apart belong to the same slot. */
	l->n_slots = n_slots;
	l->first_change = l->last_change + 1;
	for (size_t i = 0; i < b->clients.len; i++)
		memset(b->clients.items[i]->seen, 0, sizeof(b->clients.items[i]->seen));
	begin_window(b);
}

static void change(struct bench *b, const char *type, const char *template, const char *file)
{
	struct err e = {0};
	begin_changes(b, 1);
	bool ok = b->load.last_change + 1 < LOAD_CHANGES && write_change(b, template, file, &e);
	bool marked = streq(type, "eds") || streq(type, "rds") || streq(type, "vhds");
	if (e.text[0])
		(void)fprintf(stderr, "xds_load: %s\n", e.text);
	while (ok && marked && b->load.reached < b->load.open)
		ok = turn(b);
	end_window(b, ok);
}

struct slot {
	char template[512], file[512];
};

static size_t read_slots(const char *list, struct slot *out)
{
	FILE *f = fopen(list, "re");
	size_t n = 0;
	char line[1100];
	while (f && n < LOAD_SLOTS && fgets(line, sizeof(line), f))
		n += sscanf(line, "eds %511s %511s", out[n].template, out[n].file) == 2;
	if (f)
		(void)fclose(f);
	return n;
}

static bool churn_for(struct bench *b, const struct slot *slots, size_t n, uint64_t changes, uint64_t period_us)
{
	struct load *l = &b->load;
	struct err e = {0};
	for (uint64_t i = 0; i < changes; i++) {
		uint64_t due = b->window_us + i * period_us;
		/* At least once: who comes late still answers, or it would be taken for dead. */
		for (uint64_t now = 0; now < due; now = clock_mono_us())
			loop_run_once(l->loop, now ? (due - now) / 1000 + 1 : 0);
		uint32_t slot = (l->last_change + 1) % (uint32_t)n;
		if (l->last_change + 1 >= LOAD_CHANGES ||
			!write_change(b, slots[slot].template, slots[slot].file, &e)) {
			(void)fprintf(stderr, "xds_load: %s\n", e.text);
			return false;
		}
	}
	b->waits_since_us = clock_mono_us();
	while (!l->failed && l->latencies.len < changes * l->open)
		if (!turn(b))
			return false;
	return !l->failed;
}

/* cpu_s is of the time of the changes alone, not of the rest that follows. */
static void churn(struct bench *b, uint64_t seconds, uint64_t rate, const char *list)
{
	struct slot *slots = xzalloc(LOAD_SLOTS * sizeof(*slots));
	size_t n = read_slots(list, slots);
	if (!n)
		(void)fprintf(stderr, "xds_load: no changes in %s\n", list);
	begin_changes(b, n ? (uint32_t)n : 1);
	bool ok = n && churn_for(b, slots, n, seconds * rate, 1000000 / rate);
	double cpu = (double)(load_cpu_ns(&b->pids) - b->window_cpu) / 1e9;
	answer(b, ok, cpu, (double)(clock_mono_us() - b->window_us) / 1e6);
	free(slots);
}

/* ---- commands */
static void memory(struct bench *b)
{
	(void)printf("{\"ok\":true,\"private_bytes\":%llu}\n", (unsigned long long)load_private_bytes(&b->pids));
	(void)fflush(stdout);
}

static void run_command(struct bench *b, char *line)
{
	char word[4][512] = {{0}};
	struct err e = {0};
	uint64_t n = 0, rate = 0;
	int words = sscanf(line, "%511s %511s %511s %511s", word[0], word[1], word[2], word[3]);
	if (streq(word[0], "connect") && words == 3 && str_u64(str_of(word[2]), 20000, &n)) {
		connect_all(b, word[1], n);
	} else if (streq(word[0], "close") || streq(word[0], "forget")) {
		close_all(b, streq(word[0], "forget"));
	} else if (streq(word[0], "reconnect")) {
		reconnect(b);
	} else if (streq(word[0], "change") && words == 4) {
		change(b, word[1], word[2], word[3]);
	} else if (streq(word[0], "churn") && words == 4 && str_u64(str_of(word[1]), 3600, &n) &&
		   str_u64(str_of(word[2]), 10000, &rate) && rate) {
		churn(b, n, rate, word[3]);
	} else if (streq(word[0], "memory")) {
		memory(b);
	} else if (streq(word[0], "cpu")) {
		begin_window(b);
		end_window(b, true);
	} else if (streq(word[0], "pids") && words == 2 && load_pids_parse(&b->pids, word[1], &e)) {
		(void)printf("{\"ok\":true}\n");
		(void)fflush(stdout);
	} else {
		(void)fprintf(stderr, "xds_load: not understood: %s\n", line);
		b->end = true;
	}
}

static void take_input(struct bench *b)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char text[2048];
	while (!b->end && poll(&p, 1, 0) > 0) {
		ssize_t n = read(STDIN_FILENO, text, sizeof(text));
		if (n <= 0) {
			b->end = true;
			return;
		}
		strbuf_add(&b->input, str_n(text, (size_t)n));
		char *newline;
		while (!b->end && b->input.len && (newline = memchr(b->input.ptr, '\n', b->input.len))) {
			*newline = 0;
			run_command(b, b->input.ptr);
			size_t used = (size_t)(newline - b->input.ptr) + 1;
			memmove(b->input.ptr, b->input.ptr + used, b->input.len - used);
			b->input.len -= used;
		}
	}
}

static void on_input(void *ctx, int events)
{
	(void)ctx;
	(void)events; /* wakes the loop; the input is taken outside of it, where commands may run the loop */
}

static bool start(struct bench *b, char **argv, struct err *e)
{
	char *text;
	size_t len;
	struct str rest, line;
	struct load *l = &b->load;
	const struct h2_options o = {.keepalive_ms = 60000,
		.keepalive_timeout_ms = 60000,
		.setup_timeout_ms = 60000,
		.max_message_bytes = LIMIT_GRPC_MESSAGE_BYTES};
	l->address_text = argv[1];
	if (!addr_parse(str_of(argv[1]), &l->address, e) || !load_pids_parse(&b->pids, argv[2], e) ||
		!file_read(argv[3], LIMIT_FILE_BYTES, &text, &len, e))
		return false;
	for (rest = str_n(text, len); str_split(&rest, '\n', &line);)
		if (line.len)
			vec_push(&b->specs, xstrndup(line.ptr, line.len));
	free(text);
	if (!b->specs.len)
		return err_set(e, ERR_PEER, "%s: no clients", argv[3]);
	l->loop = loop_new();
	l->store = load_store_new();
	l->env = h2_env_new(l->loop, &o, &ops, l);
	return true;
}

static void stop(struct bench *b)
{
	struct load *l = &b->load;
	for (size_t i = 0; i < b->clients.len; i++)
		load_client_close(b->clients.items[i]);
	h2_env_close(l->env, "the load client ends");
	for (size_t i = 0; i < b->clients.len; i++)
		load_client_free(b->clients.items[i]);
	vec_done(&b->clients);
	for (size_t i = 0; i < b->specs.len; i++)
		free(b->specs.items[i]);
	vec_done(&b->specs);
	vec_done(&l->latencies);
	strbuf_done(&b->input);
	load_store_free(l->store);
	loop_free(l->loop);
}

int main(int argc, char **argv)
{
	struct bench *b = xzalloc(sizeof(*b));
	struct err e = {0};
	if (argc != 4) {
		(void)fprintf(stderr, "usage: xds_load ADDRESS PIDS CLIENTS-FILE\n");
		return 2;
	}
	if (!start(b, argv, &e)) {
		(void)fprintf(stderr, "xds_load: %s\n", e.text);
		return 1;
	}
	struct watch *input = watch_new(b->load.loop, STDIN_FILENO, WATCH_READ, on_input, NULL);
	while (!b->end) {
		loop_run_once(b->load.loop, 1000);
		take_input(b);
	}
	watch_free(input);
	stop(b);
	free(b);
	return 0;
}
