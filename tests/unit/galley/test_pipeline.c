/* DOC: The pipeline over several commits: what stays in force, what is published, and that nothing is published twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cfg/model.pb-c.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "galley/galley.h"

#define DR(name, host) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name "}\nspec: {host: " host \
	"}\n"
#define BAD_DR(name) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name "}\nspec: {hots: x}\n"
#define SE(name, host) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name "}\nspec: {hosts: [" host \
	"], resolution: DNS, " \
	"ports: [{number: 80, name: http, protocol: HTTP}]}\n"

static int setup(void **state)
{
	*state = galley_new(NULL);
	size_t n;
	(void)galley_commit(*state, &n);
	return n == 1 ? 0 : -1; /* the default mesh config */
}

static int teardown(void **state)
{
	galley_free(*state);
	return 0;
}

static void put(struct galley *g, const char *file, const char *text)
{
	galley_put(g, str_of(file), str_of(text));
}

static const struct bus_change *only_change(struct galley *g, uint32_t topic, const char *key)
{
	size_t n;
	const struct bus_change *c = galley_commit(g, &n);
	assert_int_equal(n, 1);
	assert_int_equal(c->topic, topic);
	assert_true(str_eqc(c->key, key));
	return c;
}

static void no_change(struct galley *g)
{
	size_t n;
	(void)galley_commit(g, &n);
	assert_int_equal(n, 0);
}

static bool has_diag(const struct galley *g, const char *rule, const char *file)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags diags;
	bool found = false;
	diags_init(&diags, a);
	galley_diags(g, &diags);
	for (size_t i = 0; i < diags.len; i++)
		found |= streq(diags.items[i].rule, rule) && streq(diags.items[i].file, file);
	return found;
}

static void G22_bad_object_harms_no_good_one(void **state)
{
	put(*state, "a.yaml", DR("one", "a") "---\n" BAD_DR("two") "---\n" DR("three", "c"));
	size_t n;
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 2);
	assert_true(has_diag(*state, "unknown-field", "a.yaml"));
	assert_int_equal(galley_counts(*state).quarantined, 1);
}

/* The limit on diagnostics is one document's: a file with many of them let the bad documents at its end pass. */
static void G22_many_bad_documents_before_it_do_not_let_a_bad_one_pass(void **state)
{
	cleanup(strbuf_done) struct strbuf text = {0};
	size_t n;

	for (unsigned i = 0; i < 300; i++)
		strbuf_adds(&text, BAD_DR("bad") "---\n");
	strbuf_adds(&text, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: last}\n"
			   "spec: {hosts: [a], http: [{timeout: -1s, route: [{destination: {host: a}}]}]}\n");
	put(*state, "many.yaml", text.ptr);
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 0);
	assert_int_equal(galley_counts(*state).objects, 0);
	assert_true(has_diag(*state, "duration", "many.yaml"));
}

static void last_good_version_stays_while_the_newest_is_bad(void **state)
{
	put(*state, "a.yaml", DR("one", "a"));
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	put(*state, "a.yaml", BAD_DR("one"));
	no_change(*state);
	assert_int_equal(galley_counts(*state).quarantined, 1);
	put(*state, "a.yaml", DR("one", "a"));
	no_change(*state); /* the same content again */
	assert_int_equal(galley_counts(*state).quarantined, 0);
	galley_remove(*state, STR("a.yaml"));
	assert_null(only_change(*state, TOPIC_DESTINATION_RULE, "default/one")->value.ptr);
}

static void file_that_does_not_parse_keeps_its_objects(void **state)
{
	size_t n;
	put(*state, "a.yaml", DR("one", "a") "---\n" DR("two", "b"));
	(void)galley_commit(*state, &n);
	put(*state, "a.yaml", DR("one", "changed") "---\n{unclosed: [\n");
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	assert_true(has_diag(*state, "yaml-syntax", "a.yaml"));
	put(*state, "a.yaml", "{unclosed: [\n"); /* still held over a second bad version */
	no_change(*state);
	put(*state, "a.yaml", DR("one", "changed"));
	assert_null(only_change(*state, TOPIC_DESTINATION_RULE, "default/two")->value.ptr);
}

static void first_definition_counts_and_the_other_is_named(void **state)
{
	put(*state, "b.yaml", DR("one", "b"));
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	put(*state, "a.yaml", DR("one", "a")); /* comes first by name */
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	assert_true(has_diag(*state, "duplicate-object", "b.yaml"));
	galley_remove(*state, STR("a.yaml"));
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	assert_false(has_diag(*state, "duplicate-object", "b.yaml"));
}

static void only_content_is_published(void **state)
{
	put(*state, "a.yaml", DR("one", "a"));
	uint64_t hash = only_change(*state, TOPIC_DESTINATION_RULE, "default/one")->hash;
	put(*state, "a.yaml", "# a comment moves the line\n" DR("one", "a.default.svc.cluster.local"));
	no_change(*state);
	struct galley *restarted = galley_new(NULL);
	size_t n;
	galley_put(restarted, STR("other.yaml"), STR(DR("one", "a")));
	const struct bus_change *c = galley_commit(restarted, &n);
	assert_int_equal(n, 2);
	for (size_t i = 0; i < n; i++)
		if (c[i].topic == TOPIC_DESTINATION_RULE)
			assert_true(c[i].hash == hash);
	galley_free(restarted);
}

static void G02_versions_of_the_api_are_one_form(void **state)
{
	put(*state, "a.yaml", DR("one", "a"));
	(void)only_change(*state, TOPIC_DESTINATION_RULE, "default/one");
	put(*state, "a.yaml",
		"apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: one}\nspec: {host: "
		"A}\n");
	no_change(*state);
}

static void mesh_config_changes_what_takes_its_defaults(void **state)
{
	size_t n;
	put(*state, "a.yaml", DR("one", "a") "---\n" SE("two", "two.example"));
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 3);
	put(*state, "m.yaml",
		"apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: "
		"{defaultDestinationRuleExportTo: ['.']}\n");
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 2); /* the mesh config and the rule, not the service */
	galley_remove(*state, STR("m.yaml"));
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 2);
}

static char *auto_address(const struct bus_change *changes, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++) {
		if (changes[i].topic != TOPIC_SERVICE || !str_eqc(changes[i].key, key))
			continue;
		cleanup(arena_free_p) struct arena *a = arena_new();
		const Fl__Service *s = PB_UNPACK(
			a, Fl__Service, fl__service, changes[i].value.ptr, changes[i].value.len, NULL);
		assert_non_null(s);
		return xstrdup(s->auto_address);
	}
	return NULL;
}

static void allocated_addresses_do_not_depend_on_history(void **state)
{
	size_t n;
	put(*state, "a.yaml", SE("a", "a.example"));
	const struct bus_change *c = galley_commit(*state, &n);
	char *first = auto_address(c, n, "default/a.example");
	assert_non_null(first);
	assert_true(str_starts(str_of(first), STR("240.240.")));
	put(*state, "b.yaml", SE("b", "b.example"));
	c = galley_commit(*state, &n);
	assert_int_equal(n, 2); /* b's service and endpoints; a keeps its address */
	char *second = auto_address(c, n, "default/b.example");
	assert_non_null(second);
	assert_string_not_equal(first, second);
	struct galley *other = galley_new(NULL);
	galley_put(other, STR("b.yaml"), STR(SE("b", "b.example") "---\n" SE("a", "a.example")));
	c = galley_commit(other, &n);
	char *again = auto_address(c, n, "default/a.example");
	assert_string_equal(first, again);
	free(first);
	free(second);
	free(again);
	galley_free(other);
}

#define POD(name, ip, ready) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", labels: {app: a}}\nstatus: {podIP: " ip \
	", conditions: [{type: Ready, status: \"" ready "\"}]}\n"

static void pod_changes_publish_one_endpoint_set(void **state)
{
	size_t n;
	put(*state, "s.yaml",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1, selector: {app: a}, "
		"ports: [{port: 80}]}\n---\n"
		"apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {clusterIP: 10.96.0.2, selector: {app: b}, "
		"ports: [{port: 80}]}\n");
	put(*state, "p.yaml", POD("a1", "10.0.0.1", "True"));
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 4);
	put(*state, "p.yaml", POD("a1", "10.0.0.1", "False"));
	(void)only_change(*state, TOPIC_ENDPOINTS, "default/a.default.svc.cluster.local");
	put(*state, "p.yaml", POD("a1", "10.0.0.1", "False") "---\n" POD("a2", "10.0.0.2", "True"));
	const struct bus_change *c = only_change(*state, TOPIC_ENDPOINTS, "default/a.default.svc.cluster.local");
	cleanup(arena_free_p) struct arena *a = arena_new();
	const Fl__EndpointSet *set = PB_UNPACK(a, Fl__EndpointSet, fl__endpoint_set, c->value.ptr, c->value.len, NULL);
	assert_non_null(set);
	assert_int_equal(set->n_endpoints, 2);
	assert_int_equal(set->endpoints[0]->health, FL__HEALTH__UNHEALTHY);
	galley_remove(*state, STR("s.yaml"));
	(void)galley_commit(*state, &n);
	assert_int_equal(n, 4); /* both services and both endpoint sets go */
}

static void files_being_written_do_not_look_whole(void **state)
{
	put(*state, "a.yaml", DR("one", "a"));
	assert_true(galley_looks_whole(*state, STR("a.yaml"), STR(DR("one", "b"))));
	assert_false(galley_looks_whole(*state, STR("a.yaml"), STR("")));
	assert_false(galley_looks_whole(*state, STR("a.yaml"), STR("# only a comment so far\n")));
	assert_false(galley_looks_whole(*state, STR("a.yaml"), STR("spec: [")));
	assert_true(galley_looks_whole(*state, STR("new.yaml"), STR("")));
}

#define NS(name, labels) "apiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {" labels "}}\n"
#define MESH(spec) "apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {" spec "}\n"
#define IN(ns) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x, namespace: " ns \
	"}\nspec: {host: a.example.com}\n"

/* How many of the last commit's changes of a topic put something there, and how many took it away. */
static void assert_changes(struct galley *g, uint32_t topic, size_t put_wanted, size_t gone_wanted)
{
	size_t n, put_found = 0, gone_found = 0;
	const struct bus_change *c = galley_commit(g, &n);
	for (size_t i = 0; i < n; i++) {
		put_found += c[i].topic == topic && c[i].value.ptr;
		gone_found += c[i].topic == topic && !c[i].value.ptr;
	}
	assert_int_equal(put_found, put_wanted);
	assert_int_equal(gone_found, gone_wanted);
}

static void P93_discovery_selectors_choose_namespaces_at_run_time(void **state)
{
	put(*state, "a.yaml",
		NS("in", "mesh: this") "---\n" NS("out", "mesh: that") "---\n" IN("in") "---\n" IN("out") "---\n" IN(
			"istio-system"));
	assert_changes(*state, TOPIC_DESTINATION_RULE, 3, 0);
	put(*state, "mesh.yaml", MESH("discoverySelectors: [{matchLabels: {mesh: this}}]"));
	assert_changes(*state, TOPIC_DESTINATION_RULE, 0, 1);
	/* A namespace comes by its label, and goes. */
	put(*state, "a.yaml",
		NS("in", "mesh: that") "---\n" NS("out", "mesh: this") "---\n" IN("in") "---\n" IN("out") "---\n" IN(
			"istio-system"));
	assert_changes(*state, TOPIC_DESTINATION_RULE, 1, 1);
	put(*state, "mesh.yaml",
		MESH("discoverySelectors: [{matchExpressions: [{key: mesh, operator: NotIn, values: [that]}]}, "
		     "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [in]}]}]"));
	assert_changes(*state, TOPIC_DESTINATION_RULE, 1, 0);
	galley_remove(*state, STR("mesh.yaml"));
	assert_changes(*state, TOPIC_DESTINATION_RULE, 0, 0);
	no_change(*state);
}

static void P93_services_of_other_namespaces_are_not_published(void **state)
{
	put(*state, "mesh.yaml", MESH("discoverySelectors: [{matchLabels: {mesh: this}}]"));
	put(*state, "a.yaml", SE("one", "one.example.com"));
	assert_changes(*state, TOPIC_SERVICE, 0, 0);
	put(*state, "b.yaml", NS("default", "mesh: this"));
	assert_changes(*state, TOPIC_SERVICE, 1, 0);
	put(*state, "b.yaml", NS("default", "mesh: that"));
	assert_changes(*state, TOPIC_SERVICE, 0, 1);
}

/* Wrong or not, what another control plane reads is no business of this one; a Namespace's label says something else. */
static void G07_an_object_of_another_revision_is_not_read(void **state)
{
#define REV(rev, spec) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, labels: {istio.io/rev: " rev \
	"}}\nspec: {" spec "}\n"
	struct galley *g = galley_new(&(struct galley_options){.revision = "default"});
	size_t n;
	(void)galley_commit(g, &n);
	put(g, "a.yaml", REV("default", "host: a"));
	assert_true(only_change(g, TOPIC_DESTINATION_RULE, "default/a")->value.ptr != NULL);
	put(g, "a.yaml", REV("canary", "host: a"));
	assert_true(only_change(g, TOPIC_DESTINATION_RULE, "default/a")->value.ptr == NULL);
	put(g, "a.yaml", REV("canary", "hots: a, metadata: x"));
	no_change(g);
	assert_int_equal(galley_counts(g).quarantined, 0);
	assert_int_equal(galley_counts(g).foreign, 1);
	assert_false(has_diag(g, "unknown-field", "a.yaml"));
	put(g, "b.yaml", DR("b", "b"));
	assert_true(only_change(g, TOPIC_DESTINATION_RULE, "default/b")->value.ptr != NULL);
	put(g, "c.yaml", NS("shop", "istio.io/rev: canary"));
	(void)galley_commit(g, &n);
	assert_int_equal(n, 1);
	galley_free(g);
	put(*state, "a.yaml", REV("canary", "host: a")); /* without an own revision all are read */
	assert_true(only_change(*state, TOPIC_DESTINATION_RULE, "default/a")->value.ptr != NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(G22_bad_object_harms_no_good_one),
		CASE(G22_many_bad_documents_before_it_do_not_let_a_bad_one_pass),
		CASE(last_good_version_stays_while_the_newest_is_bad),
		CASE(file_that_does_not_parse_keeps_its_objects),
		CASE(first_definition_counts_and_the_other_is_named),
		CASE(only_content_is_published),
		CASE(G02_versions_of_the_api_are_one_form),
		CASE(mesh_config_changes_what_takes_its_defaults),
		CASE(allocated_addresses_do_not_depend_on_history),
		CASE(pod_changes_publish_one_endpoint_set),
		CASE(P93_discovery_selectors_choose_namespaces_at_run_time),
		CASE(P93_services_of_other_namespaces_are_not_published),
		CASE(G07_an_object_of_another_revision_is_not_read),
		CASE(files_being_written_do_not_look_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
