/*
 * A tiny HTTP/1.1 client on a plain socket, for tests. fetch_start() sends a whole request; fetch_read() takes what has come without
 * waiting and says whether the answer is complete (the server closes the connection). The caller waits as fits: by driving a loop in
 * the same process, or by poll(2) when the server is another one.
 */
#pragma once

#include "common/base/str.h"

struct fetch {
	int fd;
	struct strbuf in;
	unsigned status; /* once complete */
	struct str body;
};

/* address as common/io/addr.h; headers: complete lines, or "". Asserts that it can connect. */
void fetch_start(struct fetch *f, const char *address, const char *method, const char *target, const char *headers,
	struct str body);
bool fetch_read(struct fetch *f);
/* For a server in another process: waits for the whole answer. */
void fetch_wait(struct fetch *f);
bool fetch_header(const struct fetch *f, const char *line);
void fetch_done(struct fetch *f);
