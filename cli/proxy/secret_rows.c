/*
 * DOC: Certificates that a proxy holds: the leaf of each chain, every root. A certificate is valid while now lies between its times. Only
 * certificates are read here; private keys were dropped when the dump was taken in.
 */
#include <stdlib.h>

#include "cli/proxy/rows.h"
#include "common/base/clock.h"
#include "common/base/base64.h"
#include "common/pki/pki.h"

/* PEM text of a DataSource. */
static struct str data_source(struct arena *a, const json_t *source)
{
	struct str bytes = {0};
	const char *text = dump_text(source, "inline_string");
	if (*text)
		return str_of(text);
	return base64_read(a, str_of(dump_text(source, "inline_bytes")), &bytes) ? bytes : (struct str){0};
}

static json_t *time_text(int64_t ms)
{
	char text[32];
	clock_format(ms, text);
	return json_string(text);
}

static void add_cert(json_t *rows, const json_t *item, const char *type, const struct pki_cert *c)
{
	int64_t now = clock_wall_ms();
	json_t *row = json_object();
	(void)json_object_set_new(row, "name", json_string(json_text_at(item, "name")));
	(void)json_object_set_new(row, "type", json_string(type));
	(void)json_object_set_new(row, "status", json_string(json_text_at(item, "state")));
	if (c) {
		(void)json_object_set_new(row, "valid", json_boolean(c->not_before_ms <= now && now < c->not_after_ms));
		(void)json_object_set_new(row, "serial", json_string(c->serial_hex));
		(void)json_object_set_new(row, "not_after", time_text(c->not_after_ms));
		(void)json_object_set_new(row, "not_before", time_text(c->not_before_ms));
		(void)json_object_set_new(
			row, "identity", json_string(c->uris && c->uris[0] ? c->uris[0] : c->subject));
	}
	(void)json_array_append_new(rows, row);
}

static void add_bundle(json_t *rows, const json_t *item, const char *type, const json_t *source, bool first_only)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct pki_cert *certs = NULL;
	size_t n = 0;
	if (!source)
		return;
	if (!pki_certs_parse(a, data_source(a, source), &certs, &n, NULL))
		n = 0;
	for (size_t i = 0; i < (first_only ? min_size(n, 1) : n); i++)
		add_cert(rows, item, type, &certs[i]);
	if (n == 0)
		add_cert(rows, item, type, NULL);
}

json_t *secret_rows(const struct dump *d)
{
	json_t *rows = json_array(), *item;
	size_t i;
	json_array_foreach(d->parts[DUMP_SECRETS], i, item)
	{
		const json_t *s = dump_at(item, "resource");
		add_bundle(rows, item, "Cert Chain", dump_at(s, "tls_certificate.certificate_chain"), true);
		add_bundle(rows, item, "CA", dump_at(s, "validation_context.trusted_ca"), false);
		if (!dump_at(s, "tls_certificate") && !dump_at(s, "validation_context"))
			add_cert(rows, item, "-", NULL);
	}
	return rows;
}
