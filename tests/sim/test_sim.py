"""What requests of a client do, by the simulator: base.yaml of the pilot goldens and some YAML -> where does the request go?"""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests/golden/pilot"
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
REVIEWS = "10.96.1.13:9080"
HOST = "reviews.default.svc.cluster.local"
MESH_ALPN = ["istio-http/1.1", "istio"]


def cluster(subset="", port=9080, host=HOST):
    return f"outbound|{port}|{subset}|{host}"


SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
"""


def route(http, hosts="[reviews]", extra=""):
    return SUBSETS + f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: {hosts}
  {extra}
  http:
{http}
"""


TO_V2 = "    route: [{destination: {host: reviews, subset: v2}}]\n"
REST_V1 = "  - route: [{destination: {host: reviews, subset: v1}}]\n"


class Mesh:
    def __init__(self, folder, yaml, node="sidecar"):
        case = folder / "case.yaml"
        case.write_text(yaml or "# nothing\n")
        node = pathlib.Path(node) if "/" in str(node) else GOLDEN / f"{node}.node.json"
        out = subprocess.run([BUILD / "tests/golden/pilot_golden", node, GOLDEN / "base.yaml", case],
                             capture_output=True, text=True, check=True).stdout
        self.rendered = folder / "rendered.json"
        self.rendered.write_text(out)
        self.resources = json.loads(out)

    def ask(self, **request):
        request.setdefault("dst", REVIEWS)
        out = subprocess.run([BUILD / "tests/sim/sim", self.rendered], input=json.dumps(request) + "\n",
                             capture_output=True, text=True, check=True).stdout
        return json.loads(out)

    def to(self, **request):
        return self.ask(**request).get("clusters")


@pytest.fixture
def mesh(tmp_path):
    return lambda yaml="", node="sidecar": Mesh(tmp_path, yaml, node)


ALIASES = [HOST, f"{HOST}:9080", "reviews", "reviews:9080", "reviews.default", "reviews.default.svc", "REVIEWS", "10.96.1.13",
           "10.96.1.13:9080"]


@pytest.mark.parametrize("authority", ALIASES)
def test_P01_every_name_of_a_service_reaches_it(mesh, authority):
    assert mesh().to(authority=authority) == {cluster(): 100}


def test_P01_an_exact_host_beats_the_wildcard(mesh):
    m = mesh(route("  - timeout: 1s\n" + TO_V2, hosts='["*.default.svc.cluster.local"]') + "---" + route(REST_V1).replace(
        SUBSETS, "").replace("name: reviews", "name: exact"))
    assert m.to(authority="reviews") == {cluster("v1"): 100}
    assert m.to(authority="productpage", dst="10.96.1.11:9080") == {cluster("v2"): 100}


def test_P02_a_route_for_a_gateway_only_is_not_for_the_mesh(mesh):
    m = mesh(route(REST_V1, extra="gateways: [istio-system/some]"))
    assert m.to(authority="reviews") == {cluster(): 100}


@pytest.mark.parametrize("path,subset", [("/one", "v2"), ("/one/", "v1"), ("/two/x", "v2"), ("/TWO", "v2"), ("/three/12", "v2"),
                                         ("/three/x", "v1"), ("/one?q=1", "v2")])
def test_P04_uri_exact_prefix_regex(mesh, path, subset):
    m = mesh(route("""  - match:
    - uri: {exact: /one}
    - uri: {prefix: /two}
      ignoreUriCase: true
    - uri: {regex: "/three/[0-9]+"}
""" + TO_V2 + REST_V1))
    assert m.to(authority="reviews", path=path) == {cluster(subset): 100}


def test_P05_method_authority_scheme(mesh):
    m = mesh(route("  - match: [{method: {exact: POST}, authority: {prefix: reviews}, scheme: {exact: http}}]\n" + TO_V2 + REST_V1))
    assert m.to(authority="reviews", method="POST") == {cluster("v2"): 100}
    assert m.to(authority="reviews", method="GET") == {cluster("v1"): 100}
    assert m.to(authority="10.96.1.13", method="POST") == {cluster("v1"): 100}


@pytest.mark.parametrize("headers,subset", [({"end-user": "jason"}, "v1"), ({"end-user": "jason", "x-any": "1"}, "v2"),
                                            ({"end-user": "jason", "x-any": "1", "x-not": "never"}, "v1"), ({}, "v1")])
def test_P06_headers_present_and_without(mesh, headers, subset):
    m = mesh(route("  - match: [{headers: {end-user: {exact: jason}, x-any: {}}, withoutHeaders: {x-not: {prefix: nev}}}]\n"
                   + TO_V2 + REST_V1))
    assert m.to(authority="reviews", headers=headers) == {cluster(subset): 100}


@pytest.mark.parametrize("query,subset", [("v=2", "v2"), ("a=1&v=2", "v2"), ("v=3", "v1"), ("", "v1")])
def test_P08_query_parameters(mesh, query, subset):
    m = mesh(route("  - match: [{queryParams: {v: {exact: '2'}}}]\n" + TO_V2 + REST_V1))
    assert m.to(authority="reviews", path=f"/?{query}") == {cluster(subset): 100}


def test_P09_source_labels_namespace_and_port(mesh):
    rule = "  - match: [{%s}]\n" + TO_V2 + REST_V1
    for match, subset in (("sourceLabels: {app: productpage}", "v2"), ("sourceLabels: {app: other}", "v1"),
                          ("sourceNamespace: default", "v2"), ("sourceNamespace: other", "v1"), ("port: 9080", "v2"), ("port: 1", "v1")):
        assert mesh(route(rule % match)).to(authority="reviews") == {cluster(subset): 100}, match


def test_P11_matches_are_or_conditions_are_and_first_rule_wins(mesh):
    m = mesh(route("""  - match:
    - {uri: {prefix: /a}, headers: {x: {exact: "1"}}}
    - {uri: {prefix: /b}}
""" + TO_V2 + REST_V1))
    assert m.to(authority="reviews", path="/a") == {cluster("v1"): 100}
    assert m.to(authority="reviews", path="/a", headers={"x": "1"}) == {cluster("v2"): 100}
    assert m.to(authority="reviews", path="/b") == {cluster("v2"): 100}


def test_P12_weights_and_zero(mesh):
    m = mesh(route("  - route: [{destination: {host: reviews, subset: v1}, weight: 90}, {destination: {host: reviews, subset: v2}, "
                   "weight: 10}]\n"))
    assert m.to(authority="reviews") == {cluster("v1"): 90, cluster("v2"): 10}
    m = mesh(route("  - route: [{destination: {host: reviews, subset: v1}, weight: 100}, {destination: {host: reviews, subset: v2}, "
                   "weight: 0}]\n"))
    assert m.to(authority="reviews") == {cluster("v1"): 100}


def test_P13_header_operations(mesh):
    rule = mesh(route("  - headers: {request: {set: {a: '1'}, add: {b: '2'}, remove: [c]}}\n"
                      "    route: [{destination: {host: reviews, subset: v1}}]\n")).ask(authority="reviews")["rule"]
    assert [(h["header"]["key"], h.get("appendAction")) for h in rule["requestHeadersToAdd"]] == [
        ("a", "OVERWRITE_IF_EXISTS_OR_ADD"), ("b", None)]
    assert rule["requestHeadersToRemove"] == ["c"]


def test_P14_redirect(mesh):
    got = mesh(route("  - redirect: {uri: /x, authority: y.example, redirectCode: 302}\n")).ask(authority="reviews")
    assert got["redirect"] == {"hostRedirect": "y.example", "pathRedirect": "/x", "responseCode": "FOUND"}


def test_P16_direct_response(mesh):
    assert mesh(route("  - directResponse: {status: 418}\n")).ask(authority="reviews")["status"] == 418


def test_P18_timeout_of_the_rule_else_none(mesh):
    assert mesh(route("  - timeout: 10s\n" + TO_V2)).ask(authority="reviews")["action"]["timeout"] == "10s"
    assert mesh().ask(authority="reviews")["action"]["timeout"] == "0s"


def test_P19_retries_default_own_and_off(mesh):
    default = mesh().ask(authority="reviews")["action"]["retryPolicy"]
    assert default["numRetries"] == 2
    assert default["retryOn"].startswith("connect-failure,refused-stream,unavailable,cancelled")
    own = mesh(route("  - retries: {attempts: 5, perTryTimeout: 2s, retryOn: '503,reset'}\n" + TO_V2)).ask(authority="reviews")
    assert own["action"]["retryPolicy"]["numRetries"] == 5
    assert own["action"]["retryPolicy"]["retryOn"] == "reset,retriable-status-codes"
    assert own["action"]["retryPolicy"]["retriableStatusCodes"] == [503]
    off = mesh(route("  - retries: {attempts: 0}\n" + TO_V2)).ask(authority="reviews")
    assert "retryPolicy" not in off["action"]


def test_P28_a_subset_reaches_only_its_endpoints(mesh):
    assert mesh(route(REST_V1)).ask(authority="reviews")["endpoints"] == ["10.88.1.13:8000/istio"]


def test_P84_no_panic_into_unready_endpoints(mesh):
    reviews = next(c for c in mesh().resources["cds"] if c["name"] == cluster())
    assert reviews["commonLbConfig"]["healthyPanicThreshold"] == {}


def test_P40_auto_mtls_by_endpoint(mesh):
    m = mesh("""
apiVersion: v1
kind: Pod
metadata: {name: reviews-v3, namespace: default, labels: {app: reviews, version: v3}, annotations: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: app, ports: [{name: http, containerPort: 8000}]}]}
status: {phase: Running, podIP: 10.88.1.15, conditions: [{type: Ready, status: "True"}]}
""")
    ends = m.ask(authority="reviews")["endpoints"]
    assert "10.88.1.13:8000/istio" in ends
    assert "10.88.1.15:8000/plain" in ends


def test_P40_a_workload_that_disables_mtls_is_called_in_plaintext(mesh):
    m = mesh("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: disable, namespace: default}
spec: {selector: {matchLabels: {version: v1}}, mtls: {mode: DISABLE}}
""")
    assert sorted(m.ask(authority="reviews")["endpoints"]) == ["10.88.1.13:8000/plain", "10.88.1.14:8000/istio"]


@pytest.mark.parametrize("mode,plain,mutual", [("STRICT", "closed", "http"), ("PERMISSIVE", "http", "http"), ("DISABLE", "http", "http")])
def test_S01_peer_authentication_decides_who_is_served(mesh, mode, plain, mutual):
    m = mesh(f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
""")
    got = m.ask(inbound=True, dst="10.88.1.11:9080")
    assert (got["result"], got.get("mtls", False)) == (plain, False)
    got = m.ask(inbound=True, dst="10.88.1.11:9080", tls=True, alpn=MESH_ALPN)
    assert got["result"] == mutual
    assert got["mtls"] == (mode != "DISABLE")
    assert got["clusters"] == {"inbound|9080||": 100}


def policy(name, mode, namespace="default", selector="", born="2024-01-01T00:00:00Z", ports=""):
    match = f", selector: {{matchLabels: {{{selector}}}}}" if selector else ""
    port = f", portLevelMtls: {{{ports}}}" if ports else ""
    return (f"---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
            f"metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{born}'}}\nspec: {{mtls: {{mode: {mode}}}{match}{port}}}\n")


MESH_STRICT = policy("default", "STRICT", "istio-system")
HERE = "app: productpage"


@pytest.mark.parametrize("policies,plain", [
    (MESH_STRICT + policy("all", "PERMISSIVE"), True),
    (MESH_STRICT + policy("all", "UNSET"), False),
    (MESH_STRICT + policy("all", "PERMISSIVE", "elsewhere"), False),
    (policy("all", "PERMISSIVE") + policy("one", "STRICT", selector=HERE), False),
    (policy("all", "PERMISSIVE") + policy("one", "STRICT", selector="app: another"), True),
    (policy("all", "STRICT") + policy("one", "UNSET", selector=HERE), False),
    (MESH_STRICT + policy("one", "UNSET", selector=HERE, ports="9080: {mode: DISABLE}"), True),
    (policy("one", "STRICT", selector=HERE, ports="9080: {mode: PERMISSIVE}"), True),
    (policy("one", "STRICT", selector=HERE, ports="9081: {mode: PERMISSIVE}"), False),
    (policy("b-old", "STRICT") + policy("a-new", "PERMISSIVE", born="2024-02-01T00:00:00Z"), False),
    (policy("b-new", "STRICT", born="2024-02-01T00:00:00Z") + policy("c-old", "PERMISSIVE"), True),
    (policy("b-old", "STRICT", selector=HERE) + policy("a-new", "PERMISSIVE", selector=HERE, born="2024-02-01T00:00:00Z"), False),
    (policy("a", "STRICT") + policy("b", "PERMISSIVE"), False),
], ids=["namespace-beats-mesh", "unset-asks-the-mesh", "another-namespace", "workload-beats-namespace", "another-workload", "unset-asks-the-namespace",
        "port-beats-unset", "port-beats-workload", "another-port", "oldest-of-two", "oldest-whatever-its-name", "oldest-of-a-workload", "name-of-equals"])
def test_S01_the_nearest_policy_decides_and_of_two_the_oldest(mesh, policies, plain):
    got = mesh(policies).ask(inbound=True, dst="10.88.1.11:9080")
    assert got["result"] == ("http" if plain else "closed")


def test_P64_unknown_hosts_pass_or_are_refused(mesh):
    assert mesh().to(authority="nobody.example") == {"PassthroughCluster": 100}
    assert mesh().to(dst="192.0.2.1:12345", http=False) == {"PassthroughCluster": 100}
    closed = mesh("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\n"
                  "spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n")
    assert closed.ask(authority="nobody.example")["status"] == 502
    assert closed.to(dst="192.0.2.1:12345", http=False) == {"BlackHoleCluster": 100}


def test_P62_a_sidecar_sees_only_its_egress_hosts(mesh):
    m = mesh("""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: ["./reviews.default.svc.cluster.local"]}]}
""")
    assert m.to(authority="reviews") == {cluster(): 100}
    assert m.to(authority="productpage") == {"PassthroughCluster": 100}


def test_P86_a_port_of_unknown_protocol_is_looked_at(mesh):
    m = mesh("""
apiVersion: v1
kind: Service
metadata: {name: unknown, namespace: default}
spec: {clusterIP: 10.96.2.3, selector: {app: reviews}, ports: [{port: 7000}]}
""")
    name = cluster(port=7000, host="unknown.default.svc.cluster.local")
    assert m.ask(dst="10.96.2.3:7000")["result"] == "http"
    assert m.to(dst="10.96.2.3:7000", authority="whatever") == {name: 100}
    got = m.ask(dst="10.96.2.3:7000", http=False)
    assert (got["result"], got["clusters"]) == ("tcp", {name: 100})


def test_inbound_connections_to_the_inbound_port_do_not_loop(mesh):
    assert mesh().to(inbound=True, dst="10.88.1.11:15006", http=False) == {"BlackHoleCluster": 100}


def test_inbound_ports_of_no_service_are_passed_through(mesh):
    assert mesh().to(inbound=True, dst="10.88.1.11:2222", http=False) == {"InboundPassthroughCluster": 100}


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["bookinfo.example.com"]}]
---
"""


def test_P45_P47_gateway_serves_its_hosts_only(mesh):
    m = mesh(GATEWAY + route("  - match: [{uri: {prefix: /r}}]\n" + TO_V2, hosts="[bookinfo.example.com, other.example.com]",
                             extra="gateways: [web]"), node="gateway")
    assert m.to(dst="10.88.1.2:8080", authority="bookinfo.example.com", path="/r") == {cluster("v2"): 100}
    assert m.to(dst="10.88.1.2:8080", authority="bookinfo.example.com:8080", path="/r") == {cluster("v2"): 100}
    assert m.ask(dst="10.88.1.2:8080", authority="bookinfo.example.com", path="/x")["status"] == 404
    assert m.ask(dst="10.88.1.2:8080", authority="other.example.com", path="/r")["status"] == 404
