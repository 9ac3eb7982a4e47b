/*
 * DOC: Builders of small messages. They keep the translators readable: what is said there is policy, what is said here is only how
 * protobuf says it.
 */
#include "pilot/translate/build.h"

#include "common/mesh/kinds.h"

Wkt__UInt32Value *build_u32(struct arena *a, uint32_t value)
{
	Wkt__UInt32Value *v = PB_NEW(a, Wkt__UInt32Value, wkt__uint32_value);

	v->value = value;
	return v;
}

Wkt__UInt64Value *build_u64(struct arena *a, uint64_t value)
{
	Wkt__UInt64Value *v = PB_NEW(a, Wkt__UInt64Value, wkt__uint64_value);

	v->value = value;
	return v;
}

Wkt__BoolValue *build_bool(struct arena *a, bool value)
{
	Wkt__BoolValue *v = PB_NEW(a, Wkt__BoolValue, wkt__bool_value);

	v->value = value;
	return v;
}

bool bool_or(const Wkt__BoolValue *setting, bool otherwise)
{
	return setting ? setting->value : otherwise;
}

Wkt__Duration *build_ms(struct arena *a, int64_t ms)
{
	Wkt__Duration *d = PB_NEW(a, Wkt__Duration, wkt__duration);

	d->seconds = ms / 1000;
	d->nanos = (int32_t)(ms % 1000) * 1000000;
	return d;
}

Wkt__Duration *build_duration(struct arena *a, const Wkt__Duration *d)
{
	return d ? pb_copy(a, d) : NULL;
}

Core__Address *build_address(struct arena *a, struct str ip, uint32_t port)
{
	Core__Address *address = PB_NEW(a, Core__Address, core__address);

	if (str_starts(ip, STR("unix://"))) {
		address->pipe = PB_NEW(a, Core__Pipe, core__pipe);
		address->pipe->path = arena_cstr(a, str_from(ip, 7));
		address->address_case = CORE__ADDRESS__ADDRESS_PIPE;
		return address;
	}
	address->socket_address = PB_NEW(a, Core__SocketAddress, core__socket_address);
	address->socket_address->address = arena_cstr(a, ip);
	address->socket_address->port_value = port;
	address->socket_address->port_specifier_case = CORE__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
	address->address_case = CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS;
	return address;
}

Core__ConfigSource *build_ads_source(struct arena *a)
{
	Core__ConfigSource *c = PB_NEW(a, Core__ConfigSource, core__config_source);

	c->ads = PB_NEW(a, Core__AggregatedConfigSource, core__aggregated_config_source);
	c->config_source_specifier_case = CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS;
	c->initial_fetch_timeout = build_ms(a, 0);
	c->resource_api_version = CORE__API_VERSION__V3;
	return c;
}

Core__TransportSocket *build_transport_socket(struct arena *a, const char *name, const void *config)
{
	Core__TransportSocket *s = PB_NEW(a, Core__TransportSocket, core__transport_socket);

	s->name = arena_strdup(a, name);
	s->typed_config = pb_any(a, config);
	s->config_type_case = CORE__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG;
	return s;
}

Core__GrpcService *build_grpc_service(struct arena *a, const char *cluster)
{
	Core__GrpcService *s = PB_NEW(a, Core__GrpcService, core__grpc_service);

	s->envoy_grpc = PB_NEW(a, Core__GrpcService__EnvoyGrpc, core__grpc_service__envoy_grpc);
	s->envoy_grpc->cluster_name = arena_strdup(a, cluster);
	s->target_specifier_case = CORE__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC;
	return s;
}

Core__SubstitutionFormatString *build_format(struct arena *a, const char *format)
{
	Core__SubstitutionFormatString *f = PB_NEW(a, Core__SubstitutionFormatString, core__substitution_format_string);

	f->text_format_source = PB_NEW(a, Core__DataSource, core__data_source);
	f->text_format_source->inline_string = arena_strdup(a, format);
	f->text_format_source->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_STRING;
	f->format_case = CORE__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE;
	return f;
}

Core__HeaderValueOption *build_header(struct arena *a, const char *key, const char *value, bool append)
{
	Core__HeaderValueOption *h = PB_NEW(a, Core__HeaderValueOption, core__header_value_option);

	h->header = PB_NEW(a, Core__HeaderValue, core__header_value);
	h->header->key = arena_strdup(a, key);
	h->header->value = arena_strdup(a, value);
	h->append_action = append ? CORE__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD
				  : CORE__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD;
	return h;
}

Match__StringMatcher *build_exact(struct arena *a, const char *value)
{
	Match__StringMatcher *m = PB_NEW(a, Match__StringMatcher, match__string_matcher);

	m->exact = arena_strdup(a, value);
	m->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_EXACT;
	return m;
}

Match__RegexMatcher *build_regex(struct arena *a, const char *regex)
{
	Match__RegexMatcher *m = PB_NEW(a, Match__RegexMatcher, match__regex_matcher);

	m->regex = arena_strdup(a, regex);
	return m;
}

Type__FractionalPercent *build_fraction(struct arena *a, double percent)
{
	Type__FractionalPercent *f = PB_NEW(a, Type__FractionalPercent, type__fractional_percent);

	f->numerator = (uint32_t)(percent * 10000.0 + 0.5);
	f->denominator = TYPE__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION;
	return f;
}

/* ---- Struct */
Wkt__Struct *build_struct(struct arena *a)
{
	return PB_NEW(a, Wkt__Struct, wkt__struct);
}

void struct_put_value(struct arena *a, Wkt__Struct *s, const char *key, Wkt__Value *value)
{
	Wkt__Struct__FieldsEntry *e = PB_NEW(a, Wkt__Struct__FieldsEntry, wkt__struct__fields_entry);

	e->key = arena_strdup(a, key);
	e->value = value;
	pb_add(a, s, fields, e);
}

void struct_put(struct arena *a, Wkt__Struct *s, const char *key, const char *value)
{
	Wkt__Value *v = PB_NEW(a, Wkt__Value, wkt__value);

	v->string_value = arena_strdup(a, value ? value : "");
	v->kind_case = WKT__VALUE__KIND_STRING_VALUE;
	struct_put_value(a, s, key, v);
}

Wkt__Value *build_struct_value(struct arena *a, Wkt__Struct *s)
{
	Wkt__Value *v = PB_NEW(a, Wkt__Value, wkt__value);

	v->struct_value = s;
	v->kind_case = WKT__VALUE__KIND_STRUCT_VALUE;
	return v;
}

Wkt__Value *build_number(struct arena *a, double number)
{
	Wkt__Value *v = PB_NEW(a, Wkt__Value, wkt__value);

	v->number_value = number;
	v->kind_case = WKT__VALUE__KIND_NUMBER_VALUE;
	return v;
}

/* ---- Metadata */
static Wkt__Struct *metadata_get(Core__Metadata *md, const char *filter)
{
	for (size_t i = 0; md && i < md->n_filter_metadata; i++)
		if (streq(md->filter_metadata[i]->key, filter))
			return md->filter_metadata[i]->value;
	return NULL;
}

void metadata_put(struct arena *a, Core__Metadata **md, const char *filter, Wkt__Struct *s)
{
	Core__Metadata__FilterMetadataEntry *e = PB_NEW(
		a, Core__Metadata__FilterMetadataEntry, core__metadata__filter_metadata_entry);

	if (!*md)
		*md = PB_NEW(a, Core__Metadata, core__metadata);
	e->key = arena_strdup(a, filter);
	e->value = s;
	pb_add(a, *md, filter_metadata, e);
}

/* "/apis/networking.istio.io/v1/namespaces/<ns>/<kind>/<name>", as `istioctl` and logs show it. The kind is in Istio's kebab form. */
const char *config_path(struct arena *a, const struct entry *e)
{
	static const struct {
		uint32_t topic;
		const char *kind;
	} kinds[] = {
		{TOPIC_VIRTUAL_SERVICE, "virtual-service"},
		{TOPIC_DESTINATION_RULE, "destination-rule"},
		{TOPIC_GATEWAY, "gateway"},
	};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].topic == e->topic)
			return arena_printf(a, "/apis/networking.istio.io/v1/namespaces/%s/%s/%s",
				e->object->namespace_, kinds[i].kind, e->object->name);
	return "";
}

void metadata_put_config(struct arena *a, Core__Metadata **md, const struct entry *e)
{
	Wkt__Struct *s = metadata_get(*md, "istio");

	if (!s) {
		s = build_struct(a);
		metadata_put(a, md, "istio", s);
	}
	struct_put(a, s, "config", config_path(a, e));
}
