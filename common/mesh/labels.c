/*
 * DOC: protobuf-c makes a message type of its own for the entries of every map field, all with the same members.
 * Selectors meet labels of several such types, so one layout stands for all; it is checked here against one of them.
 */
#include "common/mesh/labels.h"

#include <protobuf-c/protobuf-c.h>

#include "cfg/model.pb-c.h"
#include "kube/kube.pb-c.h"

struct entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};

_Static_assert(offsetof(struct entry, key) == offsetof(Kube__ObjectMeta__LabelsEntry, key) &&
		       offsetof(struct entry, value) == offsetof(Kube__ObjectMeta__LabelsEntry, value) &&
		       sizeof(struct entry) == sizeof(Kube__ObjectMeta__LabelsEntry),
	"protobuf-c's layout of map<string, string> entries");

struct label label_at(struct label_set s, size_t i)
{
	const struct entry *e = s.entries[i];

	return (struct label){e->key ? e->key : "", e->value ? e->value : ""};
}

const char *label_get(struct label_set s, const char *key)
{
	for (size_t i = 0; i < s.n; i++) {
		struct label l = label_at(s, i);

		if (streq(l.key, key))
			return l.value;
	}
	return NULL;
}

bool labels_match(struct label_set selector, struct label_set labels)
{
	for (size_t i = 0; i < selector.n; i++) {
		struct label want = label_at(selector, i);
		const char *have = label_get(labels, want.key);

		if (!have || !streq(have, want.value))
			return false;
	}
	return true;
}
