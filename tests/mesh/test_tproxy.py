"""A pod whose traffic is captured with TPROXY (sidecar.istio.io/interceptionMode): its application sees the addresses of those who call."""
import json
import threading
import time

import pytest
import util
from lab import CLEAR, CLEAR6, CLEAR_IP, CLIENT, CLIENT6, HTTP, INGRESS_IP, MORE, OUT, OUT6, OUTSIDE, SIX, SIX6, TCP, rules
from mesh import ENVOY_ADMIN

SERVICE, SERVICE6 = "10.96.2.7", "fd96::7"
CLIENT_IP = "10.88.2.4"
ME = "spiffe://cluster.local/ns/default/sa/client"

SERVICES = f"""
Service clear/clear
  clusterIP: {SERVICE}
  selector: {{app: clear}}
  ports: [{{name: http, port: 80, targetPort: {HTTP}}}, {{name: http-more, port: 81, targetPort: {MORE}}}, {{name: tcp, port: {TCP}}}, {{name: http-local, port: 82, targetPort: 8082}}]
---
ServiceEntry clear/clear6
  hosts: [clear6.ext.example]
  addresses: ["{SERVICE6}"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {HTTP}}}, {{number: {TCP}, name: tcp, protocol: TCP}}]
  endpoints: [{{address: "{CLEAR6}", labels: {{security.istio.io/tlsMode: istio}}, serviceAccount: clear}}]
---
PeerAuthentication clear/strict
  mtls: {{mode: STRICT}}
"""
pytestmark = pytest.mark.skipif(not util.has_tproxy(), reason="this kernel has no tproxy for nftables")


@rules(SERVICES)
@pytest.mark.parametrize("pod, host, to, from_", [(CLIENT, "clear.clear", SERVICE, CLIENT_IP), (CLIENT, "clear6.ext.example", SERVICE6, CLIENT6),
                                                  (SIX, "clear6.ext.example", SERVICE6, SIX6)])
def test_A16_tproxy_the_application_sees_the_client_behind_mutual_tls(lab, pod, host, to, from_):
    got = lab.ask(host, pod=pod, to=to)
    assert got.status == 200 and got.version == "clear" and got.said["from"] == from_, got
    assert "By=spiffe://cluster.local/ns/clear/sa/clear" in got.said["headers"]["x-forwarded-client-cert"]
    (got,) = lab.talk(to, TCP, pod=pod)
    assert got.said["version"] == "clear" and got.said["from"] == from_, got


def test_S01_A16_tproxy_what_has_no_certificate_is_refused(lab):
    for to in CLEAR_IP, CLEAR6:
        assert lab.ask("clear.clear", pod=OUTSIDE, to=to, port=HTTP).status == 0


@rules("""
PeerAuthentication clear/plain
  selector: {matchLabels: {app: clear}}
  mtls: {mode: STRICT}
  portLevelMtls: {9000: {mode: PERMISSIVE}}
""")
@pytest.mark.parametrize("to, from_", [(CLEAR_IP, OUT["out-1"]), (CLEAR6, OUT6)])
def test_A16_tproxy_callers_outside_of_the_mesh_are_seen_too(lab, to, from_):
    (got,) = lab.talk(to, TCP, pod=OUTSIDE)
    assert got.said["version"] == "clear" and got.said["from"] == from_, got


def test_A16_tproxy_an_excluded_port_passes_by(lab):
    """It needs no certificate, and the proxy has not seen it."""
    for to, from_ in (CLEAR_IP, OUT["out-1"]), (CLEAR6, OUT6):
        got = lab.ask("clear.clear", pod=OUTSIDE, to=to, port=MORE)
        assert got.status == 200 and got.said["from"] == from_ and "x-envoy-upstream-service-time" not in got.headers, got


@rules("""
VirtualService clear/gate
  hosts: [clear.secure.test]
  gateways: [default/gates]
  http: [{route: [{destination: {host: clear.clear.svc.cluster.local, port: {number: 80}}}]}]
""")
def test_A16_tproxy_a_gateway_is_the_client(lab):
    got = lab.ask("clear.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8080)
    assert got.status == 200 and got.said["from"] == INGRESS_IP, got


def test_A16_tproxy_outbound_is_as_ever(lab):
    assert lab.version("echo.default", pod=CLEAR) in ("v1", "v2", "v3")
    assert lab.version("nobody.example", pod=CLEAR, to=OUT["out-1"], port=HTTP) == "out-1"


def test_A16_tproxy_a_pod_calls_itself_by_its_service(lab):
    """Its policies hold there, too, and its own address is the client's."""
    for host, to, own in ("clear.clear", SERVICE, CLEAR_IP), ("clear6.ext.example", SERVICE6, CLEAR6):
        got = lab.ask(host, pod=CLEAR, to=to)
        assert got.status == 200 and got.said["from"] == own, got
        assert "ns/clear/sa/clear" in got.said["headers"]["x-forwarded-client-cert"]


def test_A16_P63_tproxy_an_application_on_the_loopback(lab):
    """It could not answer the client's address."""
    with lab.change(f"""
Sidecar clear/local
  workloadSelector: {{labels: {{app: clear}}}}
  ingress: [{{port: {{number: 8082, protocol: HTTP, name: http-local}}, defaultEndpoint: "127.0.0.1:{HTTP}"}}]
"""):
        got = lab.ask("clear.clear", to=SERVICE, port=82)
        assert got.status == 200 and got.said["from"] == "127.0.0.6", got


def test_A16_tproxy_envoy_holds_what_pilot_says(lab):
    dump = json.loads(lab.curl(CLEAR, f"http://127.0.0.1:{ENVOY_ADMIN}/config_dump?resource=dynamic_listeners")[1])
    listeners = {c["name"]: c["active_state"]["listener"] for c in dump["configs"] if "active_state" in c}
    for name in "virtualInbound", "virtualOutbound":
        assert listeners[name]["transparent"] is True, name
    (source,) = [f for f in listeners["virtualInbound"]["listener_filters"] if f["name"] == "envoy.filters.listener.original_src"]
    assert source["typed_config"]["mark"] == 1337
    assert sum(l.get("transparent", False) for l in listeners.values()) == 2


def test_A16_tproxy_no_request_is_lost_under_load_and_while_capture_is_set_up_again(lab, figures):
    """Many connections of several clients, so that ports of clients meet ports that the proxy takes in their names."""
    agent, again = util.BUILD / "agent/agent", 0
    lost, seen, done = [], set(), threading.Event()

    def load(pod, host):
        while not done.is_set():
            for got in lab.ask_many(host, pod=pod, to=SERVICE, count=200, parallel=16, close=True):
                seen.add(got.said["from"] if got.status == 200 else None)
                lost.extend([got] if got.status != 200 else [])
            lost.extend(got for got in lab.talk(SERVICE, TCP, pod=pod, count=50, parallel=8) if got.error)
    threads = [threading.Thread(target=load, args=(pod, "clear.clear")) for pod in (CLIENT, CLEAR)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        lab.run_in(CLEAR, agent, "capture", "--proxy-mark", 1338, "--interception-mode", "TPROXY", "--exclude-inbound-ports", MORE)
        again += 1
    done.set()
    for thread in threads:
        thread.join()
    figures.add("TPROXY: capture set up again under load, times", again)
    assert not lost, (len(lost), lost[:3])
    assert seen == {CLIENT_IP, CLEAR_IP} and again > 3
