/*
 * DOC: The last good configuration as a file: a line that names the format, a checksum of the rest, then per type its URL, the number of
 * resources and each of them packed, all lengths as 32 bits, little end first. A file that is cut short, altered or of another format is
 * refused as a whole: half a configuration is worse than none.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/ads_state_internal.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

#define MAGIC "fairlead last good xds 1\n"
#define SECRET_URL \
	"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" /* private keys stay in memory */
#define CHECKSUM_BYTES 17 /* 16 digits and a line feed */

static void add_u32(struct strbuf *out, size_t value)
{
	uint32_t v = (uint32_t)value;
	const char bytes[4] = {(char)(v & 255), (char)(v >> 8 & 255), (char)(v >> 16 & 255), (char)(v >> 24)};
	strbuf_add(out, str_n(bytes, sizeof(bytes)));
}

static void add_type(struct strbuf *out, const struct ads_type *t)
{
	struct str name;
	void *value;
	add_u32(out, strlen(t->url));
	strbuf_adds(out, t->url);
	add_u32(out, map_len(t->accepted));
	for (size_t i = 0; map_next(t->accepted, &i, &name, &value);) {
		const struct ads_resource *r = value;
		add_u32(out, r->len);
		strbuf_add(out, str_n(r->packed, r->len));
	}
}

static void checksum(struct str body, char out[CHECKSUM_BYTES + 1])
{
	(void)snprintf(out, CHECKSUM_BYTES + 1, "%016" PRIx64 "\n", hash64(body));
}

void ads_state_encode(const struct ads_state *s, struct strbuf *out)
{
	struct strbuf body cleanup(strbuf_done) = {0};
	char sum[CHECKSUM_BYTES + 1];
	for (size_t i = 0; i < s->n_types; i++)
		if (s->types[i]->known && !streq(s->types[i]->url, SECRET_URL))
			add_type(&body, s->types[i]);
	checksum(strbuf_str(&body), sum);
	strbuf_adds(out, MAGIC);
	strbuf_adds(out, sum);
	strbuf_add(out, strbuf_str(&body));
}

static bool take_u32(struct str *rest, uint32_t *out, struct err *e)
{
	const unsigned char *p = (const unsigned char *)rest->ptr;
	if (rest->len < 4)
		return err_set(e, ERR_PEER, "it is cut short");
	*out = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	*rest = str_from(*rest, 4);
	return true;
}

static bool take_bytes(struct str *rest, struct str *out, struct err *e)
{
	uint32_t len = 0;
	if (!take_u32(rest, &len, e))
		return false;
	if (len > rest->len)
		return err_set(e, ERR_PEER, "it is cut short");
	*out = str_sub(*rest, 0, len);
	*rest = str_from(*rest, len);
	return true;
}

static bool decode_resource(struct ads_type *t, struct str packed, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const Ads__Resource *r = PB_UNPACK(a, Ads__Resource, ads__resource, packed.ptr, packed.len, e);
	if (!r)
		return false;
	if (str_empty(r->name) || !r->resource)
		return err_set(e, ERR_PEER, "resource \"%.100s\" has no name or no body", r->name);
	if (map_get(t->accepted, str_of(r->name)))
		return err_set(e, ERR_PEER, "resource \"%.100s\" is there twice", r->name);
	(void)map_put(t->accepted, str_of(r->name), ads_resource_of(r));
	return true;
}

static bool decode_type(struct ads_state *s, struct str *rest, struct err *e)
{
	struct str url = {0}, packed = {0};
	uint32_t n = 0;
	if (!take_bytes(rest, &url, e) || !take_u32(rest, &n, e))
		return false;
	char *text cleanup(free_p) = xstrndup(url.ptr, url.len);
	struct ads_type *t = ads_type_need(s, text);
	if (!url.len || memchr(url.ptr, 0, url.len) || !t || t->known)
		return err_set(e, ERR_PEER, "type \"%.100s\" is empty, there twice, or one too many", text);
	t->known = true;
	for (uint32_t i = 0; i < n; i++)
		if (!take_bytes(rest, &packed, e) || !decode_resource(t, packed, e))
			return err_in(e, "%.100s", text);
	return true;
}

bool ads_state_decode(struct ads_state *s, struct str file, struct err *e)
{
	char sum[CHECKSUM_BYTES + 1];
	assert(s->n_types == 0);
	if (!str_starts(file, STR(MAGIC)) || file.len < strlen(MAGIC) + CHECKSUM_BYTES)
		return err_set(e, ERR_PEER, "it does not begin with \"%.*s\"", (int)strlen(MAGIC) - 1, MAGIC);
	struct str rest = str_from(file, strlen(MAGIC) + CHECKSUM_BYTES);
	checksum(rest, sum);
	if (!str_eq(str_sub(file, strlen(MAGIC), CHECKSUM_BYTES), str_of(sum)))
		return err_set(e, ERR_PEER, "its checksum is wrong");
	while (rest.len) {
		if (!decode_type(s, &rest, e)) {
			ads_state_clear(s);
			return false;
		}
	}
	return true;
}

bool ads_state_save(struct ads_state *s, const char *path, struct err *e)
{
	struct strbuf file cleanup(strbuf_done) = {0};
	ads_state_encode(s, &file);
	if (file.len > LIMIT_PB_MESSAGE_BYTES)
		return err_set(
			e, ERR_LIMIT, "%s: %zu bytes, at most %u are kept", path, file.len, LIMIT_PB_MESSAGE_BYTES);
	if (!file_write_atomic(path, strbuf_str(&file), 0600, e))
		return false;
	s->dirty = false;
	return true;
}

bool ads_state_load(struct ads_state *s, const char *path, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	size_t size = 0;
	if (!file_read(path, LIMIT_PB_MESSAGE_BYTES, &text, &size, e))
		return false;
	return ads_state_decode(s, str_n(text, size), e) || err_in(e, "%s", path);
}
