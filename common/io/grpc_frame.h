/*
 * gRPC's own framing and header values, without any I/O: message reassembly, grpc-timeout, percent-encoded grpc-message, status
 * names and the mappings from HTTP status and RST_STREAM codes. Rules: grpc/grpc doc/PROTOCOL-HTTP2.md,
 * doc/http-grpc-status-mapping.md, doc/statuscodes.md.
 */
#pragma once

#include "common/base/err.h"
#include "common/io/grpc.h"

#define GRPC_PREFIX 5u /* compressed flag, length in network order */

/* Puts messages together that arrive in any pieces. Zeroed is a valid start. */
struct grpc_reader {
	uint8_t head[GRPC_PREFIX];
	uint8_t head_len;
	uint32_t need; /* of the message that is being read */
	uint8_t *part; /* grows as bytes arrive, never by what the prefix promises */
	size_t part_len, part_cap;
};

enum grpc_read {
	GRPC_READ_MORE, /* all input is used, no complete message */
	GRPC_READ_MESSAGE, /* *message holds one until the next call; *data, *len is what is left */
	GRPC_READ_COMPRESSED, /* refused */
	GRPC_READ_TOO_LARGE,
	GRPC_READ_BAD_FLAG,
};
enum grpc_read grpc_reader_next(
	struct grpc_reader *r, size_t max_bytes, const uint8_t **data, size_t *len, struct str *message);
bool grpc_reader_midway(const struct grpc_reader *r); /* a message has begun and not ended */
void grpc_reader_done(struct grpc_reader *r);

void grpc_prefix(uint8_t out[GRPC_PREFIX], size_t len);

bool grpc_timeout_parse(struct str value, uint64_t *out_ms) MUST_CHECK; /* rounded up to a millisecond */
void grpc_timeout_format(uint64_t ms, char out[16]);

void grpc_message_encode(struct strbuf *out, struct str message);
void grpc_message_decode(struct strbuf *out, struct str value); /* wrong escapes stay as they are */

enum grpc_status grpc_status_of_http(unsigned http_status);
enum grpc_status grpc_status_of_rst(uint32_t http2_error);
/* "application/grpc", also with "+proto" or ";..." behind. */
bool grpc_content_type(struct str value);
