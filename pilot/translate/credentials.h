/*
 * Secrets as Envoy asks for them over SDS: "kubernetes://name" is a certificate with its key, "kubernetes://name-cacert" the CA that goes with
 * it. Both come from pilot by ADS, and only to proxies whose certificate proves that they belong to the Secret's namespace.
 */
#pragma once

#include "pilot/translate/build.h"
#include "xds/tls.pb-c.h"

char *credential_name(struct arena *a, const char *credential); /* SDS name */
/* SDS name of the CA: of its own Secret when one is named, else the one that belongs to the certificate. */
char *credential_ca_name(struct arena *a, const char *credential, const char *ca_credential);
Tls__SdsSecretConfig *credential_secret(struct arena *a, const char *sds_name);

/* There, and for the proxies of the scope. */
bool credential_has_key(struct view *v, const char *credential);
bool credential_has_ca(struct view *v, const char *credential, const char *ca_credential);

/* A copy for people: without the private key. */
const ProtobufCMessage *secret_shown(struct arena *a, const ProtobufCMessage *secret);
