/*
 * DOC: `galley crds`: the CustomResourceDefinitions of Istio's kinds that this version reads, made from the compiled descriptors, so that they
 * cannot disagree with the decoder. The schemas are structural: objects, lists, maps, enums, wrapped scalars (nullable), at most one member of
 * a oneof. Names, versions, short names and columns are Istio's; what a schema cannot say, the webhook says.
 */
#include "galley/crds.h"

#include <jansson.h>
#include <stdio.h>

#include "common/base/util.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

#define DEPTH_MAX 40

struct column {
	const char *name, *path, *type;
};

#define AGE \
	{ \
		"Age", ".metadata.creationTimestamp", "date" \
	}

/* What descriptors do not know of a kind. The first of its versions is the one that is stored. */
static const struct crd_row {
	enum kind_id kind;
	const char *short_name;
	struct column columns[4];
} rows[] = {
	{KIND_VIRTUAL_SERVICE, "vs",
		{{"Gateways", ".spec.gateways", "string"}, {"Hosts", ".spec.hosts", "string"}, AGE}},
	{KIND_DESTINATION_RULE, "dr", {{"Host", ".spec.host", "string"}, AGE}},
	{KIND_GATEWAY, "gw", {{0}}},
	{KIND_SERVICE_ENTRY, "se",
		{{"Hosts", ".spec.hosts", "string"}, {"Location", ".spec.location", "string"},
			{"Resolution", ".spec.resolution", "string"}, AGE}},
	{KIND_WORKLOAD_ENTRY, "we", {AGE, {"Address", ".spec.address", "string"}}},
	{KIND_WORKLOAD_GROUP, "wg", {AGE}},
	{KIND_SIDECAR, NULL, {{0}}},
	{KIND_PEER_AUTHN, "pa", {{"Mode", ".spec.mtls.mode", "string"}, AGE}},
	{KIND_REQUEST_AUTHN, "ra", {{0}}},
	{KIND_AUTHORIZATION_POLICY, "ap", {{"Action", ".spec.action", "string"}, AGE}},
	{KIND_ENVOY_FILTER, NULL, {{0}}},
	{KIND_PROXY_CONFIG, NULL, {{0}}},
	{KIND_TELEMETRY, "telemetry", {AGE}},
	{KIND_WASM_PLUGIN, NULL, {AGE}},
	{KIND_TRAFFIC_EXTENSION, NULL, {AGE}},
};

static json_t *message_schema(const ProtobufCMessageDescriptor *d, unsigned depth);

static json_t *of_type(const char *type)
{
	return json_pack("{s:s}", "type", type);
}

static json_t *anything(void)
{
	return json_pack("{s:s, s:b}", "type", "object", "x-kubernetes-preserve-unknown-fields", 1);
}

/* ---- values */

/* The length is bounded because the API server reckons what a rule may cost for the longest text. */
static json_t *duration_schema(void)
{
	return json_pack("{s:s, s:i, s:[{s:s, s:s}]}", "type", "string", "maxLength", 64, "x-kubernetes-validations",
		"rule", "duration(self) >= duration('0s')", "message", "must be a duration, such as 1.5s or 250ms");
}

static json_t *enum_schema(const ProtobufCEnumDescriptor *d)
{
	json_t *s = of_type("string"), *values = json_array();
	for (unsigned i = 0; i < d->n_value_names; i++)
		(void)json_array_append_new(values, json_string(d->values_by_name[i].name));
	(void)json_object_set_new(s, "enum", values);
	return s;
}

static json_t *unsigned_schema(void)
{
	return json_pack("{s:s, s:i, s:I}", "type", "integer", "minimum", 0, "maximum", (json_int_t)4294967295);
}

static json_t *scalar_schema(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return json_pack("{s:s, s:s}", "type", "integer", "format", "int32");
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return unsigned_schema();
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return of_type("integer");
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_pack("{s:s, s:s}", "type", "number", "format", "double");
	case PROTOBUF_C_TYPE_BOOL:
		return of_type("boolean");
	case PROTOBUF_C_TYPE_ENUM:
		return enum_schema(f->descriptor);
	case PROTOBUF_C_TYPE_STRING:
		return of_type("string");
	case PROTOBUF_C_TYPE_BYTES:
		return json_pack("{s:s, s:s}", "type", "string", "format", "binary");
	case PROTOBUF_C_TYPE_MESSAGE:
		break;
	}
	return NULL;
}

/* Messages whose JSON is not an object of their fields; NULL: it is. */
static json_t *well_known_schema(const ProtobufCMessageDescriptor *d)
{
	struct str name = str_of(d->name), prefix = STR("google.protobuf.");
	if (!str_starts(name, prefix))
		return NULL;
	name = str_from(name, prefix.len);
	if (str_eqc(name, "Duration"))
		return duration_schema();
	if (str_eqc(name, "Timestamp"))
		return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
	if (str_ends(name, STR("Value")) && d->n_fields == 1) {
		json_t *s = scalar_schema(&d->fields[0]);
		if (s)
			(void)json_object_set_new(s, "nullable", json_true());
		return s ? s : anything();
	}
	return anything();
}

static json_t *value_schema(const ProtobufCFieldDescriptor *f, unsigned depth)
{
	json_t *s = scalar_schema(f);
	return s ? s : message_schema(f->descriptor, depth + 1);
}

static json_t *field_schema(const ProtobufCFieldDescriptor *f, unsigned depth)
{
	if (f->label != PROTOBUF_C_LABEL_REPEATED)
		return value_schema(f, depth);
	if (f->type == PROTOBUF_C_TYPE_MESSAGE && pb_is_map_entry(f->descriptor)) {
		const ProtobufCMessageDescriptor *entry = f->descriptor;
		return json_pack(
			"{s:s, s:o}", "type", "object", "additionalProperties", value_schema(&entry->fields[1], depth));
	}
	return json_pack("{s:s, s:o}", "type", "array", "items", value_schema(f, depth));
}

/*
 * The API server refuses a definition whose rules could cost too much: a rule in a list costs as much as the longest list that fits into a request,
 * about 4 million, and all rules of a version may cost 100 million. So in a list within a list (subsets[].trafficPolicy.portLevelSettings[]) a
 * pattern, which costs nothing, says the same as the rule for durations.
 */
static void cheapen_rules(json_t *schema, unsigned lists)
{
	const char *name;
	json_t *child;
	json_object_foreach(json_object_get(schema, "properties"), name, child) cheapen_rules(child, lists);
	if ((child = json_object_get(schema, "items")))
		cheapen_rules(child, lists + 1);
	if (json_is_object(child = json_object_get(schema, "additionalProperties")))
		cheapen_rules(child, lists + 1);
	if (lists < 2 || json_object_del(schema, "x-kubernetes-validations"))
		return;
	(void)json_object_set_new(
		schema, "pattern", json_string("^(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|ms|s|m|h))+)$"));
}

/* ---- messages */

static void field_name(const ProtobufCFieldDescriptor *f, char out[128])
{
	pb_json_name(f, out, 128);
}

/* At most one of the fields that share a case: none, or exactly one of them. */
static json_t *oneof_schema(const ProtobufCMessageDescriptor *d, unsigned case_offset)
{
	json_t *alternatives = json_array(), *any = json_array();
	char name[128];
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		if (!(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) || f->quantifier_offset != case_offset)
			continue;
		field_name(f, name);
		(void)json_array_append_new(any, json_pack("{s:[s]}", "required", name));
	}
	(void)json_array_append_new(alternatives, json_pack("{s:{s:O}}", "not", "anyOf", any));
	(void)json_array_extend(alternatives, any);
	json_decref(any);
	return json_pack("{s:o}", "oneOf", alternatives);
}

static void add_oneofs(json_t *schema, const ProtobufCMessageDescriptor *d)
{
	json_t *all = json_array();
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		bool first = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
		for (unsigned k = 0; first && k < i; k++)
			first = !(d->fields[k].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
				d->fields[k].quantifier_offset != f->quantifier_offset;
		if (first)
			(void)json_array_append_new(all, oneof_schema(d, f->quantifier_offset));
	}
	if (json_array_size(all) == 1)
		(void)json_object_update(schema, json_array_get(all, 0));
	else if (json_array_size(all) > 1)
		(void)json_object_set(schema, "allOf", all);
	json_decref(all);
}

/* Istio keeps these spellings from its first days beside the regular ones, and the API server would drop them. */
static const struct {
	const char *message, *old, *now;
} spellings[] = {
	{"istio.networking.v1alpha3.HTTPRoute", "mirror_percent", "mirrorPercent"},
	{"istio.security.v1beta1.JWTRule", "jwks_uri", "jwksUri"},
};

static json_t *message_schema(const ProtobufCMessageDescriptor *d, unsigned depth)
{
	json_t *known = well_known_schema(d), *properties = json_object();
	char name[128];
	if (known || depth > DEPTH_MAX) {
		json_decref(properties);
		return known ? known : anything();
	}
	for (unsigned i = 0; i < d->n_fields; i++) {
		field_name(&d->fields[i], name);
		(void)json_object_set_new(properties, name, field_schema(&d->fields[i], depth));
	}
	for (size_t i = 0; i < ARRAY_LEN(spellings); i++)
		if (streq(d->name, spellings[i].message))
			(void)json_object_set(
				properties, spellings[i].old, json_object_get(properties, spellings[i].now));
	/* Istio's bound, for the same reason as cheapen_rules(). */
	json_t *settings = json_object_get(properties, "portLevelSettings");
	if (settings)
		(void)json_object_set_new(settings, "maxItems", json_integer(4096));
	json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
	add_oneofs(schema, d);
	return schema;
}

/* IstioStatus: conditions and messages; open, because controllers of others write here too. */
static json_t *status_schema(void)
{
	return json_pack("{s:s, s:b, s:{s:{s:s, s:{s:s, s:b}}, s:{s:s, s:{s:s, s:b}}, s:{s:b, s:[{s:s}, {s:s}]}}}",
		"type", "object", "x-kubernetes-preserve-unknown-fields", 1, "properties", "conditions", "type",
		"array", "items", "type", "object", "x-kubernetes-preserve-unknown-fields", 1, "validationMessages",
		"type", "array", "items", "type", "object", "x-kubernetes-preserve-unknown-fields", 1,
		"observedGeneration", "x-kubernetes-int-or-string", 1, "anyOf", "type", "integer", "type", "string");
}

/* ---- definitions */

static json_t *columns_of(const struct crd_row *r)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ARRAY_LEN(r->columns) && r->columns[i].name; i++)
		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", r->columns[i].name, "type",
							  r->columns[i].type, "jsonPath", r->columns[i].path));
	return list;
}

static json_t *version_of(const struct crd_row *r, const struct kind *k, struct str version, bool storage)
{
	json_t *spec = message_schema(k->message, 0);
	cheapen_rules(spec, 0);
	json_t *v = json_pack("{s:s%, s:b, s:b, s:{s:{}}, s:{s:{s:s, s:{s:o, s:o}}}}", "name", version.ptr, version.len,
		"served", 1, "storage", storage, "subresources", "status", "schema", "openAPIV3Schema", "type",
		"object", "properties", "spec", spec, "status", status_schema());
	json_t *columns = columns_of(r);
	if (json_array_size(columns))
		(void)json_object_set(v, "additionalPrinterColumns", columns);
	json_decref(columns);
	return v;
}

static void lower(const char *in, const char *suffix, char out[64])
{
	(void)snprintf(out, 64, "%s%s", in, suffix);
	for (char *c = out; *c; c++)
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
}

static json_t *definition(const struct crd_row *r)
{
	const struct kind *k = kind_get(r->kind);
	struct str rest = str_of(k->versions), version, group = str_of(k->group), area;
	json_t *versions = json_array();
	char name[160], singular[64], list[64], category[64];
	while (str_split(&rest, ',', &version))
		(void)json_array_append_new(versions, version_of(r, k, version, json_array_size(versions) == 0));
	(void)str_cut(group, '.', &area, &group);
	(void)snprintf(name, sizeof(name), "%s.%s", k->plural, k->group);
	(void)snprintf(list, sizeof(list), "%sList", k->name);
	(void)snprintf(category, sizeof(category), STR_FMT "-istio-io", STR_ARG(area));
	lower(k->name, "", singular);
	json_t *names = json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "kind", k->name, "listKind", list, "plural",
		k->plural, "singular", singular, "categories", "istio-io", category);
	if (r->short_name)
		(void)json_object_set_new(names, "shortNames", json_pack("[s]", r->short_name));
	return json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s, s:s}, s:{s:s}}, s:{s:s, s:s, s:o, s:o}}", "apiVersion",
		"apiextensions.k8s.io/v1", "kind", "CustomResourceDefinition", "metadata", "name", name, "labels",
		"app", "istio-pilot", "chart", "istio", "release", "istio", "annotations", "helm.sh/resource-policy",
		"keep", "spec", "group", k->group, "scope", k->cluster_scoped ? "Cluster" : "Namespaced", "names",
		names, "versions", versions);
}

int crds_command(int argc, char **argv)
{
	if (argc > 1) {
		(void)fprintf(stderr,
			"galley crds: \"%s\" is not expected; it prints the definitions and takes nothing\n", argv[1]);
		return 2;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_t *d = definition(&rows[i]);
		(void)printf("---\n");
		(void)json_dumpf(d, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
		(void)printf("\n");
		json_decref(d);
	}
	return 0;
}
