/*
 * DOC: Floors: what the machine itself takes for the work that a workload cannot avoid, in the same units.
 *
 *     floor loopback BYTES TIMES SOCKETS   CPU seconds of a process that writes TIMES messages of BYTES, in turn to SOCKETS connections
 *     floor memcpy BYTES TIMES             CPU seconds
 *     floor pack ENDPOINTS                 protobuf-c: packed bytes per CPU second of a ready ClusterLoadAssignment
 *     floor yaml                           CPU seconds of reading the files named on standard input and of libyaml over them, events only
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <yaml.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/io/file.h"
#include "common/pb/pb.h"
#include "xds/endpoint.pb-c.h"

#define SOCKETS_MAX 4096
#define PACK_SECONDS 0.5

static double cpu(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Pairs of connected TCP sockets: out[i] writes, in[i] reads. */
static void connect_pairs(int *out, int *in, size_t n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || bind(l, (struct sockaddr *)&a, len) || listen(l, 128) ||
		getsockname(l, (struct sockaddr *)&a, &len))
		die("listen");
	for (size_t i = 0; i < n; i++) {
		out[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (out[i] < 0 || connect(out[i], (struct sockaddr *)&a, len))
			die("connect");
		in[i] = accept(l, NULL, NULL);
		if (in[i] < 0)
			die("accept");
	}
	(void)close(l);
}

/* The child: message after message, as they are written. */
static void read_all(const int *in, size_t n, size_t bytes, size_t times)
{
	static char sink[1 << 20];
	for (size_t i = 0; i < times; i++)
		for (size_t left = bytes; left;) {
			ssize_t got = read(in[i % n], sink, min_size(left, sizeof(sink)));
			if (got <= 0)
				_exit(1);
			left -= (size_t)got;
		}
	_exit(0);
}

static int loopback(size_t bytes, size_t times, size_t n)
{
	static int out[SOCKETS_MAX], in[SOCKETS_MAX];
	char *message = xzalloc(bytes + 1);
	int status;

	connect_pairs(out, in, n);
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child)
		read_all(in, n, bytes, times);
	double start = cpu();
	for (size_t i = 0; i < times; i++)
		for (size_t at = 0; at < bytes;) {
			ssize_t done = write(out[i % n], message + at, bytes - at);
			if (done <= 0)
				die("write");
			at += (size_t)done;
		}
	(void)printf("%.6f\n", cpu() - start);
	free(message);
	return waitpid(child, &status, 0) == child && !status ? 0 : 1;
}

static int copy(size_t bytes, size_t times)
{
	char *from = xzalloc(bytes), *to = xzalloc(bytes);
	volatile char keep;
	memset(from, 1, bytes);
	memset(to, 2, bytes);
	double start = cpu();
	for (size_t i = 0; i < times; i++) {
		memcpy(to, from, bytes);
		keep = to[i % bytes];
	}
	(void)keep;
	(void)printf("%.6f\n", cpu() - start);
	free(from);
	free(to);
	return 0;
}

static Eds__ClusterLoadAssignment *assignment(struct arena *a, size_t endpoints)
{
	Eds__ClusterLoadAssignment *cla = PB_NEW(a, Eds__ClusterLoadAssignment, eds__cluster_load_assignment);
	Eds__LocalityLbEndpoints *group = PB_NEW(a, Eds__LocalityLbEndpoints, eds__locality_lb_endpoints);
	cla->cluster_name = arena_strdup(a, "outbound|80||svc-0000.ns-0.bench.local");
	for (size_t i = 0; i < endpoints; i++) {
		Eds__LbEndpoint *lb = PB_NEW(a, Eds__LbEndpoint, eds__lb_endpoint);
		Core__SocketAddress *socket = PB_NEW(a, Core__SocketAddress, core__socket_address);
		socket->address = arena_printf(a, "10.%zu.%zu.%zu", i / 65536, i / 256 % 256, i % 256);
		socket->port_specifier_case = CORE__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
		socket->port_value = 8080;
		lb->host_identifier_case = EDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
		lb->endpoint = PB_NEW(a, Eds__Endpoint, eds__endpoint);
		lb->endpoint->address = PB_NEW(a, Core__Address, core__address);
		lb->endpoint->address->address_case = CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS;
		lb->endpoint->address->socket_address = socket;
		pb_add(a, group, lb_endpoints, lb);
	}
	pb_add(a, cla, endpoints, group);
	return cla;
}

static int pack(size_t endpoints)
{
	struct arena *a = arena_new();
	const Eds__ClusterLoadAssignment *cla = assignment(a, endpoints);
	uint8_t *out = xmalloc(protobuf_c_message_get_packed_size(&cla->base));
	size_t bytes = 0;
	double start = cpu(), used;
	do {
		(void)protobuf_c_message_get_packed_size(&cla->base);
		bytes += protobuf_c_message_pack(&cla->base, out);
		used = cpu() - start;
	} while (used < PACK_SECONDS);
	(void)printf("%.0f\n", (double)bytes / used);
	free(out);
	arena_free(a);
	return 0;
}

static bool events_of(const char *text, size_t len)
{
	yaml_parser_t parser;
	bool done = false, ok = yaml_parser_initialize(&parser) != 0;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (ok && !done) {
		yaml_event_t event;
		ok = yaml_parser_parse(&parser, &event) != 0;
		done = ok && event.type == YAML_STREAM_END_EVENT;
		if (ok)
			yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return ok;
}

/* The names come on standard input, a line each. */
static int yaml(void)
{
	char name[4096];
	double start = cpu();
	while (fgets(name, sizeof(name), stdin)) {
		cleanup(free_p) char *text = NULL;
		size_t len;
		struct err e = {0};
		name[strcspn(name, "\n")] = 0;
		if (!file_read(name, LIMIT_FILE_BYTES, &text, &len, &e) || !events_of(text, len)) {
			(void)fprintf(stderr, "floor: %s %s\n", name, e.text);
			return 1;
		}
	}
	(void)printf("%.6f\n", cpu() - start);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t n[3] = {0};
	for (int i = 2; i < argc && i < 5; i++)
		if (!str_u64(str_of(argv[i]), 1ull << 32, &n[i - 2]))
			return 2;
	if (argc == 5 && streq(argv[1], "loopback") && n[0] && n[2] && n[2] <= SOCKETS_MAX)
		return loopback(n[0], n[1], n[2]);
	if (argc == 4 && streq(argv[1], "memcpy") && n[0])
		return copy(n[0], n[1]);
	if (argc == 3 && streq(argv[1], "pack"))
		return pack(n[0]);
	if (argc == 2 && streq(argv[1], "yaml"))
		return yaml();
	(void)fprintf(stderr,
		"usage: floor loopback BYTES TIMES SOCKETS | memcpy BYTES TIMES | pack ENDPOINTS | yaml <NAMES\n");
	return 2;
}
