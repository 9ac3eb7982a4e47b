/*
 * DOC: TLS between our server and our client with certificates of our own making: identities, refusals by name, time and issuer. Then what
 * the HTTP client does with an HTTP/2 connection that many requests share, for which it needs TLS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/io/grpc.h"
#include "common/io/http.h"
#include "common/p256/p256.h"
#include "common/pki/pki.h"

#define ID "spiffe://cluster.local/ns/default/sa/web"
#define DAY 86400000LL

struct ca {
	struct pki_key *key;
	char *pem;
};

struct leaf {
	char *chain, *key;
};

static struct ca ca, other_ca;

static char *issue(const struct ca *by, const struct pki_key *subject, const char *const *uris, const char *const *dns,
	int64_t from, int64_t to, bool is_ca)
{
	struct err e = {0};
	struct arena *a = arena_new();
	char *pem = NULL;
	struct pki_cert_request r = {.common_name = is_ca ? "test root" : "",
		.organization = "test",
		.uris = uris,
		.dns = dns,
		.not_before_ms = clock_wall_ms() + from,
		.not_after_ms = clock_wall_ms() + to,
		.ca = is_ca,
		.path_len = -1};
	assert_true(pki_spki_of(subject, a, &r.spki_der, &e));
	if (!pki_issue(by->key, by->pem ? str_of(by->pem) : (struct str){0}, &r, &pem, &e))
		fail_msg("%s", e.text);
	arena_free(a);
	return pem;
}

static struct ca make_ca(void)
{
	struct err e = {0};
	struct ca c = {.key = pki_key_new(PKI_P256, &e)};
	c.pem = issue(&c, c.key, NULL, NULL, -DAY, DAY, true);
	return c;
}

static struct leaf make_leaf(
	const struct ca *by, const char *const *uris, const char *const *dns, int64_t from, int64_t to)
{
	struct err e = {0};
	struct leaf l = {0};
	struct pki_key *k = pki_key_new(PKI_P256, &e);
	l.chain = issue(by, k, uris, dns, from, to, false);
	assert_true(pki_key_pem(k, &l.key, &e));
	pki_key_free(k);
	return l;
}

static void free_leaf(struct leaf *l)
{
	free(l->chain);
	secret_free(l->key);
}

/* ---- one call from client to server */

static struct {
	struct loop *loop;
	int done;
	enum grpc_status status;
	char text[512];
	char peer[128], serial[64];
	int64_t peer_until;
	bool has_peer;
} w;

static void srv_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	const struct tls_peer *p = grpc_stream_peer(s);
	w.has_peer = p != NULL;
	if (p) {
		(void)snprintf(w.peer, sizeof(w.peer), STR_FMT, STR_ARG(p->spiffe_id));
		(void)snprintf(w.serial, sizeof(w.serial), STR_FMT, STR_ARG(p->serial_hex));
		w.peer_until = p->not_after_ms;
	}
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(s, b);
	buf_unref(b);
	grpc_stream_finish(s, GRPC_OK, NULL);
}

static void on_state(void *ctx, bool connected, const char *reason)
{
	(void)ctx;
	if (!connected)
		(void)snprintf(w.text, sizeof(w.text), "%s", reason);
}

static void on_answer(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)data;
	(void)len;
	(void)message;
	w.done++;
	w.status = st;
}

static const struct grpc_handler echo = {.on_message = srv_message};

struct setting {
	enum tls_peer_auth auth;
	const struct leaf *server, *client; /* client NULL: no certificate */
	const struct ca *client_roots; /* NULL: ca */
	const char *name; /* the client asks for */
	const char *trust_domain; /* the server asks for */
};

static struct tls_context *context(
	bool server, enum tls_peer_auth auth, const char *td, const struct leaf *l, const struct ca *roots)
{
	struct err e = {0};
	struct tls_context *c = tls_context_new(
		&(struct tls_options){.server = server, .peer_auth = auth, .trust_domain = td});
	if (l)
		assert_true(tls_context_set_identity(c, str_of(l->chain), str_of(l->key), &e));
	assert_true(tls_context_set_roots(c, str_of(roots->pem), &e));
	return c;
}

static void one_call(struct grpc_channel *ch)
{
	struct buf *b = buf_new(300000);
	memset(b->data, 't', b->len);
	int before = w.done;
	(void)grpc_channel_unary(ch, "/t/Echo", NULL, 0, b, on_answer, NULL);
	buf_unref(b);
	uint64_t until = clock_mono_ms() + 10000;
	while (w.done == before && clock_mono_ms() < until)
		loop_run_once(w.loop, 50);
	assert_int_equal(w.done, before + 1);
}

static enum grpc_status try_call(const struct setting *t)
{
	struct err e = {0};
	uint16_t port;
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	struct tls_context *st = context(true, t->auth, t->trust_domain, t->server, &ca);
	struct tls_context *ct = context(
		false, TLS_PEER_REQUIRED, NULL, t->client, t->client_roots ? t->client_roots : &ca);
	const char *const names[] = {t->name, NULL};
	assert_true(tls_context_set_server_names(ct, names, &e));
	struct grpc_server *s = grpc_server_new(w.loop, NULL);
	grpc_server_route(s, "/t/Echo", &echo, NULL);
	assert_true(grpc_server_listen(s, "127.0.0.1:0", st, &port, &e));
	tls_context_free(st);
	char target[32];
	(void)snprintf(target, sizeof(target), "127.0.0.1:%u", port);
	struct grpc_channel *ch = grpc_channel_new(
		w.loop, &(struct grpc_channel_options){.target = target, .tls = ct, .on_state = on_state});
	tls_context_free(ct);
	one_call(ch);
	grpc_channel_free(ch);
	grpc_server_free(s);
	loop_free(w.loop);
	return w.status;
}

static const char *const web[] = {ID, NULL};
static const char *const host[] = {"pilot.mesh", "*.example.com", NULL};

static void mutual_tls_shows_the_peer(void **state)
{
	(void)state;
	struct leaf l = make_leaf(&ca, web, host, -DAY, DAY);
	const struct setting t = {TLS_PEER_REQUIRED, &l, &l, NULL, "pilot.mesh", "cluster.local"};
	assert_int_equal(try_call(&t), GRPC_OK);
	assert_string_equal(w.peer, ID);
	assert_true(w.serial[0]);
	assert_true(llabs(w.peer_until - clock_wall_ms() - DAY) < 100000);
	free_leaf(&l);
}

static int operations(const char *which)
{
	struct metric *m = metric_find("fairlead_p256_operations_total");
	return m ? (int)metric_get(m, which) : 0; /* without the wrapped calls nothing links the counter */
}

/* Both ends of a mutual handshake are in this process: two of each; and each verifies a certificate and a signature. */
static void handshakes_use_the_chosen_p256(void **state)
{
	(void)state;
	struct leaf l = make_leaf(&ca, web, host, -DAY, DAY);
	const struct setting t = {TLS_PEER_REQUIRED, &l, &l, NULL, "pilot.mesh", "cluster.local"};
	int signs = operations("sign"), verifies = operations("verify"), agreements = operations("multiply");
	int wrapped = strncmp(p256_library(), "OpenSSL", 7) == 0;
	assert_int_equal(try_call(&t), GRPC_OK);
	assert_int_equal(operations("sign") - signs, 2 * wrapped);
	assert_int_equal(operations("verify") - verifies, 4 * wrapped);
	assert_int_equal(operations("multiply") - agreements, 2 * wrapped);
	free_leaf(&l);
}

static void names_that_match(void **state)
{
	(void)state;
	struct leaf l = make_leaf(&ca, web, host, -DAY, DAY);
	static const struct {
		const char *name;
		bool ok;
	} rows[] = {
		{"pilot.mesh", true},
		{"PILOT.mesh", true},
		{ID, true},
		{"a.example.com", true},
		{"a.b.example.com", false},
		{"example.com", false},
		{"pilot", false},
		{"spiffe://cluster.local/ns/default/sa/db", false},
		{"127.0.0.1", false},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct setting t = {TLS_PEER_NONE, &l, NULL, NULL, rows[i].name, NULL};
		assert_int_equal(try_call(&t), rows[i].ok ? GRPC_OK : GRPC_UNAVAILABLE);
		assert_false(w.has_peer);
		if (!rows[i].ok)
			assert_non_null(strstr(w.text, rows[i].name));
	}
	free_leaf(&l);
}

static void other_issuers_and_times_are_refused(void **state)
{
	(void)state;
	struct leaf good = make_leaf(&ca, web, host, -DAY, DAY), old = make_leaf(&ca, web, host, -2 * DAY, -DAY / 2),
		    early = make_leaf(&ca, web, host, DAY / 2, DAY),
		    foreign = make_leaf(&other_ca, web, host, -DAY, DAY);
	const struct {
		struct setting t;
		const char *why; /* NULL: it is the server that refuses */
	} rows[] = {
		{{TLS_PEER_NONE, &old, NULL, NULL, "pilot.mesh", NULL}, "expired"},
		{{TLS_PEER_NONE, &early, NULL, NULL, "pilot.mesh", NULL}, "future"},
		{{TLS_PEER_NONE, &foreign, NULL, NULL, "pilot.mesh", NULL}, "not correctly signed"},
		{{TLS_PEER_NONE, &good, NULL, &other_ca, "pilot.mesh", NULL}, "not correctly signed"},
		{{TLS_PEER_REQUIRED, &good, NULL, NULL, "pilot.mesh", NULL}, NULL},
		{{TLS_PEER_REQUIRED, &good, &foreign, NULL, "pilot.mesh", NULL}, NULL},
		{{TLS_PEER_OPTIONAL, &good, &foreign, NULL, "pilot.mesh", NULL}, NULL},
		{{TLS_PEER_OPTIONAL, &good, &old, NULL, "pilot.mesh", NULL}, NULL},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(try_call(&rows[i].t), GRPC_UNAVAILABLE);
		if (rows[i].why && !strstr(w.text, rows[i].why))
			fail_msg("row %zu: %s", i, w.text);
		assert_non_null(strstr(w.text, "127.0.0.1:"));
	}
	const struct setting none = {TLS_PEER_OPTIONAL, &good, NULL, NULL, "pilot.mesh", "cluster.local"};
	assert_int_equal(try_call(&none), GRPC_OK);
	assert_false(w.has_peer);
	free_leaf(&good);
	free_leaf(&old);
	free_leaf(&early);
	free_leaf(&foreign);
}

static void trust_domain_is_checked(void **state)
{
	(void)state;
	static const char *const away[] = {"spiffe://elsewhere/ns/default/sa/web", NULL};
	static const char *const longer[] = {"spiffe://cluster.local.evil/ns/default/sa/web", NULL};
	static const char *const two[] = {ID, "spiffe://cluster.local/ns/default/sa/db", NULL};
	static const char *const none[] = {NULL};
	const char *const *rows[] = {away, longer, two, none};
	struct leaf good = make_leaf(&ca, web, host, -DAY, DAY);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (int auth = TLS_PEER_OPTIONAL; auth <= TLS_PEER_REQUIRED; auth++) {
			struct leaf l = make_leaf(&ca, rows[i], host, -DAY, DAY);
			const struct setting t = {
				(enum tls_peer_auth)auth, &good, &l, NULL, "pilot.mesh", "cluster.local"};
			assert_int_equal(try_call(&t), GRPC_UNAVAILABLE);
			free_leaf(&l);
		}
	}
	free_leaf(&good);
}

static void identity_can_be_replaced(void **state)
{
	(void)state;
	struct err e = {0};
	uint16_t port;
	struct leaf first = make_leaf(&ca, web, host, -DAY, DAY), second = make_leaf(&ca, web, host, -DAY, DAY);
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	struct tls_context *st = context(true, TLS_PEER_REQUIRED, NULL, &first, &ca);
	struct tls_context *ct = context(false, TLS_PEER_REQUIRED, NULL, &first, &ca);
	struct grpc_server *s = grpc_server_new(w.loop, NULL);
	grpc_server_route(s, "/t/Echo", &echo, NULL);
	assert_true(grpc_server_listen(s, "127.0.0.1:0", st, &port, &e));
	char target[32], serial[64];
	(void)snprintf(target, sizeof(target), "127.0.0.1:%u", port);
	struct grpc_channel *ch = grpc_channel_new(w.loop, &(struct grpc_channel_options){.target = target, .tls = ct});
	one_call(ch);
	memcpy(serial, w.serial, sizeof(serial));
	assert_true(tls_context_set_identity(ct, str_of(second.chain), str_of(second.key), &e));
	one_call(ch); /* the connection that exists keeps what it had */
	assert_string_equal(w.serial, serial);
	grpc_channel_free(ch);
	ch = grpc_channel_new(w.loop, &(struct grpc_channel_options){.target = target, .tls = ct});
	one_call(ch);
	assert_int_equal(w.status, GRPC_OK);
	assert_string_not_equal(w.serial, serial);
	/* Wrong input changes nothing. */
	assert_false(tls_context_set_identity(ct, str_of(first.chain), str_of(second.key), &e));
	assert_false(tls_context_set_roots(ct, STR("no certificate"), &e));
	one_call(ch);
	assert_int_equal(w.status, GRPC_OK);
	grpc_channel_free(ch);
	grpc_server_free(s);
	tls_context_free(st);
	tls_context_free(ct);
	loop_free(w.loop);
	free_leaf(&first);
	free_leaf(&second);
}

static int setup(void **state)
{
	(void)state;
	ca = make_ca();
	other_ca = make_ca();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pki_key_free(ca.key);
	pki_key_free(other_ca.key);
	free(ca.pem);
	free(other_ca.pem);
	return 0;
}

/* ---- the HTTP client on one connection */

struct answered {
	int started, done, status;
};

static void silent_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)s;
	(void)data;
	(void)len;
}

/* An answer that begins and does not end. */
static void begun_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(s, b);
	buf_unref(b);
}

static const struct grpc_handler silent = {.on_message = silent_message}, begun = {.on_message = begun_message};

static bool http_piece(void *ctx, struct str piece)
{
	(void)ctx;
	(void)piece;
	return true;
}

static void http_started(void *ctx)
{
	((struct answered *)ctx)->started++;
}

static void http_answered(void *ctx, int status, struct str body, struct str type)
{
	struct answered *a = ctx;
	(void)body;
	(void)type;
	a->done++;
	a->status = status;
}

static struct http_call *ask(
	struct http_client *c, uint16_t port, const char *path, bool stream, uint64_t timeout_ms, struct answered *a)
{
	static const char *const headers[] = {"Content-Type: application/grpc", "TE: trailers", NULL};
	char url[64];
	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/t/%s", port, path);
	memset(a, 0, sizeof(*a));
	const struct http_request r = {.method = "POST",
		.url = url,
		.headers = headers,
		.body = str_n("\0\0\0\0\1x", 6),
		.timeout_ms = timeout_ms,
		.insecure = true,
		.on_data = stream ? http_piece : NULL,
		.on_start = stream ? http_started : NULL};
	return http_send(c, &r, http_answered, a);
}

static void run_until(const int *count)
{
	uint64_t until = clock_mono_ms() + 10000;
	while (!*count && clock_mono_ms() < until)
		loop_run_once(w.loop, 20);
	assert_int_equal(*count, 1);
}

static int socket_to(uint16_t port)
{
	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_in a = {0};
		socklen_t len = sizeof(a);
		if (!getpeername(fd, (struct sockaddr *)&a, &len) && ntohs(a.sin_port) == port)
			return fd;
	}
	return -1;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	(void)getsockopt(fd, level, name, &value, &len);
	return value;
}

static struct grpc_server *serve_http(uint16_t *port)
{
	struct err e = {0};
	struct leaf leaf = make_leaf(&ca, NULL, (const char *const[]){"localhost", NULL}, -DAY, DAY);
	struct tls_context *t = context(true, TLS_PEER_NONE, NULL, &leaf, &ca);
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	struct grpc_server *s = grpc_server_new(w.loop, NULL);
	grpc_server_route(s, "/t/Echo", &echo, NULL);
	grpc_server_route(s, "/t/Silent", &silent, NULL);
	grpc_server_route(s, "/t/Begin", &begun, NULL);
	assert_true(grpc_server_listen(s, "127.0.0.1:0", t, port, &e));
	tls_context_free(t);
	free_leaf(&leaf);
	return s;
}

static void a_silent_connection_is_left_by_all_requests(void **state)
{
	(void)state;
	uint16_t port;
	struct grpc_server *s = serve_http(&port);
	struct http_client *c = http_client_new(w.loop);
	struct answered watch, a, b;
	(void)ask(c, port, "Echo", false, 0, &a);
	run_until(&a.done);
	assert_int_equal(a.status, 200);
	/* Whichever request opened it, the kernel looks after it. */
	int fd = socket_to(port);
	assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), HTTP_DEAD_PEER_MS);

	/* A slow answer is nothing but slow while others come. */
	(void)ask(c, port, "Begin", true, 60000, &watch);
	run_until(&watch.started);
	(void)ask(c, port, "Silent", false, 400, &a);
	for (uint64_t begin = clock_mono_ms(); clock_mono_ms() - begin < 300;)
		loop_run_once(w.loop, 20);
	(void)ask(c, port, "Echo", false, 0, &b);
	run_until(&b.done);
	run_until(&a.done);
	assert_int_equal(a.status, 0);
	loop_run_once(w.loop, 20);
	assert_int_equal(watch.done, 0);
	assert_int_equal(grpc_server_connections(s), 1);

	/* Nothing at all came: all that wait on the connection are told, and the next one is answered on another. */
	(void)ask(c, port, "Silent", false, 400, &a);
	run_until(&a.done);
	run_until(&watch.done);
	assert_int_equal(watch.status, 0);
	(void)ask(c, port, "Echo", true, 2000, &b);
	run_until(&b.done);
	assert_int_equal(b.status, 200);
	assert_int_equal(b.started, 1);
	http_client_free(c);
	grpc_server_free(s);
	loop_free(w.loop);
}

/* The first one is connecting to a server that does not even take the connection; libcurl lets the second one wait for it. */
static void who_waits_for_the_connection_of_another_times_out_all_the_same(void **state)
{
	(void)state;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	struct http_client *c = http_client_new(w.loop);
	struct answered first, second;
	(void)ask(c, ntohs(a.sin_port), "Watch", true, 60000, &first);
	(void)ask(c, ntohs(a.sin_port), "List", false, 300, &second);
	run_until(&second.done);
	assert_int_equal(second.status, 0);
	assert_int_equal(first.done, 0);
	http_client_free(c);
	assert_int_equal(first.done, 1);
	(void)close(fd);
	loop_free(w.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mutual_tls_shows_the_peer),
		cmocka_unit_test(handshakes_use_the_chosen_p256),
		cmocka_unit_test(names_that_match),
		cmocka_unit_test(other_issuers_and_times_are_refused),
		cmocka_unit_test(trust_domain_is_checked),
		cmocka_unit_test(identity_can_be_replaced),
		cmocka_unit_test(a_silent_connection_is_left_by_all_requests),
		cmocka_unit_test(who_waits_for_the_connection_of_another_times_out_all_the_same),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
