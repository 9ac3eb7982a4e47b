/* DOC: The tests' HTTP client: connect and send at once (a request fits the socket's buffer), then read until the end. */
#include "tests/unit/daemon/http_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/io/addr.h"

void fetch_start(struct fetch *f, const char *address, const char *method, const char *target, const char *headers,
	struct str body)
{
	struct addr addr;
	struct strbuf out = {0};
	size_t sent = 0;

	*f = (struct fetch){.fd = -1};
	if (!addr_parse(str_of(address), &addr, NULL))
		abort();
	f->fd = socket(addr.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->fd < 0 || connect(f->fd, (const struct sockaddr *)&addr.sa, addr.len) < 0)
		abort();
	strbuf_addf(&out, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s", method, target, headers);
	if (body.len > 0)
		strbuf_addf(&out, "Content-Length: %zu\r\n", body.len);
	strbuf_adds(&out, "\r\n");
	strbuf_add(&out, body);
	while (sent < out.len) {
		ssize_t n = send(f->fd, out.ptr + sent, out.len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			abort();
		sent += (size_t)n;
	}
	strbuf_done(&out);
}

static void parse(struct fetch *f)
{
	struct str all = strbuf_str(&f->in);
	const char *end = f->in.ptr ? strstr(f->in.ptr, "\r\n\r\n") : NULL;

	if (end && all.len > 12) {
		if (!str_u32(str_sub(all, 9, 3), 999, &f->status))
			f->status = 0;
		f->body = str_from(all, (size_t)(end - all.ptr) + 4);
	}
}

bool fetch_read(struct fetch *f)
{
	char chunk[4096];

	for (;;) {
		ssize_t n = recv(f->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

		if (n > 0) {
			strbuf_add(&f->in, str_n(chunk, (size_t)n));
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		parse(f);
		return true;
	}
}

void fetch_wait(struct fetch *f)
{
	struct pollfd p = {.fd = f->fd, .events = POLLIN};

	while (!fetch_read(f)) {
		if (poll(&p, 1, 20000) <= 0)
			abort();
	}
}

bool fetch_header(const struct fetch *f, const char *line)
{
	return f->in.ptr && strstr(f->in.ptr, line) != NULL;
}

void fetch_done(struct fetch *f)
{
	if (f->fd >= 0)
		close(f->fd);
	strbuf_done(&f->in);
}
