/*
 * DOC: Armour (RFC 7468) of what is public: requests and certificates, which citadel reads and writes for every call. Private keys stay with
 * mbedTLS, which decodes them in constant time. Text around the armour is allowed, a header inside it (encryption) is not.
 */
#include "common/pki/pki_internal.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/sha256.h>

#include "common/base/base64.h"

char *pki_pem(const char *label, const unsigned char *der, size_t len)
{
	struct strbuf out = {0};
	strbuf_addf(&out, "-----BEGIN %s-----\n", label);
	for (size_t i = 0; i < len; i += 48) { /* 64 characters */
		base64_write(str_n(der + i, min_size(48, len - i)), &out);
		strbuf_addc(&out, '\n');
	}
	strbuf_addf(&out, "-----END %s-----\n", label);
	return strbuf_take(&out);
}

/* What is between two marks, of which the first must be there too; empty when they are not. */
static struct str between(struct arena *a, struct str text, const char *label)
{
	struct str begin = str_of(arena_printf(a, "-----BEGIN %s-----", label));
	struct str end = str_of(arena_printf(a, "-----END %s-----", label));
	const char *from = text.len ? memmem(text.ptr, text.len, begin.ptr, begin.len) : NULL;
	struct str rest = from ? str_from(text, (size_t)(from - text.ptr) + begin.len) : (struct str){0};
	const char *to = rest.len ? memmem(rest.ptr, rest.len, end.ptr, end.len) : NULL;
	return to ? str_sub(rest, 0, (size_t)(to - rest.ptr)) : (struct str){0};
}

bool pki_unarmour(struct arena *a, struct str text, const char *label, struct str *out)
{
	struct str body = between(a, text, label), line = {0};
	char *compact = arena_alloc(a, body.len + 1);
	size_t len = 0;
	if (!body.len || memchr(body.ptr, '-', body.len) || memchr(body.ptr, '_', body.len)) /* of base64url only */
		return false;
	while (str_split(&body, '\n', &line)) {
		line = str_trim(line);
		memcpy(compact + len, line.ptr ? line.ptr : "", line.len);
		len += line.len;
	}
	return len && len % 4 == 0 && base64_read(a, str_n(compact, len), out);
}

void pki_sha256(struct str bytes, char out[PKI_SHA256_BYTES])
{
	int rc = mbedtls_sha256_ret(
		(const unsigned char *)(bytes.ptr ? bytes.ptr : ""), bytes.len, (unsigned char *)out, 0);
	assert(rc == 0);
	(void)rc;
}
