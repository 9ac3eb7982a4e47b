/*
 * DOC: Whom this workload trusts: what the CA said with the last certificate, and what the file of roots holds, if it vouches for our own
 * certificate. The file is the mesh's bundle where it is mounted (istio-ca-root-cert), and then a new root is trusted as soon as it is in
 * there, long before the next certificate; where it only proves who the CA is (a public root, say) it does not vouch for us and adds nothing.
 * A bundle from the file alone never takes trust away: the CA's next answer does.
 */
#include "common/identity/identity_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/io/file.h"

#define LOOK_MS 2000u

/* True: there is something new in the file. */
static bool read_file(struct identity *i)
{
	const uint64_t stamp = file_stamp(i->o.ca_roots_file);
	char *text = NULL;
	size_t len = 0;
	if (!stamp || stamp == i->roots_stamp || !file_read(i->o.ca_roots_file, LIMIT_PEM_BYTES, &text, &len, NULL))
		return false;
	i->roots_stamp = stamp;
	bool differs = !streq(i->file_roots, text);
	free(i->file_roots);
	i->file_roots = text;
	return differs;
}

char *identity_trusted(const struct identity *i, const char *chain_pem)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str joined = str_of(i->ca_roots);
	if (i->file_roots && pki_verify(str_of(chain_pem), str_of(i->file_roots), clock_wall_ms(), NULL) &&
		!pki_bundle_join(a, str_of(i->ca_roots), str_of(i->file_roots), &joined, NULL))
		joined = str_of(i->ca_roots);
	return xstrndup(joined.ptr, joined.len);
}

static void on_look(void *ctx)
{
	struct identity *i = ctx;
	if (!read_file(i) || !i->m.key_pem)
		return;
	char *roots = identity_trusted(i, i->m.chain_pem);
	if (streq(roots, i->m.roots_pem)) {
		free(roots);
		return;
	}
	free((char *)i->m.roots_pem);
	i->m.roots_pem = roots;
	i->m.generation++;
	identity_persist(i);
	log_info(&identity_log, "the trusted roots changed", KV("file", i->o.ca_roots_file),
		KV("generation", i->m.generation));
	if (i->o.on_change)
		i->o.on_change(i->o.ctx);
}

void identity_watch_roots(struct identity *i)
{
	if (!i->o.ca_roots_file)
		return;
	(void)read_file(i);
	i->look = timer_new(i->loop, on_look, i);
	timer_start(i->look, LOOK_MS, LOOK_MS);
}
