/*
 * DOC: PeerAuthentication: workload before namespace before mesh (the root namespace), each level's UNSET inherits; a
 * port's own mode beats the workload's; PERMISSIVE when nobody says anything. Two policies of one level: the oldest.
 */
#include <stdlib.h>

#include "pilot/model/ask.h"
#include "pilot/model/query.h"

#define MODE(x) SEC__PEER_AUTHENTICATION__MUTUAL_TLS__MODE__##x

static bool has_selector(const Sec__PeerAuthentication *pa)
{
	return pa->selector && pa->selector->n_match_labels;
}

/* The oldest policy of a namespace: with a selector that matches (labels given), or the one without a selector. */
static const struct entry *oldest(struct rows rows, const struct label_set *labels)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < rows.n; i++) {
		const struct entry *e = rows.items[i].entry;
		const Sec__PeerAuthentication *pa = e->value;

		if (has_selector(pa) != (labels != NULL))
			continue;
		if (labels && !labels_match(LABELS(pa->selector, match_labels), *labels))
			continue;
		if (!best || entry_by_age(&e, &best) < 0)
			best = e;
	}
	return best;
}

static Sec__PeerAuthentication__MutualTLS__Mode mode_of(const struct entry *e)
{
	const Sec__PeerAuthentication *pa = e ? e->value : NULL;

	return pa && pa->mtls ? pa->mtls->mode : MODE(UNSET);
}

static Sec__PeerAuthentication__MutualTLS__Mode port_mode(const struct entry *e, uint32_t port)
{
	const Sec__PeerAuthentication *pa = e ? e->value : NULL;

	for (size_t i = 0; pa && port && i < pa->n_port_level_mtls; i++)
		if (pa->port_level_mtls[i]->key == port && pa->port_level_mtls[i]->value)
			return pa->port_level_mtls[i]->value->mode;
	return MODE(UNSET);
}

Sec__PeerAuthentication__MutualTLS__Mode view_mtls_mode(
	struct view *v, struct str ns, struct label_set labels, uint32_t port)
{
	struct str root = view_root_namespace(v);
	struct rows own = ask(v, TOPIC_PEER_AUTHN, Q_PEER_AUTHN_NS, ns);
	struct rows mesh = ask(v, TOPIC_PEER_AUTHN, Q_PEER_AUTHN_NS, root);
	const struct entry *workload = oldest(own, &labels);
	const struct entry *levels[] = {workload, oldest(own, NULL), oldest(mesh, NULL)};
	Sec__PeerAuthentication__MutualTLS__Mode mode = port_mode(workload, port);

	ask_source(v, workload);
	for (size_t i = 0; i < ARRAY_LEN(levels) && mode == MODE(UNSET); i++)
		mode = mode_of(levels[i]);
	return mode == MODE(UNSET) ? MODE(PERMISSIVE) : mode;
}

static int u32_cmp(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

void view_mtls_ports(struct view *v, struct label_set labels, uint32_t **out, size_t *n)
{
	const struct entry *e = oldest(ask(v, TOPIC_PEER_AUTHN, Q_PEER_AUTHN_NS, v->scope->attributes->ns), &labels);
	const Sec__PeerAuthentication *pa = e ? e->value : NULL;
	size_t len = pa ? pa->n_port_level_mtls : 0;

	*out = arena_array(v->scratch, len + 1, sizeof(**out));
	for (size_t i = 0; i < len; i++)
		(*out)[i] = pa->port_level_mtls[i]->key;
	if (len > 1)
		qsort(*out, len, sizeof(**out), u32_cmp);
	*n = len;
}
