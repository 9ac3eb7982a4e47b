#include "galley/pipeline.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/pki/pki.h"
#include "galley/analyze/analyze.h"
#include "galley/kinds/secret.h"

/*
 * DOC: The analysis of what is in force: objects and found services are listed and handed to galley/analyze; what comes back is told in
 * Istio's codes together with what the checks of single objects say, and as verdicts on every route rule.
 */

struct listed {
	VEC(const struct object *) of[KIND_COUNT];
	VEC(const Fl__Service *) services;
};

/* What is wrong with a certificate in itself its own check has said, and it is not in force; time passes afterwards. */
static const char *credential_problem(const void *ctx, struct arena *a, const char *key)
{
	const struct galley *g = ctx;
	const struct slot *s = map_get(g->store.slots, str_of(arena_printf(a, "Secret/%s", key)));
	struct pki_cert *certs = NULL;
	Fl__Credential x;
	struct err e = {0};
	size_t n = 0;
	if (!s || !s->good)
		return s ? "was refused" : NULL;
	(void)secret_credential(a, (const Kube__Secret *)s->good->message, s->good->ns, s->good->name, &x);
	if (!x.certificate.len)
		return "holds no certificate with its key";
	if (!pki_certs_parse(a, str_n((const char *)x.certificate.data, x.certificate.len), &certs, &n, &e) || !n)
		return "cannot be read";
	if (certs[0].not_after_ms < clock_wall_ms())
		return "holds a certificate that has expired";
	return certs[0].not_before_ms > clock_wall_ms() ? "holds a certificate that is not valid yet" : "";
}

static void list_objects(const struct galley *g, struct listed *l)
{
	struct str *keys = map_keys_sorted(g->store.slots);
	for (size_t i = 0; i < map_len(g->store.slots); i++) {
		const struct slot *s = map_get(g->store.slots, keys[i]);
		if (s->good)
			vec_push(&l->of[s->kind->id], s->good);
	}
	free(keys);
	keys = map_keys_sorted(g->spaces);
	for (size_t i = 0; i < map_len(g->spaces); i++) {
		const struct space *s = map_get(g->spaces, keys[i]);
		for (size_t k = 0; k < s->found.n; k++)
			vec_push(&l->services, (const Fl__Service *)s->found.items[k].service);
	}
	free(keys);
}

static void listed_done(struct listed *l)
{
	for (size_t i = 0; i < KIND_COUNT; i++)
		vec_done(&l->of[i]);
	vec_done(&l->services);
}

static void analyse(const struct galley *g, struct arena *a, struct analysis *out)
{
	cleanup(listed_done) struct listed l = {0};
	struct analysis_input in = {.mesh = galley_mesh(g, a), .credential_problem = credential_problem, .ctx = g};
	list_objects(g, &l);
	for (size_t i = 0; i < KIND_COUNT; i++)
		in.of[i] = (struct object_list){l.of[i].items, l.of[i].len};
	in.services = l.services.items;
	in.n_services = l.services.len;
	analysis_build(a, &in, out);
}

/* ---- messages */

static struct diag *copy(struct diags *out, const struct diag *d, const char *rule)
{
	struct diag *n = diag_add(out, d->severity, rule, d->path, "%s", d->text);
	n->object = arena_strdup(out->arena, d->object);
	n->file = arena_strdup(out->arena, d->file);
	n->line = d->line;
	n->column = d->column;
	return n;
}

/* What the checks of single objects say has a code of its own or one of the two for everything that the schema decides. */
static void schema_message(struct diags *out, const struct diag *d)
{
	const struct analysis_code *own = analysis_code_get(streq(d->rule, "deprecated") ? "IST0002" : d->rule);
	const char *code = own ? own->code : d->severity == DIAG_ERROR ? "IST0106" : "IST0133";
	struct diag *n = copy(out, d, code);
	if (!own)
		n->text = arena_printf(out->arena, "%s [%s]", d->text, d->rule);
	n->source = analysis_code_get(code)->name;
}

void galley_analyze(const struct galley *g, struct diags *out)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags own;
	struct analysis found;
	diags_init(&own, a);
	galley_diags(g, &own);
	for (size_t i = 0; i < own.len; i++)
		schema_message(out, &own.items[i]);
	analyse(g, a, &found);
	for (size_t i = 0; i < found.messages.len; i++)
		copy(out, &found.messages.items[i], found.messages.items[i].rule)->source =
			analysis_code_get(found.messages.items[i].rule)->name;
}

/* ---- verdicts */

static void member(struct strbuf *out, const char *name, const char *value, const char *end)
{
	strbuf_add_json(out, str_of(name));
	strbuf_addc(out, ':');
	strbuf_add_json(out, str_of(value));
	strbuf_adds(out, end);
}

static void dead_json(const struct rule_verdict *v, struct strbuf *out)
{
	strbuf_adds(out, "\"dead_matches\":[");
	for (size_t i = 0; i < v->n_dead; i++) {
		const struct dead_match *d = &v->dead[i];
		strbuf_addf(out, "%s{\"match\":%zu,", i ? "," : "", d->index);
		member(out, "verdict", verdict_name(d->verdict), ",");
		member(out, "winner", d->winner, ",");
		member(out, "why", d->why, "}");
	}
	strbuf_addc(out, ']');
}

void galley_debug_verdicts(const struct galley *g, struct strbuf *out)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct analysis found;
	analyse(g, a, &found);
	strbuf_addc(out, '[');
	for (size_t i = 0; i < found.n_verdicts; i++) {
		const struct rule_verdict *v = &found.verdicts[i];
		strbuf_adds(out, i ? ",{" : "{");
		member(out, "object", arena_printf(a, "%s/%s", v->object->ns, v->object->name), ",");
		member(out, "file", v->object->file, ",");
		strbuf_addf(out, "\"line\":%u,", v->object->line);
		member(out, "rule", v->rule, ",");
		member(out, "name", v->name, ",");
		member(out, "verdict", verdict_name(v->verdict), ",");
		member(out, "winner", v->winner, ",");
		member(out, "why", v->why, ",");
		dead_json(v, out);
		strbuf_addc(out, '}');
	}
	strbuf_addc(out, ']');
}

void galley_debug_analysis(const struct galley *g, struct strbuf *out)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags found;
	diags_init(&found, a);
	galley_analyze(g, &found);
	galley_diags_json(&found, out);
}

void galley_print_verdicts(const struct galley *g, struct strbuf *out)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct analysis found;
	analyse(g, a, &found);
	for (size_t i = 0; i < found.n_verdicts; i++) {
		const struct rule_verdict *v = &found.verdicts[i];
		strbuf_addf(out, "%s:%u: VirtualService %s/%s: %s: %s", v->object->file, v->object->line, v->object->ns,
			v->object->name, v->rule, verdict_name(v->verdict));
		if (*v->winner)
			strbuf_addf(out, " by %s", v->winner);
		strbuf_addf(out, "%s%s\n", *v->why ? ": " : "", v->why);
		for (size_t k = 0; k < v->n_dead; k++)
			strbuf_addf(out, "  match[%zu]: %s%s%s: %s\n", v->dead[k].index,
				verdict_name(v->dead[k].verdict), *v->dead[k].winner ? " by " : "", v->dead[k].winner,
				v->dead[k].why);
	}
}
