"""Service entries and the way out, on real Envoys: names that a resolver knows, addresses, wildcards, workloads, TLS that the proxy begins."""
import textwrap

import pytest
from lab import CALLER, CLIENT, ECHO, ENOUGH, HTTP, HTTPS, INGRESS_IP, OUT, OUTSIDE, TCP, rules, service
from util import until


NAMES = {f"{name}.example": [OUT[o] for o in outs] for name, outs in {
    "p53dns.ext": ["out-1", "out-2"], "p53rr.ext": ["out-3"], "real.ext": ["out-1"], "other.ext": ["out-2"], "p53gate.ext": ["out-2"],
    "some.dyn.wild": ["out-3"]}.items()}


def entry(name, hosts, spec, port=80, protocol="HTTP", target=""):
    target = f", targetPort: {target}" if target else ""
    return f"ServiceEntry {name}\n  hosts: {hosts}\n  ports: [{{number: {port}, name: p, protocol: {protocol}{target}}}]\n  {spec}\n---\n"


@rules(entry("p53dns", "[p53dns.ext.example]", "resolution: DNS", target=HTTP),
       entry("p53rr", "[p53rr.ext.example]", "resolution: DNS_ROUND_ROBIN", target=HTTP),
       entry("p53end", "[p53end.ext.example]", "resolution: DNS\n  endpoints: [{address: real.ext.example, ports: {p: 8080}}, {address: other.ext.example, ports: {p: 8081}}]"))
def test_P53_hosts_by_dns(lab):
    until(lambda: set(lab.versions("p53dns.ext.example", count=8)) == {"out-1", "out-2"}, 15, "both addresses are used")
    until(lambda: lab.versions("p53rr.ext.example", count=3) == {"out-3": 3}, 15)
    until(lambda: set(lab.versions("p53end.ext.example", count=8)) == {"out-1", "out-2"}, 15, "each endpoint is a name")
    ports = {a.said["port"] for a in lab.ask_many("p53end.ext.example", count=8)}
    assert ports == {8080, 8081}
    lab.names(CLIENT, {"p53dns.ext.example": [OUT["out-3"]]})
    until(lambda: lab.versions("p53dns.ext.example", count=8) == {"out-3": 8}, 20, "the new address, when the old answer has aged")
    assert lab.names(CLIENT)["p53dns.ext.example"] >= 2


@rules(entry("p53none", "[p53none.ext.example]", "addresses: [10.88.3.0/24]\n  resolution: NONE", TCP, "TCP"),
       entry("p53nohttp", "[p53nohttp.ext.example]", "resolution: NONE", HTTP))
def test_P53_addresses_that_the_caller_knows(lab):
    for name, address in OUT.items():
        (got,) = lab.talk(address, TCP)
        assert got.said["version"] == name
    (count,) = lab.envoy_stats(CLIENT, r"outbound\|9000\|\|p53none.*upstream_cx_total$").values()
    assert int(count) == 3, "they went by the entry, not past it"
    assert lab.version("p53nohttp.ext.example", to=OUT["out-2"], port=HTTP) == "out-2"
    (count,) = lab.envoy_stats(CLIENT, r"outbound\|8080\|\|p53nohttp.*upstream_rq_total$").values()
    assert int(count) == 1


@rules(entry("p54", '["*.wild.example"]', "resolution: NONE").replace("ports: [", "ports: [{number: 443, name: tls, protocol: TLS}, "),
       entry("p54dyn", '["*.dyn.wild.example"]', "resolution: DYNAMIC_DNS", 443, "TLS"),
       entry("p54one", "[one.wild.example]", f"resolution: STATIC\n  endpoints: [{{address: {OUT['out-3']}, ports: {{p: {HTTP}}}}}]"),
       entry("p54rule", '["*.rule.example"]', "resolution: NONE"),
       "VirtualService p54\n  hosts: ['*.rule.example']\n  http: [{headers: {request: {set: {x-wild: '1'}}}, route: [{destination: {host: '*.rule.example'}}]}]")
def test_P54_wildcard_hosts(lab):
    got = lab.ask("any.wild.example", to=OUT["out-2"])
    assert got.version == "out-2" and got.said["port"] == 80
    got = lab.ask("any.rule.example", to=OUT["out-3"])
    assert got.version == "out-3" and got.said["headers"]["x-wild"] == "1", "a wildcard host has rules as any other"
    assert lab.version("one.wild.example", to=OUT["out-2"]) == "out-3", "the exact host is more specific"
    tls = {"name": "any.wild.example", "ca": str(lab.certificates.ca)}
    got = lab.ask("any.wild.example", to=OUT["out-1"], port=443, tls=tls)
    assert got.version == "out-1" and got.said["tls"]["sni"] == "any.wild.example"
    assert [*lab.envoy_stats(CLIENT, r"outbound\|443\|\|\*.wild.*upstream_cx_total$").values()] == ["1"]
    # The name in the handshake is looked up, whatever address the caller had.
    got = lab.ask("some.dyn.wild.example", to=OUT["out-1"], port=443, tls={**tls, "name": "some.dyn.wild.example", "any_name": True})
    assert got.version == "out-3" and got.said["tls"]["sni"] == "some.dyn.wild.example", got


@rules(*(entry(name, f"[{name}.ext.example]", f"resolution: STATIC\n  endpoints: [{{address: {OUT[out]}}}]", 9055, "TCP", TCP)
         for name, out in (("p55a", "out-1"), ("p55b", "out-2"))))
def test_P55_tcp_hosts_of_one_port_are_told_apart_by_their_addresses(lab):
    for name, version in (("p55a", "out-1"), ("p55b", "out-2")):
        (got,) = lab.talk(f"{name}.ext.example", 9055)
        assert got.status == 200 and got.said["version"] == version, (name, got)


@rules(f"""
ServiceEntry p56
  hosts: [p56.ext.example]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {HTTP}}}]
  resolution: STATIC
  workloadSelector: {{labels: {{app: vm}}}}
---
WorkloadEntry vm-1
  address: {OUT['out-1']}
  labels: {{app: vm, version: a}}
---
WorkloadEntry vm-2
  address: {OUT['out-2']}
  ports: {{http: 8081}}
  labels: {{app: vm, version: b}}
---
Service p56svc
  clusterIP: 10.96.3.56
  selector: {{app: vm}}
  ports: [{{name: http, port: 80, targetPort: {HTTP}}}]
---
ServiceEntry p56pods
  hosts: [p56pods.ext.example]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {HTTP}}}]
  resolution: STATIC
  workloadSelector: {{labels: {{app: echo}}}}
---
VirtualService p56
  hosts: [p56.ext.example]
  http:
  - match: [{{uri: {{prefix: /b}}}}]
    route: [{{destination: {{host: p56.ext.example, subset: b}}}}]
  - route: [{{destination: {{host: p56.ext.example}}}}]
---
DestinationRule p56
  host: p56.ext.example
  subsets: [{{name: b, labels: {{version: b}}}}]
""")
def test_P56_P60_workload_entries_and_pods_by_label(lab):
    got = lab.ask_many("p56.ext.example", count=ENOUGH)
    assert {(a.version, a.said["port"]) for a in got} == {("out-1", 8080), ("out-2", 8081)}
    assert lab.versions("p56.ext.example", "/b", 4) == {"out-2": 4}
    assert set(lab.versions("p56svc", count=ENOUGH)) == {"out-1", "out-2"}, "a Service selects them too"
    assert set(lab.versions("p56pods.ext.example", count=ENOUGH)) == {"v1", "v2", "v3"}


def origination(name, tls):
    return entry(name, f"[{name}.ext.example]", f"resolution: STATIC\n  endpoints: [{{address: {OUT['out-1']}}}]", target=HTTPS) + (
        f"DestinationRule {name}\n  host: {name}.ext.example\n  trafficPolicy: {{tls: {{{tls}}}}}\n")


@rules(origination("p39a", "mode: SIMPLE, caCertificates: CERTS/ca.pem"),
       origination("p39b", "mode: MUTUAL, caCertificates: CERTS/ca.pem, clientCertificate: CERTS/visitor.pem, privateKey: CERTS/visitor.key, sni: other.ext.example"),
       origination("p39c", "mode: SIMPLE, caCertificates: CERTS/ca.pem, subjectAltNames: [somebody.else]"),
       origination("p39d", "mode: SIMPLE, insecureSkipVerify: true"), origination("p39e", "mode: DISABLE"),
       origination("p57", "mode: SIMPLE, caCertificates: CERTS/ca.pem").replace("resolution:", "subjectAltNames: [somebody.else]\n  resolution:"))
def test_P39_P57_tls_that_the_proxy_begins(lab):
    def seen(name):
        got = lab.ask(f"{name}.ext.example")
        return got.said["tls"] if got.status == 200 else got.status

    assert seen("p39a") == {"sni": "p39a.ext.example", "alpn": "http/1.1", "client": []}
    assert seen("p39b") == {"sni": "other.ext.example", "alpn": "http/1.1", "client": ["visitor.example"]}
    assert seen("p39c") == 503, "the server is not who it should be"
    assert seen("p39d")["sni"] == "p39d.ext.example"
    assert seen("p39e") == 503, "plaintext to a server that speaks TLS"
    assert seen("p57") == 503, "the entry says who serves the host"


@rules(entry("p53gate", "[p53gate.ext.example]", "resolution: DNS", target=HTTP), """
VirtualService p53gate
  hosts: [p53.secure.test]
  gateways: [gates]
  http: [{rewrite: {authority: p53gate.ext.example}, route: [{destination: {host: p53gate.ext.example, port: {number: 80}}}]}]
""")
def test_P53_a_gateway_leads_to_a_host_outside(lab):
    got = until(lambda: [a for a in lab.ask_many("p53.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8080) if a.status == 200], 15)[0]
    assert got.version == "out-2" and got.said["host"] == "p53gate.ext.example"


@rules(service("other/p62", 62, "{app: caller}"), service("other/p62hidden", 63, "{app: caller}"), """
Sidecar other/p62
  workloadSelector: {labels: {app: caller}}
  egress: [{hosts: ["./p62.other.svc.cluster.local", "default/*.example.com"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
""")
@pytest.mark.parametrize("host, status", [("p62.other", 200), ("p62hidden.other", 502), ("echo.default", 502)])
def test_P62_P64_a_sidecar_says_what_its_workload_sees(lab, host, status):
    assert lab.ask(host, pod=CALLER, to=ECHO).status == status
    assert lab.ask(host, pod=CLIENT, to=ECHO).status == 200, "nobody else is concerned"


def wrong_names(lab, host):
    """How often a server had a good certificate that was not for who was called."""
    return int(*lab.envoy_stats(CLIENT, rf"outbound\|80\|\|{host}.*ssl.fail_verify_san$").values())


@rules(origination("p39f", "mode: SIMPLE, caCertificates: CERTS/ca.pem").replace("p39f.ext.example", "p39f.elsewhere.example"),
       origination("p39g", "mode: SIMPLE, caCertificates: CERTS/ca.pem, sni: p39g.ext.example").replace("hosts: [p39g.ext.example]", "hosts: [p39g.elsewhere.example]")
       .replace("host: p39g.ext.example", "host: p39g.elsewhere.example"),
       entry("p39h", "[p39h.elsewhere.example]", f"resolution: STATIC\n  endpoints: [{{address: {OUT['out-1']}}}]", target=HTTPS),
       "DestinationRule p39h\n  host: p39h.elsewhere.example\n  trafficPolicy: {tls: {mode: SIMPLE, caCertificates: CERTS/ca.pem}}\n---\n"
       "VirtualService p39h\n  hosts: [p39h.elsewhere.example]\n  http: [{rewrite: {authority: p39h.ext.example}, route: [{destination: {host: p39h.elsewhere.example}}]}]\n")
def test_P39_the_certificate_is_that_of_the_host_that_is_asked_for(lab):
    got = lab.ask("p39f.elsewhere.example")
    assert got.status == 503 and wrong_names(lab, "p39f"), got
    assert lab.ask("p39g.elsewhere.example").said["tls"]["sni"] == "p39g.ext.example", "the rule says whom to ask for"
    assert lab.ask("p39h.elsewhere.example").said["tls"]["sni"] == "p39h.ext.example", "the request does, after it was rewritten"


def identified(name, account, address="10.88.2.11", sans=""):
    return (f"ServiceEntry {name}\n  hosts: [{name}.mesh.example]\n  location: MESH_INTERNAL\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {HTTP}}}]\n"
            f"  resolution: STATIC\n  endpoints: [{{address: {address}, serviceAccount: {account}}}]\n{sans}---\n")


@rules(identified("p95a", "echo"), identified("p95b", "somebody"),
       identified("p95c", "somebody", sans='  subjectAltNames: ["spiffe://cluster.local/ns/default/sa/echo"]\n'))
def test_P95_P57_a_workload_with_another_identity_is_not_called(lab):
    got = lab.ask("p95a.mesh.example")
    assert got.version == "v1" and "sa/client" in got.said["headers"]["x-forwarded-client-cert"]
    got = lab.ask("p95b.mesh.example")
    assert got.status == 503 and wrong_names(lab, "p95b"), got
    assert lab.version("p95c.mesh.example") == "v1", "the entry vouches for it"


def test_P40_each_endpoint_is_called_as_it_can_be(lab):
    got = lab.ask_many("echo", count=ENOUGH)
    assert {(a.version, "x-forwarded-client-cert" in a.said["headers"]) for a in got} == {("v1", True), ("v2", True), ("v3", False)}


@rules(entry("p53unix", "[p53unix.ext.example]", 'resolution: STATIC\n  endpoints: [{address: "unix://CERTS/echo-v2.sock"}]'))
def test_P53_P60_a_server_on_a_unix_socket(lab):
    got = lab.ask("p53unix.ext.example")
    assert got.version == "v2" and got.said["from"] == "unix", got


@rules(origination("p39s", "mode: SIMPLE, credentialName: p39s")
       .replace("  host: p39s", "  workloadSelector: {matchLabels: {app: client}}\n  host: p39s"))
def test_P39_a_rule_brings_a_secret_to_the_sidecars_that_it_selects(lab):
    authority = textwrap.indent(lab.certificates.ca.read_text(), "    ")
    with lab.change(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: p39s, namespace: default}}\nstringData:\n  cacert: |\n{authority}"):
        got = until(lambda: [a for a in lab.ask_many("p39s.ext.example") if a.status == 200], 10)[0]
        assert got.said["tls"]["sni"] == "p39s.ext.example"
    assert lab.ask("p39s.ext.example", pod="default/echo-v1").status == 503, "the rule is not for it: no TLS"
