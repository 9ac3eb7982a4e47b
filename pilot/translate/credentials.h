/*
 * Secrets and ConfigMaps as Envoy asks for them over SDS, by the names of common/mesh/credential.h. They come from pilot by ADS: a Secret only
 * to proxies whose certificate proves that they belong to its namespace, and of another scheme than kubernetes:// only where a Gateway there
 * names it; a ConfigMap's CA to every proxy with a certificate.
 */
#pragma once

#include "pilot/translate/build.h"
#include "xds/tls.pb-c.h"

char *credential_name(struct arena *a, const char *credential); /* SDS name */
/* SDS name of the CA: of its own Secret or ConfigMap when one is named, else the one that belongs to the certificate. */
char *credential_ca_name(struct arena *a, const char *credential, const char *ca_credential);
bool credential_is_public(const char *credential); /* it names a ConfigMap, which is for everybody */
Tls__SdsSecretConfig *credential_secret(struct arena *a, const char *sds_name);

/* There, and for the proxies of the scope. */
bool credential_has_key(struct view *v, const char *credential);
bool credential_has_ca(struct view *v, const char *credential, const char *ca_credential);

/* A copy for people: without the private key. */
const ProtobufCMessage *secret_shown(struct arena *a, const ProtobufCMessage *secret);
