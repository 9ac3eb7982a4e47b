#include "galley/daemon_state.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/mesh/kinds.h"
#include "common/io/file.h"
#include "common/io/trim.h"

/*
 * DOC: The daemon. A change of the directory wakes the scan; the scan puts files into the pipeline, one commit makes one batch, and the
 * publisher sends it. Reports that pilots send back are kept per object for the debug page; the pipeline never reads them.
 */

LOG_SCOPE(scope, "source", "reading and publishing configuration");

METRIC(validation_passed, COUNTER, "galley_validation_passed", "reads of the source without an error");
METRIC(validation_failed, COUNTER, "galley_validation_failed", "errors found, by kind of object and of fault",
	"resource", "reason");
METRIC(objects_gauge, GAUGE, "galley_objects", "objects in force");
METRIC(quarantined_gauge, GAUGE, "galley_quarantined", "objects whose newest version is not in force");
METRIC(files_gauge, GAUGE, "galley_files", "files of the source");
METRIC(services_gauge, GAUGE, "galley_services", "services found");
METRIC(endpoints_gauge, GAUGE, "galley_endpoints", "endpoints found");
METRIC(published_total, COUNTER, "galley_published_total", "changes published");
METRIC(scan_seconds, HISTOGRAM, "galley_scan_seconds", "reading, validating and publishing one change of the source");
METRIC(source_age, GAUGE, "galley_source_age_seconds", "since the stalest kind of the Kubernetes API was heard");

#define AGE_NOTED_MS 5000
#define REST_MAX_MS 500 /* after a commit, twice as long as it took */
#define REGISTERED_CHECK_MS 10000
#define DIAGS_LOGGED 50 /* of one commit; /debug/diagnostics has all */

/* ---- scan and publish */

static bool looks_whole(void *ctx, struct str file, struct str text)
{
	return galley_looks_whole(((struct galleyd *)ctx)->galley, file, text);
}

static void put(void *ctx, struct str file, struct str text)
{
	struct galleyd *s = ctx;
	if (s->status && !cluster_status_seen(s->status, file, text))
		return;
	s->touched = true;
	galley_put(s->galley, file, text);
}

static void ahead(void *ctx, const struct source_text *files, size_t n)
{
	galley_ahead(((struct galleyd *)ctx)->galley, files, n);
}

static void drop(void *ctx, struct str file)
{
	struct galleyd *s = ctx;
	s->touched = true;
	if (s->status)
		cluster_status_gone(s->status, file);
	galley_remove(s->galley, file);
}

static const struct directory_ops directory_ops = {looks_whole, ahead, put, drop};

static void log_diag(const struct diag *d)
{
	char *text = diag_format(d);
	if (d->severity == DIAG_ERROR)
		log_warn(&scope, "not accepted", KV("diag", text));
	else
		log_info(&scope, "remark", KV("diag", text));
	free(text);
}

static void count_failure(const struct diag *d)
{
	struct str kind = str_of(d->object), rest;
	char name[64] = "";
	(void)str_cut(kind, ' ', &kind, &rest);
	(void)memcpy(name, kind.ptr, min_size(kind.len, sizeof(name) - 1));
	metric_add(&validation_failed, 1, *name ? name : "unknown", d->rule);
}

static void report_diags(struct galleyd *s)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags diags;
	diags_init(&diags, a);
	galley_diags(s->galley, &diags);
	if (diags.errors == 0)
		metric_add(&validation_passed, 1);
	for (size_t i = 0; i < diags.len; i++) {
		if (diags.items[i].severity == DIAG_ERROR)
			count_failure(&diags.items[i]);
		if (i < DIAGS_LOGGED)
			log_diag(&diags.items[i]);
	}
}

static void update_gauges(struct galleyd *s)
{
	struct galley_counts n = galley_counts(s->galley);
	metric_set(&objects_gauge, n.objects);
	metric_set(&quarantined_gauge, n.quarantined);
	metric_set(&files_gauge, n.files);
	metric_set(&services_gauge, n.services);
	metric_set(&endpoints_gauge, n.endpoints);
}

static void commit(struct galleyd *s, uint64_t began_us);

/* WorkloadGroups, reports and time decide who is registered; what comes of it is a commit of its own. */
static void sync_registered(void *ctx)
{
	struct galleyd *s = ctx;
	if (!s->published || !s->registered)
		return;
	registered_sync(s->registered, s->galley, clock_mono_ms());
	if (s->touched && s->directory)
		commit(s, clock_mono_us());
}

/* The answers on access go with the objects that they are about: nobody sees the one without the other. */
static size_t send(struct galleyd *s, const char *cause)
{
	VEC(struct bus_change) all = {0};
	size_t n = 0;
	const struct bus_change *access = s->access ? access_changes(s->access, &n) : NULL;
	if (!n)
		return bus_publish(s->publisher, s->changes, s->n_changes, cause);
	for (size_t i = 0; i < s->n_changes + n; i++)
		vec_push(&all, i < s->n_changes ? s->changes[i] : access[i - s->n_changes]);
	size_t sent = bus_publish(s->publisher, all.items, all.len, cause);
	vec_done(&all);
	return sent;
}

static void publish(struct galleyd *s)
{
	char cause[32];
	clock_format(clock_wall_ms(), cause);
	size_t sent = send(s, cause);
	distribution_published(s->distribution, s->changes, s->n_changes);
	if (s->status)
		cluster_status_changed(s->status);
	s->changes = NULL;
	s->n_changes = 0;
	galley_release(s->galley);
	metric_add(&published_total, sent);
	metric_observe(&scan_seconds, (double)(clock_mono_us() - s->began_us) / 1e6);
	update_gauges(s);
	report_diags(s);
	if (s->webhook)
		webhook_take(s->webhook, s->galley);
	gateway_names_sync(s->names);
	log_info(&scope, "published", KV("changes", sent), KV("files", galley_counts(s->galley).files),
		KV("microseconds", clock_mono_us() - s->began_us));
	s->published = true;
	trim_soon(s->trim);
	daemon_ready(s->daemon, "source");
	if (galley_kind_changed(s->galley, KIND_WORKLOAD_GROUP))
		sync_registered(s);
	if (s->once)
		(void)kill(getpid(), SIGTERM);
}

static void commit(struct galleyd *s, uint64_t began_us)
{
	s->changes = galley_commit(s->galley, &s->n_changes);
	s->began_us = began_us;
	s->touched = false;
	if (s->access && galley_accounts_changed(s->galley))
		access_sync(s->access, s->galley);
	s->held = !s->published && s->access && access_waits(s->access);
	if (!s->held)
		publish(s);
}

static void scan(void *ctx)
{
	struct galleyd *s = ctx;
	struct err e = {0};
	uint64_t retry_ms, began = clock_mono_us();
	if (!directory_scan(s->directory, clock_wall_ms(), &directory_ops, s, &retry_ms, &e)) {
		log_error(&scope, "the source cannot be read; what was published stays", KV("error", e.text));
		timer_start(s->retry, 1000, 0);
		return;
	}
	if (retry_ms) {
		timer_start(s->retry, retry_ms, 0);
	} else if (e.kind != ERR_NONE) {
		log_warn(&scope, "a file cannot be read; its last content stays", KV("error", e.text));
		timer_start(s->retry, 1000, 0);
	}
	if (s->touched || (!s->published && !retry_ms))
		commit(s, began);
	s->touched = false;
}

static void on_file(void *ctx, const char *path, bool complete)
{
	directory_hint(((struct galleyd *)ctx)->directory, path, complete);
}

/* ---- the Kubernetes API */

/* A commit of a large namespace takes a while; when thousands of pods change, the pauses keep the loop answering and make the batches larger. */
static void commit_settled(void *ctx)
{
	struct galleyd *s = ctx;
	uint64_t began_us = clock_mono_us();
	if (s->held)
		return; /* looked at again when that is published */
	if (s->touched || !s->published)
		commit(s, began_us);
	s->rest_until_ms = clock_mono_ms() + min_size((clock_mono_us() - began_us) / 500, REST_MAX_MS);
}

/* What comes in one go (a list, an apply of several objects) is one batch. */
static void on_settled(void *ctx)
{
	struct galleyd *s = ctx;
	uint64_t now = clock_mono_ms(), rest = s->rest_until_ms > now ? s->rest_until_ms - now : 0;
	if (!timer_active(s->retry))
		timer_start(s->retry, rest > s->debounce_ms ? rest : s->debounce_ms, 0);
}

/* With what else is about to be committed: a change of the source that has come in part stays one batch. */
static void on_name(void *ctx)
{
	struct galleyd *s = ctx;
	s->touched = true;
	on_settled(s);
}

static void on_access(void *ctx)
{
	struct galleyd *s = ctx;
	if (s->held && !access_waits(s->access)) {
		s->held = false;
		publish(s);
		on_settled(s);
	} else if (s->published) {
		metric_add(&published_total, send(s, "access"));
	}
}

static void on_second(void *ctx)
{
	struct galleyd *s = ctx;
	struct strbuf text = {0};
	uint64_t age = kubernetes_age_ms(s->kubernetes);
	metric_set(&source_age, (double)age / 1000);
	if (!s->published) {
		strbuf_adds(&text, s->held ? "the API server is asked who may list Secrets" : "still to be listed: ");
		kubernetes_missing(s->kubernetes, &text);
	} else if (age > AGE_NOTED_MS) {
		strbuf_addf(&text, "the API server is away; its content is as of %llu s ago",
			(unsigned long long)(age / 1000));
	}
	daemon_note(s->daemon, "kubernetes", text.len ? text.ptr : NULL);
	strbuf_done(&text);
}

static bool start_kubernetes(struct galleyd *s, const struct galley_config *c, struct err *e)
{
	static const struct kubernetes_ops ops = {put, drop, on_settled};
	const struct kubernetes_options o = {.api = {.kubeconfig = c->kubeconfig, .context = c->kube_context},
		.root_namespace = c->root_namespace,
		.ops = &ops,
		.ctx = s};
	s->retry = timer_new(daemon_loop(s->daemon), commit_settled, s);
	s->second = timer_new(daemon_loop(s->daemon), on_second, s);
	s->kubernetes = kubernetes_new(daemon_loop(s->daemon), &o, e);
	timer_start(s->second, 0, 1000);
	const struct cluster_status_options status = {.api = &o.api,
		.namespace = c->root_namespace,
		.identity = daemon_instance(s->daemon),
		.lease_ms = c->status_lease_ms,
		.write = !c->no_status && !c->once,
		.galley = s->galley,
		.distribution = s->distribution};
	s->status = s->kubernetes ? cluster_status_new(daemon_loop(s->daemon), &status, e) : NULL;
	if (s->status)
		s->access = access_new(
			daemon_loop(s->daemon), kubernetes_api(s->kubernetes), c->access_age_ms, on_access, s);
	return s->status || err_in(e, "--source kubernetes");
}

/* ---- status from below */

static void on_distribution(struct galleyd *s, const char *instance, const struct bus_change *c)
{
	struct err e = {0};
	if (!distribution_reported(s->distribution, instance, c->value, clock_mono_ms(), &e))
		log_warn(&scope, "a report is not understood", KV("error", e.text));
}

static void on_report(void *ctx, const char *role, const char *instance, const struct bus_change *changes, size_t n)
{
	struct galleyd *s = ctx;
	if (registered_report(s->registered, changes, n, clock_mono_ms()))
		sync_registered(s);
	for (size_t i = 0; i < n; i++) {
		if (changes[i].topic == TOPIC_DISTRIBUTION) {
			on_distribution(s, instance, &changes[i]);
			continue;
		}
		reports_note(s->reports, role, instance, &changes[i]);
	}
}

/* ---- start and stop */

static bool start_publisher(struct galleyd *s, const struct galley_config *c, struct err *e)
{
	const char *keys_dir = daemon_bus_keys_dir(s->daemon);
	if (keys_dir && !bus_keys_load(keys_dir, "galley", &s->keys, e))
		return err_in(e, "--bus-keys");
	const char *address = daemon_bus(s->daemon);
	if (c->once && c->record) { /* nobody will listen: an address of its own harms no other galley */
		s->private_bus = xasprintf("ipc:///tmp/galley-once-%d-{role}", (int)getpid());
		address = s->private_bus;
	}
	const struct bus_publisher_options o = {
		.address = address,
		.role = "galley",
		.keys = s->keys,
		.record = c->record,
		.on_report = on_report,
		.ctx = s,
	};
	s->publisher = bus_publisher_new(daemon_loop(s->daemon), &o, e);
	return s->publisher || err_in(e, "bus");
}

static bool start_directory(struct galleyd *s, const struct galley_config *c, struct err *e)
{
	if (!file_exists(c->source))
		return err_set(e, ERR_PEER, "--source: %s does not exist", c->source);
	s->directory = directory_new(c->source);
	s->retry = timer_new(daemon_loop(s->daemon), scan, s);
	if (!c->once) {
		s->watch = dir_watch_new(daemon_loop(s->daemon), c->source, c->debounce_ms, scan, s, e);
		if (!s->watch)
			return err_in(e, "--source");
		dir_watch_files(s->watch, on_file);
	}
	timer_start(s->retry, 0, 0);
	return true;
}

static void on_webhooks_serve(void *ctx)
{
	daemon_ready(((struct galleyd *)ctx)->daemon, "webhooks");
}

static bool start_webhook(struct galleyd *s, const struct galley_config *c, struct err *e)
{
	const struct kube_options api = {.kubeconfig = c->kubeconfig, .context = c->kube_context};
	struct webhook_options o = {.address = c->webhook_address,
		.domain_suffix = c->domain_suffix,
		.cert_dir = c->webhook_cert_dir,
		.ca_address = c->ca_address,
		.ca_roots = c->ca_roots,
		.ca_token = c->ca_token,
		.ca_names = c->ca_names,
		.dns = c->webhook_dns,
		.trust_domain = c->trust_domain,
		.namespace = c->root_namespace,
		.on_serving = on_webhooks_serve,
		.ctx = s,
		.state_dir = daemon_state_dir(s->daemon),
		.api = c->webhook_configurations && c->webhook_configurations[0] ? &api : NULL,
		.configurations = c->webhook_configurations};
	o.inject = c->inject;
	o.inject_config = c->inject_config;
	o.galley = s->galley;
	o.inject.trust_domain = c->trust_domain;
	o.inject.domain_suffix = c->domain_suffix;
	o.inject.root_namespace = c->root_namespace;
	if (!inject_resources_check(c->inject.resources, e))
		return err_in(e, "--inject-resources");
	if (!inject_platform_check(c->inject.platform, e))
		return err_in(e, "--inject-platform");
	if (str_empty(c->webhook_address))
		return true;
	daemon_not_ready(s->daemon, "webhooks", "no certificate for the webhooks yet");
	s->webhook = webhook_new(daemon_loop(s->daemon), &o, e);
	return s->webhook || err_in(e, "--webhook-address");
}

static void start_registered(struct galleyd *s)
{
	const struct registered_options o = {.state_dir = s->once ? NULL : daemon_state_dir(s->daemon),
		.api = s->kubernetes ? kubernetes_api(s->kubernetes) : NULL,
		.put = put,
		.remove = drop,
		.ctx = s};
	s->registered = registered_new(&o, clock_mono_ms());
	timer_start(s->expiry, REGISTERED_CHECK_MS, REGISTERED_CHECK_MS);
}

static bool start(struct galleyd *s, const struct galley_config *c, struct err *e)
{
	bool cluster = streq(c->source, KUBERNETES_SOURCE);
	const struct galley_options o = {.domain_suffix = c->domain_suffix,
		.revision = c->revision,
		.cluster = c->inject.cluster_id,
		.assume_sidecars = !cluster && !c->cluster_pods,
		.guard_secrets = cluster,
		.slices_only = cluster};
	if (str_empty(c->source))
		return err_set(e, ERR_PEER, "--source is required: the directory to read, or \"kubernetes\"");
	s->once = c->once;
	s->debounce_ms = c->debounce_ms;
	s->reports = reports_new();
	s->distribution = distribution_new();
	s->trim = trim_new(daemon_loop(s->daemon));
	s->galley = galley_new(&o);
	s->names = gateway_names_new(daemon_loop(s->daemon), s->galley, on_name, s);
	s->expiry = timer_new(daemon_loop(s->daemon), sync_registered, s);
	daemon_not_ready(s->daemon, "source", "the source was not read yet");
	if (!start_webhook(s, c, e) || !start_publisher(s, c, e) ||
		!(cluster ? start_kubernetes(s, c, e) : start_directory(s, c, e)))
		return false;
	start_registered(s);
	return true;
}

bool galley_daemon_start(struct daemon *d, const void *config, void **self, struct err *e)
{
	struct galleyd *s = xzalloc(sizeof(*s));
	s->daemon = d;
	if (!start(s, config, e)) {
		galley_daemon_stop(s);
		return false;
	}
	*self = s;
	return true;
}

void galley_daemon_stop(void *self)
{
	struct galleyd *s = self;
	dir_watch_free(s->watch);
	webhook_free(s->webhook);
	gateway_names_free(s->names);
	registered_free(s->registered);
	if (s->expiry)
		timer_free(s->expiry);
	kubernetes_free(s->kubernetes);
	access_free(s->access);
	cluster_status_free(s->status);
	if (s->retry)
		timer_free(s->retry);
	if (s->second)
		timer_free(s->second);
	trim_free(s->trim);
	bus_publisher_free(s->publisher);
	bus_keys_free(s->keys);
	directory_free(s->directory);
	galley_free(s->galley);
	reports_free(s->reports);
	distribution_free(s->distribution);
	free(s->private_bus);
	free(s);
}

bool galley_daemon_reload(void *self, struct err *e)
{
	const struct galleyd *s = self;
	(void)e;
	if (s->directory) {
		directory_hint(s->directory, NULL, false);
		scan(self);
	}
	return true;
}
