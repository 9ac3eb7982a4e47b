/*
 * DOC: Labels and annotations of an injected pod. What the user wrote stays, but for where Prometheus looks: it is sent to the agent, which
 * reads the application's metrics where the annotations said, because the agent is given them as they were.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/mesh/proxy_ports.h"
#include "galley/webhook/inject_internal.h"

/* ---- the workload's name */

static const json_t *controller_of(const json_t *metadata)
{
	const json_t *owners = json_object_get(metadata, "ownerReferences");
	for (size_t i = 0; i < json_array_size(owners); i++)
		if (json_is_true(json_object_get(json_array_get(owners, i), "controller")))
			return json_array_get(owners, i);
	return NULL;
}

static struct str without_hash(struct str name, const char *hash)
{
	char *suffix cleanup(free_p) = xasprintf("-%s", hash);
	return *hash && str_ends(name, str_of(suffix)) ? str_sub(name, 0, name.len - strlen(suffix)) : name;
}

/* A CronJob's Jobs end with the minute that they are of. */
static struct str without_minute(struct str name)
{
	size_t digits = 0;
	while (digits < name.len && isdigit((unsigned char)name.ptr[name.len - 1 - digits]))
		digits++;
	bool dash = digits < name.len && name.ptr[name.len - 1 - digits] == '-';
	return digits >= 8 && digits <= 10 && dash && digits + 1 < name.len ? str_sub(name, 0, name.len - digits - 1)
									    : name;
}

static struct str own_name(const json_t *metadata)
{
	struct str name = str_of(text_at(metadata, "name"));
	if (name.len)
		return name;
	name = str_of(text_at(metadata, "generateName"));
	while (str_ends(name, STR("-")))
		name.len--;
	return name;
}

void workload_name(const json_t *metadata, const char *known, char out[64])
{
	const json_t *owner = controller_of(metadata);
	struct str name = str_of(known);
	if (!name.len && owner) {
		const char *kind = text_at(owner, "kind");
		name = str_of(text_at(owner, "name"));
		if (streq(kind, "ReplicaSet"))
			name = without_hash(name, text_at(json_object_get(metadata, "labels"), "pod-template-hash"));
		else if (streq(kind, "Job"))
			name = without_minute(name);
	}
	if (!name.len)
		name = own_name(metadata);
	name = str_sub(name, 0, 63);
	while (name.len && !isalnum((unsigned char)name.ptr[name.len - 1])) /* as a label must end */
		name.len--;
	(void)snprintf(out, 64, STR_FMT, STR_ARG(name));
}

/* ---- labels */

static void set_default(json_t *o, const char *key, const char *value)
{
	if (!*text_at(o, key))
		(void)json_object_set_new(o, key, json_string(value));
}

static const char *first_of(const json_t *labels, const char *a, const char *b, const char *fallback)
{
	const char *x = text_at(labels, a), *y = text_at(labels, b);
	return *x ? x : *y ? y : fallback;
}

const char *network_of(const struct injection *i)
{
	const char *label = json_string_value(json_object_get(i->labels, "topology.istio.io/network"));
	const char *network = label ? label : i->q->network ? i->q->network : i->o->network;
	return network ? network : "";
}

void metadata_labels(const struct injection *i, json_t *labels)
{
	const char *revision = str_empty(i->o->revision) ? "default" : i->o->revision;
	if (!i->gateway)
		set_default(labels, "security.istio.io/tlsMode", "istio");
	set_default(labels, "service.istio.io/canonical-name",
		first_of(i->labels, "app.kubernetes.io/name", "app", i->workload));
	set_default(labels, "service.istio.io/canonical-revision",
		first_of(i->labels, "app.kubernetes.io/version", "version", "latest"));
	set_default(labels, "istio.io/rev", revision);
	if (*network_of(i))
		set_default(labels, "topology.istio.io/network", network_of(i));
}

/* ---- annotations */

static bool wants_metrics(const struct injection *i)
{
	bool scrape = true, merge = !i->o->no_metrics_merge;
	(void)value_bool(text_at(i->seen, "prometheus.io/scrape"), &scrape);
	(void)value_bool(text_at(i->seen, "prometheus.istio.io/merge-metrics"), &merge);
	return scrape && merge;
}

#define PORT "prometheus.io/port"
#define TARGETS "prometheus.istio.io/scrape-targets"

static bool check_port(const char *name, struct str text, struct err *e)
{
	uint32_t port;
	if (!str_u32(text, 65535, &port) || !port)
		return err_set(e, ERR_PEER, "annotation %s: \"" STR_FMT "\" is not 1..65535", name,
			STR_ARG(str_sub(text, 0, 60)));
	return !port_is_proxys(port) || err_set(e, ERR_PEER, "annotation %s: port %u belongs to the proxy", name, port);
}

/* "port:path, port" */
static bool check_targets(const char *list, struct err *e)
{
	struct str rest = str_of(list), part, port, path;
	size_t n = 0;
	while (str_split(&rest, ',', &part)) {
		if (!str_trim(part).len)
			continue;
		(void)str_cut(str_trim(part), ':', &port, &path);
		if (!check_port(TARGETS, str_trim(port), e))
			return false;
		n++;
	}
	return n <= LIMIT_SCRAPE_TARGETS ||
	       err_set(e, ERR_LIMIT, "annotation %s: more than %u targets", TARGETS, LIMIT_SCRAPE_TARGETS);
}

/* As the agent reads them, which otherwise would not start. */
bool metadata_check(const struct injection *i, struct err *e)
{
	char own[16];
	const char *port = text_at(i->seen, PORT), *scheme = text_at(i->seen, "prometheus.io/scheme");
	(void)snprintf(own, sizeof(own), "%u", i->status_port ? i->status_port : STATUS_PORT);
	if (!wants_metrics(i))
		return true;
	if (*scheme && !streq(scheme, "http") && !streq(scheme, "https"))
		return err_set(
			e, ERR_PEER, "annotation prometheus.io/scheme: \"%.60s\" is neither http nor https", scheme);
	if (*text_at(i->seen, TARGETS))
		return check_targets(text_at(i->seen, TARGETS), e);
	return !*port || streq(port, own) || check_port(PORT, str_of(port), e);
}

void metadata_annotations(const struct injection *i, json_t *annotations)
{
	const json_t *containers = json_object_get(i->spec, "containers");
	const char *first = NULL;
	for (size_t k = 0; !first && k < json_array_size(containers); k++) {
		const char *name = text_at(json_array_get(containers, k), "name");
		first = streq(name, PROXY_NAME) ? NULL : name;
	}
	if (first) {
		set_default(annotations, "kubectl.kubernetes.io/default-logs-container", first);
		set_default(annotations, "kubectl.kubernetes.io/default-container", first);
	}
	char port[16];
	(void)snprintf(port, sizeof(port), "%u", i->status_port ? i->status_port : STATUS_PORT);
	if (!wants_metrics(i) || streq(text_at(i->seen, PORT), port))
		return;
	(void)json_object_set_new(annotations, "prometheus.io/port", json_string(port));
	(void)json_object_set_new(annotations, "prometheus.io/path", json_string("/stats/prometheus"));
	(void)json_object_set_new(annotations, "prometheus.io/scrape", json_string("true"));
	(void)json_object_del(annotations, "prometheus.io/scheme"); /* of the application; the agent speaks http */
}
