/* What a Secret holds for TLS. */
#pragma once

#include "cfg/model.pb-c.h"
#include "common/base/arena.h"
#include "kube/kube.pb-c.h"

/* Under the names "cert", "key", "cacert", "crl", else "tls.crt", "tls.key", "ca.crt", "ca.crl". false: nothing. Borrows from s. */
bool secret_credential(struct arena *a, const Kube__Secret *s, const char *ns, const char *name, Fl__Credential *out);
