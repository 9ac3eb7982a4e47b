/*
 * DOC: The application's side of a scrape. Its metrics stand in one answer with Envoy's, so they must be of one format: an application that
 * answers with OpenMetrics, though it was asked for Prometheus' text, has its answer rewritten. The two differ in names (a counter
 * is declared without the _total of its samples), in types that only one of them knows, in the unit of timestamps and in what comes after a value.
 */
#include "agent/scrape.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/mesh/proxy_ports.h"

/* ---- where */

static const char *annotation(const json_t *all, const char *key, const char *fallback)
{
	const char *v = json_string_value(json_object_get(all, key));
	return str_empty(v) ? fallback : v;
}

static bool add_target(struct scrape_targets *t, const char *scheme, struct str port_text, struct str path,
	const char *key, struct err *e)
{
	uint32_t port;
	if (!str_u32(port_text, 65535, &port) || !port)
		return err_set(e, ERR_PEER, "annotation %s: \"" STR_FMT "\" is not 1..65535", key, STR_ARG(port_text));
	if (port_is_proxys(port))
		return err_set(e, ERR_PEER, "annotation %s: port %u belongs to the proxy", key, port);
	if (t->urls.len >= LIMIT_SCRAPE_TARGETS)
		return err_set(e, ERR_LIMIT, "annotation %s: more than %u targets", key, LIMIT_SCRAPE_TARGETS);
	vec_push(&t->urls, xasprintf("%s://127.0.0.1:%u%s" STR_FMT, scheme, port, str_starts(path, STR("/")) ? "" : "/",
				   STR_ARG(path)));
	return true;
}

#define TARGETS "prometheus.istio.io/scrape-targets"

static bool add_list(struct scrape_targets *t, const char *scheme, struct str list, struct err *e)
{
	struct str part, port, path;
	while (str_split(&list, ',', &part)) {
		if (!str_trim(part).len)
			continue;
		if (!str_cut(str_trim(part), ':', &port, &path) || !str_trim(path).len)
			path = STR("/metrics");
		if (!add_target(t, scheme, str_trim(port), str_trim(path), TARGETS, e))
			return false;
	}
	return true;
}

static bool is_false(const char *text)
{
	static const char *const words[] = {"false", "f", "0"};
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_ieq(str_of(text), str_of(words[i])))
			return true;
	return false;
}

static bool read_annotations(const json_t *all, unsigned own_port, struct scrape_targets *out, struct err *e)
{
	const char *port = annotation(all, "prometheus.io/port", NULL);
	const char *path = annotation(all, "prometheus.io/path", NULL);
	const char *scrape = annotation(all, "prometheus.io/scrape", NULL);
	const char *scheme = annotation(all, "prometheus.io/scheme", "http");
	const char *targets = annotation(all, TARGETS, NULL);
	uint32_t number;
	if (!(port || path || scrape || targets) || is_false(scrape) ||
		is_false(annotation(all, "prometheus.istio.io/merge-metrics", "")))
		return true;
	if (!streq(scheme, "http") && !streq(scheme, "https"))
		return err_set(
			e, ERR_PEER, "annotation prometheus.io/scheme: \"%s\" is neither http nor https", scheme);
	if (targets)
		return add_list(out, scheme, str_of(targets), e);
	if (str_u32(str_of(port), 65535, &number) && number == own_port)
		return true;
	return add_target(
		out, scheme, str_of(port ? port : "80"), str_of(path ? path : "/metrics"), "prometheus.io/port", e);
}

bool scrape_targets_parse(const char *annotations, unsigned own_port, struct scrape_targets *out, struct err *e)
{
	json_error_t error;
	json_t *all = str_empty(annotations) ? NULL : json_loads(annotations, 0, &error);
	bool ok = read_annotations(all, own_port, out, e);
	json_decref(all);
	return ok;
}

void scrape_targets_done(struct scrape_targets *t)
{
	for (size_t i = 0; i < t->urls.len; i++)
		free(t->urls.items[i]);
	vec_done(&t->urls);
}

/* ---- OpenMetrics */

/* Types of OpenMetrics as text 0.0.4 has them, and what its families' names end in there. */
static const struct kind {
	const char *name;
	const char *text_name;
	const char *suffix;
} kinds[] = {{"counter", "counter", "_total"}, {"gauge", "gauge", ""}, {"histogram", "histogram", ""},
	{"summary", "summary", ""}, {"info", "gauge", "_info"}, {"stateset", "gauge", ""},
	{"gaugehistogram", "untyped", ""}, {"unknown", "untyped", ""}};

struct family {
	struct str name, help;
	const struct kind *kind; /* NULL: not said */
	bool has_help, written;
};

static void add_help(struct strbuf *out, struct str help)
{
	for (size_t i = 0; i < help.len; i++) {
		if (help.ptr[i] == '\\' && i + 1 < help.len && help.ptr[i + 1] == '"')
			continue; /* only OpenMetrics escapes quotes here */
		strbuf_addc(out, help.ptr[i]);
	}
}

/* Before the first sample; by then it is known what the family is. */
static void write_family(struct family *f, struct strbuf *out)
{
	const char *suffix = f->kind ? f->kind->suffix : "";
	if (f->written || !f->name.len)
		return;
	f->written = true;
	if (str_ends(f->name, str_of(suffix)))
		suffix = "";
	if (f->has_help) {
		strbuf_addf(out, "# HELP " STR_FMT "%s ", STR_ARG(f->name), suffix);
		add_help(out, f->help);
		strbuf_addc(out, '\n');
	}
	if (f->kind)
		strbuf_addf(out, "# TYPE " STR_FMT "%s %s\n", STR_ARG(f->name), suffix, f->kind->text_name);
}

/* "# TYPE name word", "# HELP name text", "# UNIT name word"; others say nothing. */
static void take_metadata(struct family *f, struct str line)
{
	struct str what, name, rest;
	if (!str_starts(line, STR("# ")) || !str_cut(str_from(line, 2), ' ', &what, &rest))
		return;
	(void)str_cut(rest, ' ', &name, &rest);
	if (!str_eq(name, f->name))
		*f = (struct family){.name = name};
	if (str_eqc(what, "HELP")) {
		f->help = rest;
		f->has_help = true;
	}
	for (size_t i = 0; str_eqc(what, "TYPE") && i < ARRAY_LEN(kinds); i++)
		if (str_eqc(rest, kinds[i].name))
			f->kind = &kinds[i];
}

/* Where the labels' closing brace is; false: nowhere. */
static bool labels_end(struct str line, size_t *at)
{
	bool quoted = false;
	for (; *at < line.len; ++*at) {
		char c = line.ptr[*at];
		if (c == '\\' && quoted)
			++*at;
		else if (c == '"')
			quoted = !quoted;
		else if (c == '}' && !quoted)
			return true;
	}
	return false;
}

/* A sample of a time of creation, which would be a family of its own in text. */
static bool is_creation(const struct family *f, struct str name)
{
	struct str ending = str_from(name, f->name.len);
	return f->name.len && str_starts(name, f->name) && str_eqc(ending, "_created");
}

/* "name{labels} value [seconds] [# exemplar]" */
static bool add_sample(const struct family *f, struct str line, struct strbuf *out)
{
	size_t at = 0;
	struct str name, value, when, rest;
	double number, seconds;
	while (at < line.len && line.ptr[at] != '{' && line.ptr[at] != ' ')
		at++;
	name = str_sub(line, 0, at);
	if (at < line.len && line.ptr[at] == '{' && (!labels_end(line, &at) || ++at == line.len))
		return false;
	if (!name.len || at >= line.len || line.ptr[at] != ' ')
		return false;
	(void)str_cut(str_from(line, at + 1), ' ', &value, &rest);
	(void)str_cut(rest, ' ', &when, &rest);
	if (!str_double(value, &number) && !str_eqc(value, "NaN") && !str_eqc(value, "+Inf") && !str_eqc(value, "-Inf"))
		return false;
	if (is_creation(f, name))
		return true;
	strbuf_add(out, str_sub(line, 0, at + 1));
	strbuf_add(out, value);
	if (str_double(when, &seconds) && seconds > -1e12 && seconds < 1e12)
		strbuf_addf(out, " %lld", (long long)(seconds * 1000));
	strbuf_addc(out, '\n');
	return true;
}

bool scrape_from_openmetrics(struct str in, struct strbuf *out)
{
	struct family family = {0};
	struct str line;
	while (str_split(&in, '\n', &line)) {
		if (str_eqc(line, "# EOF"))
			return true;
		if (str_starts(line, STR("#"))) {
			take_metadata(&family, line);
		} else if (line.len) {
			write_family(&family, out);
			if (!add_sample(&family, line, out))
				return false;
		}
	}
	return true;
}
