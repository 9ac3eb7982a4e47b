"""What an HTTP route does with a request and its answer: headers, redirects, rewrites, direct answers, CORS, copies."""
import pytest
from lab import OUTSIDE, assert_share, rules, service
from test_matches import through_gateway
from util import until

TO_V1 = "route: [{destination: {host: echo, subset: v1}}]"


@rules(f"""
VirtualService p13
  hosts: [p13.test]
  http:
  - match: [{{uri: {{prefix: /weighted}}}}]
    headers: {{request: {{set: {{x-where: rule}}}}}}
    route:
    - destination: {{host: echo, subset: v2}}
      weight: 100
      headers: {{request: {{add: {{x-where: destination}}}}, response: {{set: {{x-of: destination}}, remove: [x-secret]}}}}
    - {{destination: {{host: echo, subset: v3}}, weight: 0}}
  - match: [{{uri: {{prefix: /host}}}}]
    headers: {{request: {{set: {{Host: other.test}}}}}}
    {TO_V1}
  - match: [{{uri: {{prefix: /only}}}}]
    headers: {{request: {{set: {{x-where: rule}}, add: {{x-adds: rule}}}}, response: {{set: {{x-of: rule}}}}}}
    route:
    - destination: {{host: echo, subset: v1}}
      headers: {{request: {{set: {{x-where: destination, ":authority": only.test}}, add: {{x-adds: destination}}}}, response: {{set: {{x-of: destination}}}}}}
  - headers:
      request: {{set: {{x-set: new}}, add: {{x-add: more, x-from: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}, remove: [x-gone]}}
      response: {{set: {{x-version: hidden}}, add: {{x-more: yes-more}}, remove: [x-secret]}}
    {TO_V1}
""")
def test_P13_header_operations(lab):
    got = lab.ask("p13.test", headers={"x-set": "old", "x-add": "one", "x-gone": "1", "x-stays": "1", "x-do": "reply=x-secret:1"})
    came = got.said["headers"]
    assert (came["x-set"], came["x-from"], came["x-stays"]) == ("new", "10.88.2.4", "1") and "x-gone" not in came
    assert sorted(came["x-add"].replace(" ", "").split(",")) == ["more", "one"] or came["x-add"] == "more"
    assert (got.headers["x-version"], got.headers["x-more"]) == ("hidden", "yes-more") and "x-secret" not in got.headers
    assert lab.ask("p13.test", "/host").said["host"] == "other.test"
    got = lab.ask("p13.test", "/only")
    assert (got.said["host"], got.said["headers"]["x-where"], got.headers["x-of"]) == ("only.test", "destination", "destination")
    assert got.said["headers"]["x-adds"] in ("destination", "rule,destination")
    got = lab.ask("p13.test", "/weighted", headers={"x-do": "reply=x-secret:1"})
    assert got.headers["x-of"] == "destination" and got.version == "v2" and "x-secret" not in got.headers
    assert got.said["headers"]["x-where"] == "rule", "of several destinations the headers come first"


REDIRECTS = {
    "/uri": ("{uri: /new}", 301, "http://p14.test/new"),
    "/authority": ("{authority: other.test}", 301, "http://other.test/authority"),
    "/both": ("{uri: /new, authority: other.test, redirectCode: 302}", 302, "http://other.test/new"),
    "/scheme": ("{scheme: https, redirectCode: 307}", 307, "https://p14.test/scheme"),
    "/port": ("{port: 8443, redirectCode: 308}", 308, "http://p14.test:8443/port"),
    "/default": ("{derivePort: FROM_PROTOCOL_DEFAULT, scheme: https, redirectCode: 303}", 303, "https://p14.test/default"),
    "/usual": ("{authority: other.test, port: 80}", 301, "http://other.test/usual"),
    "/request": ("{derivePort: FROM_REQUEST_PORT}", 301, "http://p14.test/request"),
    "/secure": ("{scheme: https, port: 443}", 301, "https://p14.test/secure"),
}
PORTS = {"/request": ("derivePort: FROM_REQUEST_PORT", "http://p14s:81/request"), "/https": ("scheme: https, derivePort: FROM_PROTOCOL_DEFAULT", "https://p14s:443/https"),
         "/http": ("derivePort: FROM_PROTOCOL_DEFAULT", "http://p14s:80/http"), "/kept": ("uri: /kept-it", "http://p14s:81/kept-it")}


@rules("VirtualService p14\n  hosts: [p14.test]\n  http:\n" +
       "".join(f"  - {{match: [{{uri: {{exact: {path}}}}}], redirect: {spec}}}\n" for path, (spec, _, _) in REDIRECTS.items()) +
       f"  - {{match: [{{uri: {{prefix: /old/}}}}], redirect: {{prefixRewrite: /new/, redirectCode: 302}}}}\n  - {{{TO_V1}}}\n")
@pytest.mark.parametrize("path", REDIRECTS)
def test_P14_redirects(lab, path):
    _, code, location = REDIRECTS[path]
    got = lab.ask("p14.test", path)
    assert (got.status, got.headers["location"]) == (code, location)


def test_P14_a_prefix_is_replaced(lab):
    got = lab.ask("p14.test", "/old/x?q=1")
    assert (got.status, got.headers["location"]) == (302, "http://p14.test/new/x?q=1")


@rules(service("p14s", 14, ports="[{name: http-more, port: 81, targetPort: 8081}]"), "VirtualService p14s\n  hosts: [p14s]\n  http:\n" +
       "".join(f"  - {{match: [{{uri: {{exact: {path}}}}}], redirect: {{{spec}}}}}\n" for path, (spec, _) in PORTS.items()))
def test_P14_ports_that_the_host_says(lab):
    assert {path: lab.ask("p14s:81", path, port=81).headers["location"] for path in PORTS} == {path: location for path, (_, location) in PORTS.items()}


@rules(f"""
VirtualService p15
  hosts: [p15.test]
  http:
  - match: [{{uri: {{prefix: /api/}}}}]
    rewrite: {{uri: /v2/}}
    {TO_V1}
  - match: [{{uri: {{exact: /one}}}}]
    rewrite: {{uri: /other, authority: new.test}}
    {TO_V1}
  - match: [{{uri: {{regex: "/r/.*"}}}}]
    rewrite: {{uriRegexRewrite: {{match: "^/r/([^/]+)/id/([0-9]+)$", rewrite: '/by-id/\\2/\\1'}}}}
    {TO_V1}
  - rewrite: {{authority: only.test}}
    {TO_V1}
""")
def test_P15_rewrites(lab):
    def arrives(path):
        said = lab.ask("p15.test", path).said
        return said["host"], said["path"]

    assert arrives("/api/x?q=1") == ("p15.test", "/v2/x?q=1")
    assert arrives("/one?q=1") == ("new.test", "/other?q=1")
    assert arrives("/r/cats/id/12") == ("p15.test", "/by-id/12/cats")
    assert arrives("/r/cats/12") == ("p15.test", "/r/cats/12")
    assert arrives("/y") == ("only.test", "/y")


@rules(f"""
VirtualService p16large
  hosts: [p16large.test]
  http: [{{directResponse: {{status: 200, body: {{string: {"x" * 20000}}}}}}}]
""", """
VirtualService p16
  hosts: [p16.test]
  http:
  - match: [{uri: {exact: /bytes}}]
    directResponse: {status: 418, body: {bytes: dGVhIQ==}}
  - match: [{uri: {exact: /none}}]
    directResponse: {status: 404}
  - directResponse: {status: 503, body: {string: "closed for today"}}
    headers: {response: {set: {retry-after: "7", content-type: text/plain}}}
""")
def test_P16_direct_responses(lab):
    got = lab.ask("p16.test")
    assert (got.status, got.text, got.headers["retry-after"], got.headers["content-type"]) == (503, "closed for today", "7", "text/plain")
    got = lab.ask("p16.test", "/bytes")
    assert (got.status, got.text) == (418, "tea!")
    got = lab.ask("p16.test", "/none")
    assert (got.status, got.text) == (404, "")
    assert lab.ask("p16large.test").text == "x" * 20000, "more than Envoy takes unasked"


CORS = """allowOrigins: [{exact: "https://one.example"}, {prefix: "https://pre"}, {regex: "https://[a-z]+[.]any"}], allowMethods: [GET, PUT], allowHeaders: [x-a, x-b],
      exposeHeaders: [x-version], maxAge: 600s, allowCredentials: true"""


@rules(f"""
VirtualService p22
  hosts: [p22.test]
  http:
  - match: [{{uri: {{prefix: /forward}}}}]
    corsPolicy: {{{CORS}, unmatchedPreflights: FORWARD}}
    {TO_V1}
  - match: [{{uri: {{prefix: /ignore}}}}]
    corsPolicy: {{{CORS}, unmatchedPreflights: IGNORE}}
    {TO_V1}
  - corsPolicy: {{{CORS}}}
    {TO_V1}
""")
def test_P22_cors(lab):
    def ask(origin, method="GET", path="/"):
        return lab.ask("p22.test", path, method=method, headers={"origin": origin, **({"access-control-request-method": "PUT"} if method == "OPTIONS" else {})})

    for origin in ("https://one.example", "https://prefix.x", "https://abc.any"):
        got = ask(origin, "OPTIONS")
        assert got.status == 200 and not got.text, "Envoy answers, not the server"
        assert {k: got.headers.get(f"access-control-{k}") for k in ("allow-origin", "allow-methods", "allow-headers", "max-age", "allow-credentials")} == {
            "allow-origin": origin, "allow-methods": "GET,PUT", "allow-headers": "x-a,x-b", "max-age": "600", "allow-credentials": "true"}
        got = ask(origin)
        assert got.said["version"] == "v1" and got.headers["access-control-allow-origin"] == origin
        assert got.headers["access-control-expose-headers"] == "x-version"
    assert "access-control-allow-origin" not in ask("https://two.example").headers
    for path in ("/forward", "/"):
        assert ask("https://two.example", "OPTIONS", path).said["method"] == "OPTIONS", "an unknown origin's question goes to the server"
    got = ask("https://two.example", "OPTIONS", "/ignore")
    assert got.status == 200 and not got.text and "access-control-allow-origin" not in got.headers


@rules("""
VirtualService p21
  hosts: [p21.test]
  http:
  - match: [{uri: {prefix: /one}}]
    route: [{destination: {host: echo, subset: v1}}]
    mirror: {host: echo, subset: v2}
  - match: [{uri: {prefix: /many}}]
    route: [{destination: {host: echo, subset: v1}}]
    mirrors:
    - {destination: {host: echo, subset: v2}, percentage: {value: 30}}
    - {destination: {host: echo, subset: v3}}
  - route: [{destination: {host: echo, subset: v1}}]
    mirror: {host: echo, subset: v3}
    mirrorPercentage: {value: 0}
""")
def test_P21_copies_arrive_at_the_mirrors(lab):
    got = lab.ask("p21.test", "/one/x", method="POST", body="copied", headers={"x-key": "p21-one", "x-do-v2": "status=500,delay=3"})
    assert got.status == 200 and got.version == "v1" and got.ms < 3000, "nobody waits for the mirror"
    (copy,) = until(lambda: lab.taken("default/echo-v2", "p21-one", forget=False)["requests"], 10, "the copy")
    assert (copy["method"], copy["path"], copy["body"], copy["host"]) == ("POST", "/one/x", "copied", "p21.test")
    assert len(lab.taken("default/echo-v1", "p21-one")["requests"]) == 1
    count = 400
    assert lab.versions("p21.test", "/many", count, headers={"x-key": "p21-many"}, parallel=4) == {"v1": count}
    until(lambda: len(lab.taken("default/echo-v3", "p21-many", forget=False)["requests"]) == count, 10, "a copy of each")
    assert_share(lab.came("p21-many")["v2"], count, 0.3)
    lab.ask_many("p21.test", "/", 50, headers={"x-key": "p21-none"})
    assert lab.came("p21-none") == {"v1": 50, "v2": 0, "v3": 0}


@rules(f"""
VirtualService at-gateway
  hosts: [p13g.secure.test]
  gateways: [gates]
  http:
  - match: [{{uri: {{prefix: /secure}}}}]
    redirect: {{scheme: https, derivePort: FROM_REQUEST_PORT}}
  - match: [{{uri: {{prefix: /here}}}}]
    redirect: {{uri: /there, derivePort: FROM_REQUEST_PORT}}
  - match: [{{uri: {{prefix: /old}}}}]
    rewrite: {{uri: /new, authority: inside.test}}
    headers: {{response: {{set: {{x-gate: "1"}}}}}}
    route: [{{destination: {{host: echo, port: {{number: 80}}, subset: v2}}}}]
""")
def test_P13_P14_P15_at_a_gateway(lab):
    got = lab.ask("p13g.secure.test", "/secure", pod=OUTSIDE, to="10.88.2.2", port=8080)
    assert (got.status, got.headers["location"]) == (301, "https://p13g.secure.test:80/secure"), "the request's port is the server's"
    tls = {"name": "p13g.secure.test", "ca": str(lab.certificates.ca)}
    for port, more, location in ((8080, {}, "http://p13g.secure.test/there"), (8443, {"tls": tls}, "https://p13g.secure.test/there")):
        assert lab.ask("p13g.secure.test", "/here", pod=OUTSIDE, to="10.88.2.2", port=port, **more).headers["location"] == location, "the scheme's own port"
    got = lab.ask("p13g.secure.test", "/old/x", pod=OUTSIDE, to="10.88.2.2", port=8080)
    assert (got.said["host"], got.said["path"], got.headers["x-gate"], got.version) == ("inside.test", "/new/x", "1", "v2")
    assert through_gateway(lab, "p13g.secure.test", "/else").startswith("404")
