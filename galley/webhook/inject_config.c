/*
 * DOC: The annotation proxy.istio.io/config: Istio's ProxyConfig as YAML, of which the fields with a check are read here. A field that Istio does
 * not know is refused, as a word that was misspelt; one that has no effect here is a warning.
 */
#include <stdlib.h>

#include "common/io/addr.h"
#include "common/mesh/interception.h"
#include "common/pb/node.h"
#include "galley/webhook/inject_internal.h"

static bool is_bool(const json_t *v)
{
	return json_is_boolean(v);
}

static bool is_text(const json_t *v)
{
	return json_is_string(v) && json_string_length(v) > 0;
}

static bool is_workers(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= 1024;
}

static bool is_port(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= 65535;
}

static bool is_size(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= UINT32_MAX;
}

static bool is_duration(const json_t *v)
{
	int64_t ns;
	return json_is_string(v) && str_duration(str_of(json_string_value(v)), &ns) && ns >= 0 &&
	       ns <= 3600 * INT64_C(1000000000);
}

static bool is_mode(const json_t *v)
{
	return interception_mode_is_known(json_string_value(v));
}

static bool is_texts(const json_t *v)
{
	const char *key;
	const json_t *item;
	bool ok = json_is_object(v);
	json_object_foreach((json_t *)(uintptr_t)v, key, item) ok = ok && *key && json_is_string(item);
	return ok;
}

static bool is_object(const json_t *v)
{
	return json_is_object(v);
}

static bool is_stats(const json_t *v)
{
	const char *key;
	const json_t *list, *item;
	size_t at;
	bool ok = json_is_object(v);
	json_object_foreach((json_t *)(uintptr_t)v, key, list)
	{
		ok = ok && json_is_array(list);
		json_array_foreach(list, at, item) ok = ok && json_is_string(item);
	}
	return ok;
}

static bool is_image(const json_t *v)
{
	const json_t *type = json_object_get(v, "imageType");
	return json_is_object(v) && (!type || json_is_string(type));
}

static bool is_interval(const json_t *v)
{
	int64_t ns;
	return is_duration(v) && str_duration(str_of(json_string_value(v)), &ns) && ns >= 1000000;
}

static bool is_address(const json_t *v)
{
	struct str host;
	uint16_t port;
	return is_text(v) && addr_split(str_of(json_string_value(v)), &host, &port, NULL) && host.len && port;
}

static bool is_ip_address(const json_t *v)
{
	struct addr a;
	return is_address(v) && addr_parse(str_of(json_string_value(v)), &a, NULL);
}

static bool is_service(const json_t *v)
{
	const json_t *tls = json_object_get(v, "tlsSettings");
	return is_address(json_object_get(v, "address")) && (!tls || json_is_object(tls));
}

static const struct field {
	const char *name;
	bool (*check)(const json_t *v); /* NULL: has no effect */
	const char *rule;
} fields[] = {
	{"concurrency", is_workers, "a number of 0..1024 is expected"},
	{"discoveryAddress", is_text, "host:port is expected"},
	{"envoyAccessLogService", is_service, "an object with address: host:port is expected"},
	{"envoyMetricsService", is_service, "an object with address: host:port is expected"},
	{"envoyMetricsServiceAddress", is_address, "host:port is expected"},
	{"fileFlushInterval", is_interval, "a duration of 1ms..1h is expected"},
	{"fileFlushMinSizeKb", is_size, "a number of kilobytes is expected"},
	{"holdApplicationUntilProxyStarts", is_bool, "true or false is expected"},
	{"image", is_image, "an object with imageType is expected"},
	{"interceptionMode", is_mode, "REDIRECT, TPROXY or NONE is expected"},
	{"proxyMetadata", is_texts, "an object of texts is expected"},
	{"proxyStatsMatcher", is_stats, "an object of lists of texts is expected"},
	{"connectionSettings", is_object, "an object is expected"},
	{"gatewayTopology", is_object, "an object is expected"},
	{"proxyHeaders", is_object, "an object is expected"},
	{"runtimeValues", is_texts, "an object of texts is expected"},
	{"statusPort", is_port, "a port of 0..65535 is expected"},
	{"statsdUdpAddress", is_ip_address, "IP address:port is expected"},
	{"terminationDrainDuration", is_duration, "a duration of 0s..1h is expected"},
	{"availabilityZone", NULL, NULL},
	{"binaryPath", NULL, NULL},
	{"caCertificatesPem", NULL, NULL},
	{"configPath", NULL, NULL},
	{"controlPlaneAuthPolicy", NULL, NULL},
	{"customConfigFile", NULL, NULL},
	{"discoveryRefreshDelay", NULL, NULL},
	{"drainDuration", NULL, NULL},
	{"extraStatTags", NULL, NULL},
	{"meshId", NULL, NULL},
	{"privateKeyProvider", NULL, NULL},
	{"proxyAdminPort", NULL, NULL},
	{"proxyBootstrapTemplatePath", NULL, NULL},
	{"readinessProbe", NULL, NULL},
	{"sds", NULL, NULL},
	{"serviceCluster", NULL, NULL},
	{"statNameLength", NULL, NULL},
	{"statsCompression", NULL, NULL},
	{"tracing", NULL, NULL},
	{"tracingServiceName", NULL, NULL},
	{"zipkinAddress", NULL, NULL},
};

static const struct field *field_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (streq(fields[i].name, name))
			return &fields[i];
	return NULL;
}

static bool check_fields(json_t *config, struct diags *warnings, struct err *e)
{
	const char *name;
	json_t *value;
	json_object_foreach(config, name, value)
	{
		const struct field *f = field_of(name);
		if (!f)
			return err_set(e, ERR_PEER, "%.60s: unknown field", name);
		if (f->check && !f->check(value))
			return err_set(e, ERR_PEER, "%s: %s", name, f->rule);
		char *path cleanup(free_p) = xasprintf("metadata.annotations[proxy.istio.io/config].%s", name);
		if (!f->check)
			(void)diag_add(warnings, DIAG_WARNING, "no-effect", path, "has no effect here");
	}
	return true;
}

bool yaml_object(const char *yaml, json_t **out, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct documents documents = {0};
	struct diags diags;
	struct strbuf text cleanup(strbuf_done) = {0};
	diags_init(&diags, a);
	(void)yaml_parse(a, str_of(yaml), "", &documents, &diags);
	if (diags.errors)
		return err_set(e, ERR_PEER, "line %u: %.300s", diags.items[0].line, diags.items[0].text);
	if (documents.len == 0) {
		*out = json_object();
		return true;
	}
	node_write_json(documents.items[0], &text);
	json_t *map = json_loads(text.ptr, 0, NULL);
	if (json_is_object(map) && documents.len == 1) {
		*out = map;
		return true;
	}
	json_decref(map);
	return err_set(e, ERR_PEER, "one YAML map is expected");
}

bool config_parse(const char *yaml, json_t **out, struct diags *warnings, struct err *e)
{
	json_t *config = NULL;
	if (!yaml)
		config = json_object();
	if (!config && !yaml_object(yaml, &config, e))
		return err_in(e, "annotation proxy.istio.io/config");
	if (!check_fields(config, warnings, e)) {
		json_decref(config);
		return err_in(e, "annotation proxy.istio.io/config");
	}
	*out = config;
	return true;
}

void config_add_missing(json_t *config, json_t *more)
{
	json_t *own = json_object_get(config, "proxyMetadata"), *theirs = json_object_get(more, "proxyMetadata");
	if (own && theirs)
		(void)json_object_update_missing(own, theirs);
	(void)json_object_update_missing(config, more);
}

bool config_add_defaults(json_t *config, const char *defaults, struct err *e)
{
	json_error_t error;
	json_t *more = json_loads(str_empty(defaults) ? "{}" : defaults, 0, &error);
	bool ok = json_is_object(more);
	if (ok)
		config_add_missing(config, more);
	else
		(void)err_set(e, ERR_PEER, "the default ProxyConfig is not a JSON object");
	json_decref(more);
	return ok;
}
