/* DOC: Networks: the gateways of one, and which one a proxy is in that does not say so itself. */
#include "common/mesh/networks.h"
#include "pilot/model/ask.h"
#include "pilot/model/query.h"

const Fl__Network *view_network(struct view *v, struct str name)
{
	struct rows rows = ask(v, TOPIC_NETWORK, Q_NETWORK, name);

	return rows.n ? rows.items[0].entry->value : NULL;
}

struct str view_network_of(struct view *v, const struct proxy *p)
{
	struct rows rows = ask(v, TOPIC_NETWORK, Q_NETWORK_MEMBERS, STR(""));
	Fl__Network **list = arena_array(v->scratch, rows.n + 1, sizeof(*list));
	const struct network_list networks = {list, rows.n};

	for (size_t i = 0; i < rows.n; i++)
		list[i] = (Fl__Network *)(uintptr_t)rows.items[i].entry->value;
	return str_of(network_find(&networks, p->cluster_id, p->ip));
}
