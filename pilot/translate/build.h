/*
 * Small builders for the messages that every translator makes: wrappers, durations, addresses, metadata, config sources. Everything
 * lies in the given arena.
 */
#pragma once

#include "common/pb/pb.h"
#include "pilot/model/query.h"
#include "wkt/any.pb-c.h"
#include "wkt/duration.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "wkt/wrappers.pb-c.h"
#include "xds/core.pb-c.h"
#include "xds/matcher.pb-c.h"
#include "xds/type.pb-c.h"

Wkt__UInt32Value *build_u32(struct arena *a, uint32_t value);
Wkt__UInt64Value *build_u64(struct arena *a, uint64_t value);
Wkt__BoolValue *build_bool(struct arena *a, bool value);
/* What a setting says; otherwise, if it is not there. */
bool bool_or(const Wkt__BoolValue *setting, bool otherwise);
Wkt__Duration *build_ms(struct arena *a, int64_t ms);
Wkt__Duration *build_duration(struct arena *a, const Wkt__Duration *d); /* copy; NULL: NULL */

Core__Address *build_address(struct arena *a, struct str ip, uint32_t port);
Core__ConfigSource *build_ads_source(struct arena *a);
Core__GrpcService *build_grpc_service(struct arena *a, const char *cluster);
Core__TransportSocket *build_transport_socket(struct arena *a, const char *name, const void *config);

Core__SubstitutionFormatString *build_format(struct arena *a, const char *format);
Core__HeaderValueOption *build_header(struct arena *a, const char *key, const char *value, bool append);

Match__StringMatcher *build_exact(struct arena *a, const char *value);
Match__RegexMatcher *build_regex(struct arena *a, const char *regex);
/* Istio's Percent (0..100, two decimals count) as Envoy's fraction of a million. */
Type__FractionalPercent *build_fraction(struct arena *a, double percent);

/* ---- google.protobuf.Struct: fields are added in the order of their names by the callers */
Wkt__Struct *build_struct(struct arena *a);
void struct_put(struct arena *a, Wkt__Struct *s, const char *key, const char *value);
void struct_put_value(struct arena *a, Wkt__Struct *s, const char *key, Wkt__Value *value);
Wkt__Value *build_struct_value(struct arena *a, Wkt__Struct *s);
Wkt__Value *build_number(struct arena *a, double number);

/* Adds filter_metadata[filter] = s; makes *md when it is NULL. */
void metadata_put(struct arena *a, Core__Metadata **md, const char *filter, Wkt__Struct *s);
/* filter_metadata.istio.config: which object made this, in Istio's form of a Kubernetes API path. */
void metadata_put_config(struct arena *a, Core__Metadata **md, const struct entry *e);
const char *config_path(struct arena *a, const struct entry *e);
