/* The xDS types that pilot serves, from protos/xds.def, in push order, and the two protocols. */
#pragma once

#include "common/base/str.h"

enum xds_type {
#define XDS(id, ...) XDS_##id,
#include "protos/xds.def"
#undef XDS
	XDS_TYPE_COUNT
};

enum xds_mode { XDS_SOTW, XDS_DELTA, XDS_MODE_COUNT };

struct xds_type_info {
	enum xds_type type;
	const char *name; /* "cds" */
	const char *message; /* "envoy.config.cluster.v3.Cluster" */
	const char *url; /* "type.googleapis.com/..." */
	bool wildcard; /* may be subscribed to without names */
};

const struct xds_type_info *xds_type_info(enum xds_type t);
bool xds_type_find(struct str url, enum xds_type *out);
