"""Routes of TCP and of TLS that nobody on the way reads: by port, subnet, caller and server name, with weights."""
import pytest
from lab import CALLER, ENOUGH, OUT, TCP, TLS, assert_share, rules, service

SUBSETS = "[{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]"


def reached(lab, address, port, count=1, **order):
    """How many connections each version answered."""
    got = lab.talk(address, port, count=count, **order)
    assert all(a.status == 200 for a in got), [a.error for a in got if a.status != 200][:3]
    seen = [a.said["version"] for a in got]
    return {version: seen.count(version) for version in set(seen)}


@rules(service("p24", 24, ports=f"[{{name: tcp, port: 9024, targetPort: {TCP}}}, {{name: tcp-more, port: 9025, targetPort: {TCP}}}]"), f"""
DestinationRule p24
  host: p24
  subsets: {SUBSETS}
---
VirtualService p24
  hosts: [p24]
  tcp:
  - match: [{{gateways: [gates]}}, {{sourceNamespace: other, sourceLabels: {{tier: silver}}}}]
    route: [{{destination: {{host: p24, port: {{number: 9024}}, subset: v3}}}}]
  - match: [{{port: 9025}}]
    route: [{{destination: {{host: p24, port: {{number: 9024}}, subset: v3}}}}]
  - match: [{{sourceLabels: {{tier: gold}}}}]
    route: [{{destination: {{host: p24, port: {{number: 9024}}, subset: v2}}}}]
  - route:
    - {{destination: {{host: p24, port: {{number: 9024}}, subset: v1}}, weight: 80}}
    - {{destination: {{host: p24, port: {{number: 9024}}, subset: v2}}, weight: 20}}
""")
def test_P24_tcp_by_port_and_caller_and_weights(lab):
    assert reached(lab, "10.96.3.24", 9025, 3) == {"v3": 3}
    assert reached(lab, "10.96.3.24", 9024, 3, pod=CALLER) == {"v2": 3}
    seen = reached(lab, "10.96.3.24", 9024, 300, parallel=3)
    assert set(seen) == {"v1", "v2"}
    assert_share(seen["v2"], 300, 0.2)


@rules(f"""
ServiceEntry p24net
  hosts: [p24net.ext.example]
  addresses: [10.96.24.0/24]
  ports: [{{number: 9026, name: tcp, protocol: TCP, targetPort: {TCP}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-1']}, labels: {{version: a}}}}, {{address: {OUT['out-2']}, labels: {{version: b}}}}]
---
DestinationRule p24net
  host: p24net.ext.example
  subsets: [{{name: a, labels: {{version: a}}}}, {{name: b, labels: {{version: b}}}}]
---
VirtualService p24net
  hosts: [p24net.ext.example]
  tcp:
  - match: [{{destinationSubnets: ["10.96.24.0/28"]}}]
    route: [{{destination: {{host: p24net.ext.example, subset: b}}}}]
  - route: [{{destination: {{host: p24net.ext.example, subset: a}}}}]
""")
def test_P24_P53_tcp_by_destination_subnet(lab):
    assert reached(lab, "10.96.24.3", 9026, 3) == {"out-2": 3}
    assert reached(lab, "10.96.24.99", 9026, 3) == {"out-1": 3}


@rules(f"""
ServiceEntry p23net
  hosts: [p23net.secure.test]
  addresses: [10.96.25.0/24]
  ports: [{{number: 4425, name: tls, protocol: TLS, targetPort: {TLS}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-1']}, labels: {{version: a}}}}, {{address: {OUT['out-2']}, labels: {{version: b}}}}, {{address: {OUT['out-3']}, labels: {{version: c}}}}]
---
DestinationRule p23net
  host: p23net.secure.test
  subsets: [{{name: a, labels: {{version: a}}}}, {{name: b, labels: {{version: b}}}}, {{name: c, labels: {{version: c}}}}]
---
VirtualService p23net
  hosts: [p23net.secure.test]
  tls:
  - match: [{{sniHosts: [p23net.secure.test], destinationSubnets: ["10.96.25.0/28"], sourceNamespace: other}}]
    route: [{{destination: {{host: p23net.secure.test, subset: c}}}}]
  - match: [{{sniHosts: [p23net.secure.test], destinationSubnets: ["10.96.25.0/28"]}}]
    route: [{{destination: {{host: p23net.secure.test, subset: b}}}}]
  - match: [{{sniHosts: [p23net.secure.test]}}]
    route: [{{destination: {{host: p23net.secure.test, subset: a}}}}]
""")
def test_P23_tls_by_destination_subnet_and_namespace(lab):
    tls = {"name": "p23net.secure.test", "ca": str(lab.certificates.ca)}
    assert reached(lab, "10.96.25.3", 4425, 2, tls=tls) == {"out-2": 2}
    assert reached(lab, "10.96.25.99", 4425, 2, tls=tls) == {"out-1": 2}
    assert reached(lab, "10.96.25.3", 4425, 2, tls=tls, pod=CALLER) == {"out-3": 2}


SERVER_NAMES = ("one", "two", "three", "any")


@rules(f"""
ServiceEntry p23
  hosts: [{", ".join(f"{n}.p23.secure.test" for n in SERVER_NAMES)}]
  ports: [{{number: 4423, name: tls, protocol: TLS, targetPort: {TLS}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-1']}, labels: {{version: a}}}}, {{address: {OUT['out-2']}, labels: {{version: b}}}}, {{address: {OUT['out-3']}, labels: {{version: c}}}}]
---
DestinationRule p23
  host: one.p23.secure.test
  subsets: [{{name: a, labels: {{version: a}}}}, {{name: b, labels: {{version: b}}}}, {{name: c, labels: {{version: c}}}}]
---
VirtualService p23
  hosts: [{", ".join(f"{n}.p23.secure.test" for n in SERVER_NAMES)}]
  tls:
  - match: [{{port: 4423, sniHosts: [one.p23.secure.test]}}]
    route: [{{destination: {{host: one.p23.secure.test, subset: a}}}}]
  - match: [{{port: 4423, sniHosts: [two.p23.secure.test], sourceLabels: {{tier: gold}}}}]
    route: [{{destination: {{host: one.p23.secure.test, subset: c}}}}]
  - match: [{{port: 4423, sniHosts: [two.p23.secure.test]}}]
    route: [{{destination: {{host: one.p23.secure.test, subset: b}}}}]
  - match: [{{port: 4423, sniHosts: [three.p23.secure.test]}}]
    route: [{{destination: {{host: one.p23.secure.test, subset: a}}, weight: 25}}, {{destination: {{host: one.p23.secure.test, subset: b}}, weight: 75}}]
""")
def test_P23_tls_by_server_name(lab):
    def by_name(name, count=1, **order):
        # A name of three labels is not in the server's certificate; what is asked is where the connection goes.
        host = f"{name}.p23.secure.test"
        return reached(lab, host, 4423, count, tls={"name": host, "ca": str(lab.certificates.ca), "any_name": True}, **order)

    assert by_name("one", 3) == {"out-1": 3}
    assert by_name("two", 3) == {"out-2": 3}
    assert by_name("two", 3, pod=CALLER) == {"out-3": 3}
    seen = by_name("three", 200, parallel=4)
    assert set(seen) == {"out-1", "out-2"}
    assert_share(seen["out-2"], 200, 0.75)
    assert set(by_name("any", ENOUGH)) == {"out-1", "out-2", "out-3"}, "a name without a rule has all endpoints"


@rules(service("p23in", 23, ports=f"[{{name: tls, port: 443, targetPort: {TLS}}}]"))
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_P23_tls_of_the_application_inside_the_meshs(lab, version):
    """The application's TLS travels within the mesh's mutual TLS, and through a proxy that ends only its own."""
    got = lab.talk("10.96.3.23", 443, count=ENOUGH, tls={"name": "tls.echo.example", "ca": str(lab.certificates.ca)})
    found = [a.said for a in got if a.said["version"] == version]
    assert found and all(s["tls"]["sni"] == "tls.echo.example" for s in found)
    assert {s["from"] for s in found} == ({"127.0.0.6"} if version != "v3" else {"10.88.2.4"})


@rules(service("p86", 86, ports=f"[{{name: unknown, port: 9086, targetPort: {TCP}}}, {{name: web, port: 9087, targetPort: 8080}}]"))
def test_P86_a_port_of_unknown_protocol_carries_both(lab):
    assert set(reached(lab, "10.96.3.86", 9086, ENOUGH)) == {"v1", "v2", "v3"}
    got = lab.ask("p86:9087", to="10.96.3.86", port=9087)
    assert got.status == 200 and "x-request-id" in got.said["headers"], "it was seen to be HTTP"
