/*
 * DOC: One CURVE key pair per role, as two Z85 files: <role>.key (secret, not for others) and <role>.pub. A daemon
 * needs its own .key and the .pub of those it talks to: the allow list of a publisher is the .pub files it has, cut
 * down by the table below, which says which role has any business with which publisher. A replica names the public
 * key of the publisher it wants, so that whoever does not hold citadel's secret can not publish trust, whatever
 * address it listens on.
 */
#include "common/bus/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/io/file.h"
#include "common/mesh/kinds.h"

#define Z85_LEN 40

static const struct bus_role {
	const char *role;
	const char *follows[4];
} roles[] = {
	{"galley", {"citadel"}},
	{"citadel", {"galley"}},
	{"pilot", {"galley", "citadel"}},
	{"agent", {"citadel"}}, /* an agent sees nothing of other workloads */
	{"cli", {"galley", "citadel"}},
};

/* Topics that are not for all who may follow their publisher. */
static const struct private_topic {
	uint32_t topic;
	const char *reader;
} private_topics[] = {
	{TOPIC_SECRET, "pilot"}, /* keys of gateways */
};

struct bus_keys {
	char *own_role;
	char secret[Z85_LEN + 1];
	char public[ARRAY_LEN(roles)][Z85_LEN + 1]; /* by role; "" = has no file */
};

bool bus_role_may_follow(const char *role, const char *publisher)
{
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		for (size_t k = 0; streq(roles[i].role, role) && k < ARRAY_LEN(roles[i].follows); k++)
			if (roles[i].follows[k] && streq(roles[i].follows[k], publisher))
				return true;
	return false;
}

bool bus_topic_private(uint32_t topic)
{
	for (size_t i = 0; i < ARRAY_LEN(private_topics); i++)
		if (private_topics[i].topic == topic)
			return true;
	return false;
}

bool bus_may_read(const char *role, uint32_t topic)
{
	const struct topic *t = topic_get(topic);
	for (size_t i = 0; i < ARRAY_LEN(private_topics); i++)
		if (private_topics[i].topic == topic && !streq(private_topics[i].reader, role))
			return false;
	return !t || bus_role_may_follow(
			     role, t->publisher); /* a topic that this version does not know has no content here */
}

static const char *public_of(const struct bus_keys *k, const char *role)
{
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (streq(roles[i].role, role) && k->public[i][0])
			return k->public[i];
	return NULL;
}

static bool read_z85(const char *path, char out[Z85_LEN + 1], struct err *e)
{
	cleanup(free_p) char *content = NULL;
	size_t len = 0;
	if (!file_read(path, 4096, &content, &len, e))
		return false;
	const struct str key = str_trim(str_n(content, len));
	uint8_t binary[32];
	bool ok = key.len == Z85_LEN;
	if (ok) {
		memcpy(out, key.ptr, Z85_LEN);
		out[Z85_LEN] = 0;
		ok = zmq_z85_decode(binary, out) != NULL;
	}
	explicit_bzero(content, len);
	explicit_bzero(binary, sizeof(binary));
	return ok || err_set(e, ERR_PEER, "%s: not a CURVE key (40 characters of Z85)", path);
}

static bool read_secret(const char *path, char out[Z85_LEN + 1], struct err *e)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return err_errno(e, "%s", path);
	if (st.st_mode & 0007)
		return err_set(e, ERR_DENIED, "%s: others may use this secret key (mode %03o, should be 600)", path,
			st.st_mode & 0777);
	return read_z85(path, out, e);
}

static bool load_into(struct bus_keys *k, const char *directory, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		cleanup(free_p) char *path = xasprintf("%s/%s.pub", directory, roles[i].role);
		if (file_exists(path) && !read_z85(path, k->public[i], e))
			return false;
	}
	cleanup(free_p) char *path = xasprintf("%s/%s.key", directory, k->own_role);
	char derived[Z85_LEN + 1];
	if (!read_secret(path, k->secret, e))
		return false;
	if (zmq_curve_public(derived, k->secret) != 0)
		return err_set(e, ERR_LIBRARY, "%s: %s", path, zmq_strerror(errno));
	const char *own = public_of(k, k->own_role);
	if (!own || !streq(own, derived))
		return err_set(e, ERR_PEER, "%s does not belong to the public key beside it", path);
	return true;
}

bool bus_keys_load(const char *directory, const char *own_role, struct bus_keys **out, struct err *e)
{
	if (str_empty(directory)) {
		*out = NULL;
		return true;
	}
	struct bus_keys *k = xzalloc(sizeof(*k));
	k->own_role = xstrdup(own_role);
	if (!load_into(k, directory, e)) {
		bus_keys_free(k);
		return err_in(e, "bus keys");
	}
	*out = k;
	return true;
}

static bool generate_one(const char *directory, const char *role, struct err *e)
{
	cleanup(free_p) char *secret_path = xasprintf("%s/%s.key", directory, role);
	cleanup(free_p) char *public_path = xasprintf("%s/%s.pub", directory, role);
	char public[Z85_LEN + 1];
	char secret[Z85_LEN + 1];
	bool ok = true;
	if (file_exists(secret_path))
		ok = read_secret(secret_path, secret, e) &&
		     (zmq_curve_public(public, secret) == 0 ||
			     err_set(e, ERR_LIBRARY, "%s: %s", secret_path, zmq_strerror(errno)));
	else if (zmq_curve_keypair(public, secret) != 0)
		return err_set(e, ERR_LIBRARY, "CURVE key pair: %s", zmq_strerror(errno));
	else
		ok = file_write_atomic(secret_path, str_n(secret, Z85_LEN), 0600, e);
	explicit_bzero(secret, sizeof(secret));
	return ok && file_write_atomic(public_path, str_n(public, Z85_LEN), 0644, e);
}

bool bus_keys_generate(const char *directory, const char *const *wanted, struct err *e)
{
	if (!file_mkdirs(directory, 0700, e))
		return err_in(e, "bus keys");
	for (; *wanted; wanted++)
		if (!generate_one(directory, *wanted, e))
			return err_in(e, "bus keys");
	return true;
}

void bus_keys_free(struct bus_keys *k)
{
	if (!k)
		return;
	explicit_bzero(k->secret, sizeof(k->secret));
	free(k->own_role);
	free(k);
}

const char *bus_keys_role_of(const struct bus_keys *k, struct str public_key)
{
	char z85[Z85_LEN + 1];
	if (public_key.len != 32 || !zmq_z85_encode(z85, (const uint8_t *)public_key.ptr, 32))
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (streq(k->public[i], z85))
			return roles[i].role;
	return NULL;
}

const char *bus_keys_own_role(const struct bus_keys *k)
{
	return k->own_role;
}

static bool set_key(struct zsock *s, int option, const char *z85, struct err *e)
{
	if (zmq_setsockopt(zsock_raw(s), option, z85, Z85_LEN + 1) == 0)
		return true;
	return err_set(e, ERR_LIBRARY, "CURVE: %s (is libzmq built with it?)", zmq_strerror(errno));
}

bool bus_keys_serve(const struct bus_keys *k, struct zsock *s, const char *domain, struct err *e)
{
	int on = 1;
	if (zmq_setsockopt(zsock_raw(s), ZMQ_CURVE_SERVER, &on, sizeof(on)) != 0 ||
		zmq_setsockopt(zsock_raw(s), ZMQ_ZAP_DOMAIN, domain, strlen(domain)) != 0)
		return err_set(e, ERR_LIBRARY, "CURVE: %s", zmq_strerror(errno));
	return set_key(s, ZMQ_CURVE_SECRETKEY, k->secret, e);
}

bool bus_keys_connect(const struct bus_keys *k, struct zsock *s, const char *publisher, struct err *e)
{
	const char *server = public_of(k, publisher);
	if (!server)
		return err_set(e, ERR_DENIED, "no public key of %s among the bus keys", publisher);
	return set_key(s, ZMQ_CURVE_SERVERKEY, server, e) &&
	       set_key(s, ZMQ_CURVE_PUBLICKEY, public_of(k, k->own_role), e) &&
	       set_key(s, ZMQ_CURVE_SECRETKEY, k->secret, e);
}
