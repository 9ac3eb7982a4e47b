/*
 * DOC: The authenticator. libzmq asks it, over an inproc socket, about every CURVE handshake: version, request id,
 * domain, address, routing id, mechanism, credentials (the client's public key). It answers 200 with the role as user
 * id, which ZeroMQ then attaches to every message of that connection, or 400. The domain leads to the publisher which
 * is asked; no domain, no entry.
 */
#include "common/bus/keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/vec.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
enum zap_part {
	ZAP_VERSION,
	ZAP_REQUEST,
	ZAP_DOMAIN,
	ZAP_ADDRESS,
	ZAP_ROUTING,
	ZAP_MECHANISM,
	ZAP_CREDENTIALS,
	ZAP_PARTS
};

struct zap {
	struct loop *loop;
	struct zsock *socket;
	VEC(struct zap_client *) clients;
	unsigned last_domain;
};

static struct str part_str(zmq_msg_t *part)
{
	return str_n(zmq_msg_data(part), zmq_msg_size(part));
}

static const struct zap_client *client_of(const struct zap *z, struct str domain)
{
	for (size_t i = 0; i < z->clients.len; i++)
		if (str_eqc(domain, z->clients.items[i]->domain))
			return z->clients.items[i];
	return NULL;
}

/* The role that gets in, or NULL and why not. */
static const char *admit(const struct zap_client *c, struct str mechanism, struct str key, const char **why)
{
	if (!str_eqc(mechanism, "CURVE")) {
		*why = "mechanism";
		return NULL;
	}
	const char *role = bus_keys_role_of(c->keys, key);
	if (!role)
		*why = "key";
	else if (!bus_role_may_follow(role, c->publisher))
		*why = "role";
	else
		return role;
	return NULL;
}

static void answer(struct zap *z, struct str request, const char *role)
{
	struct str parts[] = {STR("1.0"), request, role ? STR("200") : STR("400"),
		role ? STR("OK") : STR("not allowed"), str_of(role ? role : ""), STR("")};
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (!zsock_send_bytes(z->socket, parts[i], i + 1 < ARRAY_LEN(parts)))
			return;
}

static void on_request(void *ctx, zmq_msg_t *parts, size_t n)
{
	struct zap *z = ctx;
	if (n < ZAP_CREDENTIALS || !str_eqc(part_str(&parts[ZAP_VERSION]), "1.0")) {
		answer(z, n > ZAP_REQUEST ? part_str(&parts[ZAP_REQUEST]) : STR(""), NULL);
		return;
	}
	const struct zap_client *c = client_of(z, part_str(&parts[ZAP_DOMAIN]));
	const struct str key = n > ZAP_CREDENTIALS ? part_str(&parts[ZAP_CREDENTIALS]) : STR("");
	const char *why = NULL;
	const char *role = c ? admit(c, part_str(&parts[ZAP_MECHANISM]), key, &why) : NULL;
	if (c && !role)
		c->on_refused(c->ctx, why, part_str(&parts[ZAP_ADDRESS]));
	answer(z, part_str(&parts[ZAP_REQUEST]), role);
}

static const struct zsock_ops zap_ops = {.on_message = on_request};

static struct zap *zap_new(struct loop *l, struct bus_context *c, struct err *e)
{
	struct zsock *s = zsock_new(l, c, ZMQ_REP, LIMIT_BUS_PEERS, &zap_ops, NULL, e);
	if (!s)
		return NULL;
	if (zmq_bind(zsock_raw(s), ZAP_ENDPOINT) != 0) {
		(void)err_set(e, ERR_LIBRARY, "%s: %s", ZAP_ENDPOINT, zmq_strerror(zmq_errno()));
		zsock_free(s);
		return NULL;
	}
	struct zap *z = xzalloc(sizeof(*z));
	*z = (struct zap){.loop = l, .socket = s};
	zsock_set_ctx(s, z);
	zsock_start(s);
	return z;
}

bool zap_join(struct loop *l, struct bus_context *c, struct zap_client *client, struct err *e)
{
	void **slot = bus_context_zap_slot(c);
	if (!*slot && !(*slot = zap_new(l, c, e)))
		return false;
	struct zap *z = *slot;
	if (z->loop != l)
		return err_set(e, ERR_BUG, "publishers with keys share one loop in a process");
	(void)snprintf(client->domain, sizeof(client->domain), "%.16s-%u", client->publisher, ++z->last_domain);
	vec_push(&z->clients, client);
	return true;
}

void zap_leave(struct bus_context *c, struct zap_client *client)
{
	void **slot = bus_context_zap_slot(c);
	struct zap *z = *slot;
	if (!z)
		return;
	size_t kept = 0;
	for (size_t i = 0; i < z->clients.len; i++)
		if (z->clients.items[i] != client)
			z->clients.items[kept++] = z->clients.items[i];
	z->clients.len = kept;
	if (kept)
		return;
	(void)zmq_unbind(zsock_raw(z->socket), ZAP_ENDPOINT); /* at once; closing frees the name only later */
	zsock_free(z->socket);
	vec_done(&z->clients);
	free(z);
	*slot = NULL;
}
