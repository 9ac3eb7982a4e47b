/*
 * One value of the bus, decoded once into an arena of its own, reference-counted and shared by all snapshots that hold
 * it. It carries its emissions: the questions whose answer depends on it, each with a hash of the part of the value
 * that the answer shows (the aspect). Two versions of a value touch exactly the questions whose aspects differ.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/bus/bus.h"
#include "cfg/model.pb-c.h"
#include "pilot/model/view.h"

struct emitter;

/* What may be asked. The string beside it says what the question's text is. */
enum question {
	Q_SERVICE_HOST, /* host: the service as a whole */
	Q_SERVICE_NS, /* namespace: its services as a whole, whoever may see them */
	Q_SERVICE_PORT, /* "visibility:port": who listens there */
	Q_SERVICE_NAME, /* "visibility:name": services with this host or address */
	Q_SERVICE_DYNAMIC, /* visibility: services whose hosts are looked up on demand */
	Q_SERVICE_DNS, /* visibility: services whose endpoints proxies resolve */
	Q_SERVICE_SESSIONS, /* visibility: services whose sessions stay with an endpoint */
	Q_SERVICE_LIST, /* visibility: hosts and ports of all services */
	Q_ENDPOINTS, /* ns/host: all of the set */
	Q_ACCOUNTS, /* ns/host: the set of service accounts behind a service */
	Q_ADDRESSES, /* ns/host: the set of addresses (headless services have a listener for each) */
	Q_INSTANCE, /* IP: endpoints with this address */
	Q_VS_HOST, /* host, or "*" for all virtual services with a wildcard host; sidecars only */
	Q_VS_LIST, /* "": hosts of all virtual services for sidecars */
	Q_VS_DELEGATE, /* ns/name of a virtual service without hosts */
	Q_VS_DESTINATION, /* host, or "" for all: virtual services for sidecars that send to it; only hosts are shown */
	Q_VS_GATEWAY, /* ns/name of a gateway: virtual services bound to it */
	Q_DR_HOST, /* host, or "*" for all rules with a wildcard host */
	Q_DR_SUBSETS, /* as Q_DR_HOST: only the names of subsets */
	Q_DR_BALANCER, /* as Q_DR_HOST: only by what balancers hash */
	Q_DR_LOCALITY, /* "": rules that make the caller's locality matter */
	Q_SOURCE_LABELS, /* "": objects that look at labels of the caller */
	Q_GATEWAY_LIST, /* "": all gateways */
	Q_GATEWAY, /* ns/name */
	Q_SIDECAR_NS, /* namespace */
	Q_SIDECAR, /* ns/name */
	Q_PEER_AUTHN_NS, /* namespace */
	Q_MESH, /* "" */
	Q_NAMESPACE, /* name */
	Q_SECRET, /* ns/name */
	Q_TRUST, /* "": roots of all trust bundles */
	Q_NETWORK, /* name of a network: its gateways */
	Q_NETWORK_MEMBERS, /* "": which clusters and addresses are in which network */
	Q_CONFIG_MAP, /* ns/name */
	Q_ACCESS, /* ns/service account */
	Q_SINGLED, /* namespace: whether, and why, the mesh treats it unlike others (singled.h) */
	QUESTION_COUNT
};

uint64_t question_key(enum question q, struct str text);

struct emission {
	uint64_t key;
	uint64_t aspect;
	bool row; /* the entry is part of the answer, not only a reason to ask again */
};

struct entry {
	struct ref ref;
	struct arena *arena;
	uint32_t topic;
	struct str key;
	uint64_t hash; /* of the content, without the origin */
	const Fl__Object *object; /* Istio's kinds; NULL for services, endpoints and namespaces */
	const void *value; /* the spec, or the value itself */
	struct str ns;
	int64_t created_ms;
	struct source_ref source;
	struct emission *emissions; /* sorted by key, then aspect */
	size_t n_emissions;
};

/* The topics that the model holds, and how their values are read. */
struct model_topic {
	uint32_t topic;
	unsigned unpacked; /* a value takes about so many hundredths of its packed size */
	const char *name;
	const ProtobufCMessageDescriptor *message;
	const ProtobufCMessageDescriptor *spec; /* of Fl__Object, or NULL */
	void (*emit)(struct entry *e, struct emitter *em);
};
#define MODEL_TOPIC_COUNT 14
extern const struct model_topic model_topics[MODEL_TOPIC_COUNT];

/* NULL and e when the value does not unpack. */
struct entry *entry_new(const struct model_topic *t, const struct bus_change *c, struct err *e);
void entry_unref(struct entry *e);

/* ---- used by emit functions */
void emit(struct emitter *em, enum question q, struct str text, uint64_t aspect, bool row);
void service_emit(struct entry *e, struct emitter *em);
void endpoints_emit(struct entry *e, struct emitter *em);
void namespace_emit(struct entry *e, struct emitter *em);
void mesh_emit(struct entry *e, struct emitter *em);
void virtual_service_emit(struct entry *e, struct emitter *em);
void destination_rule_emit(struct entry *e, struct emitter *em);
void gateway_emit(struct entry *e, struct emitter *em);
void sidecar_emit(struct entry *e, struct emitter *em);
void peer_authn_emit(struct entry *e, struct emitter *em);
void secret_emit(struct entry *e, struct emitter *em);
void trust_emit(struct entry *e, struct emitter *em);
void network_emit(struct entry *e, struct emitter *em);
void config_map_emit(struct entry *e, struct emitter *em);
void access_emit(struct entry *e, struct emitter *em);
