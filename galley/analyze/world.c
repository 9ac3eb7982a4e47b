/* DOC: Lookups of an analysis, and the table of its codes. */
#include "galley/analyze/world.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/mesh/host.h"

static const struct analysis_code codes[] = {
#define ANALYSIS(code, severity, name) {#code, name, DIAG_##severity},
#include "galley/analyze/codes.def"
#undef ANALYSIS
};

const struct analysis_code *analysis_code_get(const char *code)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (streq(codes[i].code, code))
			return &codes[i];
	return NULL;
}

const char *verdict_name(enum verdict v)
{
	static const char *const names[VERDICT_COUNT] = {"live", "shadowed", "never matches"};

	return names[v];
}

void world_init(struct world *w, struct arena *a, const struct analysis_input *in, struct analysis *out)
{
	*w = (struct world){.a = a, .in = in, .out = out, .services = map_new(), .objects = map_new()};
	for (size_t i = 0; i < in->n_services; i++)
		if (!map_get(w->services, str_of(in->services[i]->hostname)))
			(void)map_put(
				w->services, str_of(in->services[i]->hostname), (void *)(uintptr_t)in->services[i]);
	for (size_t k = 0; k < KIND_COUNT; k++)
		for (size_t i = 0; i < in->of[k].n; i++) {
			const struct object *o = in->of[k].items[i];
			const char *key = arena_printf(a, "%s/%s/%s", o->kind->name, o->ns, o->name);

			(void)map_put(w->objects, str_of(key), (void *)(uintptr_t)o);
		}
}

void world_done(struct world *w)
{
	map_free(w->services);
	map_free(w->objects);
}

void world_report(struct world *w, const char *code, const struct object *o, const char *path, const char *fmt, ...)
{
	const struct analysis_code *c = analysis_code_get(code);
	char text[1024];
	struct diag *d;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d = diag_add(&w->out->messages, c->severity, c->code, path, "%s", text);
	d->object = title_of(w, o);
	d->file = o->file;
	d->line = o->line;
	d->source = c->name;
}

const char *title_of(const struct world *w, const struct object *o)
{
	if (str_empty(o->ns))
		return arena_printf(w->a, "%s %s", o->kind->name, o->name);
	return arena_printf(w->a, "%s %s/%s", o->kind->name, o->ns, o->name);
}

const struct object *world_object(const struct world *w, enum kind_id kind, const char *ns, const char *name)
{
	return map_get(w->objects, str_of(arena_printf(w->a, "%s/%s/%s", kind_get(kind)->name, ns, name)));
}

const struct object *world_gateway(const struct world *w, const char *key)
{
	struct str ns, name;

	if (!str_cut(str_of(key), '/', &ns, &name))
		return NULL;
	return world_object(w, KIND_GATEWAY, arena_cstr(w->a, ns), arena_cstr(w->a, name));
}

const Fl__Service *world_service(const struct world *w, const char *host)
{
	const Fl__Service *s = map_get(w->services, str_of(host));

	for (size_t i = 0; !s && i < w->in->n_services; i++)
		if (host_is_wildcard(str_of(w->in->services[i]->hostname)) &&
			host_matches(str_of(w->in->services[i]->hostname), str_of(host)))
			s = w->in->services[i];
	return s;
}

bool service_has_port(const Fl__Service *s, uint32_t port)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (s->ports[i]->number == port)
			return true;
	return false;
}

int object_by_age(const void *x, const void *y)
{
	const struct object *a = *(const struct object *const *)x, *b = *(const struct object *const *)y;
	int c;

	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	c = strcmp(a->ns, b->ns);
	return c ? c : strcmp(a->name, b->name);
}

/* ---- audiences */
struct audience audience_of(const struct world *w, const struct object *o)
{
	const Cfg__VirtualService *vs = (const void *)o->message;
	const Mesh__MeshConfig *mesh = w->in->mesh;

	if (vs->n_export_to)
		return (struct audience){vs->export_to, vs->n_export_to, o->ns};
	return (struct audience){
		mesh->default_virtual_service_export_to, mesh->n_default_virtual_service_export_to, o->ns};
}

static bool sees(struct audience x, const char *ns)
{
	for (size_t i = 0; i < x.n; i++)
		if (streq(x.to[i], "*") || streq(x.to[i], ns) || (streq(x.to[i], ".") && streq(x.ns, ns)))
			return true;
	return x.n == 0;
}

static bool is_everyone(struct audience x)
{
	for (size_t i = 0; i < x.n; i++)
		if (streq(x.to[i], "*"))
			return true;
	return x.n == 0;
}

bool audience_covers(struct audience x, struct audience y)
{
	if (is_everyone(x))
		return true;
	if (is_everyone(y))
		return false;
	for (size_t i = 0; i < y.n; i++)
		if (!sees(x, streq(y.to[i], ".") ? y.ns : y.to[i]))
			return false;
	return true;
}

bool audience_precedes(struct audience x, struct audience y)
{
	if (!audience_covers(x, y))
		return false;
	if (is_everyone(x) || is_everyone(y))
		return is_everyone(y);
	for (size_t i = 0; i < y.n; i++)
		if ((streq(y.to[i], ".") || streq(y.to[i], y.ns)) && !streq(x.ns, y.ns))
			return false;
	return true;
}

bool audience_overlaps(struct audience x, struct audience y)
{
	if (is_everyone(x) || is_everyone(y))
		return true;
	for (size_t i = 0; i < y.n; i++)
		if (sees(x, streq(y.to[i], ".") ? y.ns : y.to[i]))
			return true;
	return false;
}

/* ---- gateways */
bool server_serves(const Cfg__Server *s, const char *gateway_ns, const char *ns, const char *host)
{
	for (size_t i = 0; i < s->n_hosts; i++) {
		struct str want = STR("*"), pattern = str_of(s->hosts[i]), head, tail;

		if (str_cut(pattern, '/', &head, &tail)) {
			want = str_eqc(head, ".") ? str_of(gateway_ns) : head;
			pattern = tail;
		}
		if ((str_eqc(want, "*") || str_eqc(want, ns)) && host_overlaps(pattern, str_of(host)))
			return true;
	}
	return false;
}

bool gateway_serves(const struct object *gateway, const char *ns, const char *host, uint32_t port)
{
	const Cfg__Gateway *g = (const void *)gateway->message;

	for (size_t i = 0; i < g->n_servers; i++) {
		const Cfg__Server *s = g->servers[i];

		if ((!port || (s->port && s->port->number == port)) && server_serves(s, gateway->ns, ns, host))
			return true;
	}
	return false;
}
