/* DOC: Pilot's parts, put together and taken apart. The main loop accepts connections and gives each to a worker, in turn. */
#include "pilot/pilot.h"

#include <stdlib.h>

#include "common/base/clock.h"

static bool give_away(void *ctx, int fd, struct tls_context *tls)
{
	struct pilot *p = ctx;
	worker_adopt(p->workers[p->next_worker++ % p->n_workers], fd, tls != NULL);
	return true;
}

static void on_nack(void *ctx)
{
	struct worker_nack *n = ctx;
	ingest_report(n->pilot, n);
	arena_free(n->arena);
}

static void on_workload(void *ctx)
{
	struct workload_note *n = ctx;
	struct pilot *p = n->pilot;
	registry_note(p->registry, n, clock_mono_ms(), clock_wall_ms());
	workload_note_free(n);
}

static bool start_workers(struct pilot *p, struct err *e)
{
	const struct pilot_config *c = p->config;

	p->workers = xzalloc(c->workers * sizeof(struct worker *));
	for (unsigned i = 0; i < c->workers; i++) {
		const struct worker_options o = {
			.index = i,
			.max_connection_age_ms = c->max_connection_age_ms,
			.keepalive_ms = c->keepalive_ms,
			.ca_address = c->ca_address,
			.ca_roots = c->ca_roots,
			.ca_names = c->ca_names,
			.trust_domain = c->trust_domain,
			.scope_gateways = c->scope_gateways,
			.main_loop = p->loop,
			.on_nack = on_nack,
			.on_moved = distribution_moved,
			.on_levels = distribution_levels,
			.on_workload = on_workload,
			.pilot = p,
		};
		p->workers[i] = worker_start(&o, e);
		if (!p->workers[i])
			return false;
		p->n_workers++;
	}
	return true;
}

static bool listen_plain(struct pilot *p, struct err *e)
{
	static const struct grpc_server_options options;
	uint16_t port;

	p->front = grpc_server_new(p->loop, &options);
	grpc_server_on_accept(p->front, give_away, p);
	if (!grpc_server_listen(p->front, p->config->xds_address, NULL, &port, e))
		return err_in(e, "--xds-address");
	return true;
}

static void on_second(void *ctx)
{
	struct pilot *p = ctx;
	ingest_tick(p);
	distribution_tick(p->distribution);
	registry_tick(p->registry, clock_mono_ms());
}

bool pilot_start(struct daemon *d, const void *config, void **self, struct err *e)
{
	struct pilot *p = xzalloc(sizeof(*p));

	p->daemon = d;
	p->loop = daemon_loop(d);
	p->config = config;
	p->objects = map_new();
	p->distribution = distribution_new(p);
	p->registry = registry_new(&(struct registry_options){.instance = daemon_instance(d),
		.grace_ms = p->config->workload_grace_ms,
		.send = ingest_say,
		.ctx = p});
	p->second = timer_new(p->loop, on_second, p);
	timer_start(p->second, 1000, 1000);
	p->bundles = bundle_urls_new(&(struct bundle_urls_options){.loop = p->loop,
		.state_dir = daemon_state_dir(d),
		.roots = p->config->bundle_roots,
		.refresh_ms = p->config->bundle_refresh_ms,
		.on_change = ingest_bundle,
		.ctx = p});
	push_start(p);
	if (!str_empty(p->config->http_address) && !daemon_open_pages(d, p->config->http_address, e)) {
		(void)err_in(e, "--http-address");
		pilot_stop(p);
		return false;
	}
	if (!start_workers(p, e) || !ingest_start(p, e) || !listen_plain(p, e) || !secure_start(p, e)) {
		pilot_stop(p);
		return false;
	}
	*self = p;
	return true;
}

static void on_drained(void *ctx)
{
	struct pilot *p = ctx;
	if (++p->drained == p->n_workers)
		daemon_drained(p->daemon);
}

void pilot_drain(void *self)
{
	struct pilot *p = self;
	for (size_t i = 0; i < p->n_workers; i++)
		worker_drain(p->workers[i], 1000, on_drained, p);
}

void pilot_stop(void *self)
{
	struct pilot *p = self;

	if (p->front)
		grpc_server_free(p->front);
	secure_stop(p);
	for (size_t i = 0; i < p->n_workers; i++)
		worker_stop(p->workers[i]);
	loop_run_posted(p->loop); /* what workers had to say still refers to p */
	free(p->workers);
	distribution_free(p->distribution);
	ingest_stop(p);
	bundle_urls_free(p->bundles);
	push_stop(p);
	timer_free(p->second);
	registry_free(p->registry);
	free(p);
}
