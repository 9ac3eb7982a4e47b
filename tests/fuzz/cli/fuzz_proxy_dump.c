/*
 * DOC: What Envoy and pilot answer to proxy-config, as JSON of any form. Oracles: no crash; every table has as many lines as rows and a title;
 * no member that holds a private key is left in a resource.
 */
#include <stdlib.h>

#include "cli/proxy/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_key(json_t *value)
{
	const char *name;
	json_t *v;
	size_t i;
	bool found = json_object_get(value, "private_key") || json_object_get(value, "privateKey");
	json_object_foreach(value, name, v) found |= has_key(v);
	json_array_foreach(value, i, v) found |= has_key(v);
	return found;
}

static void show(const struct dump *d)
{
	for (unsigned p = 0; p < DUMP_PART_COUNT; p++) {
		const struct part_table *t = part_table((enum dump_part)p);
		struct strbuf out = {0};
		size_t lines = 0;
		if (!t)
			continue;
		json_t *rows = t->rows(d);
		table_write(rows, t->columns, t->n_columns, &out);
		for (size_t i = 0; i < out.len; i++)
			lines += out.ptr[i] == '\n';
		assert(lines == json_array_size(rows) + 1);
		strbuf_done(&out);
		json_decref(rows);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dump d;
	json_t *value = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
	if (!value)
		return 0;
	dump_from_pilot(value, &d);
	d.health = json_incref(value);
	show(&d);
	dump_done(&d);
	if (dump_from_envoy(value, &d, NULL)) {
		for (size_t p = 0; p < DUMP_PART_COUNT; p++)
			assert(!has_key(d.parts[p]));
		show(&d);
		dump_done(&d);
	}
	json_decref(value);
	return 0;
}
