/* DOC: See the header. Names of entries are Istio's, so that an entry that istiod made is found again, and the other way round. */
#include "pilot/workload.h"

#define NAME_MAX_BYTES 253u /* a name of Kubernetes */

/* Group, address and network; the end of it, if it is too long for Kubernetes. */
static char *workload_entry_name(struct arena *a, const struct proxy *p)
{
	char *name = arena_printf(a, STR_FMT "-" STR_FMT "%s" STR_FMT, STR_ARG(p->register_group), STR_ARG(p->ip),
		p->network.len ? "-" : "", STR_ARG(p->network));
	size_t len = strlen(name);

	for (char *c = name; *c; c++)
		if (*c == ':')
			*c = '-';
	return len > NAME_MAX_BYTES ? name + (len - NAME_MAX_BYTES) : name;
}

static struct str labels_json(struct arena *a, const struct proxy *p)
{
	struct strbuf b cleanup(strbuf_done) = {0};

	strbuf_addc(&b, '{');
	for (size_t i = 0; i < p->n_labels; i++) {
		strbuf_adds(&b, i ? "," : "");
		strbuf_add_json(&b, p->labels[i].key);
		strbuf_addc(&b, ':');
		strbuf_add_json(&b, p->labels[i].value);
	}
	strbuf_addc(&b, '}');
	return arena_str(a, strbuf_str(&b));
}

struct workload_note *workload_note(const struct proxy *p, enum workload_event event)
{
	struct arena *a;
	struct workload_note *n;

	if (!p || !p->register_group.len)
		return NULL;
	a = arena_new();
	n = ARENA_NEW(a, struct workload_note);
	*n = (struct workload_note){.arena = a,
		.event = event,
		.key = str_of(arena_printf(a, STR_FMT "/%s", STR_ARG(p->ns), workload_entry_name(a, p))),
		.group = arena_str(a, p->register_group),
		.address = arena_str(a, p->ip),
		.network = arena_str(a, p->network),
		.locality = arena_str(a, p->locality),
		.service_account = arena_str(a, p->service_account),
		.labels = labels_json(a, p),
		.probed = p->probed};
	return n;
}

void workload_note_free(struct workload_note *n)
{
	if (n)
		arena_free(n->arena);
}
