"""The tasks of traffic management that Istio's documentation teaches, as scenarios with services of our own: within the mesh, and the ways in."""
import textwrap

from lab import CLIENT, EARLY, HTTP, INGRESS_IP, OUT, OUTSIDE, SLACK, TCP, TLS, assert_share, rules, service
from test_gateway_modes import client_certificate, shake
from util import until

SUBSETS = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]"


def shop(name, number, ports=""):
    """A service in three versions, and the rule that names them."""
    return service(name, number, ports=ports) + f"DestinationRule {name}\n  host: {name}\n  {SUBSETS}\n---\n"


def routes(name, *http, more=""):
    return f"VirtualService {name}\n  hosts: [{name}]\n{more}  http:\n" + "".join(f"  - {{{rule}}}\n" for rule in http)


def to(name, version, weight=None):
    return f"{{destination: {{host: {name}, subset: {version}}}" + (f", weight: {weight}}}" if weight is not None else "}")


def step(lab, task, *texts):
    """The next state of a task's configuration."""
    lab.put(f"test_tasks-test_task_{task}", *texts)


JASON = {"end-user": "jason"}


@rules(shop("orders", 101), routes("orders", f"route: [{to('orders', 'v1')}]"))
def test_task_request_routing_P06_P12(lab):
    assert lab.versions("orders", count=10) == lab.versions("orders", count=10, headers=JASON) == {"v1": 10}
    step(lab, "request_routing_P06_P12", shop("orders", 101), routes(
        "orders", f"match: [{{headers: {{end-user: {{exact: jason}}}}}}], route: [{to('orders', 'v2')}]", f"route: [{to('orders', 'v1')}]"))
    until(lambda: lab.version("orders", headers=JASON) == "v2", 10)
    assert lab.versions("orders", count=10) == {"v1": 10} and lab.versions("orders", count=10, headers=JASON) == {"v2": 10}


def faulty(fault):
    return routes("stock", f"match: [{{headers: {{end-user: {{exact: jason}}}}}}], fault: {{{fault}}}, route: [{to('stock', 'v1')}]",
                  f"route: [{to('stock', 'v1')}]")


@rules(shop("stock", 102), faulty("delay: {percentage: {value: 100}, fixedDelay: 0.7s}"))
def test_task_fault_injection_P20(lab):
    got = lab.ask("stock", headers=JASON)
    assert got.status == 200 and got.ms >= 700 - EARLY
    assert lab.ask("stock").status == 200
    step(lab, "fault_injection_P20", shop("stock", 102), faulty("abort: {percentage: {value: 100}, httpStatus: 500}"))
    until(lambda: lab.ask("stock", headers=JASON).status == 500, 10)
    assert lab.versions("stock", count=10) == {"v1": 10}, "everybody else is well"


@rules(shop("bills", 103), routes("bills", f"route: [{to('bills', 'v1')}]"))
def test_task_traffic_shifting_P12(lab):
    assert lab.versions("bills", count=20) == {"v1": 20}
    step(lab, "traffic_shifting_P12", shop("bills", 103), routes("bills", f"route: [{to('bills', 'v1', 50)}, {to('bills', 'v3', 50)}]"))
    until(lambda: set(lab.versions("bills", count=20)) == {"v1", "v3"}, 10)
    assert_share(lab.versions("bills", count=200)["v3"], 200, 0.5)
    step(lab, "traffic_shifting_P12", shop("bills", 103), routes("bills", f"route: [{to('bills', 'v3')}]"))
    until(lambda: lab.versions("bills", count=20) == {"v3": 20}, 10)


def shifted(*weights):
    destinations = ", ".join(f"{{destination: {{host: lines, port: {{number: {TCP}}}, subset: {v}}}, weight: {w}}}" for v, w in zip(("v1", "v2"), weights))
    return shop("lines", 104) + f"""
Gateway lines
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 31400, name: tcp, protocol: TCP}}, hosts: ["*"]}}]
---
VirtualService lines
  hosts: ["*"]
  gateways: [lines]
  tcp: [{{match: [{{port: 31400}}], route: [{destinations}]}}]
"""


@rules(shifted(100, 0))
def test_task_tcp_traffic_shifting_P24(lab):
    def seen(count):
        found = [a.said["version"] for a in lab.talk(INGRESS_IP, 31400, count=count, pod=OUTSIDE)]
        return {v: found.count(v) for v in set(found)}

    assert seen(20) == {"v1": 20}
    step(lab, "tcp_traffic_shifting_P24", shifted(80, 20))
    until(lambda: "v2" in seen(20), 10)
    assert_share(seen(200)["v2"], 200, 0.2)


@rules(shop("slow", 105), routes("slow", f"route: [{to('slow', 'v2')}]"))
def test_task_request_timeouts_P18(lab):
    late = {"x-do": "delay=9"}
    assert lab.ask("slow", headers={"x-do": "delay=1"}).status == 200, "by default there is no timeout"
    step(lab, "request_timeouts_P18", shop("slow", 105), routes("slow", f"route: [{to('slow', 'v2')}], timeout: 0.5s"))
    until(lambda: lab.ask("slow", headers={"x-do": "delay=1"}).status == 504, 10)
    got = lab.ask("slow", headers=late)
    assert 500 - EARLY <= got.ms < 500 + SLACK, got


@rules(service("busy", 106), """
DestinationRule busy
  host: busy
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 180s, maxEjectionPercent: 100}
  subsets: [{name: v1, labels: {version: v1}}]
---
VirtualService busy
  hosts: [busy]
  http: [{route: [{destination: {host: busy, subset: v1}}]}]
""")
def test_task_circuit_breaking_P37_P38(lab):
    assert lab.versions("busy", count=10) == {"v1": 10}
    refused = {}
    for callers in (2, 4, 8):
        got = lab.ask_many("busy", count=3 * callers, parallel=callers, headers={"x-do": "delay=0.05"})
        assert {a.status for a in got} <= {200, 503}
        refused[callers] = sum(a.headers.get("x-envoy-overloaded") == "true" for a in got) / len(got)
    assert refused[8] > 0.3 and refused[8] > refused[2], refused
    (overflows,) = lab.envoy_stats(CLIENT, r"\|v1\|busy.*upstream_rq_pending_overflow$").values()
    assert int(overflows) > 0
    assert lab.ask("busy", headers={"x-do": "status=500"}).status == 500
    until(lambda: lab.ask("busy").status == 503 and "no healthy upstream" in lab.ask("busy").text, 5, "the only endpoint is ejected")


@rules(shop("copied", 107), routes("copied", f"route: [{to('copied', 'v1')}]"))
def test_task_mirroring_P21(lab):
    lab.ask_many("copied", count=5, headers={"x-key": "before"})
    assert lab.came("before") == {"v1": 5, "v2": 0, "v3": 0}
    step(lab, "mirroring_P21", shop("copied", 107), routes(
        "copied", f"route: [{to('copied', 'v1', 100)}], mirror: {{host: copied, subset: v2}}, mirrorPercentage: {{value: 100}}"))

    def is_copied():
        lab.ask("copied", headers={"x-key": "try"})
        return lab.came("try")["v2"]
    until(is_copied, 10)
    assert lab.versions("copied", count=5, headers={"x-key": "after"}) == {"v1": 5}
    until(lambda: len(lab.taken("default/echo-v2", "after", forget=False)["requests"]) == 5, 10)
    assert lab.came("after") == {"v1": 5, "v2": 5, "v3": 0}


def regions(name, number, setting):
    """A service of workloads in three regions; the client is in r1/z1."""
    workloads = "---\n".join(f"WorkloadEntry {name}-{out}\n  address: {OUT[out]}\n  labels: {{app: {name}}}\n  locality: {place}\n" for out, place in (
        ("out-1", "r1/z1/s1"), ("out-2", "r2/z2"), ("out-3", "r3/z3")))
    return service(name, number, f"{{app: {name}}}") + workloads + f"""---
DestinationRule {name}
  host: {name}.default.svc.cluster.local
  trafficPolicy:
    connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}
    loadBalancer: {{simple: ROUND_ROBIN, localityLbSetting: {{enabled: true, {setting}}}}}
    outlierDetection: {{consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}
"""


@rules(regions("near", 108, "failover: [{from: r1, to: r3}]"))
def test_task_locality_failover_P33_P60(lab):
    assert lab.versions("near", count=20) == {"out-1": 20}
    for failing, then in (("out-1", "out-3"), ("out-3", "out-2")):
        assert lab.ask("near", headers={f"x-do-{failing}": "status=503"}).status == 503
        until(lambda v=then: lab.versions("near", count=10) == {v: 10}, 5, then)


@rules(regions("shared", 109, 'distribute: [{from: "r1/z1/*", to: {"r1/z1/*": 70, "r2/z2/*": 20, "r3/z3/*": 10}}]'))
def test_task_locality_weighted_distribution_P33(lab):
    seen = lab.versions("shared", count=400, parallel=2)
    for name, share in (("out-1", 0.7), ("out-2", 0.2), ("out-3", 0.1)):
        assert_share(seen[name], 400, share)


# ---- the ways in

def way_in(hosts):
    return f"""
Gateway door
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 8501, name: http, protocol: HTTP}}, hosts: [{hosts}]}}]
---
VirtualService door
  hosts: [{hosts}]
  gateways: [door]
  http: [{{match: [{{uri: {{prefix: /status}}}}, {{uri: {{prefix: /delay}}}}], route: [{{destination: {{host: echo, port: {{number: 80}}}}}}]}}]
"""


@rules(way_in("door.example"))
def test_task_ingress_gateways_P45_P47(lab):
    def status(host, path):
        return lab.ask(host, path, pod=OUTSIDE, to=INGRESS_IP, port=8501).status

    assert status("door.example", "/status/1") == status("door.example", "/delay") == 200
    assert status("door.example", "/headers") == status("other.example", "/status") == 404
    step(lab, "ingress_gateways_P45_P47", way_in('"*"'))
    until(lambda: status("other.example", "/status") == 200, 10, "any host, as for a browser")
    assert status("any.example", "/headers") == 404


def secret(name, **files):
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData:\n"
    return text + "".join(f"  {key}: |\n{textwrap.indent(path.read_text(), '    ')}" for key, path in files.items())


SECURE = """
Gateway safe
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8502, name: one, protocol: HTTPS}, hosts: [one.safe.example], tls: {mode: SIMPLE, credentialName: one}}
  - {port: {number: 8502, name: two, protocol: HTTPS}, hosts: [two.safe.example], tls: {mode: MODE, credentialName: two}}
---
VirtualService one
  hosts: [one.safe.example]
  gateways: [safe]
  http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: echo, port: {number: 80}, subset: v1}}]}]
---
VirtualService two
  hosts: [two.safe.example]
  gateways: [safe]
  http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: echo, port: {number: 80}, subset: v2}}]}]
"""


@rules(SECURE.replace("MODE", "SIMPLE"))
def test_task_secure_gateways_P48_P49_P98(lab):
    """Several hosts, each with a Secret of its own; another certificate; then mutual TLS for one of them."""
    issue = lab.certificates.issue
    one, two = issue("one", "one.safe.example"), issue("two", "two.safe.example")
    lab.put("secrets", secret("one", **{"tls.crt": one[0], "tls.key": one[1]}), secret("two", **{"tls.crt": two[0], "tls.key": two[1]}))
    try:
        for name, version in (("one", "v1"), ("two", "v2")):
            good, text = until(lambda n=name: (r := shake(lab, 8502, f"{n}.safe.example"))[0] and r, 10)
            assert good and f"CN = {name}" in text and f'"version": "{version}"' in text
        again = issue("again", "one.safe.example")
        lab.put("secrets", secret("one", **{"tls.crt": again[0], "tls.key": again[1]}),
                secret("two", **{"tls.crt": two[0], "tls.key": two[1], "ca.crt": lab.certificates.ca}))
        until(lambda: "CN = again" in shake(lab, 8502, "one.safe.example")[1], 10, "the other certificate")
        step(lab, "secure_gateways_P48_P49_P98", SECURE.replace("MODE", "MUTUAL"))
        until(lambda: not shake(lab, 8502, "two.safe.example")[0], 10, "a client without a certificate is refused")
        assert shake(lab, 8502, "two.safe.example", *client_certificate(lab))[0] and shake(lab, 8502, "one.safe.example")[0]
    finally:
        (lab.dir / "rules/secrets.yaml").unlink()


@rules(service("safe-inside", 110, "{app: echo, version: v2}", f"[{{name: https, port: 443, targetPort: {TLS}}}]"), """
Gateway untouched
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8503, name: https, protocol: HTTPS}, hosts: [tls.echo.example], tls: {mode: PASSTHROUGH}}]
---
VirtualService untouched
  hosts: [tls.echo.example]
  gateways: [untouched]
  tls: [{match: [{port: 8503, sniHosts: [tls.echo.example]}], route: [{destination: {host: safe-inside, port: {number: 443}}}]}]
""")
def test_task_ingress_without_tls_termination_P48_P23(lab):
    (got,) = lab.talk(INGRESS_IP, 8503, pod=OUTSIDE, tls={"name": "tls.echo.example", "ca": str(lab.certificates.ca)})
    assert got.said["version"] == "v2" and got.said["tls"]["sni"] == "tls.echo.example", "the server's own certificate was verified"


SIDECAR_TLS = f"""
PeerAuthentication ends-tls
  selector: {{matchLabels: {{version: v1}}}}
  mtls: {{mode: STRICT}}
  portLevelMtls: {{9080: {{mode: DISABLE}}}}
---
Sidecar ends-tls
  workloadSelector: {{labels: {{version: v1}}}}
  ingress:
  - {{port: {{number: 9080, protocol: HTTPS, name: outer}}, defaultEndpoint: "0.0.0.0:{HTTP}", tls: {{mode: SIMPLE, serverCertificate: CERTS/server.pem, privateKey: CERTS/server.key}}}}
  - {{port: {{number: 9081, protocol: HTTP, name: inner}}, defaultEndpoint: "0.0.0.0:{HTTP}"}}
---
Service ends-tls
  clusterIP: 10.96.3.111
  selector: {{app: echo, version: v1}}
  ports: [{{name: https, port: 8443, targetPort: 9080}}, {{name: http, port: 8080, targetPort: 9081}}]
---
DestinationRule ends-tls
  host: ends-tls.default.svc.cluster.local
  trafficPolicy: {{portLevelSettings: [{{port: {{number: 8080}}, tls: {{mode: ISTIO_MUTUAL}}}}]}}
---
Gateway ends-tls
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 8504, name: https, protocol: HTTPS}}, hosts: [ends.secure.test], tls: {{mode: PASSTHROUGH}}}}]
---
VirtualService ends-tls
  hosts: [ends.secure.test]
  gateways: [ends-tls]
  tls: [{{match: [{{port: 8504, sniHosts: [ends.secure.test]}}], route: [{{destination: {{host: ends-tls, port: {{number: 8443}}}}}}]}}]
"""


def test_task_ingress_sidecar_tls_termination_P63_S01(lab):
    with lab.change(SIDECAR_TLS):
        tls = {"name": "ends.secure.test", "ca": str(lab.certificates.ca)}
        got = until(lambda: [a for a in lab.ask_many("ends.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8504, tls=tls) if a.status == 200], 10)[0]
        assert got.version == "v1" and got.said["tls"] is None and got.tls["names"][0] == "*.ext.example", "the sidecar ended the TLS of the client"
        got = lab.ask("ends-tls:8080", to="10.96.3.111", port=8080)
        assert got.version == "v1" and "ns/default/sa/client" in got.said["headers"]["x-forwarded-client-cert"], "and the mesh has its own port"
        assert lab.ask("ends-tls:8080", pod=OUTSIDE, to="10.88.2.11", port=9081).status == 0, "where plaintext is refused"
