/*
 * DOC: Verdicts of rules. For every place where rules are looked at (a host at a gateway, or on the mesh) the rules that compete there are
 * put in the order in which pilot puts them: on the mesh only the oldest VirtualService of a host that has a rule for the caller counts
 * for HTTP; at gateways all of them, the oldest first, and what takes everything behind the rest; for TLS and TCP all of them everywhere. A match that an earlier
 * one covers is shadowed there; one that the place can never see (gateway, port, delegate) never matches there. A rule is live when
 * one of its matches is live in one place. Delegates are judged as parts of the rules that delegate to them.
 *
 * Only a single earlier match is compared with a later one, so a rule that several others take together counts as live.
 */
#include <stdlib.h>

#include "common/base/vec.h"
#include "common/mesh/delegate.h"
#include "galley/analyze/world.h"
#include "galley/checks/cover.h"

enum layer { LAYER_HTTP, LAYER_TLS, LAYER_TCP, LAYER_COUNT };
static const char *const layer_names[LAYER_COUNT] = {"http", "tls", "tcp"};

/* What is known of one match of one rule. */
struct fate {
	bool seen, live;
	enum verdict verdict;
	const char *winner, *why;
};

/* A rule as written in its object. */
struct rule_state {
	const struct object *object;
	enum layer layer;
	size_t index;
	const char *name;
	struct fate *fates; /* one for each match; one for a rule without matches and for one that delegates */
	size_t n_fates;
};

/* A match where it competes. */
struct item {
	const struct object *vs;
	struct rule_state *rule;
	size_t match;
	struct rule_state *leaf; /* of the delegate, NULL: none */
	enum layer layer;
	const void *m; /* of the layer's type; NULL: everything */
	const char *why; /* it cannot match here */
	bool dead;
};

/* A host at a gateway ("mesh" for sidecars). */
struct place {
	const char *gateway, *host;
	VEC(const struct object *) services; /* VirtualServices */
};

struct court {
	struct world *w;
	struct map *rules; /* "<ns>/<name> <layer>[<index>]" -> struct rule_state * */
	VEC(struct rule_state *) order;
	struct map *places; /* "<gateway> <host>" */
	VEC(struct place *) place_order;
	VEC(struct item) items; /* of the place under way */
};

static const Cfg__VirtualService *spec_of(const struct object *o)
{
	return (const void *)o->message;
}

static size_t count_of(const Cfg__VirtualService *vs, enum layer layer)
{
	return layer == LAYER_HTTP ? vs->n_http : layer == LAYER_TLS ? vs->n_tls : vs->n_tcp;
}

/* ---- rules */
static const char *rule_key(struct court *c, const struct object *o, enum layer layer, size_t i)
{
	return arena_printf(c->w->a, "%s/%s %s[%zu]", o->ns, o->name, layer_names[layer], i);
}

static size_t matches_of(const Cfg__VirtualService *vs, enum layer layer, size_t i)
{
	if (layer == LAYER_HTTP)
		return vs->http[i]->delegate || !vs->n_hosts ? 0 : vs->http[i]->n_match;
	return layer == LAYER_TLS ? vs->tls[i]->n_match : vs->tcp[i]->n_match;
}

static void add_rules(struct court *c, const struct object *o, enum layer layer)
{
	const Cfg__VirtualService *vs = spec_of(o);

	for (size_t i = 0; i < count_of(vs, layer); i++) {
		struct rule_state *r = ARENA_NEW(c->w->a, struct rule_state);

		*r = (struct rule_state){.object = o, .layer = layer, .index = i, .name = ""};
		if (layer == LAYER_HTTP && !str_empty(vs->http[i]->name))
			r->name = vs->http[i]->name;
		r->n_fates = max_size(1, matches_of(vs, layer, i));
		r->fates = arena_array(c->w->a, r->n_fates, sizeof(*r->fates));
		(void)map_put(c->rules, str_of(rule_key(c, o, layer, i)), r);
		vec_push(&c->order, r);
	}
}

static struct rule_state *rule_of(struct court *c, const struct object *o, enum layer layer, size_t i)
{
	return map_get(c->rules, str_of(rule_key(c, o, layer, i)));
}

static const char *rule_title(struct court *c, const struct rule_state *r)
{
	return arena_printf(c->w->a, "%s %s[%zu]", title_of(c->w, r->object), layer_names[r->layer], r->index);
}

/* The first reason stays, but a winner says more than anything else. */
static void bury(struct fate *f, enum verdict verdict, const char *winner, const char *why)
{
	if (f->seen && (f->verdict == VERDICT_SHADOWED || verdict != VERDICT_SHADOWED))
		return;
	*f = (struct fate){.seen = true, .live = f->live, .verdict = verdict, .winner = winner, .why = why};
}

static void decide(const struct item *x, enum verdict verdict, const char *winner, const char *why)
{
	struct fate *fates[] = {&x->rule->fates[x->match], x->leaf ? &x->leaf->fates[0] : NULL};

	for (size_t i = 0; i < ARRAY_LEN(fates) && fates[i]; i++) {
		if (verdict == VERDICT_LIVE)
			fates[i]->live = true;
		else
			bury(fates[i], verdict, winner, why);
	}
}

/* ---- why a match cannot be fulfilled in a place */
static bool names_gateway(char *const *list, size_t n, const char *gateway)
{
	for (size_t i = 0; i < n; i++)
		if (streq(list[i], gateway))
			return true;
	return n == 0;
}

static const char *port_problem(struct court *c, const struct place *p, const struct object *vs, uint32_t port)
{
	const Fl__Service *s;
	const struct object *g;

	if (!port)
		return NULL;
	if (!streq(p->gateway, "mesh")) {
		g = world_gateway(c->w, p->gateway);
		return g && !gateway_serves(g, vs->ns, p->host, port)
			       ? arena_printf(c->w->a, "Gateway %s has no server on port %u for %s", p->gateway, port,
					 p->host)
			       : NULL;
	}
	s = world_service(c->w, p->host);
	return s && !service_has_port(s, port) ? arena_printf(c->w->a, "%s has no port %u", p->host, port) : NULL;
}

/* The place as a whole: its gateway, its host. */
static const char *place_problem(struct court *c, const struct place *p, const struct object *vs)
{
	const struct object *g;

	if (streq(p->gateway, "mesh"))
		return NULL;
	g = world_gateway(c->w, p->gateway);
	if (!g)
		return arena_printf(c->w->a, "Gateway %s does not exist", p->gateway);
	return gateway_serves(g, vs->ns, p->host, 0)
		       ? NULL
		       : arena_printf(c->w->a, "no server of Gateway %s serves %s", p->gateway, p->host);
}

/* ---- items of a place */
static void add_item(struct court *c, struct item x)
{
	vec_push(&c->items, x);
}

static void add_http_match(struct court *c, const struct place *p, struct item x, const Cfg__HTTPMatchRequest *m)
{
	if (m && !names_gateway(m->gateways, m->n_gateways, p->gateway))
		return;
	x.m = m;
	x.why = m ? port_problem(c, p, x.vs, m->port) : NULL;
	if (m && !x.why)
		x.why = match_contradiction(m);
	add_item(c, x);
}

static void add_http_rule(struct court *c, const struct place *p, struct item x, const Cfg__HTTPRoute *r, bool merged)
{
	if (!r->n_match)
		add_http_match(c, p, x, NULL);
	for (size_t i = 0; i < r->n_match; i++) {
		x.match = merged ? 0 : i;
		add_http_match(c, p, x, r->match[i]);
	}
}

static void add_delegated(struct court *c, const struct place *p, struct item x, const Cfg__HTTPRoute *root)
{
	const Cfg__Delegate *d = root->delegate;
	const struct object *o = world_object(c->w, KIND_VIRTUAL_SERVICE, d->namespace_, d->name);
	const struct delegated *list;
	size_t n = 0;

	if (!o || spec_of(o)->n_hosts)
		x.why = arena_printf(c->w->a, "its delegate %s/%s does not exist%s", d->namespace_, d->name,
			o ? " as one: it has hosts" : "");
	else if (!delegate_visible(spec_of(o), str_of(o->ns), str_of(x.vs->ns)))
		x.why = arena_printf(
			c->w->a, "its delegate %s/%s is not exported to %s", d->namespace_, d->name, x.vs->ns);
	if (x.why) {
		add_item(c, x);
		return;
	}
	list = delegate_merge(c->w->a, root, spec_of(o), &n);
	for (size_t i = 0; i < n; i++) {
		x.leaf = rule_of(c, o, LAYER_HTTP, list[i].index);
		add_http_rule(c, p, x, list[i].rule, true);
	}
}

static void add_l4_match(struct court *c, const struct place *p, struct item x, const void *m, char *const *gateways,
	size_t n_gateways, uint32_t port)
{
	if (!names_gateway(gateways, n_gateways, p->gateway))
		return;
	x.m = m;
	x.why = port_problem(c, p, x.vs, port);
	add_item(c, x);
}

static void add_l4_rule(struct court *c, const struct place *p, struct item x, size_t i)
{
	const Cfg__VirtualService *vs = spec_of(x.vs);

	for (size_t j = 0; x.layer == LAYER_TLS && j < vs->tls[i]->n_match; j++) {
		const Cfg__TLSMatchAttributes *m = vs->tls[i]->match[j];

		x.match = j;
		add_l4_match(c, p, x, m, m->gateways, m->n_gateways, m->port);
	}
	if (x.layer == LAYER_TCP && !vs->tcp[i]->n_match)
		add_item(c, x);
	for (size_t j = 0; x.layer == LAYER_TCP && j < vs->tcp[i]->n_match; j++) {
		const Cfg__L4MatchAttributes *m = vs->tcp[i]->match[j];

		x.match = j;
		add_l4_match(c, p, x, m, m->gateways, m->n_gateways, m->port);
	}
}

static void add_items(struct court *c, const struct place *p, const struct object *vs, enum layer layer)
{
	for (size_t i = 0; i < count_of(spec_of(vs), layer); i++) {
		struct item x = {.vs = vs, .rule = rule_of(c, vs, layer, i), .layer = layer};

		if (layer != LAYER_HTTP)
			add_l4_rule(c, p, x, i);
		else if (spec_of(vs)->http[i]->delegate)
			add_delegated(c, p, x, spec_of(vs)->http[i]);
		else
			add_http_rule(c, p, x, spec_of(vs)->http[i], false);
	}
}

/* ---- judgement */
static bool takes_everything(const struct item *x)
{
	return x->layer == LAYER_HTTP && (!x->m || match_is_everything(x->m));
}

static bool covers(const struct item *earlier, const struct item *later)
{
	switch (earlier->layer) {
	case LAYER_HTTP:
		return match_covers(earlier->m, later->m);
	case LAYER_TLS:
		return tls_match_covers(earlier->m, later->m);
	case LAYER_TCP:
		return tcp_match_covers(earlier->m, later->m);
	case LAYER_COUNT:
		break;
	}
	return false;
}

/* Rules of another object that takes everything stand behind this one's, unless this one takes everything too. */
static bool stands_before(const struct item *earlier, const struct item *later)
{
	return earlier->vs == later->vs || !takes_everything(earlier) || takes_everything(later);
}

static const struct item *winner_over(struct court *c, size_t at)
{
	const struct item *x = &c->items.items[at];

	for (size_t i = 0; i < at; i++) {
		const struct item *e = &c->items.items[i];

		if (!e->dead && stands_before(e, x) && covers(e, x) &&
			(e->vs == x->vs || audience_precedes(audience_of(c->w, e->vs), audience_of(c->w, x->vs))))
			return e;
	}
	return NULL;
}

static void judge_items(struct court *c)
{
	for (size_t i = 0; i < c->items.len; i++) {
		struct item *x = &c->items.items[i];
		const struct item *by = x->why ? NULL : winner_over(c, i);
		const struct rule_state *winner = by ? by->leaf ? by->leaf : by->rule : NULL;

		x->dead = x->why || by;
		if (x->why)
			decide(x, VERDICT_NEVER, "", x->why);
		else if (by)
			decide(x, VERDICT_SHADOWED, rule_title(c, winner), "it takes all of the requests");
		else
			decide(x, VERDICT_LIVE, "", "");
	}
	c->items.len = 0;
}

/* Some rule is for every caller on every port. What a delegate has is not known here. */
static bool is_for_every_caller(const Cfg__VirtualService *vs)
{
	for (size_t i = 0; i < vs->n_http; i++) {
		const Cfg__HTTPRoute *r = vs->http[i];

		if (r->delegate)
			continue;
		if (!r->n_match)
			return true;
		for (size_t k = 0; k < r->n_match; k++) {
			const Cfg__HTTPMatchRequest *m = r->match[k];

			if (!m->port && !m->n_source_labels && str_empty(m->source_namespace) &&
				names_gateway(m->gateways, m->n_gateways, "mesh"))
				return true;
		}
	}
	return false;
}

/* On the mesh a host has one VirtualService for HTTP: the first of those that a client sees which has a rule for it. */
static const struct object *host_taken_by(struct court *c, const struct place *p, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (is_for_every_caller(spec_of(p->services.items[i])) &&
			audience_precedes(
				audience_of(c->w, p->services.items[i]), audience_of(c->w, p->services.items[at])))
			return p->services.items[i];
	return NULL;
}

static void bury_all(struct court *c, const struct object *vs, enum layer layer, enum verdict verdict,
	const char *winner, const char *why)
{
	for (size_t i = 0; i < count_of(spec_of(vs), layer); i++) {
		struct rule_state *r = rule_of(c, vs, layer, i);

		for (size_t k = 0; k < r->n_fates; k++)
			bury(&r->fates[k], verdict, winner, why);
	}
}

static void judge_layer(struct court *c, const struct place *p, enum layer layer)
{
	bool mesh_http = layer == LAYER_HTTP && streq(p->gateway, "mesh");

	for (size_t i = 0; i < p->services.len; i++) {
		const struct object *vs = p->services.items[i];
		const char *problem = place_problem(c, p, vs);
		const struct object *by = mesh_http ? host_taken_by(c, p, i) : NULL;

		if (problem)
			bury_all(c, vs, layer, VERDICT_NEVER, "", problem);
		else if (by)
			bury_all(c, vs, layer, VERDICT_SHADOWED, title_of(c->w, by),
				arena_printf(c->w->a, "on the mesh it is the one for %s", p->host));
		else
			add_items(c, p, vs, layer);
		if (mesh_http)
			judge_items(c);
	}
	judge_items(c);
}

/* ---- places */
static void add_place(struct court *c, const char *gateway, const char *host, const struct object *vs)
{
	const char *key = arena_printf(c->w->a, "%s %s", gateway, host);
	struct place *p = map_get(c->places, str_of(key));

	if (!p) {
		p = ARENA_NEW(c->w->a, struct place);
		p->gateway = gateway;
		p->host = host;
		(void)map_put(c->places, str_of(key), p);
		vec_push(&c->place_order, p);
	}
	vec_push(&p->services, vs);
}

static void add_places(struct court *c, const struct object *o)
{
	const Cfg__VirtualService *vs = spec_of(o);

	for (size_t i = 0; i < vs->n_hosts; i++)
		for (size_t j = 0; j < vs->n_gateways; j++)
			add_place(c, vs->gateways[j], vs->hosts[i], o);
}

/* ---- what comes of it */
static const struct fate *worst(const struct rule_state *r)
{
	const struct fate *out = NULL;

	for (size_t i = 0; i < r->n_fates; i++)
		if (r->fates[i].seen && (!out || r->fates[i].verdict == VERDICT_SHADOWED))
			out = &r->fates[i];
	return out;
}

static const char *never_seen(const struct rule_state *r)
{
	return spec_of(r->object)->n_hosts ? "none of the VirtualService's gateways is one of the match's"
					   : "no rule of another VirtualService delegates to it in agreement with it";
}

static struct rule_verdict verdict_of(struct court *c, const struct rule_state *r)
{
	struct rule_verdict v = {.object = r->object, .name = r->name, .winner = "", .why = ""};
	struct dead_match *dead = arena_array(c->w->a, r->n_fates, sizeof(*dead));
	const struct fate *f = worst(r);
	bool live = false;

	v.rule = arena_printf(c->w->a, "%s[%zu]", layer_names[r->layer], r->index);
	for (size_t i = 0; i < r->n_fates; i++) {
		const struct fate *x = &r->fates[i];

		live |= x->live;
		if (!x->live)
			dead[v.n_dead++] = x->seen ? (struct dead_match){i, x->verdict, x->winner, x->why}
						   : (struct dead_match){i, VERDICT_NEVER, "", never_seen(r)};
	}
	if (live) {
		v.dead = dead;
		return v;
	}
	v.n_dead = 0;
	v.verdict = f ? f->verdict : VERDICT_NEVER;
	v.winner = f ? f->winner : "";
	v.why = f ? f->why : never_seen(r);
	return v;
}

/* Galley's check of the one object has said it already when both rules are its own. */
static bool is_own(const struct world *w, const struct object *o, const char *winner)
{
	const char *title = title_of(w, o);
	struct str head = str_sub(str_of(winner), 0, strlen(title));

	return str_eqc(head, title) && winner[strlen(title)] == ' ';
}

static void report(struct court *c, const struct rule_verdict *v)
{
	const char *path = arena_printf(c->w->a, "spec.%s", v->rule);

	if (v->verdict == VERDICT_NEVER)
		world_report(c->w, "IST0130", v->object, path, "never matches: %s", v->why);
	else if (v->verdict == VERDICT_SHADOWED && !is_own(c->w, v->object, v->winner))
		world_report(c->w, "IST0130", v->object, path, "is shadowed by %s: %s", v->winner, v->why);
	for (size_t i = 0; v->verdict == VERDICT_LIVE && i < v->n_dead; i++) {
		const struct dead_match *d = &v->dead[i];

		path = arena_printf(c->w->a, "spec.%s.match[%zu]", v->rule, d->index);
		if (d->verdict == VERDICT_NEVER)
			world_report(c->w, "IST0131", v->object, path, "never matches: %s", d->why);
		else if (!is_own(c->w, v->object, d->winner))
			world_report(c->w, "IST0131", v->object, path, "is shadowed by %s: %s", d->winner, d->why);
	}
}

static void court_done(struct court *c)
{
	for (size_t i = 0; i < c->place_order.len; i++)
		vec_done(&c->place_order.items[i]->services);
	vec_done(&c->place_order);
	vec_done(&c->order);
	vec_done(&c->items);
	map_free(c->rules);
	map_free(c->places);
}

void analyze_verdicts(struct world *w)
{
	struct object_list list = w->in->of[KIND_VIRTUAL_SERVICE];
	struct court c = {.w = w, .rules = map_new(), .places = map_new()};
	struct rule_verdict *out;

	for (size_t i = 0; i < list.n; i++) {
		for (enum layer layer = 0; layer < LAYER_COUNT; layer++)
			add_rules(&c, list.items[i], layer);
		add_places(&c, list.items[i]);
	}
	for (size_t i = 0; i < c.place_order.len; i++) {
		struct place *p = c.place_order.items[i];

		qsort(p->services.items, p->services.len, sizeof(*p->services.items), object_by_age);
		for (enum layer layer = 0; layer < LAYER_COUNT; layer++)
			judge_layer(&c, p, layer);
	}
	out = arena_array(w->a, c.order.len + 1, sizeof(*out));
	for (size_t i = 0; i < c.order.len; i++) {
		out[i] = verdict_of(&c, c.order.items[i]);
		report(&c, &out[i]);
	}
	w->out->verdicts = out;
	w->out->n_verdicts = c.order.len;
	court_done(&c);
}
