"""Every kind of match of an HTTP route, by requests through real Envoys."""
import pytest
from lab import CALLER, CLIENT, ENOUGH, INGRESS_IP, MORE, OUTSIDE, rules, service
from util import until


def routed(host, *rows, more=""):
    """A VirtualService whose rows, (match, version), are tried in order."""
    http = "".join(f"\n  - {{{f'match: {match}, ' if match else ''}route: [{{destination: {{host: echo, port: {{number: 80}}, subset: {to}}}}}]}}" for match, to in rows)
    name = host.replace("*", "any")
    return f"VirtualService {name}\n  hosts: [\"{host}\"]\n{more}  http:{http}\n"


def through_gateway(lab, host, path="/", scheme="http", **order):
    port, tls = (8080, None) if scheme == "http" else (8443, {"name": host, "ca": str(lab.certificates.ca)})
    return lab.version(host, path, pod=OUTSIDE, to=INGRESS_IP, port=port, tls=tls, **order)


@rules(routed("p04.test", ("[{uri: {exact: /exact}}]", "v1"), ("[{uri: {prefix: /pre}}]", "v2"), ('[{uri: {regex: "/r/[0-9]+"}, ignoreUriCase: true}]', "v3"),
              ("[{uri: {exact: /Case}, ignoreUriCase: true}, {uri: {prefix: /Part/}, ignoreUriCase: true}]", "v3"), ("", "v1")))
@pytest.mark.parametrize("path, version", [
    ("/exact", "v1"), ("/exact?q=1", "v1"), ("/pre", "v2"), ("/pre/more", "v2"), ("/prefix", "v2"), ("/Pre", "v1"), ("/r/12", "v3"), ("/r/12?q=/r/", "v3"),
    ("/r/12a", "v1"), ("/r/", "v1"), ("/R/12", "v1"), ("/cASE", "v3"), ("/case/", "v1"), ("/pART/x", "v3"), ("/part", "v1")])
def test_P04_uri(lab, path, version):
    assert lab.version("p04.test", path) == version


@rules(routed("p05.test", ("[{method: {exact: DELETE}}]", "v2"), ('[{method: {regex: "P.*"}}]', "v3"), ("[{authority: {prefix: never}}]", "v3"), ("", "v1")),
       routed("*.p05a.test", ("[{authority: {exact: a.p05a.test}}]", "v2"), ("[{authority: {prefix: b.}}]", "v3"),
              ('[{authority: {regex: "c[0-9]\\\\.p05a\\\\.test"}}]', "v2"), ("", "v1")))
def test_P05_method_and_authority(lab):
    assert {m: lab.version("p05.test", method=m) for m in ("GET", "DELETE", "PUT", "POST", "HEAD")} == {
        "GET": "v1", "DELETE": "v2", "PUT": "v3", "POST": "v3", "HEAD": "v1"}
    assert {name: lab.version(f"{name}.p05a.test") for name in ("a", "b", "c1", "c", "d")} == {"a": "v2", "b": "v3", "c1": "v2", "c": "v1", "d": "v1"}


@rules(routed("p05.secure.test", ("[{scheme: {exact: https}}]", "v2"), ("", "v1"), more="  gateways: [gates]\n"))
def test_P05_scheme(lab):
    assert through_gateway(lab, "p05.secure.test") == "v1"
    assert through_gateway(lab, "p05.secure.test", scheme="https") == "v2"


@rules(routed("p06.test", ("[{headers: {x-a: {exact: one}}}]", "v2"), ("[{headers: {x-a: {prefix: pre}}}]", "v3"),
              ('[{headers: {x-a: {regex: "[0-9]+"}}}]', "v2"), ("[{headers: {x-there: {}}}]", "v3"), ("", "v1")),
       routed("p06w.test", ("[{withoutHeaders: {x-a: {exact: one}, x-there: {}}}]", "v2"), ("", "v1")),
       routed("p06e.test", ('[{headers: {x-a: {exact: ""}}}]', "v2"), ('[{withoutHeaders: {x-b: {regex: "*"}}, headers: {x-a: {}}}]', "v3"), ("", "v1")),
       routed("p06b.test", ("[{headers: {x-a: {exact: one}}, withoutHeaders: {x-b: {prefix: bad}}}]", "v2"), ("", "v1")))
def test_P06_headers_and_without_headers(lab):
    def version(host, **headers):
        return lab.version(host, headers=headers)

    assert version("p06.test", x_a="one") == version("p06.test", x_a="12") == "v2"
    assert version("p06.test", x_a="prefix") == version("p06.test", x_there="") == version("p06.test", x_there="any") == "v3"
    assert version("p06.test", x_a="onE") == version("p06.test", x_a="12x") == version("p06.test") == "v1"
    assert version("p06w.test") == version("p06w.test", x_a="two") == "v2"
    assert version("p06w.test", x_a="one") == version("p06w.test", x_a="two", x_there="1") == "v1"
    assert version("p06e.test", x_a="") == "v2" and version("p06e.test", x_a="1") == "v3"
    assert version("p06e.test") == version("p06e.test", x_a="1", x_b="1") == "v1"
    assert version("p06b.test", x_a="one") == version("p06b.test", x_a="one", x_b="yes") == "v2"
    assert version("p06b.test", x_a="one", x_b="bad1") == version("p06b.test") == "v1"


@rules(routed("p08.test", ("[{queryParams: {q: {exact: one}}}]", "v2"), ("[{queryParams: {q: {prefix: pre}}}]", "v3"),
              ('[{queryParams: {q: {regex: "[0-9]+"}, and: {exact: "1"}}}]', "v2"), ('[{queryParams: {empty: {exact: ""}}}, {queryParams: {there: {}}}]', "v3"),
              ("", "v1")))
def test_P08_query_parameters(lab):
    wanted = {"?q=one": "v2", "?x=1&q=prefix": "v3", "?q=12&and=1": "v2", "?q=12": "v1", "?q=two": "v1", "": "v1", "?q": "v1",
              "?empty": "v3", "?empty=": "v3", "?empty=1": "v1", "?there=1": "v3", "?there": "v3"}
    assert {query: lab.version("p08.test", "/" + query) for query in wanted} == wanted


@rules(service("p09", 9, ports=f"[{{name: http, port: 80, targetPort: 8080}}, {{name: http-more, port: 81, targetPort: {MORE}}}]"),
       routed("p09.default.svc.cluster.local", ("[{port: 81}]", "v2"), ("", "v1")),
       routed("p09l.test", ("[{sourceLabels: {app: caller, tier: gold}}]", "v2"), ("[{sourceLabels: {app: client, tier: gold}}]", "v3"), ("", "v1"),
              more='  exportTo: ["*"]\n'),
       routed("p09n.test", ("[{sourceNamespace: other}]", "v2"), ("", "v1")),
       service("p09f", 11), routed("p09f.default.svc.cluster.local", ("[{sourceLabels: {app: caller}}]", "v2")))
def test_P09_port_and_caller(lab):
    assert lab.version("p09:80") == "v1" and lab.version("p09", port=81) == lab.version("p09:81", port=81) == "v2"
    assert lab.version("p09l.test") == "v1" and lab.version("p09l.test", pod=CALLER) == "v2"
    assert lab.version("p09n.test") == "v1" and lab.version("p09n.test", pod=CALLER) == "v2"
    assert lab.version("p09f.default", pod=CALLER) == "v2"
    assert set(lab.versions("p09f", count=ENOUGH)) == {"v1", "v2", "v3"}, "without a rule for it a caller has the service as it is"


@rules(routed("p09g.test", ("[{gateways: [gates]}]", "v2"), ("[{gateways: [mesh], uri: {prefix: /mesh}}]", "v3"), ("", "v1"), more="  gateways: [gates, mesh]\n"),
       routed("p09gl.test", ("[{gateways: [gates], sourceLabels: {app: nobody}}]", "v2"), ("", "v1"), more="  gateways: [gates, mesh]\n"),
       routed("p02.test", ("", "v2"), more="  gateways: [default/gates]\n"))
def test_P02_P09_gateways(lab):
    assert lab.version("p09g.test") == "v1" and lab.version("p09g.test", "/mesh") == "v3"
    assert through_gateway(lab, "p09g.test", "/mesh") == "v2"
    assert through_gateway(lab, "p09gl.test") == "v2" and lab.version("p09gl.test") == "v1", "labels are of callers in the mesh"
    assert through_gateway(lab, "p02.test") == "v2"
    assert lab.version("p02.test") not in ("v1", "v2", "v3"), "the route is for the gateway only"


@rules(routed("p10.test", ("[{uri: {prefix: /counted}, statPrefix: counted}]", "v1"), ("", "v2")))
def test_P10_stat_prefix_counts_a_route(lab):
    assert sum(lab.versions("p10.test", "/counted", 3).values()) == 3 and lab.version("p10.test") == "v2"
    (counted,) = [int(v) for v in lab.envoy_stats(CLIENT, r"route\.counted\.upstream_rq_total$").values()]
    assert counted == 3


@rules(routed("p11.test", ("[{uri: {prefix: /a}, method: {exact: GET}, headers: {x-a: {exact: '1'}}}, {uri: {exact: /or}}]", "v2"),
              ("[{uri: {prefix: /a}}]", "v3"), ("", "v1"), ("[{uri: {exact: /late}}]", "v2")))
def test_P11_matches_are_or_conditions_are_and_the_first_rule_wins(lab):
    assert lab.version("p11.test", "/a", headers={"x-a": 1}) == lab.version("p11.test", "/or") == "v2"
    assert lab.version("p11.test", "/a") == lab.version("p11.test", "/a", method="PUT", headers={"x-a": 1}) == "v3"
    assert lab.version("p11.test", "/late") == lab.version("p11.test") == "v1"


@rules(routed("one.p01.test", ("", "v2")), routed("*.p01.test", ("", "v3")), routed("*.deep.p01.test", ("", "v1")),
       service("p01svc", 10, ports=f"[{{name: http, port: 80, targetPort: 8080}}, {{name: http-more, port: 81, targetPort: {MORE}}}]"),
       routed("p01svc", ("", "v2")).replace('"p01svc"', "p01svc, more.p01svc.test"))
def test_P01_the_most_specific_host_wins_and_a_service_has_many_names(lab):
    seen = {host: lab.version(f"{host}.p01.test") for host in ("one", "two", "a.deep", "one.two")}
    assert seen == {"one": "v2", "two": "v3", "a.deep": "v1", "one.two": "v3"}
    for name in ("p01svc", "p01svc.default", "p01svc.default.svc", "p01svc.default.svc.cluster.local", "p01svc:80", "10.96.3.10",
                 "p01svc.default.svc.cluster.local.", "p01svc.default.svc.:80", "more.p01svc.test"):
        assert lab.version(name) == "v2", name
    assert lab.version("more.p01svc.test", port=81) == lab.version("more.p01svc.test:81", port=81) == "v2", "on all ports of the service"


@rules("""
VirtualService other/p03
  hosts: [p03.test]
  exportTo: ["."]
  http: [{route: [{destination: {host: echo.default.svc.cluster.local, subset: v2}}]}]
---
VirtualService other/p03all
  hosts: [p03all.test]
  http: [{route: [{destination: {host: echo.default.svc.cluster.local, subset: v2}}]}]
---
VirtualService other/p03mine
  hosts: [p03all.test]
  exportTo: ["."]
  http: [{route: [{destination: {host: echo.default.svc.cluster.local, subset: v3}}]}]
""")
def test_P03_who_sees_a_virtual_service(lab):
    assert lab.version("p03.test", pod=CALLER) == "v2"
    assert lab.version("p03.test") != "v2", "it is exported to its own namespace only"
    assert lab.version("p03all.test") == "v2"
    assert lab.version("p03all.test", pod=CALLER) == "v3", "a namespace's own comes before what is for all"


@rules("""
VirtualService p17
  hosts: [p17.test]
  http:
  - match: [{uri: {prefix: /a}}]
    delegate: {name: p17-a, namespace: other}
  - match: [{uri: {prefix: /b}, headers: {x-b: {exact: "1"}}}]
    delegate: {name: p17-b, namespace: other}
  - route: [{destination: {host: echo, subset: v1}}]
---
VirtualService other/p17-a
  http:
  - match: [{uri: {prefix: /a/two}}]
    headers: {request: {set: {x-from: delegate}}}
    route: [{destination: {host: echo.default.svc.cluster.local, subset: v2}}]
  - route: [{destination: {host: echo.default.svc.cluster.local, subset: v3}}]
---
VirtualService other/p17-b
  http: [{route: [{destination: {host: echo.default.svc.cluster.local, subset: v3}}]}]
""")
def test_P17_delegates(lab):
    assert lab.version("p17.test", "/x") == lab.version("p17.test", "/b") == "v1"
    assert lab.version("p17.test", "/a/two") == "v2" and lab.version("p17.test", "/a/three") == "v3"
    assert lab.ask("p17.test", "/a/two").said["headers"]["x-from"] == "delegate"
    assert lab.version("p17.test", "/b", headers={"x-b": 1}) == "v3"


@rules("""
VirtualService p26
  hosts: [p26.test]
  http:
  - name: rule
    match: [{name: one, uri: {prefix: /p26-one}}, {uri: {prefix: /p26-two}}]
    route: [{destination: {host: echo, subset: v1}}]
""")
def test_P26_the_access_log_names_rule_and_match(lab):
    """Envoy writes its log when 64 kB have come together."""
    for path in ("/p26-one", "/p26-two"):
        assert lab.versions("p26.test", f"{path}/{'x' * 400}", 150, parallel=4) == {"v1": 150}

    def names(path):
        lines = "".join(log.read_text(errors="replace") for log in lab.folder.glob("s/pods/default.client/*.log")).splitlines()
        return {line.split()[-1] for line in lines if f'"GET {path}/' in line}

    assert until(lambda: names("/p26-one"), 15, "lines of the log") == {"rule.one"}
    assert until(lambda: names("/p26-two"), 15, "lines of the log") == {"rule"}
