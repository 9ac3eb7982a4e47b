/*
 * DOC: Names of fields and messages.
 *
 * JSON's name of a field is its proto name with "_x" turned into "X" (protobuf's own rule); readers take both. A lookup
 * turns a JSON name back into the proto name ("maxRetries" -> "max_retries") and searches the descriptor's sorted names;
 * only a name which that does not find (a proto name with capitals, such as "clusterIP", or an unknown field) is compared
 * with each field. Messages are found by binary search in the generated table.
 */
#include <string.h>

#include "common/pb/field.h"
#include "common/pb/pb.h"

#define NAME_MAX_BYTES 128

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static char to_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

void pb_json_name(const ProtobufCFieldDescriptor *f, char *out, size_t out_size)
{
	assert(out_size > 0);
	size_t len = 0;
	bool raise = false;
	for (const char *p = f->name; *p && len + 1 < out_size; p++) {
		if (*p == '_') {
			raise = true;
			continue;
		}
		out[len++] = raise ? to_upper(*p) : *p;
		raise = false;
	}
	out[len] = '\0';
}

static bool has_json_name(const ProtobufCFieldDescriptor *f, struct str name)
{
	char json[NAME_MAX_BYTES];
	pb_json_name(f, json, sizeof(json));
	return str_eqc(name, json);
}

/* "maxRetries" -> "max_retries"; false when it does not fit. */
static bool proto_name(struct str json, char *out, size_t out_size)
{
	size_t len = 0;
	for (size_t i = 0; i < json.len; i++) {
		if (len + 3 > out_size)
			return false;
		if (is_upper(json.ptr[i])) {
			out[len++] = '_';
			out[len++] = (char)(json.ptr[i] - 'A' + 'a');
		} else {
			out[len++] = json.ptr[i];
		}
	}
	out[len] = '\0';
	return true;
}

const ProtobufCFieldDescriptor *pb_field_by_json_name(const ProtobufCMessageDescriptor *d, struct str name)
{
	char proto[NAME_MAX_BYTES];
	size_t zero;
	if (name.len == 0 || str_find(name, '\0', &zero) || !proto_name(name, proto, sizeof(proto)))
		return NULL;
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(d, proto);
	if (f && (has_json_name(f, name) || str_eqc(name, f->name)))
		return f;
	for (unsigned i = 0; i < d->n_fields; i++)
		if (str_eqc(name, d->fields[i].name) || has_json_name(&d->fields[i], name))
			return &d->fields[i];
	return NULL;
}

const ProtobufCMessageDescriptor *pb_find_descriptor(struct str full_name)
{
	size_t low = 0;
	size_t high = pb_registry_len;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = str_cmp(full_name, str_of(pb_registry[middle]->name));
		if (order == 0)
			return pb_registry[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
