/*
 * Probes of the application's containers (/app-health/..., /app-lifecycle/...): the kubelet asks the agent, because in a mesh with mutual TLS the
 * application's own ports refuse it, and the agent asks the application. What to ask is Istio's ISTIO_KUBE_APP_PROBERS.
 */
#pragma once

#include "common/daemon/admin.h"
#include "common/io/addr.h"
#include "common/io/loop.h"

/* ---- probe_spec.c: what is to be asked; pure */
enum probe_kind { PROBE_HTTP, PROBE_TCP, PROBE_GRPC, PROBE_EXEC };

struct probe_spec {
	enum probe_kind kind;
	char *path; /* of the agent */
	char *url; /* HTTP */
	char **headers; /* HTTP: "Name: value", NULL-terminated */
	char *target; /* TCP, GRPC: address:port */
	char *service; /* GRPC */
	char **command; /* EXEC: NULL-terminated */
	uint64_t timeout_ms;
};

struct probe_specs {
	struct probe_spec *items;
	size_t len;
};

/* json NULL or "": none. pod_ip: where the application listens. */
bool probe_specs_parse(const char *json, const char *pod_ip, struct probe_specs *out, struct err *e) MUST_CHECK;
void probe_specs_done(struct probe_specs *s);
/* Istio's ReadinessProbe of a workload outside Kubernetes: readinessProbe of a ProxyConfig. */
struct readiness {
	struct probe_spec spec;
	uint64_t initial_delay_ms, period_ms;
	unsigned success, failure; /* thresholds */
};
/* *out NULL: there is none. The caller frees it with readiness_free(). */
bool readiness_parse(const char *proxy_config, const char *pod_ip, struct readiness **out, struct err *e) MUST_CHECK;
void readiness_free(struct readiness *r);
const struct probe_spec *probe_specs_find(const struct probe_specs *s, struct str path);
/* Messages of grpc.health.v1.Health/Check. */
void probe_health_request(const char *service, struct strbuf *out);
bool probe_health_is_serving(struct str response);

/* ---- probe.c: asking */
struct probes;
struct probes *probes_new(struct loop *l, const char *json, const char *pod_ip, struct err *e) MUST_CHECK;
void probes_mount(struct probes *p, struct admin *a); /* a must be freed after p, or answer nothing any more */
void probes_free(struct probes *p);
