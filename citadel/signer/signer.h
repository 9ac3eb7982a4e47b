/*
 * The daemon's side of the signer process: starts it, restarts it with backoff when it dies, sends CSRs, hands back certificates. The daemon
 * never has the CA's key: not in a file it opens, not in its memory. Owner thread: the loop's.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

struct signer;

struct signer_options {
	const char *program; /* NULL: /proc/self/exe */
	const char *ca_dir, *state_dir, *root_key, *trust_domain;
	uint64_t root_ttl_ms, max_ttl_ms;
	const char *const *dns;
	void (*on_ready)(void *ctx); /* a signer said hello: certificates may have changed */
	void (*on_down)(void *ctx, const char *why);
	void *ctx;
};

enum signer_result { SIGNER_OK, SIGNER_REFUSED, SIGNER_FAILED, SIGNER_UNAVAILABLE };

struct signer_ca {
	const char *cert, *chain, *roots; /* PEM; borrowed until the next on_ready */
	const char *const *links; /* the certificates of chain one by one, NULL-terminated */
};

/* Borrowed for the call. */
struct signer_answer {
	struct str why; /* unless SIGNER_OK */
	struct str der; /* the certificate */
	struct str serial_hex;
	int64_t not_after_ms;
};

struct signer *signer_new(struct loop *l, const struct signer_options *o, struct err *e) MUST_CHECK;
void signer_free(struct signer *s); /* what is asked for ends as UNAVAILABLE first */
const struct signer_ca *signer_ca(const struct signer *s); /* NULL until the first hello */
bool signer_up(const struct signer *s);
int signer_pid(const struct signer *s); /* 0: none */
/* A second signer reads the CA again; it takes over when it said hello, and when it fails the old one stays. */
void signer_reload(struct signer *s);
/* csr in DER; its proof of possession is the signer's to verify. done() comes exactly once, perhaps at once. */
void signer_sign(struct signer *s, struct str csr, const char *uri, const char *const *dns, uint64_t ttl_ms,
	void (*done)(void *ctx, enum signer_result r, const struct signer_answer *a), void *ctx);
