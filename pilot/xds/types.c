/*
 * DOC: The table of xDS types, expanded from protos/xds.def. The order of the rows is the order of pushes: what is used is made
 * before what uses it.
 */
#include "pilot/xds/types.h"

#define URL_PREFIX "type.googleapis.com/"

static const struct xds_type_info types[] = {
#define XDS(id, short_name, full_name, wildcard_) \
	{.type = XDS_##id, \
		.name = (short_name), \
		.message = (full_name), \
		.url = URL_PREFIX full_name, \
		.wildcard = (wildcard_)},
#include "protos/xds.def"
#undef XDS
};

const struct xds_type_info *xds_type_info(enum xds_type t)
{
	assert(t < XDS_TYPE_COUNT);
	return &types[t];
}

bool xds_type_find(struct str url, enum xds_type *out)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (!str_eqc(url, types[i].url))
			continue;
		*out = types[i].type;
		return true;
	}
	return false;
}
