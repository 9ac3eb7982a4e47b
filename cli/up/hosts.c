/*
 * DOC: Hosts files from the bus. A file is rewritten in place, because a bind mount follows the inode: the new text is written over the old
 * one and then cut to length, so that a reader never finds the file empty.
 */
#include "cli/up/hosts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cfg/model.pb-c.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/bus/bus.h"
#include "common/io/addr.h"
#include "common/io/file.h"
#include "common/mesh/host.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

LOG_SCOPE(hosts_log, "hosts", "hosts files of machine-local pods");

/*
 * What a file needs of a service. A host that Envoy itself looks up is not there: Envoy would find its virtual address, which leads nowhere
 * from a proxy.
 */
struct name {
	char *hostname;
	char *address;
};

struct hosts {
	char *state;
	struct map *names; /* bus key -> struct name */
	struct map *namespaces; /* namespace -> its path */
	struct bus_replica *replica;
};

static void name_free(struct name *n)
{
	if (!n)
		return;
	free(n->hostname);
	free(n->address);
	free(n);
}

static void file_text(const struct hosts *h, struct str ns, struct strbuf *out)
{
	struct arena *a = arena_new();
	struct str *keys = map_keys_sorted(h->names);
	strbuf_adds(out, "127.0.0.1 localhost\n::1 localhost\n");
	for (size_t i = 0; i < map_len(h->names); i++) {
		const struct name *n = map_get(h->names, keys[i]);
		struct str names[4];
		size_t count = host_aliases(a, str_of(n->hostname), ns, STR("cluster.local"), names);
		strbuf_adds(out, n->address);
		for (size_t k = 0; k < count; k++)
			strbuf_addf(out, " " STR_FMT, STR_ARG(names[k]));
		strbuf_addc(out, '\n');
	}
	free(keys);
	arena_free(a);
}

static bool write_file(const struct hosts *h, struct str ns, const char *path, struct err *e)
{
	struct strbuf text = {0};
	file_text(h, ns, &text);
	int fd cleanup(close_p) = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool ok = fd >= 0 && pwrite(fd, text.ptr, text.len, 0) == (ssize_t)text.len &&
		  ftruncate(fd, (off_t)text.len) == 0;
	strbuf_done(&text);
	return ok || err_errno(e, "write %s", path);
}

static void write_all(const struct hosts *h)
{
	struct str ns;
	void *path;
	for (size_t i = 0; map_next(h->namespaces, &i, &ns, &path);) {
		struct err e = {0};
		if (!write_file(h, ns, path, &e))
			log_warn(&hosts_log, "hosts file not written", KV("error", e.text));
	}
}

static bool is_looked_up(const Fl__Service *s)
{
	return s && (s->resolution == FL__RESOLUTION__DNS || s->resolution == FL__RESOLUTION__DNS_ROUND_ROBIN);
}

static struct name *name_of(struct str value)
{
	struct arena *a = arena_new();
	const Fl__Service *s = PB_UNPACK(a, Fl__Service, fl__service, value.ptr, value.len, NULL);
	struct name *n = NULL;
	uint8_t raw[16];
	unsigned bits = 0;
	const char *address = s && s->n_addresses ? s->addresses[0] : s ? s->auto_address : NULL;
	if (!str_empty(address) && !is_looked_up(s) && ip_parse(str_of(address), raw, &bits) &&
		!host_is_wildcard(str_of(s->hostname))) {
		n = xzalloc(sizeof(*n));
		n->hostname = xstrdup(s->hostname);
		n->address = xstrdup(address);
	}
	arena_free(a);
	return n;
}

static void on_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct hosts *h = ctx;
	(void)resync;
	(void)cause;
	for (size_t i = 0; i < n; i++) {
		struct name *name = changes[i].value.ptr ? name_of(changes[i].value) : NULL;
		name_free(name ? map_put(h->names, changes[i].key, name) : map_del(h->names, changes[i].key));
	}
	write_all(h);
}

/* There is no DNS server in a pod; one that refuses at once makes unknown names fail at once, and not after a resolver's patience. */
static bool write_resolv(const char *state, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/resolv.conf", state);
	return file_write_atomic(path, STR("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0644, e);
}

struct hosts *hosts_new(struct loop *l, const char *state, const char *bus, struct err *e)
{
	static const uint32_t topics[] = {TOPIC_SERVICE, 0};
	static const struct bus_replica_ops ops = {.on_batch = on_batch};
	char *dir cleanup(free_p) = xasprintf("%s/hosts", state);
	if (!file_mkdirs(dir, 0755, e) || !write_resolv(state, e))
		return NULL;
	struct hosts *h = xzalloc(sizeof(*h));
	h->state = xstrdup(state);
	h->names = map_new();
	h->namespaces = map_new();
	const struct bus_replica_options o = {.address = bus,
		.publisher = "galley",
		.role = "cli",
		.instance = "up",
		.topics = topics,
		.ops = &ops,
		.ctx = h};
	h->replica = bus_replica_new(l, &o, e);
	if (!h->replica) {
		hosts_free(h);
		return NULL;
	}
	return h;
}

static void free_values(struct map *m, void (*fn)(void *value))
{
	struct str key;
	void *value;
	for (size_t i = 0; m && map_next(m, &i, &key, &value);)
		fn(value);
	map_free(m);
}

static void name_free_any(void *name)
{
	name_free(name);
}

void hosts_free(struct hosts *h)
{
	if (!h)
		return;
	bus_replica_free(h->replica);
	free_values(h->names, name_free_any);
	free_values(h->namespaces, free);
	free(h->state);
	free(h);
}

bool hosts_add_namespace(struct hosts *h, const char *ns, struct err *e)
{
	struct str name = str_of(ns);
	if (map_get(h->namespaces, name))
		return true;
	char *path = xasprintf("%s/hosts/" STR_FMT, h->state, STR_ARG(name));
	if (!write_file(h, name, path, e)) {
		free(path);
		return false;
	}
	(void)map_put(h->namespaces, name, path);
	return true;
}
