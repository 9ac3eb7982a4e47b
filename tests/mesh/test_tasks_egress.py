"""The tasks of Istio's documentation about the ways out of the mesh, as scenarios: hosts outside, TLS origination, egress gateways, wildcards, proxies."""
from lab import CLIENT, EARLY, EGRESS, EGRESS_IP, HTTP, HTTPS, OUT, SLACK, rules, service
from test_rates_and_times import mesh_config
from test_tasks import routes
from util import until

NAMES = {"alias.ext.example": [OUT["out-2"]], "far.any.example": [OUT["out-3"]], "near.any.example": [OUT["out-2"]]}


def tls_to(lab, name, **more):
    return {"name": name, "ca": str(lab.certificates.ca), **more}


def external(name, host, out="out-1", protocol="TLS"):
    """A host outside, over plain HTTP and over TLS."""
    return f"""ServiceEntry {name}
  hosts: [{host}]
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: {protocol}}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: {OUT[out]}, ports: {{http: {HTTP}, tls: {HTTPS}}}}}]
---
"""


def gate(name, number, port, protocol, tls, hosts):
    """A server of the egress gateway, and the service by which the mesh reaches it."""
    return service(f"istio-system/{name}", number, "{istio: egressgateway}", f"[{{name: p, port: {port}, targetPort: {port}}}]") + f"""Gateway {name}
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: {port}, name: p, protocol: {protocol}}}, hosts: [{hosts}], tls: {{mode: {tls}}}}}]
---
"""


def test_task_accessing_external_services_P64_P18(lab):
    """Hosts that nobody named pass, or are refused; a ServiceEntry names one, and rules hold for it."""
    direct = {"to": OUT["out-1"], "port": 80}
    assert lab.version("any.where.example", **direct) == "out-1"
    with mesh_config(lab, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"):
        until(lambda: lab.ask("any.where.example", **direct).status == 502, 10, "blocked")
        tls = tls_to(lab, "outside.ext.example")
        assert lab.ask("outside.ext.example", to=OUT["out-1"], port=443, tls=tls).status == 0
        with lab.change(external("outside", "outside.ext.example")):
            assert lab.version("outside.ext.example", **direct) == "out-1"
            got = lab.ask("outside.ext.example", to="outside.ext.example", port=443, tls=tls)
            assert got.version == "out-1" and got.said["tls"]["sni"] == "outside.ext.example"
            assert lab.ask("any.where.example", **direct).status == 502
            assert lab.ask("outside.ext.example", headers={"x-do": "delay=0.8"}, **direct).status == 200
            with lab.change(routes("outside.ext.example", "timeout: 0.3s, route: [{destination: {host: outside.ext.example}}]"), name="more"):
                got = lab.ask("outside.ext.example", headers={"x-do": "delay=9"}, **direct)
                assert got.status == 504 and 300 - EARLY <= got.ms < 300 + SLACK
    until(lambda: lab.version("any.where.example", **direct) == "out-1", 10, "it passes again")


@rules(external("upgrade", "upgrade.ext.example").replace("number: 80, name: http, protocol: HTTP", "number: 80, name: http, protocol: HTTP, targetPort: 443")
       .replace(f"http: {HTTP}", f"http: {HTTPS}"), """
DestinationRule upgrade
  host: upgrade.ext.example
  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: CERTS/ca.pem}}]}
""")
def test_task_egress_tls_origination_P39_P41(lab):
    got = lab.ask("upgrade.ext.example")
    assert got.version == "out-1" and got.said["tls"] == {"sni": "upgrade.ext.example", "alpn": "http/1.1", "client": []}
    got = lab.ask("upgrade.ext.example", to="upgrade.ext.example", port=443, tls=tls_to(lab, "upgrade.ext.example"))
    assert got.version == "out-1", "the application may still speak TLS itself"


@rules(external("news", "news.ext.example"), gate("news-gate", 121, 8601, "HTTPS", "ISTIO_MUTUAL", "news.ext.example"),
       gate("news-tls-gate", 122, 8602, "TLS", "PASSTHROUGH", "news.ext.example"), """
DestinationRule news-gate
  host: news-gate.istio-system.svc.cluster.local
  subsets: [{name: news, trafficPolicy: {portLevelSettings: [{port: {number: 8601}, tls: {mode: ISTIO_MUTUAL, sni: news.ext.example}}]}}]
---
VirtualService news
  hosts: [news.ext.example]
  gateways: [news-gate, news-tls-gate, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: news-gate.istio-system.svc.cluster.local, subset: news, port: {number: 8601}}}]
  - match: [{gateways: [news-gate], port: 8601}]
    route: [{destination: {host: news.ext.example, port: {number: 80}}}]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [news.ext.example]}]
    route: [{destination: {host: news-tls-gate.istio-system.svc.cluster.local, port: {number: 8602}}}]
  - match: [{gateways: [news-tls-gate], port: 8602, sniHosts: [news.ext.example]}]
    route: [{destination: {host: news.ext.example, port: {number: 443}}}]
""")
def test_task_egress_gateways_P48_P23(lab):
    got = lab.ask("news.ext.example")
    assert got.version == "out-1" and got.said["from"] == EGRESS_IP, "the server sees the gateway"
    got = lab.ask("news.ext.example", to="news.ext.example", port=443, tls=tls_to(lab, "news.ext.example"))
    assert got.said["from"] == EGRESS_IP and got.said["tls"]["sni"] == "news.ext.example", "the application's own TLS goes through"
    handshakes = lab.envoy_stats(EGRESS, r"outbound\|(80|443)\|\|news.ext.example.*upstream_cx_total$")
    assert [*handshakes.values()] == ["1", "1"], handshakes


def originating(name, number, port, tls):
    host = f"{name}.ext.example"
    return external(name, host, protocol="HTTPS") + gate(f"{name}-gate", number, port, "HTTPS", "ISTIO_MUTUAL", host) + f"""
DestinationRule {name}-gate
  host: {name}-gate.istio-system.svc.cluster.local
  subsets: [{{name: s, trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}, tls: {{mode: ISTIO_MUTUAL, sni: {host}}}}}]}}}}]
---
DestinationRule {name}
  host: {host}
  trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {{caCertificates: CERTS/ca.pem, {tls}}}}}]}}
---
VirtualService {name}
  hosts: [{host}]
  gateways: [{name}-gate, mesh]
  http:
  - match: [{{gateways: [mesh], port: 80}}]
    route: [{{destination: {{host: {name}-gate.istio-system.svc.cluster.local, subset: s, port: {{number: {port}}}}}}}]
  - match: [{{gateways: [{name}-gate], port: {port}}}]
    route: [{{destination: {{host: {host}, port: {{number: 443}}}}}}]
"""


@rules(originating("begun", 123, 8603, "mode: SIMPLE"),
       originating("shown", 124, 8604, "mode: MUTUAL, clientCertificate: CERTS/visitor.pem, privateKey: CERTS/visitor.key"))
def test_task_egress_gateways_with_tls_origination_P39_P48(lab):
    for name, client in (("begun", []), ("shown", ["visitor.example"])):
        got = lab.ask(f"{name}.ext.example")
        assert got.status == 200 and got.said["from"] == EGRESS_IP, got
        assert got.said["tls"] == {"sni": f"{name}.ext.example", "alpn": "http/1.1", "client": client}


@rules("""
ServiceEntry wild
  hosts: ["*.wild.example"]
  ports: [{number: 443, name: tls, protocol: TLS}]
""", external("one-of-wild", "www.wild.example", "out-2"), gate("wild-gate", 125, 8605, "TLS", "PASSTHROUGH", '"*.wild.example"'), """
VirtualService wild
  hosts: ["*.wild.example"]
  gateways: [mesh, wild-gate]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: ["*.wild.example"]}]
    route: [{destination: {host: wild-gate.istio-system.svc.cluster.local, port: {number: 8605}}}]
  - match: [{gateways: [wild-gate], port: 8605, sniHosts: ["*.wild.example"]}]
    route: [{destination: {host: www.wild.example, port: {number: 443}}}]
""")
def test_task_wildcard_egress_through_a_gateway_P54_P23(lab):
    for name in ("en.wild.example", "de.wild.example"):
        got = lab.ask(name, to=OUT["out-1"], port=443, tls=tls_to(lab, name))
        assert got.version == "out-2" and got.said["from"] == EGRESS_IP and got.said["tls"]["sni"] == name, "one server has all the names"


@rules("""
ServiceEntry any
  hosts: ["*.any.example"]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DYNAMIC_DNS
""", gate("any-gate", 126, 8606, "TLS", "PASSTHROUGH", '"*.any.example"'), """
VirtualService any
  hosts: ["*.any.example"]
  gateways: [mesh, any-gate]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: ["*.any.example"]}]
    route: [{destination: {host: any-gate.istio-system.svc.cluster.local, port: {number: 8606}}}]
  - match: [{gateways: [any-gate], port: 8606, sniHosts: ["*.any.example"]}]
    route: [{destination: {host: "*.any.example", port: {number: 443}}}]
""")
def test_task_wildcard_egress_for_arbitrary_domains_P54(lab):
    for name, out in (("far.any.example", "out-3"), ("near.any.example", "out-2")):
        got = lab.ask(name, to=OUT["out-1"], port=443, tls=tls_to(lab, name, any_name=True))
        assert got.version == out and got.said["from"] == EGRESS_IP, "the gateway looked the name up"
    assert lab.names(EGRESS)["far.any.example"] >= 1


@rules(f"""
ServiceEntry proxy
  hosts: [proxy.ext.example]
  addresses: [10.96.31.28]
  ports: [{{number: 3128, name: tcp, protocol: TCP, targetPort: {HTTP}}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: {OUT['out-2']}}}]
""")
def test_task_using_an_external_https_proxy_P53(lab):
    with mesh_config(lab, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"):
        got = lab.ask("far", f"{OUT['out-3']}:{HTTPS}", method="CONNECT", to="10.96.31.28", port=3128, close=True, timeout=3)
    assert got.status == 200 and lab.taken("outside/out-2", "CONNECT")["requests"][-1]["path"] == f"{OUT['out-3']}:{HTTPS}"


@rules(f"""
Service alias
  type: ExternalName
  externalName: alias.ext.example
  ports: [{{name: http, port: 80}}]
""")
def test_task_kubernetes_services_for_egress_P83(lab):
    got = lab.ask("alias", to=OUT["out-1"], port=80)
    assert got.version == "out-2", got
    assert lab.envoy_stats(CLIENT, r"outbound\|80\|\|alias.default.*upstream_rq_total$")
