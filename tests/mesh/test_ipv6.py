"""IPv6 with live traffic: pods of both families and one of IPv6 alone, whose agent reaches the control plane by it, too."""
import pytest
from lab import CLIENT, CLIENT6, ENOUGH, HTTP, INGRESS_IP, INGRESS6, OUT6, OUTSIDE, SIX, SIX6, TCP, rules

SERVICE6 = "fd96::6"
ME = "spiffe://cluster.local/ns/default/sa/client"

SIX_SERVICE = f"""
Service six/six
  clusterIP: {SERVICE6}
  selector: {{app: six}}
  ports: [{{name: http, port: 80, targetPort: {HTTP}}}, {{name: tcp, port: {TCP}}}]
---
"""


def bracketed(address):
    return f"[{address}]"


def test_P83_a_pod_of_ipv6_alone_is_in_the_mesh(lab):
    assert lab.run_in(SIX, "ip", "-4", "-o", "address", "show", "dev", "eth0") == ""
    assert lab.run_file(SIX)["pid"] and lab.admin(SIX).ask("/healthz/ready")[0] == 200
    for port in (15020, 15021):
        assert lab.curl(None, f"http://{bracketed(SIX6)}:{port}/healthz/ready")[0] == 200, "as a kubelet asks"
    assert "envoy" in lab.curl(None, f"http://{bracketed(SIX6)}:15090/stats/prometheus")[1]


@rules(SIX_SERVICE)
def test_P83_P40_A16_mutual_tls_over_ipv6_to_a_service_with_an_address_of_ipv6(lab):
    got = lab.ask("six.six", to=SERVICE6)
    assert got.status == 200 and got.version == "six", got
    assert ME in got.said["headers"]["x-forwarded-client-cert"]
    assert got.said["from"] == "::6", "the server's proxy passed it on, from where capture lets it pass"
    (got,) = lab.talk(SERVICE6, TCP)
    assert got.said["version"] == "six" and got.said["from"] == "::6"
    assert lab.version(bracketed(SERVICE6), to=SERVICE6) == "six", "the address is a name of it"


@rules("""
PeerAuthentication six/strict
  selector: {matchLabels: {app: six}}
  mtls: {mode: STRICT}
""")
def test_S01_A16_what_comes_in_by_ipv6_is_captured(lab):
    got = lab.ask("six.six", pod=OUTSIDE, to=SIX6, port=HTTP)
    assert got.status == 0, "who has no certificate is refused"
    assert lab.version("six.six", to=SERVICE6) == "six"


@rules(f"""
ServiceEntry out6
  hosts: [out6.ext.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: "{OUT6}", ports: {{http: {HTTP}}}}}]
---
VirtualService out6
  hosts: [out6.ext.example]
  http: [{{headers: {{request: {{set: {{x-ruled: '6'}}}}}}, route: [{{destination: {{host: out6.ext.example}}}}]}}]
""")
@pytest.mark.parametrize("pod", [CLIENT, SIX])
def test_P53_P55_a_host_outside_by_the_address_that_was_allocated(lab, pod):
    """An application without IPv4 has only the allocated address of IPv6 to call."""
    virtual = next(d[1:-1] for h in lab.routes(pod, "80") if h["name"] == "out6.ext.example:80" for d in h["domains"] if d.startswith("[2001:2:") and d.endswith("]"))
    got = lab.ask("out6.ext.example", pod=pod, to=virtual)
    assert got.status == 200 and got.version == "out-1" and got.said["headers"]["x-ruled"] == "6", got
    assert got.said["from"] == {CLIENT: CLIENT6, SIX: SIX6}[pod]


def test_P64_A16_unknown_addresses_of_ipv6_pass(lab):
    for pod in (CLIENT, SIX):
        assert lab.version("nobody.example", pod=pod, to=OUT6, port=HTTP) == "out-1"
        (got,) = lab.talk(OUT6, TCP, pod=pod)
        assert got.said["version"] == "out-1"


@rules("""
VirtualService gate6
  hosts: [six.secure.test]
  gateways: [gates]
  http: [{route: [{destination: {host: six.six.svc.cluster.local, port: {number: 80}}}]}]
""")
def test_P46_P83_a_gateway_listens_by_both_families(lab):
    for address in (INGRESS6, INGRESS_IP):
        got = lab.ask("six.secure.test", pod=OUTSIDE, to=address, port=8080)
        assert got.status == 200 and got.version == "six", (address, got)
        assert "sa/istio-ingressgateway" in got.said["headers"]["x-forwarded-client-cert"]
    good, text = lab.openssl(f"{bracketed(INGRESS6)}:8443", "six.secure.test", text="GET / HTTP/1.1\r\nHost: six.secure.test\r\nConnection: close\r\n\r\n")
    assert good and "Verification: OK" in text, text


@rules(f"""
Service both
  clusterIP: 10.96.3.83
  clusterIPs: [10.96.3.83, "fd96::83"]
  selector: {{app: echo}}
  ports: [{{name: http, port: 80, targetPort: {HTTP}}}]
""")
def test_P83_a_service_of_both_families_is_reached_by_each(lab):
    for address in ("10.96.3.83", "fd96::83"):
        assert set(lab.versions("both", to=address, count=ENOUGH)) == {"v1", "v2", "v3"}, address
