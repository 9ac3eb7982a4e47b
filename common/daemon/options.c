/*
 * DOC: Options from four places into one struct. Values are collected as text with the place they came from, the
 * weakest source last to have a say; only then is each converted and stored, once, so a bad default in a weaker place
 * cannot spoil a good value in a stronger one. All problems of a start are reported together, because an operator who
 * fixes them one by one restarts the program once for each.
 */
#include "common/daemon/option.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/daemon/option_internal.h"

void options_problem(struct option_set *set, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	strbuf_addf(&set->problems, "%s%s", set->problems.len > 0 ? "\n" : "", text);
}

/* Istio's flags are written either way. */
static bool same_but_underscores(struct str name, const char *row)
{
	size_t i = 0;

	while (i < name.len && row[i] && (name.ptr[i] == row[i] || (name.ptr[i] == '_' && row[i] == '-')))
		i++;
	return i == name.len && !row[i];
}

size_t options_row(const struct option_set *set, struct str name)
{
	size_t i = 0;

	while (i < set->n && !same_but_underscores(name, set->rows[i].name))
		i++;
	return i;
}

void options_set(struct option_set *set, size_t row, enum option_source source, const char *where, struct str text)
{
	struct option_value *v = &set->values[row];

	if (v->text && v->source > source)
		return;
	if (v->text && v->source == source && v->row->type == OPTION_LIST)
		v->text = arena_printf(set->arena, "%s," STR_FMT, v->text, STR_ARG(text));
	else
		v->text = arena_cstr(set->arena, text);
	v->source = source;
	v->where = arena_strdup(set->arena, where);
}

/* One argument that begins with "--"; returns how many arguments it took. */
static int take_flag(struct option_set *set, int left, char **argv)
{
	struct str name;
	struct str text;
	bool with_value = str_cut(str_from(str_of(argv[0]), 2), '=', &name, &text);
	size_t row = options_row(set, name);
	int used = 1;

	if (row == set->n) {
		const char *near = options_nearest(set, name);

		options_problem(set, "unknown option --" STR_FMT "%s%s%s", STR_ARG(name),
			near ? "; did you mean --" : "", near ? near : "", near ? "?" : "");
		return 1;
	}
	if (!with_value && set->rows[row].type == OPTION_BOOL) {
		text = STR("true");
	} else if (!with_value) {
		if (left < 2) {
			options_problem(set, "option --" STR_FMT " needs a value", STR_ARG(name));
			return 1;
		}
		text = str_of(argv[1]);
		used = 2;
	}
	options_set(set, row, OPTION_FROM_FLAG, arena_printf(set->arena, "--" STR_FMT, STR_ARG(name)), text);
	return used;
}

static void read_flags(struct option_set *set, int argc, char **argv)
{
	const char **rest = ARENA_ARRAY(set->arena, const char *, (size_t)(argc > 0 ? argc : 0) + 1);
	size_t n = 0;
	int i = 1;

	while (i < argc) {
		struct str argument = str_of(argv[i]);

		if (str_eq(argument, STR("--"))) {
			for (i++; i < argc; i++)
				rest[n++] = argv[i];
		} else if (str_starts(argument, STR("--"))) {
			i += take_flag(set, argc - i, argv + i);
		} else if (argument.len > 1 && argument.ptr[0] == '-') {
			options_problem(set, "unknown option %s; options begin with two dashes", argv[i++]);
		} else {
			rest[n++] = argv[i++];
		}
	}
	set->rest = rest;
}

/*
 * Unknown variables are not refused: Kubernetes itself sets FAIRLEAD_PILOT_SERVICE_HOST and the like for a Service
 * that is called fairlead-pilot.
 */
static void read_environment(struct option_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		char *name = arena_printf(set->arena, "FAIRLEAD_%s_%s", set->program, set->rows[i].name);
		const char *text;

		for (char *c = name; *c; c++)
			*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
		text = getenv(name);
		if (text)
			options_set(set, i, OPTION_FROM_ENVIRONMENT, name, str_of(text));
	}
}

static void read_config_file(struct option_set *set)
{
	size_t row = options_row(set, STR("config"));

	if (row < set->n && !str_empty(set->values[row].text))
		options_read_file(set, set->values[row].text);
}

static void store_all(struct option_set *set, void *config)
{
	for (size_t i = 0; i < set->n; i++) {
		struct option_value *v = &set->values[i];
		const char *problem = NULL;

		if (!v->text) {
			v->where = "the default";
			v->text = v->row->fallback;
		}
		if (option_store(set->arena, v->row, v->text, config, &problem))
			continue;
		if (v->source == OPTION_FROM_FLAG)
			options_problem(set, "%s: %s", v->where, problem);
		else
			options_problem(set, "%s (from %s): %s", v->row->name, v->where, problem);
	}
}

bool options_load(struct arena *a, const char *program, const struct option_row *rows, size_t n, int argc, char **argv,
	void *config, struct option_set *set, struct err *e)
{
	bool good;

	*set = (struct option_set){.arena = a, .program = program, .rows = rows, .n = n};
	set->values = ARENA_ARRAY(a, struct option_value, n);
	for (size_t i = 0; i < n; i++)
		set->values[i].row = &rows[i];
	read_flags(set, argc, argv);
	read_environment(set);
	read_config_file(set);
	store_all(set, config);
	good = set->problems.len == 0;
	if (!good)
		err_set(e, ERR_PEER, "%s", set->problems.ptr);
	strbuf_done(&set->problems);
	return good;
}

bool options_parse(struct arena *a, const char *program, const struct option_row *rows, size_t n, int argc, char **argv,
	void *config, const char *const **rest, struct err *e)
{
	struct option_set set;

	if (!options_load(a, program, rows, n, argc, argv, config, &set, e))
		return false;
	if (rest)
		*rest = set.rest;
	return true;
}
