/* The key that signs join tokens, as the daemon and `citadel token` share it. */
#pragma once

#include "common/base/err.h"

#define TOKEN_ISSUER "fairlead"

/* Makes jwt-key.pem (0600) and jwks.json in the directory unless they are there. */
bool token_key_ready(const char *state_dir, struct err *e) MUST_CHECK;
int token_command(int argc, char **argv); /* `citadel token` */
