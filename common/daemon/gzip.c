/*
 * DOC: gzip by zlib at its quickest level: text of metrics becomes a tenth of it at 100 MB a second, and the better levels win a few
 * percent for five times the work, on the one thread that has other things to do.
 */
#include "common/daemon/gzip.h"

#include <stdlib.h>
#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* zlib's way to say: gzip's head and tail */

/* ";q=0", ";q=0.0": not this one. */
static bool is_refused(struct str parameters)
{
	struct str part, name, value;
	double q;
	while (str_split(&parameters, ';', &part))
		if (str_cut(str_trim(part), '=', &name, &value) && str_ieq(str_trim(name), STR("q")))
			return str_double(str_trim(value), &q) && q == 0;
	return false;
}

bool gzip_accepted(struct str accept_encoding)
{
	struct str part, name, parameters;
	bool any = false;
	while (str_split(&accept_encoding, ',', &part)) {
		(void)str_cut(part, ';', &name, &parameters);
		name = str_trim(name);
		if (str_ieq(name, STR("gzip")) || str_ieq(name, STR("x-gzip")))
			return !is_refused(parameters);
		any = any || (str_eqc(name, "*") && !is_refused(parameters));
	}
	return any;
}

bool gzip_pack(struct str in, void **out, size_t *len)
{
	z_stream z = {0};
	int end;

	if (in.len > UINT32_MAX / 2 ||
		deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	*out = xmalloc(in.len + 1);
	z.next_in = (Bytef *)(uintptr_t)in.ptr;
	z.avail_in = (uInt)in.len;
	z.next_out = *out;
	z.avail_out = (uInt)in.len;
	end = deflate(&z, Z_FINISH);
	*len = z.total_out;
	deflateEnd(&z);
	if (end == Z_STREAM_END)
		return true;
	free(*out);
	*out = NULL;
	return false;
}
