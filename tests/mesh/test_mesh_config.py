"""What the mesh config says to all proxies, by real requests: one configuration, whose parts do not meet."""
import json
import pathlib
import subprocess
import sys

import pytest
from lab import CALLER, CLIENT, ECHO, ENOUGH, FIRST, HTTP, INGRESS_IP, OUT, OUTSIDE, TCP, rules, service
from mesh import ENVOY_ADMIN
from test_balancing import connections, external, policy
from util import until

V1 = "10.88.2.11"
RECEIVER = pathlib.Path(__file__).parents[1] / "daemons/service_receiver.py"
CLIENT_IS = {"workload": "client", "namespace": "default", "app": "client", "cluster": "Kubernetes", "canonical-service": "client"}
FORMAT = "%REQ(:METHOD)% %REQ(X-KEY)% %RESPONSE_CODE% %UPSTREAM_CLUSTER%"


MESH = f"""
MeshConfig default
  defaultConfig: {{terminationDrainDuration: 1s}}
  accessLogFile: /dev/stdout
  enableEnvoyAccessLogService: true
  accessLogFormat: "seen {FORMAT}\\n"
  defaultTrafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 1}}, tcp: {{tcpKeepalive: {{time: 77s}}}}}}}}
  defaultHttpRetryPolicy: {{attempts: 4, retryOn: "connect-failure,418"}}
  proxyHttpPort: 15007
  connectTimeout: 1s
  tcpKeepalive: {{time: 88s}}
  protocolDetectionTimeout: 0.3s
  inboundTrafficPolicy: {{mode: LOCALHOST}}
  pathNormalization: {{normalization: DECODE_AND_MERGE_SLASHES}}
  outboundClusterStatName: "out_%SERVICE%_%SERVICE_PORT%"
  inboundClusterStatName: "in_%SERVICE%_%TARGET_PORT%"
  meshMTLS: {{minProtocolVersion: TLSV1_3}}
  tlsDefaults: {{ecdhCurves: [P-384]}}
  serviceEntryVisibility:
    applyToSidecars: true
    policies: [{{visibility: NAMESPACE, matchingRules: [{{namespaceSelector: {{matchLabels: {{tier: low}}}}}}]}}]
"""


@rules(external("p43", "out-1"), external("p43own", "out-1"), policy("p43own", "{connectionPool: {http: {maxRetries: 9}}}"))
def test_P43_a_rule_without_a_pool_has_the_meshs(lab):
    assert connections(lab, "p43.ext.example") == 10 and connections(lab, "p43own.ext.example") == 1


@rules(external("p118", "out-1"), policy("p118", "{connectionPool: {http: {maxRetries: 9}}}"), external("p118c", "out-1").replace(OUT["out-1"], "10.88.77.77"),
       "VirtualService p118c\n  hosts: [p118c.ext.example]\n  http: [{retries: {attempts: 0}, route: [{destination: {host: p118c.ext.example}}]}]")
def test_P118_times_ports_and_protocols_of_the_mesh(lab):
    got = lab.ask("p118.ext.example", to="127.0.0.1", port=15007)
    assert got.version == "out-1", "as an HTTP proxy"
    got = lab.ask("p118c.ext.example")
    assert got.status == 503 and "timeout" in got.text and 990 <= got.ms < 4000, got
    assert lab.ask("p118.ext.example").status == 200
    sockets = lab.run_in(CLIENT, "ss", "-tnoH", "dst", OUT["out-1"])
    assert "timer:(keepalive,1min2" in sockets, sockets


def test_P119_the_application_is_called_on_the_loopback(lab):
    assert lab.ask("echo", pod=OUTSIDE, to=V1, port=HTTP).said["from"] == "127.0.0.1"


@rules(external("p119", "out-1"))
@pytest.mark.parametrize("path, seen", [("/a//b", "/a/b"), ("/a/../b", "/b"), ("/a%2Fb", "/a/b"), ("/a%5c..%5Cb", "/b")])
def test_P119_paths_are_made_normal(lab, path, seen):
    assert lab.ask("p119.ext.example", path).said["path"] == seen


@rules(external("p120", "out-1"))
def test_P120_requests_are_logged_as_the_mesh_says(lab):
    # Envoy writes when it has 64 kB, or every ten seconds.
    key = "p120" + 500 * "x"
    lab.ask_many("p120.ext.example", count=200, headers={"x-key": key})
    until(lambda: f"seen GET {key} 200 out_p120.default_80" in (lab.pod_dir(CLIENT) / "agent.log").read_text(), 10)
    lab.ask("echo", pod=OUTSIDE, to=V1, port=HTTP)
    assert lab.envoy_stats("default/echo-v1", r"cluster.in_echo.default_8080.upstream_rq_total$")


@pytest.fixture
def receiver(lab, tmp_path):
    with open(tmp_path / "said", "w+") as said:
        process = subprocess.Popen([*lab.enter(), sys.executable, "-B", RECEIVER, "10.88.0.1"], stdout=said)
        until(lambda: (tmp_path / "said").read_text())
        yield lambda **has: [e for e in map(json.loads, (tmp_path / "said").read_text().rpartition("\n")[0].splitlines()) if has.items() <= e.items()]
        process.kill()
        process.wait()


def test_P120_the_access_log_service_hears_who_called(lab, receiver):
    lab.ask_many("echo", "/p120als", count=ENOUGH)
    at_server = until(lambda: receiver(path="/p120als", cluster=f"inbound|{HTTP}||"), 30)
    assert at_server[0]["states"] == {"fairlead.peer." + k: v for k, v in CLIENT_IS.items()}, at_server
    assert until(lambda: receiver(kind="tcp", log="tcp_envoy_accesslog") or not lab.talk(ECHO, TCP), 30)


def test_P124_a_proxy_has_what_resources_of_its_namespace_say(lab):
    def of(pod):
        info = json.loads(lab.curl(pod, f"http://127.0.0.1:{ENVOY_ADMIN}/server_info")[1])
        return info["command_line_options"]["concurrency"], info["node"]["metadata"]

    (workers, said), (others_workers, others) = of(CALLER), of(CLIENT)
    assert (workers, said["SAID_BY"], said["OF_ALL"]) == (2, "namespace", "yes"), "what selects it, then what its namespace says, then the root"
    assert (others_workers, others["SAID_BY"], others["OF_ALL"]) == (1, "root", "yes")
    assert others["PROXY_CONFIG"]["terminationDrainDuration"] == "1.000s", "the mesh config's, below all"


@pytest.mark.parametrize("version, good", [("tls1_3", True), ("tls1_2", False)])
def test_P123_tls_between_workloads_is_1_3(lab, version, good):
    command = f"openssl s_client -connect {V1}:{HTTP} -alpn istio -brief -{version} </dev/null 2>&1"
    text = lab.run_in(None, "sh", "-c", command, check=False)
    assert ("Protocol version: TLSv1.3" in text) == good and ("protocol version" in text) != good, text


@pytest.mark.parametrize("curve, good", [("P-384", True), ("P-256", False)])
def test_P123_tls_elsewhere_has_the_meshs_curves(lab, curve, good):
    ended, text = lab.openssl(f"{INGRESS_IP}:8443", "any.secure.test", "-groups", curve,
                              text="GET / HTTP/1.1\r\nHost: any.secure.test\r\nConnection: close\r\n\r\n")
    assert ended == good and ("Verification: OK" in text) == good, text


@rules(external("p123", "out-1"))
def test_P123_P18_requests_are_tried_again_as_the_mesh_says(lab):
    got = lab.ask("p123.ext.example", headers={"x-key": "p123r", "x-do": "status=418"})
    assert got.status == 418, got.text
    assert len(lab.taken("outside/out-1", "p123r")["requests"]) == 5


@rules(external("p58", "out-1").replace("ServiceEntry p58", "ServiceEntry other/p58"),
       "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {tier: low}}\n", """
Sidecar only-known
  workloadSelector: {labels: {app: client}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["*/*"]}]
---
Sidecar other/only-known
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["*/*"]}]
""")
def test_P58_service_entries_of_a_namespace_are_its_own(lab):
    assert lab.ask("p58.ext.example", pod=CALLER).status == 200
    assert lab.ask("p58.ext.example").status == 502


@rules(f"""
apiVersion: v1
kind: Service
metadata: {{name: p94, namespace: default, annotations: {{networking.istio.io/exportTo: other}}}}
spec: {{clusterIP: 10.96.3.94, selector: {{app: echo, version: v1}}, ports: [{{name: http, port: 80, targetPort: {HTTP}}}]}}
""")
def test_P94_services_are_seen_where_they_are_exported_to(lab):
    assert lab.version("p94.default", pod=CALLER) == "v1"
    assert lab.ask("p94.default").status == 502


@rules(service("p86", 86, "{app: echo, version: v1}", f"[{{name: '', port: {FIRST}}}]"))
def test_P86_a_server_that_speaks_first_is_heard_after_the_timeout(lab):
    """On a port of unknown protocol both proxies look at what the client says first."""
    script = "import socket, sys; s = socket.create_connection(('10.96.3.86', int(sys.argv[1])), 10); s.settimeout(10); print(s.recv(99).decode())"
    assert lab.run_in(CLIENT, "python3", "-c", script, FIRST).strip() == "v1 speaks"
