/*
 * DOC: Nearest names by the number of edits: insert, delete, change a letter, swap two neighbours (optimal string
 * alignment). Three rows of the table are kept. A name of up to three letters must be closer, or every short name would
 * be near every other.
 */
#include "common/pb/suggest.h"

#include "common/pb/pb.h"

#define NAME_LEN_MAX 64
#define EDITS_MAX 2

static size_t min3(size_t a, size_t b, size_t c)
{
	return min_size(a, min_size(b, c));
}

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t edits(struct str a, struct str b)
{
	size_t rows[3][NAME_LEN_MAX + 1] = {{0}};
	for (size_t j = 0; j <= b.len; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t *now = rows[i % 3];
		const size_t *before = rows[(i + 2) % 3];
		const size_t *earlier = rows[(i + 1) % 3];
		now[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t change = fold(a.ptr[i - 1]) != fold(b.ptr[j - 1]);
			now[j] = min3(before[j] + 1, now[j - 1] + 1, before[j - 1] + change);
			if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1])
				now[j] = min_size(now[j], earlier[j - 2] + 1);
		}
	}
	return rows[a.len % 3][b.len];
}

bool suggest_field(const ProtobufCMessageDescriptor *d, struct str name, char *out, size_t out_size)
{
	size_t best = name.len <= 3 ? 2 : EDITS_MAX + 1;
	bool found = false;
	for (unsigned i = 0; i < d->n_fields && name.len <= NAME_LEN_MAX; i++) {
		char json[NAME_LEN_MAX + 1];
		pb_json_name(&d->fields[i], json, sizeof(json));
		struct str candidate = str_of(json);
		size_t distance = edits(name, candidate);
		if (distance >= best || distance >= max_size(name.len, candidate.len))
			continue;
		best = distance;
		found = true;
		pb_json_name(&d->fields[i], out, out_size);
	}
	return found;
}
