"""Which of several objects counts for a caller, by the simulator: VirtualServices of one host, DestinationRules of one host."""
import pytest

from test_sim import GATEWAY, GOLDEN, HOST, REST_V1, SUBSETS, TO_V2, cluster, mesh  # noqa: F401 (mesh is a fixture)
from test_sim_traffic import connections, rule
from test_virtual_service import service

TO_V2 = TO_V2.replace("host: reviews", f"host: {HOST}")
TO_V1 = REST_V1.replace("host: reviews", f"host: {HOST}")[4:]


def rules(name, match, to, ns="default", age=2020, more="", host=HOST):
    """A VirtualService of one rule."""
    match = f"match: [{match}]\n    " if match else ""
    return (f"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
            f'metadata: {{name: {name}, namespace: {ns}, creationTimestamp: "{age}-01-01T00:00:00Z"}}\n'
            f"spec:\n  hosts: [{host}]\n{more}  http:\n  - {match}{to.strip()}\n")


PRIVATE, CHOSEN = '  exportTo: ["."]\n', "  exportTo: [default]\n"


@pytest.mark.parametrize("young,old,wanted", [
    ({"more": PRIVATE}, {}, "v2"), ({"more": PRIVATE}, {"more": CHOSEN, "ns": "other"}, "v2"), ({"more": CHOSEN, "ns": "other"}, {"ns": "third"}, "v2"),
    ({"ns": "other"}, {}, "v1"), ({"more": PRIVATE}, {"more": PRIVATE}, "v1"), ({"more": '  exportTo: [".", "*"]\n'}, {}, "v1")])
def test_P03_P25_what_is_for_few_comes_before_what_is_for_all(mesh, young, old, wanted):
    m = mesh(SUBSETS + rules("old", "", TO_V1, age=2019, **old) + rules("young", "", TO_V2, age=2021, **young))
    assert m.to(authority="reviews") == {cluster(wanted): 100}


def test_P03_P25_what_is_for_few_comes_first_at_a_gateway(mesh):
    at = "  gateways: [default/web]\n"
    m = mesh(GATEWAY + SUBSETS + rules("old", "{uri: {prefix: /a}}", TO_V1, age=2019, more=at, host="bookinfo.example.com")
             + rules("young", "{uri: {prefix: /a/b}}", TO_V2, more=at + PRIVATE, ns="istio-system", host="bookinfo.example.com"), node="gateway")
    ask = {"dst": "10.88.1.2:8080", "authority": "bookinfo.example.com"}
    assert m.to(path="/a/b", **ask) == {cluster("v2"): 100} and m.to(path="/a/c", **ask) == {cluster("v1"): 100}


@pytest.mark.parametrize("match", ["{sourceLabels: {app: other}}", "{sourceNamespace: other}", "{port: 1}", "{gateways: [default/web]}"])
def test_P09_a_virtual_service_without_a_rule_for_the_caller_is_not_there(mesh, match):
    none = SUBSETS + rules("none", match, TO_V1, age=2019)
    assert mesh(none).to(authority="reviews") == {cluster(): 100}
    assert mesh(none + rules("next", "", TO_V2)).to(authority="reviews") == {cluster("v2"): 100}
    assert mesh(none + rules("wide", "", TO_V2, host='"*.default.svc.cluster.local"')).to(authority="reviews") == {cluster(): 100}
    m = mesh(SUBSETS + rules("none", match, TO_V1, host="else.example"))
    assert m.to(authority="else.example", dst="10.9.9.9:80") == {"PassthroughCluster": 100}


def test_P09_an_exact_host_without_a_rule_for_the_gateway_leaves_it_to_a_wildcard(mesh):
    at = "  gateways: [default/web]\n"
    m = mesh(GATEWAY.replace("bookinfo.example.com", "*.example.com") + SUBSETS
             + rules("exact", "{port: 1}", TO_V1, more=at, host="bookinfo.example.com") + rules("wide", "", TO_V2, more=at, host='"*.example.com"'),
             node="gateway")
    assert m.to(dst="10.88.1.2:8080", authority="bookinfo.example.com") == {cluster("v2"): 100}


@pytest.mark.parametrize("match,at_gateway", [("{gateways: [default/web], sourceLabels: {app: nobody}}", "v2"), ("{sourceLabels: {app: nobody}}", ""),
                                              ("{gateways: [default/web, mesh], sourceNamespace: nowhere}", "v2")])
def test_P09_the_match_of_a_gateway_does_not_depend_on_labels(mesh, match, at_gateway):
    both = SUBSETS + rules("both", match, TO_V2, more="  gateways: [default/web, mesh]\n", host="bookinfo.example.com")
    got = mesh(GATEWAY + both, node="gateway").ask(dst="10.88.1.2:8080", authority="bookinfo.example.com")
    assert got.get("clusters") == ({cluster(at_gateway, 9080): 100} if at_gateway else None)
    assert mesh(both).to(dst="10.9.9.9:80", authority="bookinfo.example.com") == {"PassthroughCluster": 100}, "the mesh's callers have none of these labels"


MORE_HOSTS = SUBSETS + service("reviews", "  hosts: [reviews, reviews.example.com]\n  http:\n  - route: [{destination: {host: reviews, subset: v2}}]\n")


@pytest.mark.parametrize("node", ["sidecar", "vhds"])
def test_P01_more_hosts_of_a_service_are_known_on_its_ports(mesh, tmp_path, node):
    if node == "vhds":
        node = tmp_path / "vhds.node.json"
        node.write_text((GOLDEN / "sidecar.node.json").read_text().replace('"NAMESPACE"', '"FAIRLEAD_VHDS": "true", "NAMESPACE"'))
    m = mesh(MORE_HOSTS, node=node)
    hosts = {d: vh for rc in m.resources["rds"] if rc["name"] == "9080" for vh in rc["virtualHosts"] for d in vh["domains"]}
    hosts |= {d: vh for vh in m.resources.get("vhds", []) if vh["name"].startswith("9080/") for d in vh["domains"]}
    assert hosts["reviews.example.com"]["routes"][0]["route"]["cluster"] == cluster("v2")


@pytest.mark.parametrize("authority", ["reviews.default.svc.cluster.local.", "reviews.default.svc.cluster.local.:9080", "reviews.", "unknown.example."])
def test_P01_a_host_with_a_dot_at_its_end_is_the_same(mesh, authority):
    assert mesh().to(authority=authority) == {"PassthroughCluster" if "unknown" in authority else cluster(): 100}


LIMIT = "{host: %s, trafficPolicy: {connectionPool: {tcp: {maxConnections: %d}}}%s}"


def test_P29_a_rule_for_some_callers_comes_before_an_older_one_for_all(mesh):
    m = mesh(rule(LIMIT % ("reviews", 3, ", subsets: [{name: v1, labels: {version: v1}}]"))
             + rule(LIMIT % ("reviews", 7, ", workloadSelector: {matchLabels: {app: productpage}}"), name="z"))
    assert connections(m, cluster()) == 7
    assert connections(m, cluster("v1")) == 7, "subsets of both count"


def test_P27_rules_for_the_whole_mesh_do_not_hide_those_of_services_from_the_root_namespace(mesh):
    m = mesh(GATEWAY + rule(LIMIT % ('"*.local"', 3, ""), ns="istio-system") + rule(LIMIT % ("reviews", 7, "")), node="gateway")
    assert connections(m, cluster()) == 7
    assert connections(m, cluster(host="productpage.default.svc.cluster.local")) == 3
    m = mesh(GATEWAY + rule(LIMIT % (HOST, 3, ", exportTo: ['.']"), ns="istio-system") + rule(LIMIT % ("reviews", 7, "")), node="gateway")
    assert connections(m, cluster()) == 3, "what is private to the root namespace is meant for it"
