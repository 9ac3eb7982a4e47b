/*
 * DOC: Whatever a pilot reports of a workload, or a file of the last run holds, each document that comes of it is one JSON object with a name. The
 * first line of a seed is the report's key; the rest is its value, and the file.
 */
#include <jansson.h>
#include <stdlib.h>

#include "common/mesh/kinds.h"
#include "galley/registration.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char group[] =
	"{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"WorkloadGroup\",\"metadata\":{\"name\":\"billing\","
	"\"namespace\":\"vms\"},\"spec\":{\"metadata\":{\"labels\":{\"app\":\"billing\"}},\"template\":{\"ports\":{"
	"\"http\":8080}}}}";

/* What a report makes; what a file says is stored as it is, and read by galley like any other. */
static void on_put(void *ctx, const char *ns, const char *name, const char *document)
{
	json_t *j = json_loads(document, 0, NULL);
	if (*(bool *)ctx && (!json_is_object(j) || !*name || !*ns || !json_is_object(json_object_get(j, "spec"))))
		abort();
	json_decref(j);
}

static void on_remove(void *ctx, const char *ns, const char *name)
{
	(void)ctx;
	if (!*ns && !*name)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct registration_ops ops = {on_put, on_remove};
	struct str key, rest = str_n((const char *)data, size);
	struct strbuf json cleanup(strbuf_done) = {0};
	struct err e = {0};
	size_t n;
	bool reported = true;
	if (!str_split(&rest, '\n', &key))
		return 0;
	struct galley *g = galley_new(&(struct galley_options){0});
	struct registrations *r = registrations_new(&ops, &reported);
	galley_put(g, STR("group"), STR(group));
	(void)galley_commit(g, &n);
	galley_release(g);
	const struct bus_change c = {.topic = TOPIC_STATUS, .key = key, .value = rest};
	(void)registrations_report(r, &c, 1);
	registrations_sync(r, g, 2);
	reported = false;
	(void)!registrations_load(r, rest, 3, &e);
	registrations_save(r, &json);
	registrations_debug(r, &json);
	registrations_sync(r, g, UINT64_C(1) << 40); /* nobody vouches any more */
	registrations_free(r);
	galley_free(g);
	return 0;
}
