/*
 * DOC: Citadel's start and end. The signer is started first of all; everything else waits for its hello: the trust bundle, the server's own
 * certificate, the first probe. Token keys are read again when their files change, at the next call.
 */
#include "citadel/daemon.h"

#include <stdlib.h>

#include "citadel/ca/once.h"
#include "citadel/token.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/mesh/spiffe.h"

LOG_SCOPE_SHARED(citadel_log, "citadel", "certificates issued and refused");

static void refresh_one(struct authn_source *s, const char *path, uint64_t *stamp)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str text = {0};
	struct jwks *keys = NULL;
	struct err e = {0};
	uint64_t now = file_stamp(path);
	if (!now || now == *stamp)
		return;
	*stamp = now;
	if (!read_text(a, path, &text, &e) || !jwks_parse(text, &keys, &e)) {
		log_error(&citadel_log, "keys for tokens not taken, the old ones stay", KV("file", path),
			KV("error", e.text));
		return;
	}
	jwks_free(s->keys);
	s->keys = keys;
	log_info(&citadel_log, "keys for tokens read", KV("file", path));
}

void citadel_refresh_keys(struct citadel *c)
{
	refresh_one(&c->authn.sources[AUTHN_OWN], c->own_jwks, &c->own_jwks_stamp);
	refresh_one(&c->authn.sources[AUTHN_JWKS], c->cfg->jwks, &c->jwks_stamp);
}

static void on_cluster_keys(void *ctx, const char *issuer, struct str jwks)
{
	struct citadel *c = ctx;
	struct authn_source *s = &c->authn.sources[AUTHN_CLUSTER];
	struct jwks *keys = NULL;
	struct err e = {0};
	if (!jwks_parse(jwks, &keys, &e)) {
		log_error(&citadel_log, "the cluster's token keys are not understood, the old ones stay",
			KV("error", e.text));
		return;
	}
	jwks_free(s->keys);
	s->keys = keys;
	free(c->cluster_issuer);
	c->cluster_issuer = xstrdup(issuer);
	c->cluster_issuers[0] = c->cluster_issuer;
	s->issuers = c->cluster_issuers;
}

/*
 * Tokens that the cluster's keys verify cost no call; asking tells of those that were taken back (a deleted pod or account), and is all there is
 * until the keys are known.
 */
bool citadel_review_wanted(const struct citadel *c, const struct authn_proof *p)
{
	const bool always = streq(c->cfg->token_review, "always");
	if (!c->cluster || streq(c->cfg->token_review, "never"))
		return false;
	return p->id ? always && p->by_cluster : p->unverified && (always || !c->authn.sources[AUTHN_CLUSTER].keys);
}

static bool start_cluster(struct citadel *c, struct err *e)
{
	const struct citadel_cluster_options o = {.api = {.kubeconfig = c->cfg->kubeconfig},
		.on_keys = on_cluster_keys,
		.ctx = c,
		.roots_config_map = c->cfg->roots_config_map,
		.audiences = c->authn.audiences};
	const char *when = c->cfg->token_review;
	if (!streq(when, "auto") && !streq(when, "always") && !streq(when, "never"))
		return err_set(e, ERR_PEER, "--token-review: \"%.40s\" is none of auto, always, never", when);
	if (str_empty(c->cfg->roots_config_map))
		return err_set(e, ERR_PEER, "--roots-config-map: a name is needed");
	if (!node_accounts_check(c->cfg->node_accounts, e))
		return err_in(e, "--trusted-node-accounts");
	if (!c->cfg->kubernetes && c->cfg->node_accounts && c->cfg->node_accounts[0])
		return err_set(e, ERR_PEER, "--trusted-node-accounts needs --kubernetes, which knows of pods");
	if (!c->cfg->kubernetes)
		return true;
	c->cluster = citadel_cluster_new(daemon_loop(c->daemon), &o, e);
	return c->cluster || err_in(e, "--kubernetes");
}

void citadel_roots_changed(struct citadel *c)
{
	if (c->cluster)
		citadel_cluster_set_roots(c->cluster, str_of(citadel_roots(c)));
	trust_publish(c);
	serving_renew(c);
}

static void on_signer_ready(void *ctx)
{
	struct citadel *c = ctx;
	rollover_taken(c);
	citadel_roots_changed(c);
	probe_now(c);
}

static void on_signer_down(void *ctx, const char *why)
{
	struct citadel *c = ctx;
	if (signer_ca(c->signer)) {
		daemon_not_ready(c->daemon, "signer", "the signer is restarting");
		return;
	}
	/* It never came up: the CA's files are wrong, which no restart will cure. */
	struct err e = {0};
	(void)err_set(&e, ERR_PEER, "%s", why);
	daemon_fail(c->daemon, &e);
}

uint64_t citadel_issuer(const struct signer_ca *ca)
{
	return ca ? hash64(str_of(ca->cert)) : 0;
}

/* Other files are in the state folder, too. */
static uint64_t ca_files_stamp(struct citadel *c)
{
	static const char *const names[] = {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem",
		"rotation.json", "tls.crt", "tls.key", "ca.crt", "ca-crl.pem"};
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *dir = c->cfg->ca_dir ? c->cfg->ca_dir : daemon_state_dir(c->daemon);
	uint64_t stamps[ARRAY_LEN(names)];
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		stamps[i] = file_stamp(path_in(a, dir, names[i]));
	return hash64(str_n(stamps, sizeof(stamps)));
}

static void on_ca_files(void *ctx)
{
	struct citadel *c = ctx;
	const uint64_t stamp = ca_files_stamp(c);
	if (stamp == c->ca_files_stamp)
		return;
	c->ca_files_stamp = stamp;
	log_info(&citadel_log, "the CA's files changed");
	signer_reload(c->signer);
}

static const char **list_of(struct arena *a, const char **given, const char *const *fallback)
{
	VEC(const char *) v = {0};
	const char *const *from = given && given[0] ? given : fallback;
	for (size_t i = 0; from && from[i]; i++)
		vec_push(&v, from[i]);
	vec_push(&v, NULL);
	const char **out = arena_dup(a, v.items, v.len * sizeof(*v.items));
	vec_done(&v);
	return out;
}

/* "ns/x/sa/y" becomes an id of the trust domain; a whole URI stays. */
static const char **ids_of(struct citadel *c, const char **given, const char *const *fallback)
{
	const char **ids = list_of(c->arena, given, fallback);
	for (size_t i = 0; ids[i]; i++)
		if (!str_starts(str_of(ids[i]), STR("spiffe://")))
			ids[i] = arena_printf(c->arena, "spiffe://%s/%s", c->cfg->trust_domain, ids[i]);
	return ids;
}

static void set_lists(struct citadel *c)
{
	static const char *const own[] = {TOKEN_ISSUER, NULL}, *const audiences[] = {"istio-ca", NULL};
	static const char *const plane[] = {"ns/istio-system/sa/istiod", "ns/istio-system/sa/pilot",
		"ns/istio-system/sa/citadel", "ns/istio-system/sa/galley", NULL};
	static const char *const dns[] = {"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local",
		"istio-ca.istio-system.svc", "istio-pilot.istio-system.svc", "citadel", "pilot", "galley", "localhost",
		NULL};
	static const char *const forwarders[] = {"ns/istio-system/sa/istiod", "ns/istio-system/sa/pilot", NULL};
	const struct citadel_config *cfg = c->cfg;
	c->authn.trust_domain = cfg->trust_domain;
	c->authn.audiences = list_of(c->arena, cfg->jwt_audiences, audiences);
	c->authn.forwarders = ids_of(c, cfg->forwarders, forwarders);
	c->authn.sources[AUTHN_OWN].issuers = own;
	c->authn.sources[AUTHN_JWKS].issuers = list_of(c->arena, cfg->jwt_issuers, NULL);
	c->control_plane = ids_of(c, cfg->control_plane, plane);
	c->own_dns = list_of(c->arena, cfg->control_plane_dns, dns);
	c->own_id = arena_printf(c->arena, "spiffe://%s/ns/istio-system/sa/citadel", cfg->trust_domain);
}

static bool start_signer(struct citadel *c, struct err *e)
{
	const struct citadel_config *cfg = c->cfg;
	const struct signer_options o = {.ca_dir = cfg->ca_dir,
		.state_dir = daemon_state_dir(c->daemon),
		.root_key = cfg->root_key,
		.trust_domain = cfg->trust_domain,
		.root_ttl_ms = cfg->root_ttl_ms,
		.max_ttl_ms = cfg->max_ttl_ms,
		.distribution_ms = cfg->distribution_ms,
		.rotate = streq(cfg->root_rotation, "auto"),
		.may_take = rollover_may_take,
		.dns = c->own_dns,
		.on_ready = on_signer_ready,
		.on_down = on_signer_down,
		.ctx = c};
	if (!cfg->ca_dir && !o.state_dir)
		return err_set(
			e, ERR_PEER, "--state-dir (for a root of our own) or --ca-dir (for a plugged-in CA) is needed");
	if (!streq(cfg->root_rotation, "auto") && !streq(cfg->root_rotation, "manual"))
		return err_set(
			e, ERR_PEER, "--root-rotation: \"%.40s\" is neither auto nor manual", cfg->root_rotation);
	rollover_start(c);
	c->signer = signer_new(daemon_loop(c->daemon), &o, e);
	return c->signer != NULL;
}

static bool start_bus(struct citadel *c, struct err *e)
{
	if (str_empty(daemon_bus(c->daemon)) || streq(daemon_bus(c->daemon), "none"))
		return true;
	const char *keys = daemon_bus_keys_dir(c->daemon);
	if (keys && !bus_keys_load(keys, "citadel", &c->bus_keys, e))
		return err_in(e, "--bus-keys");
	const struct bus_publisher_options o = {
		.address = daemon_bus(c->daemon), .role = "citadel", .keys = c->bus_keys};
	c->bus = bus_publisher_new(daemon_loop(c->daemon), &o, e);
	return c->bus || err_in(e, "--bus (\"none\" runs without)");
}

static bool watch_ca(struct citadel *c, struct err *e)
{
	const char *dir = c->cfg->ca_dir ? c->cfg->ca_dir : daemon_state_dir(c->daemon);
	c->ca_files_stamp = c->cfg->ca_dir ? ca_files_stamp(c) : 0;
	c->watch = dir_watch_new(daemon_loop(c->daemon), dir, 100, on_ca_files, c, e);
	return c->watch || err_in(e, c->cfg->ca_dir ? "--ca-dir" : "--state-dir");
}

static bool start_all(struct citadel *c, struct err *e)
{
	set_lists(c);
	daemon_not_ready(c->daemon, "signer", "waiting for the first signature");
	if (!start_cluster(c, e) || !start_signer(c, e))
		return false;
	const char *dir = daemon_state_dir(c->daemon);
	if (dir && !token_key_ready(dir, e))
		return err_in(e, "key for join tokens");
	c->own_jwks = dir ? path_in(c->arena, dir, "jwks.json") : NULL;
	citadel_refresh_keys(c);
	if (c->cfg->jwks && !c->authn.sources[AUTHN_JWKS].keys)
		return err_set(e, ERR_PEER, "--jwks %s: holds no usable key", c->cfg->jwks);
	struct tls_options tls = {.server = true, .peer_auth = TLS_PEER_OPTIONAL, .trust_domain = c->cfg->trust_domain};
	c->tls = tls_context_new(&tls);
	struct grpc_server_options o = {.max_connection_age_ms = 30 * 60 * 1000, .max_message_bytes = 1 << 20};
	c->server = grpc_server_new(daemon_loop(c->daemon), &o);
	api_mount(c);
	serving_start(c);
	probe_start(c);
	return watch_ca(c, e) && start_bus(c, e);
}

bool citadel_start(struct daemon *d, const void *config, void **self, struct err *e)
{
	struct citadel *c = xzalloc(sizeof(*c));
	c->daemon = d;
	c->cfg = config;
	c->arena = arena_new();
	if (start_all(c, e)) {
		*self = c;
		return true;
	}
	citadel_stop(c);
	return false;
}

static void on_drained(void *ctx)
{
	struct citadel *c = ctx;
	daemon_drained(c->daemon);
}

void citadel_drain(void *self)
{
	struct citadel *c = self;
	grpc_server_drain(c->server, 2000, on_drained, c);
}

void citadel_stop(void *self)
{
	struct citadel *c = self;
	dir_watch_free(c->watch);
	rollover_stop(c);
	timer_free(c->probe);
	c->signer ? signer_free(c->signer) : (void)0;
	timer_free(c->renew);
	grpc_server_free(c->server);
	tls_context_free(c->tls);
	bus_publisher_free(c->bus);
	bus_keys_free(c->bus_keys);
	pki_key_free(c->server_key);
	for (size_t i = 0; i < ISSUANCES; i++) {
		free(c->ring[i].id);
		free(c->ring[i].serial);
		free(c->ring[i].peer);
	}
	for (size_t i = 0; i < ARRAY_LEN(c->authn.sources); i++)
		jwks_free(c->authn.sources[i].keys);
	citadel_cluster_free(c->cluster);
	free(c->cluster_issuer);
	arena_free(c->arena);
	free(c);
}

bool citadel_reload(void *self, struct err *e)
{
	struct citadel *c = self;
	(void)e;
	citadel_refresh_keys(c);
	c->ca_files_stamp = ca_files_stamp(c);
	signer_reload(c->signer);
	return true;
}
