/*
 * DOC: PCDS. Pilot has one resource of this type, which holds all roots; an answer replaces what was there, and one that takes the resource away
 * leaves none. Every text must be made of certificates of CAs, because Envoy refuses a bundle as a whole; so an answer with a bad one is
 * refused here, with the reason for pilot's log, and the roots stay.
 */
#include "agent/mesh_roots.h"

#include <stdlib.h>

#include "cfg/mesh_proxy.pb-c.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"

METRIC(count, GAUGE, "istio_agent_mesh_roots", "roots of the mesh that pilot told");

LOG_SCOPE(roots_log, "roots", "the mesh's roots, from pilot");

struct mesh_roots {
	char *file, *pem;
	size_t n;
	char *name, *version; /* of the resource that they came in; NULL: not in this run, or not in one alone */
};

/* ---- reading an answer */

static bool add_text(struct arena *a, const char *text, struct strbuf *out, size_t *n, struct err *e)
{
	struct pki_cert *certs = NULL;
	size_t len = 0;
	if (!pki_certs_parse(a, str_of(text), &certs, &len, e))
		return false;
	for (size_t i = 0; i < len; i++) {
		char *pem cleanup(free_p) = pki_cert_pem(&certs[i]);
		if (!certs[i].ca)
			return err_set(e, ERR_PEER, "\"%.200s\" is not a CA's certificate", certs[i].subject);
		strbuf_adds(out, pem);
		if (out->len > LIMIT_PEM_BYTES)
			return err_set(e, ERR_LIMIT, "the roots are larger than %u bytes", LIMIT_PEM_BYTES);
	}
	*n += len;
	return true;
}

bool mesh_roots_parse(
	struct arena *a, const Ads__DeltaDiscoveryResponse *in, const char **pem, size_t *n, struct err *e)
{
	struct strbuf text cleanup(strbuf_done) = {0};
	*pem = NULL;
	*n = 0;
	for (size_t i = 0; i < in->n_resources; i++) {
		const Wkt__Any *any = in->resources[i]->resource;
		if (!any || !streq(any->type_url, MESH_ROOTS_TYPE))
			return err_set(e, ERR_PEER, "resource %zu is no ProxyConfig", i);
		const Mesh__ProxyConfig *c = PB_UNPACK(
			a, Mesh__ProxyConfig, mesh__proxy_config, any->value.data, any->value.len, e);
		if (!c)
			return err_in(e, "resource %zu", i);
		for (size_t k = 0; k < c->n_ca_certificates_pem; k++)
			if (!add_text(a, c->ca_certificates_pem[k], &text, n, e))
				return err_in(e, "caCertificatesPem[%zu]", k);
	}
	if (in->n_resources || in->n_removed_resources)
		*pem = arena_cstr(a, strbuf_str(&text));
	return true;
}

/* ---- keeping */

static void put(struct mesh_roots *r, const char *pem, size_t n)
{
	free(r->pem);
	r->pem = xstrdup(pem);
	r->n = n;
	metric_set(&count, (double)n);
}

struct mesh_roots *mesh_roots_new(const char *file)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct mesh_roots *r = xzalloc(sizeof(*r));
	struct strbuf text cleanup(strbuf_done) = {0};
	char *kept cleanup(free_p) = NULL;
	size_t len = 0, n = 0;
	struct err e = {0};
	r->file = xstrdup(file);
	if (file_exists(file) &&
		(!file_read(file, LIMIT_PEM_BYTES, &kept, &len, &e) || (len && !add_text(a, kept, &text, &n, &e)))) {
		log_warn(&roots_log, "roots of the last run are not used", KV("file", file), KV("error", e.text));
		n = text.len = 0;
	}
	put(r, n ? arena_cstr(a, strbuf_str(&text)) : "", n);
	return r;
}

void mesh_roots_free(struct mesh_roots *r)
{
	if (!r)
		return;
	free(r->file);
	free(r->pem);
	free(r->name);
	free(r->version);
	free(r);
}

static void note_version(struct mesh_roots *r, const Ads__DeltaDiscoveryResponse *in)
{
	const Ads__Resource *one = in->n_resources == 1 ? in->resources[0] : NULL;
	free(r->name);
	free(r->version);
	r->name = one ? xstrdup(one->name) : NULL;
	r->version = one ? xstrdup(one->version) : NULL;
}

void mesh_roots_say(const struct mesh_roots *r, struct arena *a, Ads__DeltaDiscoveryRequest *out)
{
	if (str_empty(r->name) || str_empty(r->version))
		return;
	Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry *held = PB_NEW(a,
		Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry,
		ads__delta_discovery_request__initial_resource_versions_entry);
	held->key = arena_strdup(a, r->name);
	held->value = arena_strdup(a, r->version);
	pb_add(a, out, initial_resource_versions, held);
}

bool mesh_roots_take(struct mesh_roots *r, const Ads__DeltaDiscoveryResponse *in, bool *changed, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *pem = NULL;
	struct err not_written = {0};
	size_t n = 0;
	*changed = false;
	if (!mesh_roots_parse(a, in, &pem, &n, e))
		return false;
	if (pem)
		note_version(r, in);
	if (!pem || streq(pem, r->pem))
		return true;
	*changed = true;
	put(r, pem, n);
	log_info(&roots_log, "the mesh's roots changed", KV("roots", n));
	if (!file_write_atomic(r->file, str_of(pem), 0600, &not_written))
		log_error(&roots_log, "roots not written", KV("error", not_written.text));
	return true;
}

const char *mesh_roots_pem(const struct mesh_roots *r)
{
	return r->pem;
}

size_t mesh_roots_count(const struct mesh_roots *r)
{
	return r->n;
}
