/* What a Secret or a ConfigMap holds for TLS. */
#pragma once

#include "cfg/model.pb-c.h"
#include "common/base/arena.h"
#include "galley/kind.h"
#include "kube/kube.pb-c.h"

/* Under the names "cert", "key", "cacert", "crl", else "tls.crt", "tls.key", "ca.crt", "ca.crl". false: nothing. Borrows from s. */
bool secret_credential(struct arena *a, const Kube__Secret *s, const char *ns, const char *name, Fl__Credential *out);
/* The CA and its CRL alone, under the same names: a key has no place in a ConfigMap. */
bool config_map_credential(
	struct arena *a, const Kube__ConfigMap *m, const char *ns, const char *name, Fl__Credential *out);
/* Says so when the CA, if there is one, is not PEM that can be read. */
void credential_check_ca(struct check *c, const Fl__Credential *x);
