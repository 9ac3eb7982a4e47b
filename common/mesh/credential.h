/*
 * Names of certificates, as Istio writes them in credentialName(s) and caCertCredentialName and as proxies ask for them over SDS:
 * "kubernetes://name" and "kubernetes://ns/name" (a Secret), "kubernetes-gateway://ns/name" (a Secret that a Gateway vouches for),
 * "configmap://ns/name" (a ConfigMap's CA). A name without a scheme is one of kubernetes://. The suffix "-cacert" asks for the CA.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/str.h"

#define CREDENTIAL_CA_SUFFIX "-cacert"

enum credential_source { CREDENTIAL_SECRET, CREDENTIAL_GATEWAY_SECRET, CREDENTIAL_CONFIG_MAP, CREDENTIAL_SOURCE_COUNT };

/* Borrows from the name that it was parsed from. */
struct credential_ref {
	enum credential_source source;
	struct str ns; /* empty: that of the proxy */
	struct str name; /* of the object; of a ConfigMap without the suffix */
	bool ca; /* asked for its CA */
};

/* The name with its scheme, in the arena. */
char *credential_with_scheme(struct arena *a, struct str name);
/* false: no such scheme, or not of its form. */
bool credential_parse(struct str sds_name, struct credential_ref *out);
