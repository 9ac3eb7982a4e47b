/*
 * DOC: The life of a daemon: options, logging, admin server, start(), the loop, drain, stop(). The admin server is
 * open before start() runs, so that /readyz can say why a start takes long; it is the last thing to close, so that
 * the drain can be watched too.
 */
#include "common/daemon/daemon.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/daemon/controlz.h"
#include "common/daemon/daemon_internal.h"
#include "common/io/file.h"

/* The daemon's own config follows the common part, aligned for any type. */
#define OWN_OFFSET ((sizeof(struct common_config) + 15) & ~(size_t)15)

#define KEY_STARTING "daemon"
#define KEY_DRAINING "drain"

LOG_SCOPE(scope, "daemon", "start, stop and options of the process");

static const struct option_row common_rows[] = {
	{.name = "config", OPT_STR(struct common_config, config, NULL, "YAML file with these options as keys")},
	{.name = "admin-address",
		OPT_STR(struct common_config, admin_address, NULL, "where health, metrics and debug pages are served")},
	{.name = "ctrlz-address",
		OPT_STR(struct common_config, controlz_address, NULL,
			"where Istio's ControlZ pages are served, an IP address, localhost or * for all; off: only on "
			"the admin "
			"address, for this machine")},
	{.name = "ctrlz-port",
		OPT_U32(struct common_config, controlz_port, "9876", 0, 65535, "its port; 0: any free one")},
	{.name = "log-level",
		OPT_STR(struct common_config, log_level, "info",
			"error, warn, info or debug; per scope: info,ads:debug")},
	{.name = "log-format",
		OPT_STR(struct common_config, log_format, "text", "text or json lines on standard error")},
	{.name = "bus",
		OPT_STR(struct common_config, bus, "ipc:///run/fairlead/{role}",
			"where publishers are found; {role} becomes their role")},
	{.name = "bus-keys",
		OPT_STR(struct common_config, bus_keys, NULL, "folder of the bus's keys; needed for tcp://")},
	{.name = "state-dir", OPT_STR(struct common_config, state_dir, NULL, "folder for what must survive a restart")},
	{.name = "instance",
		OPT_STR(struct common_config, instance, NULL, "name of this process (default <host name>-<pid>)")},
	{.name = "drain-timeout",
		OPT_MS(struct common_config, drain_timeout_ms, "5s", 0, 3600000,
			"how long a stop waits for work to end")},
	{.name = "version", OPT_BOOL(struct common_config, version, "print the version and end")},
	{.name = "help", OPT_BOOL(struct common_config, help, "print this text and end")},
};

struct loop *daemon_loop(const struct daemon *d)
{
	return d->loop;
}

struct admin *daemon_admin(const struct daemon *d)
{
	return d->admin;
}

const char *daemon_bus(const struct daemon *d)
{
	return d->common->bus;
}

const char *daemon_bus_keys_dir(const struct daemon *d)
{
	return str_empty(d->common->bus_keys) ? NULL : d->common->bus_keys;
}

const char *daemon_state_dir(const struct daemon *d)
{
	return str_empty(d->common->state_dir) ? NULL : d->common->state_dir;
}

const char *daemon_instance(const struct daemon *d)
{
	return d->common->instance;
}

static void put_text(struct map *m, const char *key, const char *text)
{
	free(text ? map_put(m, str_of(key), xstrdup(text)) : map_del(m, str_of(key)));
}

void daemon_not_ready(struct daemon *d, const char *key, const char *reason)
{
	const char *before = map_get(d->reasons, str_of(key));

	if (!before || !streq(before, reason))
		log_info(&scope, "not ready", KV("what", key), KV("reason", reason));
	put_text(d->reasons, key, reason);
}

void daemon_ready(struct daemon *d, const char *key)
{
	if (!map_get(d->reasons, str_of(key)))
		return;
	put_text(d->reasons, key, NULL);
	log_info(&scope, map_len(d->reasons) == 0 ? "ready" : "less to wait for", KV("what", key));
}

void daemon_note(struct daemon *d, const char *key, const char *text)
{
	put_text(d->notes, key, text);
}

static void finish(struct daemon *d)
{
	d->finished = true;
	loop_stop(d->loop);
}

void daemon_drained(struct daemon *d)
{
	if (d->draining && !d->finished) {
		log_info(&scope, "drained");
		finish(d);
	}
}

void daemon_fail(struct daemon *d, const struct err *e)
{
	log_error(&scope, "cannot go on", KV("error", e->text), KV("kind", err_kind_name(e->kind)));
	d->exit_code = 1;
	finish(d);
}

static void on_drain_timeout(void *ctx)
{
	struct daemon *d = ctx;

	log_warn(&scope, "drain timed out", KV("drain_timeout_ms", d->common->drain_timeout_ms));
	finish(d);
}

static void on_terminate(void *ctx, int signo)
{
	struct daemon *d = ctx;

	if (d->draining || !d->def->drain) {
		log_info(&scope, d->draining ? "stopping at once" : "stopping", KV("signal", signo));
		finish(d);
		return;
	}
	d->draining = true;
	log_info(&scope, "draining", KV("signal", signo), KV("drain_timeout_ms", d->common->drain_timeout_ms));
	daemon_not_ready(d, KEY_DRAINING, "draining");
	timer_start(d->drain_timer, d->common->drain_timeout_ms, 0);
	d->def->drain(d->self);
}

static void on_reload(void *ctx, int signo)
{
	struct daemon *d = ctx;
	struct err e = {0};

	if (d->def->reload(d->self, &e))
		log_info(&scope, "reloaded");
	else
		log_error(&scope, "reload failed", KV("error", e.text));
}

static void on_state_asked(void *ctx, int signo)
{
	struct daemon *d = ctx;
	struct strbuf state = {0}, memory = {0};

	daemon_write_state(d, &state);
	process_write_memory(&memory);
	log_info(&scope, "state", KV("ready", (bool)(map_len(d->reasons) == 0)), KV("state", strbuf_str(&state)),
		KV("memory", strbuf_str(&memory)));
	strbuf_done(&state);
	strbuf_done(&memory);
}

static void watch_signals(struct daemon *d)
{
	vec_push(&d->signals, signal_new(d->loop, SIGUSR1, on_state_asked, d));
	vec_push(&d->signals, signal_new(d->loop, SIGTERM, on_terminate, d));
	vec_push(&d->signals, signal_new(d->loop, SIGINT, on_terminate, d));
	if (d->def->reload)
		vec_push(&d->signals, signal_new(d->loop, SIGHUP, on_reload, d));
	else
		signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

/* Common rows first; the daemon's own are moved behind the common config. */
static void make_rows(struct daemon *d)
{
	const struct daemon_def *def = d->def;
	size_t n_common = ARRAY_LEN(common_rows);

	d->n_rows = n_common + def->n_options;
	d->rows = ARENA_ARRAY(d->arena, struct option_row, d->n_rows);
	memcpy(d->rows, common_rows, sizeof(common_rows));
	for (size_t i = 0; i < n_common; i++) {
		if (streq(d->rows[i].name, "admin-address"))
			d->rows[i].fallback = arena_printf(d->arena, "127.0.0.1:%u", def->admin_port);
		if (streq(d->rows[i].name, "ctrlz-address"))
			d->rows[i].fallback = def->controlz ? "localhost" : "off";
		if (streq(d->rows[i].name, "drain-timeout") && def->drain_timeout)
			d->rows[i].fallback = def->drain_timeout;
	}
	for (size_t i = 0; i < def->n_options; i++) {
		d->rows[n_common + i] = def->options[i];
		d->rows[n_common + i].offset += OWN_OFFSET;
	}
	d->config = arena_alloc(d->arena, OWN_OFFSET + def->config_size);
	d->common = d->config;
}

static void print_help(const struct daemon *d)
{
	const struct daemon_def *def = d->def;
	struct strbuf out = {0};

	options_help(def->name, def->summary, d->rows, d->n_rows, &out);
	if (def->n_commands > 0)
		strbuf_addf(&out, "\nCommands (%s <command> --help):\n", def->name);
	for (size_t i = 0; i < def->n_commands; i++)
		strbuf_addf(&out, "  %-28s %s\n", def->commands[i].name, def->commands[i].help);
	strbuf_addf(&out, "\nEvery option may also be a key of the --config file or an environment variable,\n"
			  "FAIRLEAD_<PROGRAM>_<NAME>. The flag is the strongest, then the variable, then the file.\n");
	fputs(out.ptr, stdout);
	strbuf_done(&out);
}

/* --help and --version work even when other options are wrong. */
static bool has_flag(int argc, char **argv, const char *flag)
{
	for (int i = 1; i < argc && !streq(argv[i], "--"); i++) {
		if (streq(argv[i], flag))
			return true;
	}
	return false;
}

static void set_instance(struct daemon *d)
{
	char host[256] = "";

	if (!str_empty(d->common->instance))
		return;
	if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
		snprintf(host, sizeof(host), "unknown");
	d->common->instance = arena_printf(d->arena, "%s-%ld", host, (long)getpid());
}

static bool apply_logging(const struct daemon *d, struct err *e)
{
	bool json = streq(d->common->log_format, "json");

	if (!json && !streq(d->common->log_format, "text"))
		return err_set(e, ERR_PEER, "--log-format: \"%.100s\" is neither text nor json", d->common->log_format);
	if (!log_set_levels(str_of(d->common->log_level), e))
		return err_in(e, "--log-level");
	log_set_json(json);
	log_set_process(d->def->name);
	return true;
}

static bool read_options(struct daemon *d, int argc, char **argv, struct err *e)
{
	if (!options_load(d->arena, d->def->name, d->rows, d->n_rows, argc, argv, d->config, &d->options, e))
		return false;
	if (d->options.rest[0])
		return err_set(e, ERR_PEER, "unexpected argument \"%.100s\"", d->options.rest[0]);
	set_instance(d);
	return apply_logging(d, e);
}

bool daemon_open_pages(struct daemon *d, const char *address, struct err *e)
{
	uint16_t port = 0;
	struct admin *a = admin_new(d->loop, address, &port, e);

	if (!a)
		return false;
	daemon_mount_pages(d, a);
	vec_push(&d->more_admins, a);
	log_info(&scope, "pages", KV("address", address), KV("port", port));
	return true;
}

static bool open_services(struct daemon *d, struct err *e)
{
	uint16_t port = 0;

	if (daemon_state_dir(d) && !file_mkdirs(daemon_state_dir(d), 0700, e))
		return err_in(e, "--state-dir");
	d->admin = admin_new(d->loop, d->common->admin_address, &port, e);
	if (!d->admin)
		return err_in(e, "--admin-address %s", d->common->admin_address);
	daemon_mount_pages(d, d->admin);
	process_metrics_start(d->def->name);
	d->controlz = controlz_new(d, e);
	if (!d->controlz)
		return false;
	log_info(&scope, "admin pages", KV("address", d->common->admin_address), KV("port", port));
	return true;
}

static bool run(struct daemon *d, struct err *e)
{
	d->loop = loop_new();
	d->drain_timer = timer_new(d->loop, on_drain_timeout, d);
	watch_signals(d);
	daemon_not_ready(d, KEY_STARTING, "starting");
	if (!open_services(d, e))
		return false;
	if (!d->def->start(d, (const char *)d->config + OWN_OFFSET, &d->self, e))
		return false;
	daemon_ready(d, KEY_STARTING);
	log_info(&scope, "started", KV("version", FAIRLEAD_VERSION), KV("instance", d->common->instance));
	if (!d->finished)
		loop_run(d->loop);
	if (d->def->stop)
		d->def->stop(d->self);
	d->self = NULL;
	log_info(&scope, "stopped", KV("exit_code", d->exit_code));
	return true;
}

static void free_texts(struct map *m)
{
	void *text;

	for (size_t i = 0; map_next(m, &i, NULL, &text);)
		free(text);
	map_free(m);
}

static void daemon_done(struct daemon *d)
{
	controlz_free(d->controlz);
	for (size_t i = 0; i < d->more_admins.len; i++)
		admin_free(d->more_admins.items[i]);
	vec_done(&d->more_admins);
	admin_free(d->admin);
	for (size_t i = 0; i < d->signals.len; i++)
		signal_free(d->signals.items[i]);
	vec_done(&d->signals);
	if (d->loop) {
		timer_free(d->drain_timer);
		loop_free(d->loop);
	}
	free_texts(d->reasons);
	free_texts(d->notes);
	arena_free(d->arena);
}

static const struct daemon_command *find_command(const struct daemon_def *def, const char *name)
{
	for (size_t i = 0; i < def->n_commands; i++) {
		if (streq(def->commands[i].name, name))
			return &def->commands[i];
	}
	return NULL;
}

static int serve(struct daemon *d, int argc, char **argv)
{
	struct err e = {0};

	if (!read_options(d, argc, argv, &e)) {
		fprintf(stderr, "%s: %s\n%s --help lists the options.\n", d->def->name, e.text, d->def->name);
		return 2;
	}
	if (!run(d, &e)) {
		log_error(&scope, "cannot start", KV("error", e.text), KV("kind", err_kind_name(e.kind)));
		return 1;
	}
	return d->exit_code;
}

int daemon_main(const struct daemon_def *def, int argc, char **argv)
{
	const struct daemon_command *command = argc > 1 ? find_command(def, argv[1]) : NULL;
	struct daemon d = {.def = def, .argc = argc, .argv = argv};
	int code = 0;

	if (command)
		return command->run(argc - 1, argv + 1);
	if (has_flag(argc, argv, "--version")) {
		printf("%s %s\n", def->name, FAIRLEAD_VERSION);
		return 0;
	}
	d.arena = arena_new();
	d.reasons = map_new();
	d.notes = map_new();
	make_rows(&d);
	if (has_flag(argc, argv, "--help") || has_flag(argc, argv, "-h"))
		print_help(&d);
	else
		code = serve(&d, argc, argv);
	daemon_done(&d);
	return code;
}
