/* What the two files of common/identity share; nobody else includes this. */
#pragma once

#include <stdio.h>

#include "common/base/arena.h"
#include "common/base/log.h"
#include "common/identity/identity.h"
#include "common/io/grpc.h"
#include "common/pki/pki.h"

/* One try to get a certificate: lives from the timer until the call has ended. */
struct attempt {
	struct identity *owner; /* NULL while identity_free() tears it down */
	struct pki_key *key;
	struct tls_context *tls;
	struct grpc_channel *channel;
	bool with_cert;
	uint64_t began_ms;
};

struct identity {
	struct loop *loop;
	struct arena *arena; /* copies of the options' strings */
	struct identity_options o;
	enum pki_key_type key_type;
	struct identity_material m; /* owned strings; key_pem NULL: none yet */
	char *ca_roots; /* what the CA said last; NULL: nothing yet */
	char *file_roots; /* what ca_roots_file held last; NULL: nothing yet */
	uint64_t roots_stamp;
	struct timer *look; /* at ca_roots_file */
	struct timer *timer;
	struct attempt *attempt;
	unsigned failures;
	bool skip_cert; /* the CA refused the certificate: the token alone next */
	int64_t next_at_ms;
	char last_error[480];
};

extern struct log_scope identity_log;

void identity_copy_options(struct identity *i, const struct identity_options *o);
/* Takes the strings over. */
void identity_material_set(struct identity *i, char *key, char *chain, char *roots, int64_t not_after_ms);
/* The bundle for a certificate of ours; the caller frees it. */
char *identity_trusted(const struct identity *i, const char *chain_pem);
void identity_watch_roots(struct identity *i);
void identity_persist(struct identity *i);
/* Reads what was persisted; returns after how many ms to renew, 0 = now. */
int64_t identity_load(struct identity *i);
