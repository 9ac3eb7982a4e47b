/* TLS and TCP rules of VirtualServices, as filter chains of the listeners of sidecars and gateways. */
#pragma once

#include "pilot/translate/listeners.h"

/* Where connections arrive. */
struct l4_port {
	const struct chain *chain;
	Lds__Listener *listener; /* gets the chains; NULL in l4_tcp_rule(): only the answer is wanted */
	const char *gateway; /* "mesh" or "ns/name" */
	uint32_t number; /* as clients or the gateway's server know it */
	const struct str *blocks; /* addresses of the service, for tls rules without destination subnets of their own */
	size_t n_blocks;
};

/* Adds the chain unless another one takes all of its connections (false); server names that others have are taken out. */
bool listener_add_chain(struct arena *a, Lds__Listener *l, Lds__FilterChain *chain);
/* "10.0.0.0/8" or an address, as a condition on the destination. */
void chain_add_range(struct arena *a, Lds__FilterChain *chain, struct str subnet);

/* Chains of one VirtualService's tls rules; false: none applies here. */
bool l4_tls_chains(const struct l4_port *p, const struct entry *e);
/* The tcp rule for connections to anywhere, NULL: none; before it, chains of rules for destination subnets are added. */
const Cfg__TCPRoute *l4_tcp_rule(const struct l4_port *p, const struct entry *e);

/* ---- a service's port as a sidecar sees it: all VirtualServices of the host */
bool add_tls_rules(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port);
/* What connections get that no chain by subnet takes; l NULL: such chains are not wanted. */
Lds__Filter *tcp_of(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port);
/* All of a service's TLS port: its rules, else a chain for its own name. */
void add_tls_service(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port);
