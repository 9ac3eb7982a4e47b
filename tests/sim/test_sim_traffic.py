"""Behaviour of Sidecar, ServiceEntry, DestinationRule and Gateway by the simulator; see test_sim.py."""
import json
import pathlib

import pytest

from test_sim import GOLDEN, HOST, MESH_ALPN, REVIEWS, Mesh, cluster, mesh, route  # noqa: F401 (mesh is a fixture)


def case(name):
    return (GOLDEN / f"{name}.in.yaml").read_text()


def service(name, ns="default", ip="10.96.3.1", ports="[{name: http, port: 9080}]"):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {ns}}}
spec: {{clusterIP: {ip}, selector: {{app: {name}}}, ports: {ports}}}
---
"""


def sidecar(spec, ns="default", name="default"):
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {ns}}}
spec: {spec}
---
"""


def fqdn(name, ns="default"):
    return f"{name}.{ns}.svc.cluster.local"


# ---- Sidecar
def test_P62_an_egress_port_knows_its_own_hosts_and_the_catch_all_has_the_rest(mesh):
    m = mesh(case("sidecar/P62-egress-ports-and-catch-all"))
    assert m.to(authority="reviews") == {cluster(): 100}
    assert m.to(authority="productpage", dst="10.96.1.11:9080") == {"PassthroughCluster": 100}
    far80 = m.ask(dst="10.96.3.1:80", authority="far.other")
    assert (far80["result"], far80["clusters"]) == ("tcp", {cluster(port=80, host=fqdn("far", "other")): 100})
    assert m.to(dst="10.96.3.2:80", authority="near") == {"PassthroughCluster": 100}
    assert m.to(dst="10.96.3.2:3306", http=False) == {cluster(port=3306, host=fqdn("near")): 100}
    assert m.to(dst="10.96.3.1:3306", http=False) == {"PassthroughCluster": 100}


def test_P62_without_a_catch_all_other_ports_know_nobody(mesh):
    m = mesh(sidecar('{egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ["*/*"]}]}'))
    assert m.to(authority="reviews") == {"PassthroughCluster": 100}


@pytest.mark.parametrize("host,seen", [("far.other", True), ("hidden.other", False), ("reviews", False), ("productpage", True)])
def test_P62_excluded_hosts_are_not_seen(mesh, host, seen):
    m = mesh(case("sidecar/P62-egress-exclusion"))
    assert (m.to(authority=host) != {"PassthroughCluster": 100}) == seen


def test_P62_bound_listeners(mesh):
    m = mesh(case("sidecar/P62-egress-bound-listeners"))
    assert m.to(dst="127.0.0.1:9080", authority="reviews") == {cluster(): 100}
    assert m.to(dst="127.0.0.1:9080", authority="productpage") == {"PassthroughCluster": 100}
    assert m.to(dst="127.0.0.2:3000", http=False) == {cluster(port=27017, host="db.example.com"): 100}
    assert m.to(dst="172.16.1.32:443", tls=True, sni="two.example.com", http=False) == {
        cluster(port=443, host="two.example.com"): 100}
    bound = {r["name"]: r.get("bindToPort", True) for r in m.resources["lds"]}
    assert (bound["127.0.0.1_9080"], bound["127.0.0.2_3000"], bound["172.16.1.32_443"]) == (True, True, False)


def test_P62_without_capture_services_are_reached_on_the_loopback(mesh):
    m = mesh("", node=GOLDEN / "sidecar/P62-without-capture.node.json")
    assert m.to(dst="127.0.0.1:9080", authority="reviews") == {cluster(): 100}
    assert {r["name"] for r in m.resources["lds"]} == {"127.0.0.1_9080"}
    assert all(r.get("bindToPort", True) for r in m.resources["lds"])


def endpoint(m, name):
    found = next(c for c in m.resources["cds"] if c["name"] == name)
    return found["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]


def test_P63_ingress_listeners_replace_what_services_say(mesh):
    m = mesh(case("sidecar/P63-ingress-listeners"))
    assert m.to(inbound=True, dst="10.88.1.11:9080", tls=True, alpn=MESH_ALPN) == {"inbound|9080||": 100}
    assert m.ask(inbound=True, dst="10.88.1.11:9080")["result"] == "closed"  # STRICT
    assert endpoint(m, "inbound|9080||")["socketAddress"] == {"address": "127.0.0.1", "portValue": 9081}
    assert endpoint(m, "inbound|9090||")["socketAddress"] == {"address": "10.88.1.11", "portValue": 9091}
    assert endpoint(m, "inbound|9100||")["pipe"] == {"path": "/var/run/app.sock"}
    got = m.ask(inbound=True, dst="10.88.1.11:8443", tls=True, alpn=["h2"], sni="any")
    assert (got["result"], got["clusters"], got["mtls"]) == ("http", {"inbound|8443||": 100}, True)
    assert m.ask(inbound=True, dst="10.88.1.11:8443")["result"] == "closed"


def test_P63_limits_of_the_listener_before_the_sidecars_before_the_rules(mesh):
    def limits(m, port):
        found = next(c for c in m.resources["cds"] if c["name"] == f"inbound|{port}||")
        t = found["circuitBreakers"]["thresholds"][0]
        return t["maxConnections"], t["maxRequests"]

    m = mesh(case("sidecar/P63-ingress-listeners"))
    assert limits(m, 8443) == (3, 4294967295)
    assert limits(m, 9080) == (9, 8)
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: productpage, namespace: default}
spec: {host: productpage, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}, http: {http2MaxRequests: 6}}}}
"""
    assert limits(mesh(rule), 9080) == (5, 6)


def test_P64_unknown_destinations_go_to_the_egress_proxy(mesh):
    m = mesh(case("sidecar/P64-egress-proxy"))
    name = cluster("near", 3128, "egress.example.com")
    assert m.to(authority="nobody.example") == {name: 100}
    assert m.to(dst="192.0.2.1:12345", http=False) == {name: 100}
    assert m.to(authority="reviews") == {cluster(): 100}


def test_P65_workload_before_namespace_before_root(mesh):
    def only(host, ns="default", name="s", selector=""):
        return sidecar(f'{{{selector} egress: [{{hosts: ["*/{host}"]}}]}}', ns, name)

    far = service("far", "other")
    root = only(fqdn("far", "other"), "istio-system", "root")
    ns = only(fqdn("productpage"), name="ns")
    workload = only(HOST, name="workload", selector="workloadSelector: {labels: {app: productpage}},")
    other = only("nothing.example.com", name="aaa", selector="workloadSelector: {labels: {app: other}},")

    def seen(yaml):
        m = mesh(far + yaml)
        return [h for h in ("reviews", "productpage", "far.other") if m.to(authority=h) != {"PassthroughCluster": 100}]

    assert seen("") == ["reviews", "productpage", "far.other"]
    assert seen(root) == ["far.other"]
    assert seen(root + ns) == ["productpage"]
    assert seen(root + ns + workload + other) == ["reviews"]


def test_P65_the_root_namespaces_dot_is_each_proxys_own_namespace(mesh):
    m = mesh(case("sidecar/P65-root-default-means-own-namespace"))
    assert m.to(authority="reviews") == {cluster(): 100}
    assert m.to(authority="far.other") == {"PassthroughCluster": 100}


# ---- mesh config
def test_P118_ports_of_the_proxy(mesh):
    m = mesh(case("mesh/P118-ports-of-the-proxy"))
    ports = {r["name"]: r["address"]["socketAddress"]["portValue"] for r in m.resources["lds"]}
    assert (ports["virtualOutbound"], ports["virtualInbound"]) == (16001, 16006)
    assert m.to(inbound=True, dst="10.88.1.11:16006", http=False) == {"BlackHoleCluster": 100}
    assert m.to(dst="127.0.0.1:15007", authority="reviews:9080") == {cluster(): 100}


def test_P119_inbound_to_the_loopback(mesh):
    m = mesh(case("mesh/P119-inbound-localhost"))
    assert endpoint(m, "inbound|9080||")["socketAddress"] == {"address": "127.0.0.1", "portValue": 9080}


def test_P120_names_in_statistics(mesh):
    names = {c["name"]: c.get("altStatName") for c in mesh(case("mesh/P120-cluster-names-in-statistics")).resources["cds"]}
    assert names["inbound|9080||"] == "productpage.default_9080"
    assert names[cluster()] == f"{HOST}_http__8000_%OTHER%"


# ---- hosts by name
def filters(m, listener):
    found = next(r for r in m.resources["lds"] if r["name"] == listener)
    return [[f["name"].rsplit(".", 1)[1] for f in c["filters"]] for c in found["filterChains"]]


def test_P54_wildcard_hosts_by_host_header_and_by_server_name(mesh):
    m = mesh(case("services/P54-dynamic-dns"))
    for host in ("a.example.com", "a.example.com:80"):
        assert m.to(dst="192.0.2.9:80", authority=host) == {cluster(port=80, host="*.example.com"): 100}
    assert m.to(dst="192.0.2.9:80", authority="a.example.org") == {"PassthroughCluster": 100}
    assert m.to(dst="192.0.2.9:443", tls=True, sni="a.example.com", http=False) == {cluster(port=443, host="*.example.com"): 100}
    assert filters(m, "0.0.0.0_443") == [["sni_dynamic_forward_proxy", "tcp_proxy"]]
    assert "dynamic_forward_proxy" in json.dumps(next(r for r in m.resources["lds"] if r["name"] == "0.0.0.0_80"))
    assert "dynamic_forward_proxy" not in json.dumps(mesh().resources)


def test_P64_unknown_hosts_by_name_but_other_traffic_passes(mesh):
    m = mesh(case("mesh/P64-allow-any-dynamic-dns"))
    assert m.to(authority="nobody.example") == {"AllowAnyDynamicDNSCluster": 100}
    assert m.to(dst="192.0.2.1:12345", http=False) == {"PassthroughCluster": 100}
    assert m.to(dst="192.0.2.1:12345", authority="nobody.example") == {"AllowAnyDynamicDNSCluster": 100}
    found = next(c for c in m.resources["cds"] if c["name"] == "AllowAnyDynamicDNSCluster")
    assert found["transportSocket"]["name"] == "envoy.transport_sockets.tls"


# ---- gateways
def test_P46_servers_by_address_and_protocol(mesh):
    m = mesh(case("gateway/P46-bind-protocols-and-sockets"), node="gateway")
    reviews, productpage = {cluster(): 100}, {cluster(host=fqdn("productpage")): 100}
    assert m.to(dst="10.88.1.2:8080", authority="one.example.com") == reviews
    assert m.ask(dst="10.88.1.2:8080", authority="two.example.com")["status"] == 404
    assert m.to(dst="127.0.0.1:8080", authority="two.example.com") == productpage
    assert m.to(dst="unix:///var/run/gw.sock:0", authority="one.example.com") == reviews
    assert m.to(dst="10.88.1.2:3306", http=False) == productpage
    assert m.to(dst="10.88.1.2:27017", http=False) == productpage


@pytest.mark.parametrize("sni,result,target", [
    ("simple.example.com", "http", cluster()), ("mutual.example.com", "http", cluster()), ("optional.example.com", "http", cluster()),
    ("istio.example.com", "http", cluster()), ("versions.example.com", "http", cluster()), ("pass.example.com", "tcp", cluster()),
    ("tcp.example.com", "tcp", cluster(host=fqdn("productpage"))), ("other.example.com", "closed", None)])
def test_P48_tls_modes(mesh, sni, result, target):
    m = mesh(case("gateway/P48-tls-modes-with-files"), node="gateway")
    got = m.ask(dst="10.88.1.2:443", tls=True, sni=sni, authority=sni, alpn=["h2"])
    assert got["result"] == result
    assert list(got.get("clusters", [])) == ([target] if target else [])


def test_P48_auto_passthrough_has_a_cluster_for_every_server_name(mesh):
    m = mesh(case("gateway/P48-tls-modes-with-files"), node="gateway")
    assert filters(m, "0.0.0.0_15443") == [["sni_cluster", "tcp_proxy"]]
    found = next(c for c in m.resources["cds"] if c["name"] == f"outbound_.9080_._.{HOST}")
    assert found["edsClusterConfig"]["serviceName"] == found["name"], "Envoy asks once for a name, and a second cluster would wait for ever"
    assert "transportSocket" not in found and "transportSocketMatches" not in found


def test_P49_only_servers_whose_certificates_are_there(mesh):
    m = mesh(case("gateway/P49-credentials"), node="gateway")
    names = [c["filterChainMatch"]["serverNames"][0].split(".")[0] for c in m.resources["lds"][0]["filterChains"]]
    assert names == ["simple", "two", "mutual", "whole", "own-ca"]
    assert all("[redacted]" in json.dumps(s) for s in m.resources["sds"] if "tlsCertificate" in s)
    assert "PRIVATE" not in json.dumps(m.resources)


def test_P50_a_host_of_two_gateways_stays_with_the_older(mesh):
    m = mesh(case("gateway/P50-merging-and-server-name-conflicts"), node="gateway")
    def routes(host):
        got = m.ask(dst="10.88.1.2:443", tls=True, sni=host, authority=host)
        return got.get("routes"), got.get("clusters")
    assert routes("both.example.com") == ("https.443.a.older.default", {cluster(): 100})
    assert routes("a.example.com") == ("https.443.a.older.default", {cluster(): 100})
    assert routes("b.example.com") == ("https.443.b.newer.default", {cluster(): 100})
    for host in ("a.example.com", "b.example.com"):
        assert m.to(dst="10.88.1.2:80", authority=host) == {cluster(): 100}
    assert [r["name"] for r in m.resources["lds"]] == ["0.0.0.0_443", "0.0.0.0_80", "0.0.0.0_8443"]


def tls_of(cluster_or_chain):
    return cluster_or_chain["transportSocket"]["typedConfig"]["commonTlsContext"]


def test_P123_tls_of_the_mesh_and_elsewhere(mesh):
    m = mesh(case("mesh/P123-tls-of-the-mesh"))
    inbound = next(r for r in m.resources["lds"] if r["name"] == "virtualInbound")
    mutual = next(c for c in inbound["filterChains"] if "transportSocket" in c)
    assert tls_of(mutual)["tlsParams"]["tlsMinimumProtocolVersion"] == "TLSv1_3"
    simple = tls_of(next(c for c in m.resources["cds"] if c["name"] == cluster()))
    assert simple["tlsParams"]["ecdhCurves"] == ["P-256"]
    assert "validationContext" not in simple


# ---- destination rules
def found(m, name=cluster(), kind="cds"):
    return next(r for r in m.resources[kind] if (r.get("clusterName") or r["name"]) == name)


def connections(m, name):
    return found(m, name)["circuitBreakers"]["thresholds"][0]["maxConnections"]


def rule(spec, name="reviews", ns="default"):
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {ns}}}
spec: {spec}
---
"""


def test_P27_client_namespace_before_service_before_root_and_merged(mesh):
    m = mesh(case("destination_rule/P27-lookup-and-merge"))
    assert connections(m, cluster()) == 4  # of the client's namespace, the older rule's
    assert connections(m, cluster(host=fqdn("far", "other"))) == 2  # of the service's
    assert connections(m, cluster(host=fqdn("farther", "other"))) == 1  # of the root namespace, by wildcard
    assert {c["name"].split("|")[2] for c in m.resources["cds"] if c["name"].endswith(HOST)} == {"", "v1", "v2"}
    assert len(found(m, cluster("v1"), "eds")["endpoints"]) == 1


@pytest.mark.parametrize("selector,limit", [("app: productpage", 7), ("app: other", 4294967295)])
def test_P29_a_rule_for_some_callers(mesh, selector, limit):
    spec = "{host: reviews, workloadSelector: {matchLabels: {%s}}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}"
    assert connections(mesh(rule(spec % selector)), cluster()) == limit


@pytest.mark.parametrize("to,limit", [('["*"]', 7), ('["default"]', 7), ('["."]', 4294967295), ('["third"]', 4294967295)])
def test_P30_export_of_a_rule(mesh, to, limit):
    spec = "{host: reviews.default.svc.cluster.local, exportTo: %s, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}"
    assert connections(mesh(rule(spec % to, ns="istio-system")), cluster()) == limit


def test_P30_the_meshs_default_export(mesh):
    config = ("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {defaultDestinationRuleExportTo: ['.']}\n---")
    spec = "{host: reviews.default.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}"
    assert connections(mesh(config + rule(spec, ns="istio-system")), cluster()) == 4294967295
    assert connections(mesh(rule(spec, ns="istio-system")), cluster()) == 7


@pytest.mark.parametrize("subset,policy", [("", None), ("least", None), ("robin", "ROUND_ROBIN"), ("random", "RANDOM"),
                                           ("pass", "CLUSTER_PROVIDED"), ("ring", "RING_HASH"), ("maglev", "MAGLEV")])
def test_P31_P35_balancers(mesh, subset, policy):
    c = found(mesh(case("destination_rule/P31-P35-balancers-and-warmup")), cluster(subset))
    assert c.get("lbPolicy", "ROUND_ROBIN") == (policy or "LEAST_REQUEST")
    if subset == "least":
        warm = c["leastRequestLbConfig"]["slowStartConfig"]
        assert (warm["slowStartWindow"], warm["minWeightPercent"]["value"], warm["aggression"]["defaultValue"]) == ("30s", 20, 2)
    if subset == "pass":
        assert c["type"] == "ORIGINAL_DST"


def test_P32_hash_keys(mesh):
    m = mesh(case("destination_rule/P32-hash-keys"))
    assert m.ask(authority="reviews")["action"]["hashPolicy"] == [{"header": {"headerName": "x-user"}}]
    cookie = m.ask(authority="reviews", path="/v2")["action"]["hashPolicy"][0]["cookie"]
    assert cookie == {"name": "user", "ttl": "10s", "path": "/r", "attributes": [{"name": "SameSite", "value": "Strict"}]}
    assert m.ask(authority="productpage")["action"]["hashPolicy"] == [{"queryParameter": {"name": "user"}}]
    assert m.ask(authority="db")["action"]["hashPolicy"] == [{"connectionProperties": {"sourceIp": True}}]
    tcp = found(m, "10.96.3.1_3306", "lds")["filterChains"][0]["filters"][-1]["typedConfig"]
    assert tcp["hashPolicy"] == [{"sourceIp": {}}]


def located(ip, locality):
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: reviews-{ip.replace(".", "-")}, namespace: default, labels: {{app: reviews, version: v9, topology.istio.io/locality: {locality}}}}}
spec: {{containers: [{{name: app, ports: [{{name: http, containerPort: 8000}}]}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: "True"}}]}}
---
"""


def node_at(folder, region, zone, sub):
    node = json.loads((GOLDEN / "sidecar.node.json").read_text())
    node["locality"] = {"region": region, "zone": zone, "sub_zone": sub}
    path = folder / "node.json"
    path.write_text(json.dumps(node))
    return path


PODS = located("10.88.2.1", "r1.z1.s1") + located("10.88.2.2", "r1.z1.s2") + located("10.88.2.3", "r1.z2.s1") + located(
    "10.88.2.4", "r2.z1.s1") + located("10.88.2.5", "r3.z1.s1")


def priorities(m, name=cluster()):
    return {e["endpoint"]["address"]["socketAddress"]["address"]: g.get("priority", 0)
            for g in found(m, name, "eds")["endpoints"] for e in g["lbEndpoints"]}


@pytest.mark.parametrize("setting,want", [
    ("", [0, 1, 2, 3, 3]), ("localityLbSetting: {failover: [{from: r1, to: r3}]}", [0, 1, 2, 4, 3]),
    ("localityLbSetting: {enabled: false}", [0, 0, 0, 0, 0])])
def test_P33_own_locality_first_then_failover(mesh, tmp_path, setting, want):
    spec = "{host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}, loadBalancer: {simple: ROUND_ROBIN, %s}}}"
    m = mesh(PODS + rule(spec % setting), node=node_at(tmp_path, "r1", "z1", "s1"))
    got = priorities(m)
    assert [got[f"10.88.2.{i}"] for i in range(1, 6)] == want


def test_P33_without_outlier_detection_there_is_no_failover(mesh, tmp_path):
    m = mesh(PODS + rule("{host: reviews, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}}}"),
             node=node_at(tmp_path, "r1", "z1", "s1"))
    assert set(priorities(m).values()) == {0}


def test_P33_distribute(mesh, tmp_path):
    spec = '{host: reviews, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {"r1/z1/*": 80, "r2/*": 20}}]}}}}'
    m = mesh(PODS + rule(spec), node=node_at(tmp_path, "r1", "z1", "s1"))
    weights = {}
    for g in found(m, cluster(), "eds")["endpoints"]:
        place = g["locality"]["region"] + "/" + g["locality"]["zone"]
        weights[place] = weights.get(place, 0) + g["loadBalancingWeight"]
    assert set(weights) == {"r1/z1", "r2/z1"}
    assert weights["r1/z1"] == 4 * weights["r2/z1"]


def test_P33_failover_by_labels(mesh):
    got = priorities(mesh(case("destination_rule/P33-failover-priority")))
    assert got == {"10.88.1.33": 0, "10.88.1.13": 1, "10.88.1.14": 2}  # the caller is v1


def test_P33_labels_and_then_regions(mesh):
    m = mesh(case("destination_rule/P34-zone-aware"), node=GOLDEN / "destination_rule/P34-zone-aware.node.json")
    got = priorities(m, cluster("locality"))
    order = ["10.88.4.11", "10.88.4.14", "10.88.4.13", "10.88.4.12", "10.88.1.14"]  # v1: own zone, failover, elsewhere; then v2
    assert sorted(order, key=got.get) == order


def test_P34_regions_are_priorities_and_zones_are_balanced_by_envoy(mesh):
    m = mesh(case("destination_rule/P34-zone-aware"), node=GOLDEN / "destination_rule/P34-zone-aware.node.json")
    assert found(m)["commonLbConfig"]["zoneAwareLbConfig"] == {"minClusterSize": "2"}
    assert priorities(m) == {"10.88.4.11": 0, "10.88.4.12": 0, "10.88.4.14": 1, "10.88.4.13": 2, "10.88.1.13": 2, "10.88.1.14": 2}
    assert found(m, cluster("none"))["commonLbConfig"]["zoneAwareLbConfig"] == {"routingEnabled": {}}
    assert set(priorities(m, cluster("none")).values()) == {0}
    by_label = priorities(m, cluster("labels"))
    # v1 of the own region, v1 of others, then the other versions by region.
    assert by_label == {"10.88.4.11": 0, "10.88.4.13": 1, "10.88.4.14": 1, "10.88.1.13": 1, "10.88.4.12": 2, "10.88.1.14": 3}


def test_P34_the_own_cluster_holds_the_instances_of_the_same_revision_and_region(mesh):
    m = mesh(case("destination_rule/P34-zone-aware"), node=GOLDEN / "destination_rule/P34-zone-aware.node.json")
    assert set(priorities(m, "local_cluster")) == {"10.88.4.1", "10.88.4.2"}
    assert "local_cluster" not in {r["clusterName"] for r in mesh(case("destination_rule/P34-zone-aware")).resources["eds"]}


ZONED_MESH = """
apiVersion: fairlead.dev/v1
kind: MeshConfig
metadata: {name: default}
spec: {zoneAwareLbSetting: {failoverPriority: [version]}}
---
"""


def test_P34_the_meshs_setting_gives_way_to_a_rules_locality(mesh, tmp_path):
    node = node_at(tmp_path, "r1", "z1", "s1")
    assert found(mesh(ZONED_MESH + PODS, node=node))["commonLbConfig"]["zoneAwareLbConfig"] == {}
    own = rule("{host: reviews, trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}}}")
    assert "zoneAwareLbConfig" not in found(mesh(ZONED_MESH + PODS + own, node=node))["commonLbConfig"]


def test_P34_P87_a_proxy_that_does_not_say_where_it_is_is_found_by_its_address(mesh):
    m = mesh(PODS + located("10.88.1.11", "r1.z1.s1").replace("app: reviews", "app: productpage").replace("name: reviews-", "name: again-") + rule(
        "{host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}"))
    assert [priorities(m)[f"10.88.2.{i}"] for i in range(1, 6)] == [0, 1, 2, 3, 3]


def test_P36_P37_P38_pools_and_outliers(mesh):
    m = mesh(case("destination_rule/P36-P38-pools-and-outliers"))
    c = found(m)
    options = c["typedExtensionProtocolOptions"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    h2 = options["explicitHttpConfig"]["http2ProtocolOptions"]
    assert (h2["maxConcurrentStreams"], h2["connectionKeepalive"]) == (50, {"interval": "10s", "timeout": "2s"})
    assert options["commonHttpProtocolOptions"] == {"idleTimeout": "30s", "maxConnectionDuration": "300s", "maxRequestsPerConnection": 7}
    assert len(options["outlierDetection"]["errorMatcher"]["orMatch"]["rules"]) == 2
    outlier = c["outlierDetection"]
    assert (outlier["consecutiveGatewayFailure"], outlier["enforcingConsecutive5xx"], outlier["consecutiveLocalOriginFailure"]) == (4, 0, 3)
    assert c["commonLbConfig"]["healthyPanicThreshold"] == {"value": 30}
    tcp = found(m, "10.96.3.1_3306", "lds")["filterChains"][0]["filters"][-1]["typedConfig"]
    assert (tcp["idleTimeout"], tcp["maxDownstreamConnectionDuration"]) == ("60s", "600s")


def test_P39_client_tls(mesh):
    m = mesh(case("destination_rule/P39-client-tls"))
    mutual = found(m)["transportSocket"]["typedConfig"]
    context = mutual["commonTlsContext"]["validationContext"]
    assert mutual["sni"] == "reviews.example"
    assert (context["trustedCa"]["filename"], context["crl"]["filename"]) == ("/etc/c/ca.pem", "/etc/c/crl.pem")
    assert [s["sanType"] for s in context["matchTypedSubjectAltNames"]] == ["DNS", "URI"]
    assert "validationContext" not in tls_of(found(m, cluster("skip")))
    assert found(m, cluster("mesh"))["transportSocket"]["typedConfig"]["sni"] == "other"
    assert "transportSocket" not in found(m, cluster("plain"))


def test_P41_a_ports_settings_inherit_nothing_and_a_subset_comes_over_the_rule(mesh):
    m = mesh(case("destination_rule/P41-port-level-settings"))
    def of(port, subset=""):
        c = found(m, cluster(subset, port, fqdn("two")))
        return c.get("lbPolicy", "ROUND_ROBIN"), c["circuitBreakers"]["thresholds"][0]["maxConnections"]
    none = 4294967295
    assert (of(80), of(81)) == (("RANDOM", 1), ("LEAST_REQUEST", 2))
    assert (of(80, "own"), of(81, "own")) == (("ROUND_ROBIN", 1), ("ROUND_ROBIN", 2))
    assert (of(80, "port"), of(81, "port")) == (("RANDOM", 3), ("RANDOM", none))


def test_P42_tunnel_proxy_protocol_retry_budget(mesh):
    m = mesh(case("destination_rule/P42-tunnel-proxy-protocol-retry-budget"))
    tcp = found(m, "192.0.2.7_3128", "lds")["filterChains"][0]["filters"][-1]["typedConfig"]
    assert tcp["tunnelingConfig"] == {"hostname": "target.example.com:443", "usePost": True}
    c = found(m)
    assert {s["transportSocket"]["name"] for s in c["transportSocketMatches"]} == {"envoy.transport_sockets.upstream_proxy_protocol"}
    threshold = c["circuitBreakers"]["thresholds"][0]
    assert threshold["retryBudget"] == {"budgetPercent": {"value": 30}, "minRetryConcurrency": 5, "budgetInterval": "2s"}
    assert "maxRetries" not in threshold
    v1 = found(m, cluster("v1"))
    assert v1["transportSocket"]["typedConfig"]["transportSocket"]["name"] == "envoy.transport_sockets.raw_buffer"
    assert v1["circuitBreakers"]["thresholds"][0]["retryBudget"]["budgetPercent"] == {"value": 20}


def test_P43_the_meshs_default_policy_block_by_block(mesh):
    m = mesh(case("mesh/P43-default-traffic-policy"))
    assert connections(m, cluster()) == 4294967295  # the rule has a pool of its own
    assert connections(m, cluster(host=fqdn("productpage"))) == 11
    assert connections(m, "PassthroughCluster") == connections(m, "inbound|9080||") == 11
    assert found(m)["outlierDetection"]["consecutive5xx"] == 12


def test_P119_path_normalization(mesh):
    m = mesh(case("mesh/P119-path-normalization"))
    hcm = found(m, "0.0.0.0_9080", "lds")["filterChains"][0]["filters"][-1]["typedConfig"]
    assert (hcm["normalizePath"], hcm["mergeSlashes"], hcm["pathWithEscapedSlashesAction"]) == (True, True, "UNESCAPE_AND_FORWARD")


# ---- services
def test_P53_resolutions_and_addresses(mesh):
    m = mesh(case("services/P53-resolutions-and-addresses"))
    assert m.to(dst="192.0.2.77:1000", http=False) == {cluster(port=1000, host="block.example.com"): 100}
    assert m.to(dst="192.0.3.77:1000", http=False) == {"PassthroughCluster": 100}
    assert found(m, cluster(port=1000, host="block.example.com"))["type"] == "ORIGINAL_DST"
    socket = found(m, cluster(port=80, host="socket.example.com"), "eds")["endpoints"][0]["lbEndpoints"][0]
    assert socket["endpoint"]["address"] == {"pipe": {"path": "/var/run/s.sock"}}
    assert sorted(m.ask(dst="1.2.3.4:80", authority="ports.example.com")["endpoints"]) == ["192.0.2.1:8080/istio", "192.0.2.2:8080/plain"]
    assert sorted(m.ask(dst="1.2.3.4:81", authority="ports.example.com")["endpoints"]) == ["192.0.2.1:9081/istio", "192.0.2.2:81/plain"]
    assert m.ask(dst="1.2.3.4:80", authority="b.example.com")["endpoints"] == ["c.example.com:8080/plain"]
    assert found(m, cluster(port=443, host="robin.example.com"))["type"] == "LOGICAL_DNS"


def test_P57_P95_names_of_the_peers_and_of_the_entry(mesh):
    m = mesh(case("services/P53-resolutions-and-addresses"))
    def sans(name):
        match = next(x for x in found(m, name)["transportSocketMatches"] if x["name"] == "tlsMode-istio")
        context = tls_of(match)["combinedValidationContext"]["defaultValidationContext"]
        return [s["matcher"]["exact"] for s in context["matchTypedSubjectAltNames"]]
    assert sans(cluster(port=80, host="ports.example.com")) == [
        "spiffe://cluster.local/ns/default/sa/extra", "spiffe://cluster.local/ns/default/sa/vm"]
    assert sans(cluster()) == ["spiffe://cluster.local/ns/default/sa/bookinfo-reviews"]


def test_P56_P60_selectors_over_workload_entries_and_pods(mesh):
    m = mesh(case("services/P56-selectors-over-workload-entries-and-pods"))
    assert sorted(m.ask(dst="1.2.3.4:80", authority="chosen.example.com")["endpoints"]) == [
        "10.88.1.13:8000/istio", "10.88.1.14:8000/istio", "192.0.2.20:7000/istio"]
    assert sorted(m.ask(authority="reviews")["endpoints"]) == [
        "10.88.1.13:8000/istio", "10.88.1.14:8000/istio", "192.0.2.20:7000/istio"]
    group = next(g for g in found(m, kind="eds")["endpoints"] if g["locality"].get("region") == "r1")
    assert group["loadBalancingWeight"] == 2


def entry(name, host, ns="default", extra="", created="2026-01-01"):
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {ns}, creationTimestamp: "{created}T00:00:00Z", {extra}}}
spec: {{hosts: [{host}], ports: [{{number: 9080, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: 192.0.2.{len(name)}}}]}}
---
"""


def test_P55_addresses_are_a_function_of_the_names_and_may_be_declined(mesh):
    def vip(m, host):
        domains = next(h["domains"] for h in found(m, "9080", "rds")["virtualHosts"] if h["name"] == f"{host}:9080")
        return [d for d in domains if d.startswith("240.240.")]
    a, b = entry("a", "a.example.com"), entry("b", "b.example.com")
    first = vip(mesh(a + b), "a.example.com")
    assert len(first) == 2 and first == vip(mesh(b + a), "a.example.com")
    declined = entry("a", "a.example.com", extra='labels: {networking.istio.io/enable-autoallocate-ip: "false"}')
    assert vip(mesh(declined), "a.example.com") == []


def test_P59_one_host_in_several_namespaces(mesh):
    older, newer = entry("one", "same.example.com", "x"), entry("three", "same.example.com", "y", created="2026-02-01")
    own = entry("seventh", "same.example.com", created="2026-03-01")
    kube = entry("one", HOST, "x", created="2020-01-01")
    assert mesh(newer + older).ask(authority="same.example.com")["endpoints"] == ["192.0.2.3:9080/plain"]
    assert mesh(newer + older + own).ask(authority="same.example.com")["endpoints"] == ["192.0.2.7:9080/plain"]
    assert "192.0.2.3:9080/plain" not in mesh(kube).ask(authority="reviews")["endpoints"]


@pytest.mark.parametrize("to,seen", [("default", True), ("'*'", True), ("'.'", False), ("'~'", False), ("third,default", True)])
def test_P94_export_of_a_service_by_annotation(mesh, to, seen):
    m = mesh(service("far", "other").replace("namespace: other", f"namespace: other, annotations: {{networking.istio.io/exportTo: {to}}}"
                                             .replace("third,default", '"third,default"')))
    assert (m.to(authority="far.other") != {"PassthroughCluster": 100}) == seen


def test_P94_the_meshs_default_for_services(mesh):
    config = "apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {defaultServiceExportTo: ['.']}\n---"
    assert mesh(config + service("far", "other")).to(authority="far.other") == {"PassthroughCluster": 100}
    assert mesh(config).to(authority="reviews") == {cluster(): 100}


def test_P86_ports_of_mongo_redis_and_server_first(mesh):
    m = mesh(case("services/P86-mongo-and-redis"))
    assert filters(m, "10.96.3.1_27017") == filters(m, "10.96.3.1_7000") == [["mongo_proxy", "tcp_proxy"]]
    assert filters(m, "10.96.3.1_6379") == filters(m, "10.96.3.1_3306") == [["tcp_proxy"]]
    inbound = found(m, "virtualInbound", "lds")["filterChains"]
    mongo = [c for c in inbound if c.get("filterChainMatch", {}).get("destinationPort") == 27017]
    assert mongo and all(c["filters"][0]["name"].endswith("mongo_proxy") for c in mongo)


@pytest.mark.parametrize("visibility,own,seen", [("PUBLIC", True, True), ("NAMESPACE", True, False), ("NONE", False, False)])
def test_P58_how_far_service_entries_of_a_namespace_may_be_seen(mesh, visibility, own, seen):
    config = f"""
apiVersion: fairlead.dev/v1
kind: MeshConfig
metadata: {{name: default}}
spec:
  serviceEntryVisibility:
    applyToSidecars: true
    policies:
    - {{visibility: {visibility}, matchingRules: [{{namespaceSelector: {{matchLabels: {{tier: low}}}}}}]}}
    - {{visibility: {visibility}, matchingRules: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: default}}}}}}]}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: other, labels: {{tier: low}}}}
---
"""
    m = mesh(config + entry("o", "other.example.com", "other") + entry("d", "own.example.com"))
    assert (m.to(authority="other.example.com") != {"PassthroughCluster": 100}) == seen
    assert (m.to(authority="own.example.com") != {"PassthroughCluster": 100}) == own
    assert m.to(authority="reviews") == {cluster(): 100}  # Services are not concerned


def test_P62_where_an_imported_route_leads_is_visible(mesh):
    m = mesh(case("sidecar/P62-destinations-of-imported-routes"))
    assert m.to(authority="reviews") == {cluster(host=fqdn("far", "other")): 100}
    names = {c["name"] for c in m.resources["cds"]}
    assert cluster(host=fqdn("productpage")) in names and cluster(host=fqdn("hidden", "other")) not in names
    assert m.to(authority="far.other") == m.to(authority="productpage") == {"PassthroughCluster": 100}


def test_P44_persistent_sessions_by_label(mesh):
    m = mesh(case("services/P44-persistent-sessions"))
    def state(host):
        config = m.ask(dst="10.96.3.1:80", authority=host)["rule"]["typedPerFilterConfig"]["envoy.filters.http.stateful_session"]
        return config["statefulSession"]["sessionState"]["typedConfig"]
    assert state("cart")["cookie"] == {"name": "cart", "path": "/"}
    assert state("chat")["name"] == "x-session"
    assert "typedPerFilterConfig" not in m.ask(authority="reviews")["rule"]
    assert "DRAINING" in found(m, cluster(port=80, host=fqdn("cart")))["commonLbConfig"]["overrideHostStatus"]["statuses"]
    assert "stateful_session" in json.dumps(found(m, "0.0.0.0_80", "lds")) and "stateful_session" not in json.dumps(mesh().resources)


def test_P95_C12_peers_may_have_the_old_names_of_the_trust_domain(mesh):
    m = mesh("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\n"
             "spec: {trustDomain: new.example, trustDomainAliases: [old.example]}\n")
    match = next(x for x in found(m)["transportSocketMatches"] if x["name"] == "tlsMode-istio")
    context = tls_of(match)["combinedValidationContext"]["defaultValidationContext"]
    assert [s["matcher"]["exact"] for s in context["matchTypedSubjectAltNames"]] == [
        "spiffe://new.example/ns/default/sa/bookinfo-reviews", "spiffe://old.example/ns/default/sa/bookinfo-reviews"]


def test_P44_a_draining_endpoint_keeps_its_sessions_and_counts_for_nobody_else(mesh):
    pods = located("10.88.2.1", "r1.z1.s1") + located("10.88.2.2", "r1.z1.s1").replace("version: v9", "version: v9, istio.io/draining: 'true'")
    session = (f"apiVersion: v1\nkind: Service\nmetadata: {{name: stay, namespace: default, labels: {{istio.io/persistent-session: stay}}}}\n"
               "spec: {clusterIP: 10.96.3.1, selector: {version: v9}, ports: [{name: http, port: 80, targetPort: 8000}]}\n---\n")
    m = mesh(pods + session)
    def health(name):
        return {e["endpoint"]["address"]["socketAddress"]["address"]: e["healthStatus"]
                for g in found(m, name, "eds")["endpoints"] for e in g["lbEndpoints"]}
    assert health(cluster(port=80, host=fqdn("stay"))) == {"10.88.2.1": "HEALTHY", "10.88.2.2": "DRAINING"}
    assert "10.88.2.1" in health(cluster()) and "10.88.2.2" not in health(cluster())


@pytest.mark.parametrize("more,told", [("", True), ("minHealthPercent: 0,", True), ("minHealthPercent: 10,", False)])
def test_P38_where_too_few_healthy_ones_mean_all_are_used_nobody_hears_of_unready_ones(mesh, more, told):
    pod = located("10.88.2.1", "r1.z1.s1").replace('status: "True"', 'status: "False"')
    m = mesh(pod + rule("{host: reviews, trafficPolicy: {outlierDetection: {%s consecutive5xxErrors: 5}}}" % more))
    assert ("10.88.2.1" in priorities(m)) == told


def test_P33_other_networks_come_after_everything_of_the_own_one(mesh, tmp_path):
    def at(ip, network, version):
        return located(ip, "r1.z1.s1").replace("version: v9", f"version: {version}, topology.istio.io/network: {network}")
    node = json.loads((GOLDEN / "sidecar.node.json").read_text())
    node["metadata"]["NETWORK"] = "near"
    path = tmp_path / "node.json"
    path.write_text(json.dumps(node))
    pods = at("10.88.2.1", "near", "v1") + at("10.88.2.2", "near", "other") + at("10.88.2.3", "far", "v1") + at("10.88.2.4", "far", "other")
    got = priorities(mesh(pods + rule("{host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}, loadBalancer: "
                                      "{localityLbSetting: {failoverPriority: [topology.istio.io/network, version]}}}}"), node=path))
    assert [got[f"10.88.2.{i}"] for i in range(1, 5)] == [0, 1, 2, 3]


def test_P39_a_secret_of_a_rule_is_for_gateways_and_for_sidecars_that_it_selects(mesh):
    spec = "{host: reviews, %s trafficPolicy: {tls: {mode: SIMPLE, credentialName: web, sni: a.example}}}"
    assert "transportSocket" not in found(mesh(rule(spec % "")))
    assert "transportSocketMatches" not in found(mesh(rule(spec % "")))
    selected = tls_of(found(mesh(rule(spec % "workloadSelector: {matchLabels: {app: productpage}},"))))
    assert selected["combinedValidationContext"]["validationContextSdsSecretConfig"]["name"] == "kubernetes://web-cacert"
    assert "transportSocket" in found(mesh(rule(spec % ""), node="gateway"))
    # A ConfigMap's CA is no secret.
    everybody = tls_of(found(mesh(rule(spec.replace("web", "'configmap://default/roots'") % ""))))
    assert everybody["combinedValidationContext"]["validationContextSdsSecretConfig"]["name"] == "configmap://default/roots-cacert"


def upstream(m, name=cluster()):
    return found(m, name).get("typedExtensionProtocolOptions", {}).get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", {})


@pytest.mark.parametrize("tls,names", [
    ("mode: SIMPLE", {"autoSni": True, "autoSanValidation": True}), ("mode: SIMPLE, subjectAltNames: [a.example]", {"autoSni": True}),
    ("mode: SIMPLE, insecureSkipVerify: true", {"autoSni": True}), ("mode: SIMPLE, sni: a.example", None), ("mode: DISABLE", None),
    ("mode: ISTIO_MUTUAL", None)])
def test_P39_the_servers_name_is_that_of_the_request_where_the_rule_names_none(mesh, tls, names):
    m = mesh(rule("{host: reviews, trafficPolicy: {tls: {%s}}}" % tls))
    assert upstream(m).get("upstreamHttpProtocolOptions") == names


def test_P36_the_idle_time_of_tcp_holds_for_http_unless_http_has_its_own(mesh):
    def idle(pool):
        return upstream(mesh(rule("{host: reviews, trafficPolicy: {connectionPool: {%s}}}" % pool)))["commonHttpProtocolOptions"]["idleTimeout"]
    assert idle("tcp: {idleTimeout: 7s}") == "7s"
    assert idle("tcp: {idleTimeout: 7s}, http: {idleTimeout: 8s}") == "8s"


@pytest.mark.parametrize("name,mesh_says,rule_says,http2", [
    ("http", "UPGRADE", "", True), ("http", "UPGRADE", "h2UpgradePolicy: DO_NOT_UPGRADE", False), ("http", "", "h2UpgradePolicy: UPGRADE", True),
    ("any", "UPGRADE", "maxRetries: 9", False), ("any", "", "h2UpgradePolicy: UPGRADE", True), ("tcp", "", "h2UpgradePolicy: UPGRADE", False)])
def test_P37_P118_who_is_called_by_http2(mesh, name, mesh_says, rule_says, http2):
    config = f"apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec: {{h2UpgradePolicy: {mesh_says}}}\n---\n" if mesh_says else ""
    one = service("one", ports=f"[{{name: {name}, port: 80}}]")
    policy = rule("{host: one, trafficPolicy: {connectionPool: {http: {%s}}}}" % rule_says, "one") if rule_says else ""
    options = upstream(mesh(config + one + policy), cluster(port=80, host=fqdn("one")))
    assert ("http2ProtocolOptions" in options.get("explicitHttpConfig", {})) == http2


def test_P37_the_clients_protocol_is_kept_on_both_sides(mesh):
    m = mesh(rule("{host: productpage, trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}}", "productpage"))
    for name in cluster(host=fqdn("productpage")), "inbound|9080||":
        assert "useDownstreamProtocolConfig" in upstream(m, name)
    assert "useDownstreamProtocolConfig" not in upstream(mesh(), "inbound|9080||")


@pytest.mark.parametrize("hosts,used", [('"*/*"', True), ('"./*", "other/reviews.default.svc.cluster.local"', True), ('"./*"', False),
                                        ('"*/*", "~other/*"', False), ('"./*", "other/far.other.svc.cluster.local"', False)])
def test_P62_routes_come_from_namespaces_that_the_sidecar_imports(mesh, hosts, used):
    foreign = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: other}
spec: {hosts: [reviews.default.svc.cluster.local], http: [{route: [{destination: {host: productpage.default.svc.cluster.local}}]}]}
---
"""
    got = mesh(foreign + sidecar(f"{{egress: [{{hosts: [{hosts}]}}]}}")).to(authority="reviews")
    assert got == {cluster(host=fqdn("productpage")) if used else cluster(): 100}


@pytest.mark.parametrize("label,ports", [("", {8080, 9090}), ("experimental.istio.io/disable-gateway-port-translation: x", {8080})])
def test_P46_a_servers_port_is_every_port_that_services_lead_it_to(mesh, label, ports):
    m = mesh(f"""
apiVersion: v1
kind: Pod
metadata: {{name: gw, namespace: istio-system, labels: {{istio: ingressgateway}}}}
spec: {{containers: [{{name: app}}]}}
status: {{phase: Running, podIP: 10.88.1.2}}
---
apiVersion: v1
kind: Service
metadata: {{name: second, namespace: istio-system, labels: {{{label}}}}}
spec: {{clusterIP: 10.96.7.7, selector: {{istio: ingressgateway}}, ports: [{{name: http, port: 80, targetPort: 9090}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: third, namespace: istio-system}}
spec: {{clusterIP: 10.96.7.8, selector: {{istio: ingressgateway}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: one, namespace: default}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: one, namespace: default}}
spec: {{hosts: ["*"], gateways: [one], http: [{{route: [{{destination: {{host: reviews}}}}]}}]}}
""", node="gateway")
    assert {r["address"]["socketAddress"]["portValue"] for r in m.resources["lds"]} == ports
    for port in ports:
        assert m.to(dst=f"10.88.1.2:{port}", authority="any.example.com") == {cluster(): 100}


def two_servers(first, second):
    row = "{port: {number: 8443, name: %s, protocol: %s}, hosts: ['*'], tls: %s}"
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: both, namespace: default}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{row % ("a", *first)}, {row % ("b", *second)}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: both, namespace: default}}
spec:
  hosts: ["*"]
  gateways: [both]
  http: [{{route: [{{destination: {{host: reviews}}}}]}}]
  tcp: [{{route: [{{destination: {{host: productpage}}}}]}}]
---
"""


@pytest.mark.parametrize("first,second,http", [("HTTP", "TCP", True), ("TCP", "HTTP", False)])
def test_P50_of_two_kinds_of_servers_of_one_port_the_first_counts(mesh, first, second, http):
    m = mesh(two_servers((first, "null"), (second, "null")), node="gateway")
    chains = found(m, "0.0.0.0_8443", "lds")["filterChains"]
    assert [c["filters"][-1]["name"].endswith("http_connection_manager") for c in chains] == [http]


@pytest.mark.parametrize("hosts,names", [
    ("[reviews.default.svc.cluster.local]", [f"outbound_.9080_.{s}_.{HOST}" for s in ("", "v1", "v2")]),
    ("['*.local', nobody.example.com]", ["*.local"]), ("['*', nobody.example.com]", []), ("[nobody.example.com]", None)])
def test_P48_auto_passthrough_knows_the_server_names_of_an_exact_host(mesh, hosts, names):
    gate = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: across, namespace: default}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 15443, name: tls, protocol: TLS}}, hosts: {hosts}, tls: {{mode: AUTO_PASSTHROUGH}}}}]}}
---
"""
    m = mesh(gate + rule("{host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}"), node="gateway")
    listeners = [r for r in m.resources["lds"] if r["name"] == "0.0.0.0_15443"]
    if names is None:
        assert not listeners
        return
    assert sorted(listeners[0]["filterChains"][0]["filterChainMatch"].get("serverNames", [])) == sorted(names)


# ---- ProxyConfig
def manager(listener, name=None):
    chains = listener["filterChains"] + ([listener["defaultFilterChain"]] if "defaultFilterChain" in listener else [])
    for chain in chains:
        config = chain["filters"][-1]["typedConfig"]
        if "HttpConnectionManager" in config["@type"] and (name is None or chain["name"] == name):
            return config
    raise AssertionError(listener)


def test_P124_headers_that_proxies_add(mesh):
    m = mesh(case("mesh/P124-proxy-headers"))
    outbound = manager(found(m, "0.0.0.0_9080", "lds"))
    assert (outbound["serverName"], outbound["generateRequestId"], outbound["appendXForwardedPort"]) == ("hidden", False, True)
    assert "preserve_case" in json.dumps(outbound["httpProtocolOptions"])
    assert outbound["httpFilters"][-1]["typedConfig"]["suppressEnvoyHeaders"]
    inbound = manager(found(m, "virtualInbound", "lds"), "0.0.0.0_9080-mtls")
    assert inbound["forwardClientCertDetails"] == "SANITIZE_SET"
    assert inbound["setCurrentClientCertDetails"] == {"subject": False, "cert": True, "chain": True, "uri": True}
    routes = found(m, "9080", "rds")["virtualHosts"]
    assert not any(h.get("includeRequestAttemptCount") for h in routes)
    assert all(r["route"]["appendXForwardedHost"] for h in routes for r in h["routes"] if "route" in r)
    assert "preserve_case" in json.dumps(found(m)["typedExtensionProtocolOptions"])
    assert "accessLog" not in found(m, "virtualOutbound", "lds")


def test_P124_without_a_word_the_headers_are_istios(mesh):
    m = mesh("")
    assert "serverName" not in manager(found(m, "0.0.0.0_9080", "lds"))
    inbound = manager(found(m, "virtualInbound", "lds"), "0.0.0.0_9080-mtls")
    assert (inbound["serverName"], inbound["forwardClientCertDetails"]) == ("istio-envoy", "APPEND_FORWARD")
    assert inbound["setCurrentClientCertDetails"] == {"subject": True, "dns": True, "uri": True}
    assert manager(found(m, "virtualInbound", "lds"), "0.0.0.0_9080-plain").get("forwardClientCertDetails", "SANITIZE") == "SANITIZE"


def test_P124_gateways_trust_what_the_topology_says(mesh):
    m = mesh(case("gateway/P124-topology-and-edge-profile"), node="gateway")
    listener = found(m, "0.0.0.0_8080", "lds")
    assert listener["listenerFilters"][0]["name"] == "envoy.filters.listener.proxy_protocol"
    hcm = manager(listener)
    assert (hcm["xffNumTrustedHops"], hcm["forwardClientCertDetails"]) == (2, "APPEND_FORWARD")
    assert hcm["serverHeaderTransformation"] == "PASS_THROUGH"
    assert listener["perConnectionBufferLimitBytes"] == 32768
    assert hcm["http2ProtocolOptions"] == {"maxConcurrentStreams": 100, "initialStreamWindowSize": 65536, "initialConnectionWindowSize": 1048576}
    assert hcm["commonHttpProtocolOptions"] == {"idleTimeout": "10s", "headersWithUnderscoresAction": "REJECT_REQUEST"}
    assert (hcm["requestTimeout"], hcm["mergeSlashes"], hcm["pathWithEscapedSlashesAction"]) == ("300s", True, "UNESCAPE_AND_REDIRECT")


def test_P124_the_profile_edge_is_not_for_sidecars(mesh):
    m = mesh(case("mesh/P124-connection-settings").replace("httpIdleTimeout: 61s", "httpIdleTimeout: 5s"))
    hcm = manager(found(m, "0.0.0.0_9080", "lds"))
    assert hcm["commonHttpProtocolOptions"]["idleTimeout"] == "5s"
    plain = mesh("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\n"
                 "spec: {defaultConfig: {connectionSettings: {profile: EDGE}}}\n")
    assert "requestTimeout" not in manager(found(plain, "0.0.0.0_9080", "lds"))


def test_P124_a_proxys_own_config_comes_over_the_meshs(mesh, tmp_path):
    node = json.loads((GOLDEN / "sidecar.node.json").read_text())
    node["metadata"]["PROXY_CONFIG"] = {"concurrency": 2, "proxyHeaders": {"server": {"value": "mine"}}, "fieldOfTheFuture": {}}
    path = tmp_path / "node.json"
    path.write_text(json.dumps(node))
    hcm = manager(found(mesh(case("mesh/P124-proxy-headers"), node=path), "0.0.0.0_9080", "lds"))
    assert (hcm["serverName"], "generateRequestId" in hcm) == ("mine", False)


def test_P120_listeners_log_what_no_filter_chain_takes(mesh):
    log = found(mesh(case("mesh/access-log-json-stdout")), "virtualInbound", "lds")["accessLog"]
    assert [l["filter"] for l in log] == [{"responseFlagFilter": {"flags": ["NR"]}}]


# ---- families of addresses
def bound(m, name):
    l = found(m, name, "lds")
    return [a["address"]["socketAddress"]["address"] for a in [l, *l.get("additionalAddresses", [])]]


def test_P55_P83_a_proxy_with_both_families_knows_both_addresses(mesh, tmp_path):
    m = mesh(case("services/P55-two-families"), node=GOLDEN / "services/P55-two-families.node.json")
    names = [r["name"] for r in m.resources["lds"] if r["name"].endswith("_5432")]
    assert len(names) == 2 and any(n.startswith("240.240.") for n in names) and any(n.startswith("2001:2::") for n in names)
    six = next(n for n in names if ":" in n).removesuffix("_5432")
    assert m.to(dst=f"[{six}]:5432", http=False) == {cluster(port=5432, host="tcp.example.com"): 100}
    assert m.to(dst="10.96.9.9:80", authority=f"[{six}]") == {cluster(port=80, host="tcp.example.com"): 100}
    for name in "virtualOutbound", "virtualInbound", "0.0.0.0_9080":
        assert bound(m, name) == ["0.0.0.0", "::"]
    assert found(m, cluster(port=5432, host="tcp.example.com"))["dnsLookupFamily"] == "ALL"
    source = found(m, "inbound|9080||")["upstreamBindConfig"]
    assert (source["sourceAddress"]["address"], source["extraSourceAddresses"][0]["address"]["address"]) == ("127.0.0.6", "::6")


def test_P55_P83_a_proxy_of_ipv6_alone_listens_there(mesh, tmp_path):
    node = json.loads((GOLDEN / "sidecar.node.json").read_text())
    node["id"] = node["id"].replace("10.88.1.11", "fd00::b")
    path = tmp_path / "node.json"
    path.write_text(json.dumps(node))
    m = mesh(case("services/P55-two-families"), node=path)
    assert bound(m, "virtualOutbound") == bound(m, "virtualInbound") == ["::"]
    assert found(m, cluster(port=5432, host="tcp.example.com"))["dnsLookupFamily"] == "V6_ONLY"
    assert found(m, "InboundPassthroughCluster")["upstreamBindConfig"]["sourceAddress"]["address"] == "::6"


def test_P55_a_proxy_of_ipv4_knows_one_address(mesh):
    m = mesh(case("services/P55-two-families"))
    assert len([r for r in m.resources["lds"] if r["name"].endswith("_5432")]) == 1 and bound(m, "virtualOutbound") == ["0.0.0.0"]
