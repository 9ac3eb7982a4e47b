/*
 * DOC: Tokens and key sets from files and from the network: the first line is the token, what follows a key set in which it is looked up
 * (when empty: that of RFC 7515, A.3). Oracle: a token that verifies has one of the two algorithms and at most the limit's bytes.
 */
#include <string.h>

#include "common/base/limits.h"
#include "common/pki/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char default_keys[] =
	"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
	"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str token = {0}, set = {0};
	struct jwks *keys = NULL;
	struct jwt t;
	struct err e = {0};
	(void)str_cut(str_n(data, size), '\n', &token, &set);
	if (!jwks_parse(set.len ? set : STR(default_keys), &keys, &e)) {
		assert(!keys && e.text[0]);
		return 0;
	}
	if (jwt_verify(a, token, keys, &t, &e)) {
		assert(token.len <= LIMIT_JWT_BYTES && t.audiences && t.issuer && t.subject && t.payload_json);
		assert(streq(t.alg, "ES256") || streq(t.alg, "RS256"));
	} else {
		assert(e.kind != ERR_NONE && e.text[0]);
	}
	jwks_free(keys);
	return 0;
}
