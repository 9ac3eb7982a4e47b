/*
 * DOC: What ControlZ's topics say, as JSON with Istio's member names where they mean the same here. Things that only
 * Go has (goroutines, collections of garbage) are not there. What might be a secret is not shown: the values of
 * variables and options whose names say so, and passwords inside URLs.
 */
#include <dirent.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/daemon/controlz.h"
#include "common/daemon/daemon_internal.h"

#define HIDDEN "(not shown)"

extern char **environ;

static void write_scope(const struct log_name *n, struct strbuf *out)
{
	strbuf_adds(out, "{\"name\":");
	strbuf_add_json(out, str_of(n->name));
	strbuf_adds(out, ",\"description\":");
	strbuf_add_json(out, str_of(n->about));
	strbuf_addf(out, ",\"output_level\":\"%s\",\"stack_trace_level\":\"none\",\"log_callers\":%s}",
		log_level_name(n->level), n->callers ? "true" : "false");
}

bool controlz_scope(struct str name, struct strbuf *out)
{
	struct log_name n;

	if (!log_name_get(name, &n))
		return false;
	write_scope(&n, out);
	return true;
}

void controlz_scopes(struct daemon *d, struct strbuf *out)
{
	const char *separator = "[";

	for (const char *name = NULL; (name = log_name_after(name)); separator = ",\n ") {
		strbuf_adds(out, separator);
		(void)controlz_scope(str_of(name), out);
	}
	strbuf_addc(out, ']');
}

void controlz_memory(struct daemon *d, struct strbuf *out)
{
	struct mallinfo2 heap = mallinfo2();
	size_t used = heap.uordblks + heap.hblkhd;
	size_t mapped = heap.arena + heap.hblkhd;

	strbuf_addf(out,
		"{\"Alloc\":%zu,\"HeapAlloc\":%zu,\"HeapInuse\":%zu,\"HeapIdle\":%zu,\"HeapSys\":%zu,\"Sys\":%zu,",
		used, used, used, heap.fordblks, mapped, mapped);
	process_write_memory(out);
	strbuf_addc(out, '}');
}

/* "KEY" in any case anywhere: rather one value too many is hidden. */
static bool names_a_secret(struct str name)
{
	static const char *const words[] = {"secret", "pass", "token", "key", "credential", "private", "auth"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t len = strlen(words[i]);

		for (size_t at = 0; at + len <= name.len; at++) {
			if (str_ieq(str_sub(name, at, len), str_of(words[i])))
				return true;
		}
	}
	return false;
}

/* "scheme://user:password@host": no address, path or number looks like this. */
static bool holds_a_password(struct str value)
{
	const char *scheme = memmem(value.ptr ? value.ptr : "", value.len, "://", 3);
	struct str user, rest;
	size_t at;

	if (!scheme)
		return false;
	rest = str_from(value, (size_t)(scheme - value.ptr) + 3);
	if (str_find(rest, '/', &at))
		rest.len = at;
	return str_cut(rest, '@', &user, &rest) && str_find(user, ':', &at);
}

static void add_unless_secret(struct strbuf *out, bool secret, struct str value)
{
	strbuf_add_json(out, value.len > 0 && (secret || holds_a_password(value)) ? STR(HIDDEN) : value);
}

static int by_text(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

void controlz_environment(struct daemon *d, struct strbuf *out)
{
	VEC(char *) sorted = {0};
	struct str name, value;

	for (char **v = environ; v && *v; v++)
		vec_push(&sorted, *v);
	if (sorted.len > 0)
		qsort(sorted.items, sorted.len, sizeof(*sorted.items), by_text);
	strbuf_addc(out, '[');
	for (size_t i = 0; i < sorted.len; i++) {
		(void)str_cut(str_of(sorted.items[i]), '=', &name, &value);
		strbuf_adds(out, i > 0 ? ",\n {\"name\":" : "{\"name\":");
		strbuf_add_json(out, name);
		strbuf_adds(out, ",\"value\":");
		add_unless_secret(out, names_a_secret(name), value);
		strbuf_addc(out, '}');
	}
	strbuf_addc(out, ']');
	vec_done(&sorted);
}

/* The program's own options say whether their value is a secret. */
static bool flag_is_secret(const struct daemon *d, struct str name)
{
	size_t row = options_row(&d->options, name);

	return row < d->options.n && option_is_secret(&d->options.rows[row]);
}

void controlz_arguments(struct daemon *d, struct strbuf *out)
{
	bool secret = false; /* this argument is the value of a secret option */

	strbuf_addc(out, '[');
	for (int i = 0; i < d->argc; i++) {
		struct str argument = str_of(d->argv[i]), name, value;
		bool flag = !secret && str_starts(argument, STR("--"));
		bool with_value = flag && str_cut(str_from(argument, 2), '=', &name, &value);
		cleanup(free_p) char *hidden = NULL;

		if (with_value && value.len > 0 && (flag_is_secret(d, name) || holds_a_password(value)))
			hidden = xasprintf("--" STR_FMT "=" HIDDEN, STR_ARG(name));
		strbuf_adds(out, i > 0 ? "," : "");
		add_unless_secret(out, secret, hidden ? str_of(hidden) : argument);
		secret = flag && !with_value && flag_is_secret(d, str_from(argument, 2));
	}
	strbuf_addc(out, ']');
}

static size_t count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	size_t n = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void add_groups(struct strbuf *out)
{
	gid_t groups[256];
	int n = getgroups(ARRAY_LEN(groups), groups);

	strbuf_adds(out, ",\"groups\":[");
	for (int i = 0; i < n; i++)
		strbuf_addf(out, "%s%u", i > 0 ? "," : "", groups[i]);
	strbuf_addc(out, ']');
}

static void add_host_name(struct strbuf *out)
{
	char host[256] = "";

	(void)gethostname(host, sizeof(host) - 1);
	strbuf_add_json(out, str_of(host));
}

void controlz_process(struct daemon *d, struct strbuf *out)
{
	const char *temp = getenv("TMPDIR");
	cleanup(free_p) char *folder = getcwd(NULL, 0);

	strbuf_addf(out, "{\"egid\":%u,\"euid\":%u,\"gid\":%u", getegid(), geteuid(), getgid());
	add_groups(out);
	strbuf_addf(out, ",\"pid\":%ld,\"ppid\":%ld,\"uid\":%u,\"wd\":", (long)getpid(), (long)getppid(), getuid());
	strbuf_add_json(out, str_of(folder));
	strbuf_adds(out, ",\"hostname\":");
	add_host_name(out);
	strbuf_adds(out, ",\"tempdir\":");
	strbuf_add_json(out, str_of(str_empty(temp) ? "/tmp" : temp));
	strbuf_addf(out, ",\"threads\":%zu}", count_threads());
}

void controlz_version(struct daemon *d, struct strbuf *out)
{
	strbuf_adds(out, "{\"program\":");
	strbuf_add_json(out, str_of(d->def->name));
	strbuf_adds(out, ",\"version\":\"" FAIRLEAD_VERSION "\",\"compiler\":");
	strbuf_add_json(out, str_of(__VERSION__));
	strbuf_adds(out, ",\"instance\":");
	strbuf_add_json(out, str_of(d->common->instance));
	strbuf_addc(out, '}');
}

void controlz_metrics(struct daemon *d, struct strbuf *out)
{
	metric_write_json(out);
}

void controlz_signals(struct daemon *d, struct strbuf *out)
{
	strbuf_adds(out, "[{\"name\":\"SIGUSR1\",\"description\":\"write the state (readiness and its reasons, memory) "
			 "to the log\"}");
	if (d->def->reload)
		strbuf_adds(out, ",\n {\"name\":\"SIGHUP\",\"description\":\"read again what is read at the start\"}");
	strbuf_addc(out, ']');
}

/* The page of the bus: topics and counts of the publisher, or of what is taken from publishers. */
void controlz_config(struct daemon *d, struct strbuf *out)
{
	for (size_t i = 0; d->self && i < d->def->n_pages; i++) {
		if (streq(d->def->pages[i].name, "bus")) {
			d->def->pages[i].write(d->self, STR(""), out);
			return;
		}
	}
	strbuf_adds(out, "null");
}

void controlz_home(struct daemon *d, struct strbuf *out)
{
	struct mallinfo2 heap = mallinfo2();

	strbuf_adds(out, "{\"ProcessName\":");
	strbuf_add_json(out, str_of(d->argv[0]));
	strbuf_addf(out, ",\"HeapSize\":%zu,\"CurrentTime\":%lld,\"Hostname\":", heap.uordblks + heap.hblkhd,
		(long long)clock_wall_ms() * 1000000);
	add_host_name(out);
	strbuf_adds(out, ",\"Instance\":");
	strbuf_add_json(out, str_of(d->common->instance));
	strbuf_addc(out, '}');
}
