/*
 * DOC: What survives a restart, so that a workload whose CA is away still comes up: key.pem, cert-chain.pem, root-cert.pem, each written
 * whole. The three are not one transaction; a mixture after a crash is seen because the key does not fit, and counts as nothing.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/identity/identity_internal.h"
#include "common/io/file.h"

static const char **copy_list(struct arena *a, const char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	const char **out = ARENA_ARRAY(a, const char *, n + 1);
	for (size_t k = 0; k < n; k++)
		out[k] = arena_strdup(a, list[k]);
	return n ? out : NULL;
}

static const char *copy_text(struct arena *a, const char *s)
{
	return str_empty(s) ? NULL : arena_strdup(a, s);
}

void identity_copy_options(struct identity *i, const struct identity_options *o)
{
	struct arena *a = i->arena = arena_new();
	i->o = *o;
	i->o.ca_address = copy_text(a, o->ca_address);
	i->o.ca_roots_file = copy_text(a, o->ca_roots_file);
	i->o.ca_names = copy_list(a, o->ca_names);
	i->o.token_file = copy_text(a, o->token_file);
	i->o.spiffe_id = copy_text(a, o->spiffe_id);
	i->o.dns = copy_list(a, o->dns);
	i->o.key_type = copy_text(a, o->key_type);
	i->o.persist_dir = copy_text(a, o->persist_dir);
}

static const char *path_of(struct arena *a, const struct identity *i, const char *name)
{
	return arena_printf(a, "%s/%s", i->o.persist_dir, name);
}

void identity_persist(struct identity *i)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	if (!i->o.persist_dir)
		return;
	if (!file_write_atomic(path_of(a, i, "key.pem"), str_of(i->m.key_pem), 0600, &e) ||
		!file_write_atomic(path_of(a, i, "cert-chain.pem"), str_of(i->m.chain_pem), 0600, &e) ||
		!file_write_atomic(path_of(a, i, "root-cert.pem"), str_of(i->m.roots_pem), 0600, &e))
		log_warn(&identity_log, "certificate not kept on disk", KV("error", e.text));
}

static bool usable(const struct identity *i, const char *key_pem, const char *chain, int64_t *from_ms, int64_t *to_ms)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_cert *certs = NULL;
	size_t n = 0;
	struct pki_key *k = pki_key_parse(str_of(key_pem), NULL);
	bool ok = k && pki_key_fits(k, str_of(chain), NULL) && pki_certs_parse(a, str_of(chain), &certs, &n, NULL) &&
		  certs[0].uris[0] && streq(certs[0].uris[0], i->o.spiffe_id) &&
		  certs[0].not_after_ms > clock_wall_ms();
	pki_key_free(k);
	if (ok) {
		*from_ms = certs[0].not_before_ms;
		*to_ms = certs[0].not_after_ms;
	}
	return ok;
}

int64_t identity_load(struct identity *i)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	char *key = NULL, *chain = NULL, *roots = NULL;
	size_t len = 0;
	int64_t from_ms = 0, to_ms = 0;
	if (!i->o.persist_dir)
		return 0;
	if (!file_read(path_of(a, i, "key.pem"), LIMIT_PEM_BYTES, &key, &len, NULL) ||
		!file_read(path_of(a, i, "cert-chain.pem"), LIMIT_PEM_BYTES, &chain, &len, NULL) ||
		!file_read(path_of(a, i, "root-cert.pem"), LIMIT_PEM_BYTES, &roots, &len, NULL) ||
		!usable(i, key, chain, &from_ms, &to_ms)) {
		secret_free(key);
		free(chain);
		free(roots);
		return 0;
	}
	i->ca_roots = xstrdup(roots);
	identity_material_set(i, key, chain, roots, to_ms);
	double at = i->o.renew_at > 0 ? i->o.renew_at : 0.5;
	int64_t due_ms = from_ms + (int64_t)((double)(to_ms - from_ms) * at);
	log_info(&identity_log, "certificate from disk", KV("id", i->o.spiffe_id),
		KV("left_s", (to_ms - clock_wall_ms()) / 1000));
	return due_ms > clock_wall_ms() ? due_ms - clock_wall_ms() : 0;
}

void identity_debug(const struct identity *i, struct strbuf *json)
{
	char expiry[32] = "", next[32];
	if (i->m.key_pem)
		clock_format(i->m.not_after_ms, expiry);
	clock_format(i->next_at_ms, next);
	strbuf_adds(json, "{\"id\":");
	strbuf_add_json(json, str_of(i->o.spiffe_id));
	strbuf_adds(json, ",\"ca\":");
	strbuf_add_json(json, str_of(i->o.ca_address));
	strbuf_addf(json,
		",\"valid\":%s,\"expires\":\"%s\",\"nextAttempt\":\"%s\",\"generation\":%llu,\"failures\":%u,"
		"\"lastError\":",
		identity_get(i) ? "true" : "false", expiry, next, (unsigned long long)i->m.generation, i->failures);
	strbuf_add_json(json, str_of(i->last_error));
	strbuf_addc(json, '}');
}
