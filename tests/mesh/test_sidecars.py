"""What a Sidecar imports, binds and limits, and whose Sidecar counts, by real requests. A workload has one Sidecar, so that some tests share one: those
of client, of the namespace and of the root namespace are P65's, that of echo-v1 is P64's."""
import pytest
from lab import CALLER, CLIENT, HTTP, OUT, OUTSIDE, TCP, rules
from test_balancing import external
from test_limits import statuses

V1, V2 = "default/echo-v1", "default/echo-v2"
IP = {V1: "10.88.2.11", V2: "10.88.2.12"}
SETTLED = "default/*.example.com"  # the host by which the lab sees that a configuration is in force
REGISTRY = "  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"


@rules(external("p65w", "out-1"), external("p65n", "out-2"), external("p65r", "out-3"),
       f"Sidecar istio-system/root\n{REGISTRY}  egress: [{{hosts: ['*/p65r.ext.example', {SETTLED}]}}]\n---\n"
       f"Sidecar everyone\n{REGISTRY}  egress: [{{hosts: ['./p65n.ext.example', {SETTLED}]}}]\n  inboundConnectionPool: {{http: {{http2MaxRequests: 2}}}}\n---\n"
       f"""Sidecar mine
  workloadSelector: {{labels: {{app: client}}}}
{REGISTRY}  egress:
  - {{port: {{number: 9062, protocol: HTTP, name: http}}, bind: 127.0.0.62, captureMode: NONE, hosts: ["./p62b.ext.example"]}}
  - {{port: {{number: 9063, protocol: TCP, name: tcp}}, bind: 127.0.0.62, captureMode: NONE, hosts: ["./p62t.ext.example"]}}
  - {{port: {{number: 0, protocol: HTTP, name: socket}}, bind: "unix://CERTS/p62.sock", hosts: ["./p62b.ext.example"]}}
  - hosts: ["./*", "~./p65n.ext.example", "~/p65r.ext.example"]
""")
@pytest.mark.parametrize("pod, seen", [(CLIENT, "p65w"), (V2, "p65n"), (CALLER, "p65r")])
def test_P65_P62_the_workloads_sidecar_before_the_namespaces_before_the_roots(lab, pod, seen):
    for host in ("p65w", "p65n", "p65r"):
        status = lab.ask(f"{host}.ext.example", pod=pod).status
        assert status == (200 if host == seen else 502), (pod, host, status)


@rules(external("p62b", "out-1", port=9062), f"""
ServiceEntry p62t
  hosts: [p62t.ext.example]
  ports: [{{number: 9063, name: tcp, protocol: TCP, targetPort: {TCP}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-2']}}}]
""")
def test_P62_listeners_that_a_sidecar_binds(lab):
    assert lab.version("p62b.ext.example", to="127.0.0.62", port=9062) == "out-1"
    assert lab.version("p65w.ext.example", to="127.0.0.62", port=9062).startswith("502"), "it imports one host"
    (got,) = lab.talk("127.0.0.62", 9063)
    assert got.said["version"] == "out-2"
    socket = lab.certificates.folder / "p62.sock"
    assert lab.curl(CLIENT, "http://p62b.ext.example/", "--unix-socket", socket)[0] == 200
    assert lab.curl(CLIENT, "http://p65w.ext.example/", "--unix-socket", socket)[0] == 502


def marks(name, namespace, header):
    return (f"VirtualService {namespace}/{name}\n  hosts: [p62v.ext.example]\n  http: [{{headers: {{request: {{set: {{{header}: '1'}}}}}}, "
            f"route: [{{destination: {{host: p62v.ext.example}}}}]}}]\n---\n")


@rules(external("p62v", "out-1"), marks("p62v", "other", "x-foreign"))
def test_P62_routes_of_a_namespace_that_is_not_imported_do_not_count(lab):
    assert "x-foreign" not in lab.ask("p62v.ext.example").said["headers"]
    with lab.change(marks("p62v", "default", "x-own")):
        assert lab.ask("p62v.ext.example").said["headers"]["x-own"] == "1"


@rules(external("p64p", "out-1"), f"""
Sidecar one
  workloadSelector: {{labels: {{app: echo, version: v1}}}}
  outboundTrafficPolicy: {{mode: ALLOW_ANY, egressProxy: {{host: p64p.ext.example, port: {{number: 80}}}}}}
  egress: [{{hosts: ["./p64p.ext.example", {SETTLED}]}}]
  ingress:
  - port: {{number: {HTTP}, protocol: HTTP, name: http}}
    defaultEndpoint: 127.0.0.1:{HTTP}
    connectionPool: {{tcp: {{maxConnections: 1}}, http: {{http1MaxPendingRequests: 1}}}}
  - {{port: {{number: 9163, protocol: HTTP, name: socket}}, defaultEndpoint: "unix://CERTS/echo-v1.sock"}}
""")
@pytest.mark.parametrize("port", [80, HTTP])
def test_P64_what_nobody_knows_goes_to_the_egress_proxy(lab, port):
    """By its Host on a port that has HTTP services, by address elsewhere."""
    assert lab.version("nobody.example", pod=V1, to=OUT["out-2"], port=port) == "out-1"


@pytest.mark.parametrize("pod", [V1, V2])
def test_P63_limits_of_an_ingress_listener_and_of_the_sidecar(lab, pod):
    """One connection and one request that waits; two requests."""
    lab.ask("echo", pod=OUTSIDE, to=IP[pod], port=HTTP)  # its connection is there: a request that waits for one counts as waiting
    got = lab.ask_many("echo", pod=OUTSIDE, to=IP[pod], port=HTTP, count=20, parallel=20, headers={"x-do": "delay=1"})
    assert statuses(got) == {200: 2, 503: 18}


def test_P63_an_application_on_a_unix_socket(lab):
    got = lab.ask("echo", pod=OUTSIDE, to=IP[V1], port=9163)
    assert got.version == "v1" and got.said["from"] == "unix", got
