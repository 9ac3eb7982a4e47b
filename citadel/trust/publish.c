/* DOC: The trust bundle on the bus: the CA's roots, each a text of its own, with a generation that grows when they change. */
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "citadel/daemon.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

METRIC(root_expiry, GAUGE, "citadel_server_root_cert_expiry_timestamp",
	"The unix timestamp, in seconds, when the root cert expires");
METRIC(chain_expiry, GAUGE, "citadel_server_cert_chain_expiry_timestamp",
	"The unix timestamp, in seconds, when the CA cert expires");
METRIC(root_left, GAUGE, "citadel_server_root_cert_expiry_seconds",
	"The time remaining, in seconds, before the root cert expires");
METRIC(chain_left, GAUGE, "citadel_server_cert_chain_expiry_seconds",
	"The time remaining, in seconds, before the CA cert expires");

/* The root that vouches for our issuer; of several the one that lasts longest. Others are on their way in or out. */
static int64_t end_of_root(const struct signer_ca *ca, const struct pki_cert *roots, size_t n)
{
	char *chain cleanup(free_p) = xasprintf("%s%s", ca->cert, ca->chain);
	int64_t end_ms = 0;
	for (size_t i = 0; i < n; i++) {
		char *pem cleanup(free_p) = pki_pem(
			"CERTIFICATE", (const unsigned char *)roots[i].der.ptr, roots[i].der.len);
		if (roots[i].not_after_ms > end_ms &&
			pki_verify(str_of(chain), str_of(pem), roots[i].not_after_ms - 1000, NULL))
			end_ms = roots[i].not_after_ms;
	}
	return end_ms;
}

void trust_count_expiry(const struct citadel *c)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const struct signer_ca *ca = signer_ca(c->signer);
	struct pki_cert *issuer = NULL, *roots = NULL;
	size_t n_issuer = 0, n = 0;
	const int64_t now_s = clock_wall_ms() / 1000;
	if (!ca || !pki_certs_parse(a, str_of(ca->cert), &issuer, &n_issuer, NULL) ||
		!pki_certs_parse(a, str_of(ca->roots), &roots, &n, NULL))
		return;
	const int64_t root_s = end_of_root(ca, roots, n) / 1000;
	metric_set(&root_expiry, root_s);
	metric_set(&root_left, root_s - now_s);
	metric_set(&chain_expiry, issuer[0].not_after_ms / 1000);
	metric_set(&chain_left, issuer[0].not_after_ms / 1000 - now_s);
}

void trust_publish(struct citadel *c)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const struct str pem = str_of(citadel_roots(c));
	struct pki_cert *roots = NULL;
	size_t n = 0;
	struct err e = {0};
	if (!pki_certs_parse(a, pem, &roots, &n, &e)) {
		log_error(&citadel_log, "trust bundle not readable", KV("error", e.text));
		return;
	}
	trust_count_expiry(c);
	uint64_t hash = hash64(pem);
	c->generation += hash != c->roots_hash;
	c->roots_hash = hash;
	if (!c->bus)
		return;
	Fl__TrustBundle *b = PB_NEW(a, Fl__TrustBundle, fl__trust_bundle);
	b->trust_domain = arena_strdup(a, c->cfg->trust_domain);
	b->generation = c->generation;
	for (size_t i = 0; i < n; i++) {
		char *one = pki_cert_pem(&roots[i]);
		pb_add(a, b, roots_pem, arena_strdup(a, one));
		free(one);
	}
	/* The generation counts in this process only: a replica of another one that has the same roots has nothing new. */
	const struct bus_change change = {.topic = TOPIC_TRUST,
		.key = str_of(c->cfg->trust_domain),
		.value = pb_pack(a, b),
		.hash = hash | 1,
		.origin = STR("citadel")};
	(void)bus_publish(c->bus, &change, 1, "trust bundle");
}
