/* DOC: `citadel token`: a join token on standard output or into a file that only its owner can read. */
#include <stdio.h>

#include "citadel/citadel.h"
#include "citadel/token.h"
#include "common/daemon/option.h"
#include "common/io/file.h"
#include "common/pki/pki.h"

struct token_config {
	struct citadel_token token;
	const char *out;
	bool help;
};

static const struct option_row rows[] = {
	{.name = "state-dir",
		OPT_STR(struct token_config, token.state_dir, NULL, "citadel's state directory (required)")},
	{.name = "namespace", OPT_STR(struct token_config, token.ns, "default", "namespace of the workload")},
	{.name = "service-account",
		OPT_STR(struct token_config, token.service_account, "default", "its service account")},
	{.name = "audience", OPT_STR(struct token_config, token.audience, "istio-ca", "for whom the token is")},
	{.name = "ttl", OPT_MS(struct token_config, token.ttl_ms, "24h", 1000, 0, "lifetime")},
	{.name = "out", OPT_STR(struct token_config, out, NULL, "file (0600) instead of standard output")},
	{.name = "help", OPT_BOOL(struct token_config, help, "print this text and end")},
};

int token_command(int argc, char **argv)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct token_config c = {0};
	const char *const *rest = NULL;
	struct err e = {0};
	char *token = NULL;
	bool ok = options_parse(a, "citadel-token", rows, ARRAY_LEN(rows), argc, argv, &c, &rest, &e);
	if (ok && c.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("citadel token", "mints a join token", rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	ok = ok && citadel_token_mint(&c.token, &token, &e);
	if (ok && c.out)
		ok = file_write_atomic(c.out, str_of(token), 0600, &e);
	else if (ok)
		(void)puts(token);
	secret_free(token);
	if (!ok)
		(void)fprintf(stderr, "citadel token: %s\n", e.text);
	return ok ? 0 : 1;
}
