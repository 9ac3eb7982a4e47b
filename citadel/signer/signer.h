/*
 * The daemon's side of the signer process: starts it, restarts it with backoff when it dies, sends CSRs, hands back certificates. The daemon
 * never has the CA's key: not in a file it opens, not in its memory. Owner thread: the loop's.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

struct signer;

struct signer_ca {
	const char *cert, *chain, *roots; /* PEM; borrowed until the next on_ready */
	const char *const *links; /* the certificates of chain one by one, NULL-terminated */
	/* Rotation of the root (ca/rotation.h). */
	const char *phase, *step; /* the step was taken when this signer started */
	int64_t since_ms, next_ms; /* next: when to load the CA again; 0: not by itself */
};

struct signer_options {
	const char *program; /* NULL: /proc/self/exe */
	const char *ca_dir, *state_dir, *root_key, *trust_domain;
	uint64_t root_ttl_ms, max_ttl_ms, distribution_ms;
	bool rotate; /* an own root, before it ends */
	const char *const *dns;
	void (*on_ready)(void *ctx); /* a signer said hello: certificates may have changed */
	/* A second signer, after signer_reload(), said hello. True: it takes over. False: it waits for signer_take_next(). NULL: always true. */
	bool (*may_take)(void *ctx, const struct signer_ca *next);
	void (*on_down)(void *ctx, const char *why);
	void *ctx;
};

enum signer_result { SIGNER_OK, SIGNER_REFUSED, SIGNER_FAILED, SIGNER_UNAVAILABLE };

/* Borrowed for the call. */
struct signer_answer {
	struct str why; /* unless SIGNER_OK */
	struct str der; /* the certificate */
	struct str serial_hex;
	int64_t not_after_ms;
	const struct signer_ca *ca; /* who signed: another one than signer_ca() just after a change */
};

struct signer *signer_new(struct loop *l, const struct signer_options *o, struct err *e) MUST_CHECK;
void signer_free(struct signer *s); /* what is asked for ends as UNAVAILABLE first */
const struct signer_ca *signer_ca(const struct signer *s); /* NULL until the first hello */
bool signer_up(const struct signer *s);
int signer_pid(const struct signer *s); /* 0: none */
/* A second signer reads the CA again; it takes over when it said hello and may, and when it fails the old one stays. */
void signer_reload(struct signer *s);
const struct signer_ca *signer_next_ca(const struct signer *s); /* of the one that waits; NULL: none does */
void signer_take_next(struct signer *s);
/* csr in DER; its proof of possession is the signer's to verify. done() comes exactly once, perhaps at once. */
void signer_sign(struct signer *s, struct str csr, const char *uri, const char *const *dns, uint64_t ttl_ms,
	void (*done)(void *ctx, enum signer_result r, const struct signer_answer *a), void *ctx);
