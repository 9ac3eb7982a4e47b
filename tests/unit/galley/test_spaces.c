/* DOC: The oracle of discovery that is kept up: after any edit, what was published in all equals what a galley publishes that reads the same
 * files from nothing. And how much an edit may publish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/map.h"
#include "common/mesh/kinds.h"
#include "galley/galley.h"
#include "galley/source/directory.h"
#include "tests/unit/slots.h"

#define META(name, ns, more) "metadata: {name: " name ", namespace: " ns more "}\n"
#define ENTRY(name, ns, spec) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n" META(name, ns, "") "spec: {" spec "}\n"
#define HTTP "ports: [{number: 80, name: http, protocol: HTTP}]"
#define WORKLOAD(name, ns, ip, labels) \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n" META(name, ns, "") "spec: {address: " ip \
										       ", labels: {" labels "}}\n"
#define SERVICE(name, ns, spec) \
	"apiVersion: v1\nkind: Service\n" META(name, ns, "") "spec: {" spec ", ports: [{name: http, port: 80}]}\n"
#define POD(name, ns, ip, labels) \
	"apiVersion: v1\nkind: Pod\n" META(name, ns, \
		", labels: {" labels "}") "spec: {serviceAccountName: s, nodeName: n1, containers: [{name: c}]}\n" \
					  "status: {phase: Running, podIP: " ip ", conditions: [{type: Ready, " \
					  "status: \"True\"}]}\n"
#define SLICE(name, ns, service, ip) \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" META(name, ns, \
		", labels: {kubernetes.io/service-name: " service \
		"}") "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: [{addresses: [" ip "]}]\n"
#define MESH(spec) "apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {" spec "}\n"
#define NAMESPACE(name, labels) "apiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {" labels "}}\n"

#define NETWORKS(text) \
	"apiVersion: fairlead.dev/v1\nkind: MeshNetworks\nmetadata: {name: default}\nspec: {networks: {" text "}}\n"

static const struct slot slots[] = {
	{"entry-1.yaml",
		{ENTRY("e1", "a", "hosts: [one.test], resolution: STATIC, workloadSelector: {labels: {app: x}}, " HTTP),
			ENTRY("e1", "a",
				"hosts: [one.test, two.test], resolution: STATIC, endpoints: [{address: "
				"1.1.1.1}], " HTTP),
			ENTRY("e1", "a", "hosts: [two.test], resolution: DNS, " HTTP),
			ENTRY("e1", "a",
				"hosts: [one.test], resolution: STATIC, workloadSelector: {labels: {app: z}}, "
				"exportTo: [\".\"], " HTTP),
			ENTRY("e1", "b", "hosts: [one.test], resolution: NONE, " HTTP), NULL}},
	{"entry-2.yaml", {ENTRY("e2", "a",
				  "hosts: [two.test, k.a.svc.cluster.local], resolution: STATIC, endpoints: [{address: "
				  "2.2.2.2}], " HTTP),
				 ENTRY("e2", "a",
					 "hosts: [one.test], resolution: STATIC, addresses: [10.0.0.9], "
					 "workloadSelector: {labels: {app: x, "
					 "version: v2}}, " HTTP),
				 NULL}},
	{"entry-3.yaml",
		{ENTRY("e3", "b", "hosts: [one.test], resolution: STATIC, workloadSelector: {labels: {app: x}}, " HTTP),
			ENTRY("e3", "b", "hosts: [five.test], resolution: DNS, " HTTP), NULL}},
	{"workload-1.yaml",
		{WORKLOAD("w1", "a", "3.3.3.1", "app: x"), WORKLOAD("w1", "a", "3.3.3.1", "app: z"),
			WORKLOAD("w1", "a", "3.3.3.9", "app: x"), WORKLOAD("w1", "b", "3.3.3.1", "app: x"), NULL}},
	{"workload-2.yaml", {WORKLOAD("w2", "a", "3.3.3.2", "app: x, version: v2"),
				    WORKLOAD("w2", "a", "3.3.3.2", "app: k"), NULL}},
	{"service.yaml", {SERVICE("k", "a", "clusterIP: 10.0.0.1, selector: {app: k}"),
				 SERVICE("k", "a", "clusterIP: 10.0.0.1, selector: {app: x}"),
				 SERVICE("k", "b", "clusterIP: None, selector: {app: k}"),
				 SERVICE("k", "a", "type: ExternalName, externalName: x.test"), NULL}},
	{"pod.yaml", {POD("p", "a", "4.4.4.1", "app: k"), POD("p", "a", "4.4.4.1", "app: x"),
			     POD("p", "b", "4.4.4.1", "app: k"), NULL}},
	{"slice.yaml", {SLICE("k-1", "a", "k", "4.4.4.1"), SLICE("k-1", "a", "k", "4.4.4.2"),
			       SLICE("k-1", "a", "other", "4.4.4.1"), NULL}},
	{"node.yaml",
		{"apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r1}}\n",
			"apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {role: edge}}\n"
			"status: {addresses: [{type: ExternalIP, address: 5.5.5.7}]}\n",
			NULL}},
	{"mesh.yaml", {MESH("defaultServiceExportTo: [\".\"]"), MESH("discoverySelectors: [{matchLabels: {mesh: in}}]"),
			      NULL}},
	{"networks.yaml",
		{NETWORKS("x: {endpoints: [{fromCidr: 3.3.3.0/24}], gateways: [{registryServiceName: "
			  "k.a.svc.cluster.local, port: 1}]}"),
			NETWORKS("x: {endpoints: [{fromRegistry: Kubernetes}], gateways: [{registryServiceName: "
				 "k.a.svc.cluster.local, port: 1}, {address: gw.test, port: 1}]}, net-y: {endpoints: "
				 "[{fromCidr: 3.3.3.1}]}"),
			NULL}},
	{"gateway.yaml",
		{SERVICE("g", "a", "externalIPs: [5.5.5.5]"),
			"apiVersion: v1\nkind: Service\nmetadata: {name: g, namespace: a, labels: "
			"{topology.istio.io/network: net-y, networking.istio.io/gatewayPort: \"80\"}}\nspec: "
			"{externalIPs: [5.5.5.6], ports: [{name: http, port: 80}]}\n",
			"apiVersion: v1\nkind: Service\nmetadata: {name: g, namespace: a, labels: "
			"{topology.istio.io/network: net-y}, annotations: {traffic.istio.io/nodeSelector: "
			"role=edge}}\nspec: {type: NodePort, ports: [{name: tls, port: 15443, nodePort: 31000}]}\n",
			NULL}},
	{"root.yaml", {NAMESPACE("istio-system", "topology.istio.io/network: z"), NAMESPACE("istio-system", "mesh: in"),
			      NULL}},
	{"namespaces.yaml",
		{NAMESPACE("a", "mesh: in"), NAMESPACE("a", "mesh: out") "---\n" NAMESPACE("b", "mesh: in"), NULL}},
};

static void put_slot(struct galley *g, size_t slot, size_t variant)
{
	if (variant == n_variants(&slots[slot]))
		galley_remove(g, str_of(slots[slot].file));
	else
		galley_put(g, str_of(slots[slot].file), str_of(slots[slot].variants[variant]));
}

/* What was published, by "topic/key". */
static size_t take_changes(struct galley *g, struct map *all)
{
	size_t n;
	const struct bus_change *changes = galley_commit(g, &n);

	for (size_t i = 0; i < n; i++) {
		const struct bus_change *c = &changes[i];
		cleanup(free_p) char *id = xasprintf("%u/" STR_FMT, c->topic, STR_ARG(c->key));
		struct strbuf *value = c->value.ptr ? xzalloc(sizeof(*value)) : NULL;
		struct strbuf *old;

		if (value)
			strbuf_add(value, c->value);
		old = value ? map_put(all, str_of(id), value) : map_del(all, str_of(id));
		if (old)
			strbuf_done(old);
		free(old);
	}
	return n;
}

static void forget(struct map *all)
{
	struct str key;
	void *value;

	for (size_t i = 0; map_next(all, &i, &key, &value);) {
		strbuf_done(value);
		free(value);
	}
	map_free(all);
}

static void compare_with_fresh(const struct map *grown, const struct galley *g, const size_t *variants)
{
	struct galley *fresh = galley_new(NULL);
	struct map *all = map_new();
	struct str key;
	void *value;

	for (size_t i = 0; i < ARRAY_LEN(slots); i++)
		if (variants[i] < n_variants(&slots[i]))
			put_slot(fresh, i, variants[i]);
	(void)take_changes(fresh, all);
	for (size_t i = 0; map_next(all, &i, &key, &value);) {
		const struct strbuf *other = map_get(grown, key);

		if (!other || !str_eq(strbuf_str(other), strbuf_str(value)))
			fail_msg(STR_FMT " %s", STR_ARG(key), other ? "differs" : "is not there");
	}
	assert_int_equal(map_len(grown), map_len(all));
	const struct galley_counts x = galley_counts(g), y = galley_counts(fresh);
	assert_memory_equal(&x, &y, sizeof(x));
	forget(all);
	galley_free(fresh);
}

static void kept_up_equals_made_from_nothing(void **state)
{
	struct galley *g = galley_new(NULL);
	struct map *all = map_new();
	size_t variants[ARRAY_LEN(slots)];
	uint32_t seed = 20261127;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(slots); i++)
		variants[i] = n_variants(&slots[i]);
	for (unsigned step = 0; step < 1500; step++) {
		for (uint32_t edits = 1 + next_random(&seed) % 3; edits; edits--) {
			size_t slot = next_random(&seed) % ARRAY_LEN(slots);

			variants[slot] = next_random(&seed) % (n_variants(&slots[slot]) + 1);
			put_slot(g, slot, variants[slot]);
		}
		(void)take_changes(g, all);
		compare_with_fresh(all, g, variants);
	}
	forget(all);
	galley_free(g);
}

/* What a change of one workload publishes is the set of endpoints that it is in. */
static void a_workload_publishes_its_endpoints(void **state)
{
	struct galley *g = galley_new(NULL);
	struct map *all = map_new();

	(void)state;
	galley_put(g, STR("e.yaml"),
		str_of(ENTRY("e", "a",
			"hosts: [one.test], resolution: STATIC, workloadSelector: {labels: {app: x}}, " HTTP)));
	galley_put(g, STR("f.yaml"),
		str_of(ENTRY("f", "a",
			"hosts: [two.test], resolution: STATIC, workloadSelector: {labels: {app: z}}, " HTTP)));
	(void)take_changes(g, all);
	for (unsigned i = 0; i < 100; i++) { /* more often than what is replaced is kept */
		galley_put(g, STR("w.yaml"),
			i % 2 ? str_of(WORKLOAD("w", "a", "3.3.3.1", "app: x"))
			      : str_of(WORKLOAD("w", "a", "3.3.3.2", "app: x")));
		assert_int_equal(take_changes(g, all), 1);
		assert_int_equal(galley_counts(g).endpoints, 1);
	}
	galley_put(g, STR("w.yaml"), str_of(WORKLOAD("w", "a", "3.3.3.2", "app: z")));
	assert_int_equal(take_changes(g, all), 2);
	galley_remove(g, STR("w.yaml"));
	assert_int_equal(take_changes(g, all), 1);
	forget(all);
	galley_free(g);
}

#define MANY 200

/* Files that are read side by side are put as if each had been read when it was put; a broken one says so. */
static void read_ahead_is_read_one_by_one(void **state)
{
	struct galley *one = galley_new(NULL), *ahead = galley_new(NULL);
	struct map *x = map_new(), *y = map_new();
	struct arena *a = arena_new();
	struct source_text *files = ARENA_ARRAY(a, struct source_text, MANY);
	struct diags diags;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		files[i].file = str_of(arena_printf(a, "%u.yaml", i));
		files[i].text = i == 7 ? STR("kind: [")
				       : str_of(arena_printf(a,
						 ENTRY("e%u", "a", "hosts: [h%u.test], resolution: DNS, " HTTP), i, i));
	}
	galley_ahead(ahead, files, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		galley_put(one, files[i].file, files[i].text);
		galley_put(ahead, files[i].file, files[i].text);
	}
	assert_int_equal(take_changes(one, x), take_changes(ahead, y));
	assert_int_equal(map_len(x), 1 + 2 * (MANY - 1));
	struct str key;
	void *value;
	for (size_t i = 0; map_next(x, &i, &key, &value);)
		assert_true(str_eq(strbuf_str(value), strbuf_str(map_get(y, key))));
	diags_init(&diags, a);
	galley_diags(ahead, &diags);
	assert_int_equal(diags.errors, 1);
	forget(x);
	forget(y);
	galley_free(one);
	galley_ahead(ahead, files, MANY); /* and what is never put is freed */
	galley_free(ahead);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept_up_equals_made_from_nothing),
		cmocka_unit_test(a_workload_publishes_its_endpoints),
		cmocka_unit_test(read_ahead_is_read_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
