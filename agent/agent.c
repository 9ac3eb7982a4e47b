/*
 * DOC: The agent's parts, put together and taken apart. The sockets for Envoy are open before Envoy starts; what cannot be answered yet waits
 * there. The identity comes from the CA or from the last run; with the first certificate the relay connects to pilot. A new certificate goes
 * to Envoy over SDS and into the TLS context that later connections to pilot use. On SIGTERM the status page says "not ready", Envoy
 * drains and ends, and only then do the sockets close.
 */
#include <stdlib.h>
#include <unistd.h>

#include "agent/daemon.h"
#include "agent/health.h"
#include "agent/mesh_roots.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/addr.h"
#include "common/daemon/admin.h"
#include "common/io/file.h"
#include "common/mesh/interception.h"

#define BOOTSTRAP_FILE "envoy-rev.json"

METRIC(startup, GAUGE, "istio_agent_startup_duration_seconds", "seconds from the start to the first certificate");
METRIC(csr_requests, COUNTER, "istio_agent_num_outgoing_requests", "certificate requests to the CA", "request_type");
METRIC(csr_failures, COUNTER, "istio_agent_num_failed_outgoing_requests", "certificate requests to the CA that failed",
	"request_type");
METRIC(csr_latency, HISTOGRAM, "istio_agent_outgoing_latency", "milliseconds that the CA took", "request_type");
METRIC(cert_expiry, GAUGE, "istio_agent_cert_expiry_seconds", "seconds until the certificate is no longer valid",
	"resource_name");

static const double latency_buckets[] = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 0};

__attribute__((constructor)) static void set_buckets(void)
{
	csr_latency.buckets = latency_buckets;
}

LOG_SCOPE(agent_log, "agent", "the agent's parts");

struct agent {
	struct daemon *daemon;
	struct loop *loop;
	struct agent_config told; /* the options, and this process' environment */
	const struct agent_config *config;
	const char *state_dir;
	uint64_t started_ms;
	struct identity *identity;
	struct tls_context *tls; /* for pilot */
	struct sds *sds;
	struct mesh_roots *roots;
	struct ads_relay *ads;
	struct envoy *envoy; /* NULL with --no-envoy */
	struct status *status;
	struct health *health; /* NULL: the ProxyConfig has no readiness probe */
	struct envoy_pages *envoy_pages;
	int64_t not_after_ms; /* of the last certificate */
	bool started; /* the first certificate has been seen */
};

static char *in_state_dir(const struct agent *a, const char *file)
{
	return xasprintf("%s/%s", a->state_dir, file);
}

/* ---- identity */

#define PILOT_NAME "istiod.istio-system.svc"

/* The name by which pilot is called, which its certificate has; PILOT_NAME when it is called by address. */
static char *pilot_name(const struct agent *a)
{
	uint8_t ip[16];
	unsigned bits;
	struct str host, address = str_of(a->config->discovery_address);
	if (str_starts(address, STR("unix:")) || !addr_split(address, &host, &(uint16_t){0}, NULL) ||
		ip_parse(host, ip, &bits))
		return xstrdup(PILOT_NAME);
	return xstrndup(host.ptr, host.len);
}

/* The context for pilot: it must be istiod, and sees our certificate. */
static bool use_for_pilot(struct agent *a, const struct identity_material *m, struct err *e)
{
	const struct tls_options o = {.peer_auth = TLS_PEER_REQUIRED};
	char *istiod cleanup(free_p) = xasprintf("spiffe://%s/ns/istio-system/sa/istiod", a->config->trust_domain);
	char *host cleanup(free_p) = pilot_name(a);
	const char *names[] = {istiod, PILOT_NAME, host, NULL};
	if (!a->tls)
		a->tls = tls_context_new(&o);
	return tls_context_set_identity(a->tls, str_of(m->chain_pem), str_of(m->key_pem), e) &&
	       tls_context_set_roots(a->tls, str_of(m->roots_pem), e) && tls_context_set_server_names(a->tls, names, e);
}

static void on_identity(void *ctx)
{
	struct agent *a = ctx;
	const struct identity_material *m = a->identity ? identity_get(a->identity) : NULL;
	struct err e = {0};
	if (!m)
		return;
	if (!a->started)
		metric_set(&startup, (double)(clock_mono_ms() - a->started_ms) / 1000);
	a->started = true;
	a->not_after_ms = m->not_after_ms;
	daemon_ready(a->daemon, "identity");
	sds_changed(a->sds);
	if (a->config->plaintext)
		return;
	if (use_for_pilot(a, m, &e))
		ads_relay_connect(a->ads, a->tls);
	else
		log_error(&agent_log, "certificate not usable towards pilot", KV("error", e.text));
}

static void on_attempt(void *ctx, bool ok, uint64_t took_ms)
{
	metric_add(&csr_requests, 1, "csr");
	metric_observe(&csr_latency, took_ms, "csr");
	if (!ok)
		metric_add(&csr_failures, 1, "csr");
}

static void on_scrape(void *ctx)
{
	const struct agent *a = ctx;
	if (a->started) /* negative when it has expired and there is no other */
		metric_set(&cert_expiry, (double)(a->not_after_ms - clock_wall_ms()) / 1000, "default");
}

static bool start_identity(struct agent *a, struct err *e)
{
	const struct agent_config *c = a->config;
	char *istiod cleanup(free_p) = xasprintf("spiffe://%s/ns/istio-system/sa/istiod", c->trust_domain);
	char *citadel cleanup(free_p) = xasprintf("spiffe://%s/ns/istio-system/sa/citadel", c->trust_domain);
	char *id cleanup(free_p) = xasprintf(
		"spiffe://%s/ns/%s/sa/%s", c->trust_domain, c->pod_namespace, c->service_account);
	char *dir cleanup(free_p) = in_state_dir(a, "identity");
	char *host cleanup(free_p) = pilot_name(a);
	const char *names[] = {istiod, citadel, PILOT_NAME, host, NULL};
	const char *key_type = c->key_type;
	const struct key_variables v = {
		getenv("ECC_SIGNATURE_ALGORITHM"), getenv("ECC_CURVE"), getenv("WORKLOAD_RSA_KEY_SIZE")};
	if (str_empty(key_type) && !agent_key_type(&v, &key_type, e))
		return false;
	const struct identity_options o = {
		.ca_address = str_empty(c->ca_address) ? c->discovery_address : c->ca_address,
		.ca_roots_file = c->ca_roots,
		.ca_names = names,
		.token_file = c->token_file,
		.spiffe_id = id,
		.ttl_ms = c->cert_ttl_ms,
		.key_type = key_type,
		.persist_dir = dir,
		.on_change = on_identity,
		.on_attempt = on_attempt,
		.ctx = a,
	};
	daemon_not_ready(a->daemon, "identity", "no certificate yet");
	a->identity = identity_new(a->loop, &o, e);
	return a->identity || err_in(e, "identity");
}

/* ---- parts */

static bool start_sds(struct agent *a, struct err *e)
{
	char *path cleanup(free_p) = in_state_dir(a, AGENT_SDS_SOCKET);
	char *kept cleanup(free_p) = in_state_dir(a, "mesh-roots.pem");
	a->sds = sds_new(a->loop, path, a->identity, e);
	if (!a->sds)
		return err_in(e, "SDS");
	a->roots = mesh_roots_new(kept);
	sds_set_mesh_roots(a->sds, mesh_roots_pem(a->roots));
	return true;
}

static void on_mesh_roots(void *ctx)
{
	struct agent *a = ctx;
	sds_set_mesh_roots(a->sds, mesh_roots_pem(a->roots));
}

static bool start_ads(struct agent *a, struct err *e)
{
	char *path cleanup(free_p) = in_state_dir(a, AGENT_XDS_SOCKET);
	char *cache cleanup(free_p) = in_state_dir(a, "last-good.xds");
	const struct ads_relay_options o = {.socket_path = path,
		.cache_file = cache,
		.target = a->config->discovery_address,
		.roots = a->roots,
		.on_roots = on_mesh_roots,
		.ctx = a};
	a->ads = ads_relay_new(a->loop, &o, e);
	if (!a->ads)
		return err_in(e, "ADS");
	if (a->config->plaintext)
		ads_relay_connect(a->ads, NULL);
	return true;
}

/* Without an Envoy of its own the agent still writes the bootstrap, for whoever starts one. */
static bool write_bootstrap(struct agent *a, struct err *e)
{
	char *path cleanup(free_p) = in_state_dir(a, BOOTSTRAP_FILE);
	char *text cleanup(free_p) = NULL;
	return (bootstrap_json(a->config, a->state_dir, &text, e) && file_write_atomic(path, str_of(text), 0600, e)) ||
	       err_in(e, "Envoy's bootstrap");
}

static void on_drain_asked(void *ctx)
{
	struct agent *a = ctx;
	envoy_drain_now(a->envoy);
}

static bool start_envoy(struct agent *a, struct err *e)
{
	if (a->config->no_envoy)
		return write_bootstrap(a, e);
	a->envoy = envoy_new(a->loop, a->config, a->state_dir, e);
	if (!a->envoy)
		return err_in(e, "Envoy");
	status_on_drain(a->status, on_drain_asked, a);
	envoy_start(a->envoy);
	return true;
}

static bool start_status(struct agent *a, struct err *e)
{
	a->status = status_new(a->loop, a->config, e);
	if (!a->status)
		return err_in(e, "status port");
	status_mount(a->status, daemon_admin(a->daemon));
	a->envoy_pages = envoy_pages_new(a->loop, a->config, daemon_admin(a->daemon));
	return true;
}

static void on_health(void *ctx, bool healthy, const char *why)
{
	struct agent *a = ctx;
	ads_relay_health(a->ads, healthy, why);
}

/* Envoy's readiness is the status page's, which also knows of a drain. */
static bool start_health(struct agent *a, struct err *e)
{
	char *url cleanup(free_p) = xasprintf("http://127.0.0.1:%u/healthz/ready", status_port(a->config));
	const struct health_options o = {.proxy_config = a->config->proxy_config,
		.pod_ip = a->config->pod_ip,
		.ready_url = a->config->no_envoy ? NULL : url,
		.on_change = on_health,
		.ctx = a};
	return health_new(a->loop, &o, &a->health, e);
}

static bool check_config(const struct agent_config *c, const char *state_dir, struct err *e)
{
	const struct {
		const char *option, *value;
	} needed[] = {{"--state-dir", state_dir}, {"--pod-name", c->pod_name}, {"--pod-ip", c->pod_ip},
		{"--discovery-address", c->discovery_address}};
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (str_empty(needed[i].value))
			return err_set(e, ERR_PEER, "%s is needed", needed[i].option);
	if (!streq(c->type, "sidecar") && !streq(c->type, "router"))
		return err_set(e, ERR_PEER, "--type: \"%.40s\" is neither sidecar nor router", c->type);
	const char *mode = c->interception_mode;
	return str_empty(mode) || interception_mode_check(mode, e) || err_in(e, "--interception-mode");
}

/* As Go reads a truth value, which is how Istio's agent reads its environment. */
static bool is_true(const char *text)
{
	static const char *const words[] = {"true", "t", "1"};
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_ieq(str_of(text), str_of(words[i])))
			return true;
	return false;
}

bool agent_start(struct daemon *d, const void *config, void **self, struct err *e)
{
	struct agent *a = xzalloc(sizeof(*a));
	*a = (struct agent){.daemon = d, .loop = daemon_loop(d), .state_dir = daemon_state_dir(d)};
	a->told = *(const struct agent_config *)config;
	a->told.environment = environ;
	if (!a->told.proxy_config)
		a->told.proxy_config = getenv("PROXY_CONFIG");
	a->told.metrics_inside_only |= is_true(getenv("METRICS_LOCALHOST_ACCESS_ONLY"));
	a->config = &a->told;
	a->started_ms = clock_mono_ms();
	if (!check_config(a->config, a->state_dir, e) || !start_identity(a, e) || !start_sds(a, e) ||
		!start_ads(a, e) || !start_status(a, e) || !start_envoy(a, e) || !start_health(a, e)) {
		agent_stop(a);
		return false;
	}
	on_identity(a); /* one may have been on disk */
	metric_on_scrape(on_scrape, a);
	*self = a;
	return true;
}

static void on_envoy_gone(void *ctx)
{
	struct agent *a = ctx;
	daemon_drained(a->daemon);
}

void agent_drain(void *self)
{
	struct agent *a = self;
	status_draining(a->status);
	if (a->envoy)
		envoy_drain(a->envoy, on_envoy_gone, a);
	else
		daemon_drained(a->daemon);
}

bool agent_reload(void *self, struct err *e)
{
	const struct agent *a = self;
	identity_renew_now(a->identity);
	return true;
}

void agent_stop(void *self)
{
	struct agent *a = self;
	health_free(a->health);
	envoy_free(a->envoy);
	envoy_pages_free(a->envoy_pages);
	status_free(a->status);
	ads_relay_free(a->ads);
	sds_free(a->sds);
	mesh_roots_free(a->roots);
	identity_free(a->identity);
	tls_context_free(a->tls);
	free(a);
}

/* ---- debug pages */

static void page_identity(void *self, struct str query, struct strbuf *out)
{
	identity_debug(((const struct agent *)self)->identity, out);
}

static void page_sds(void *self, struct str query, struct strbuf *out)
{
	sds_debug(((const struct agent *)self)->sds, out);
}

static void page_ads(void *self, struct str query, struct strbuf *out)
{
	ads_relay_debug(((const struct agent *)self)->ads, out);
}

static void page_envoy(void *self, struct str query, struct strbuf *out)
{
	const struct agent *a = self;
	if (a->envoy)
		envoy_debug(a->envoy, out);
	else
		strbuf_adds(out, "null");
}

static void page_health(void *self, struct str query, struct strbuf *out)
{
	const struct agent *a = self;
	if (a->health)
		health_debug(a->health, out);
	else
		strbuf_adds(out, "null");
}

const struct debug_page agent_pages[] = {
	{"identity", "the workload's certificate and the CA it came from", page_identity},
	{"sds", "streams of Envoy that ask for certificates", page_sds},
	{"ads", "Envoy's configuration stream and pilot's, per type what Envoy holds", page_ads},
	{"envoy", "Envoy's process", page_envoy},
	{"health", "the readiness probe of a workload outside Kubernetes", page_health},
};
const size_t agent_n_pages = ARRAY_LEN(agent_pages);
