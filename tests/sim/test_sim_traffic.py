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
    assert (got["clusters"], got["mtls"]) == ({"inbound|8443||": 100}, True)
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
    assert found["edsClusterConfig"]["serviceName"] == cluster()
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
