#include "galley/kinds/kubernetes.h"
#include "galley/kinds/secret.h"

/*
 * DOC: ConfigMap. Where the public half of TLS may come from: the CA that clients or servers are verified with (configmap://). One whose CA
 * cannot be read is refused, and the last good one stays in force. All others are of no concern and pass.
 */

static void validate(struct check *c, const void *message)
{
	Fl__Credential x;

	if (config_map_credential(c->arena, message, c->ns, c->name, &x))
		credential_check_ca(c, &x);
}

const struct kind_ops config_map_ops = {.validate = validate};
