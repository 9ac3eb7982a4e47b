/* DOC: Citadel's debug pages and the command that mints join tokens. */
#include <stdio.h>

#include "citadel/citadel.h"
#include "citadel/daemon.h"
#include "citadel/token.h"
#include "common/base/clock.h"

static void add_member(struct strbuf *out, const char *name, const char *value)
{
	strbuf_addf(out, ",\"%s\":", name);
	strbuf_add_json(out, str_of(value ? value : ""));
}

static void add_cert(struct strbuf *out, const struct pki_cert *p)
{
	char expiry[32];
	clock_format(p->not_after_ms, expiry);
	strbuf_addf(out, "{\"ca\":%s", p->ca ? "true" : "false");
	add_member(out, "subject", p->subject);
	add_member(out, "issuer", p->issuer);
	add_member(out, "sha256", p->sha256_hex);
	add_member(out, "keyType", p->key_type);
	add_member(out, "expires", expiry);
	strbuf_addc(out, '}');
}

static void add_certs(struct strbuf *out, const char *name, const char *pem)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_cert *list = NULL;
	size_t n = 0;
	if (!pem || !pki_certs_parse(a, str_of(pem), &list, &n, NULL))
		n = 0;
	strbuf_addf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < n; i++) {
		strbuf_adds(out, i ? "," : "");
		add_cert(out, &list[i]);
	}
	strbuf_addc(out, ']');
}

static void page_ca(void *self, struct str query, struct strbuf *out)
{
	const struct citadel *c = self;
	const struct signer_ca *ca = signer_ca(c->signer);
	strbuf_addf(out, "{\"signerPid\":%d,\"signerUp\":%s,\"generation\":%lld", signer_pid(c->signer),
		signer_up(c->signer) ? "true" : "false", (long long)c->generation);
	add_member(out, "trustDomain", c->cfg->trust_domain);
	add_certs(out, "issuer", ca ? ca->cert : NULL);
	add_certs(out, "intermediates", ca ? ca->chain : NULL);
	add_certs(out, "roots", ca ? citadel_roots(c) : NULL);
	strbuf_adds(out, ",\"rotation\":");
	rollover_debug(c, out);
	strbuf_addc(out, '}');
}

static void page_issuances(void *self, struct str query, struct strbuf *out)
{
	const struct citadel *c = self;
	size_t kept = min_size(c->issued, ISSUANCES);
	strbuf_addf(out, "{\"total\":%zu,\"issuances\":[", c->issued);
	for (size_t k = 0; k < kept; k++) {
		const struct issuance *i = &c->ring[(c->issued - 1 - k) % ISSUANCES];
		char at[32], expiry[32];
		clock_format(i->at_ms, at);
		clock_format(i->not_after_ms, expiry);
		strbuf_addf(out, "%s{\"at\":\"%s\"", k ? "," : "", at);
		add_member(out, "id", i->id);
		add_member(out, "serial", i->serial);
		add_member(out, "expires", expiry);
		add_member(out, "authenticator", i->by);
		add_member(out, "peer", i->peer);
		strbuf_addc(out, '}');
	}
	strbuf_adds(out, "]}");
}

static void add_list(struct strbuf *out, const char *name, const char *const *list)
{
	strbuf_addf(out, ",\"%s\":[", name);
	for (size_t i = 0; list && list[i]; i++) {
		strbuf_adds(out, i ? "," : "");
		strbuf_add_json(out, str_of(list[i]));
	}
	strbuf_addc(out, ']');
}

static void page_authn(void *self, struct str query, struct strbuf *out)
{
	const struct citadel *c = self;
	strbuf_addf(out, "{\"ownTokens\":%s,\"jwksLoaded\":%s", c->authn.sources[AUTHN_OWN].keys ? "true" : "false",
		c->authn.sources[AUTHN_JWKS].keys ? "true" : "false");
	add_list(out, "issuers", c->authn.sources[AUTHN_JWKS].issuers);
	add_list(out, "audiences", c->authn.audiences);
	add_list(out, "forwarders", c->authn.forwarders);
	add_list(out, "controlPlane", c->control_plane);
	add_list(out, "controlPlaneDns", c->own_dns);
	strbuf_addc(out, '}');
}

static void page_cluster(void *self, struct str query, struct strbuf *out)
{
	const struct citadel *c = self;
	if (c->cluster)
		citadel_cluster_debug(c->cluster, out);
	else
		strbuf_adds(out, "null");
}

static void page_bus(void *self, struct str query, struct strbuf *out)
{
	const struct citadel *c = self;
	if (c->bus)
		bus_publisher_debug(c->bus, out);
	else
		strbuf_adds(out, "null");
}

const struct debug_page citadel_pages[] = {
	{"ca", "issuer, intermediates and roots; the signer process", page_ca},
	{"issuances", "the last certificates issued, newest first", page_issuances},
	{"cluster", "the cluster's token keys, and the trust bundle in its namespaces", page_cluster},
	{"authn", "whose credentials are accepted", page_authn},
	{"bus", "topics, subscribers and sequence of the publisher", page_bus},
};
const size_t citadel_n_pages = ARRAY_LEN(citadel_pages);
