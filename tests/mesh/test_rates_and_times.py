"""Shares and times of HTTP routes: weights, injected faults, timeouts, retries counted where they arrive."""
import contextlib

import pytest
from lab import CLIENT, EARLY, OUTSIDE, SLACK, assert_share, rules, service
from test_matches import through_gateway


def to(version="v1"):
    return f"route: [{{destination: {{host: echo, subset: {version}}}}}]"


@rules("""
VirtualService p12
  hosts: [p12.test]
  http:
  - match: [{uri: {prefix: /none}}]
    route: [{destination: {host: echo, subset: v1}, weight: 0}, {destination: {host: echo, subset: v2}, weight: 1}]
  - match: [{uri: {prefix: /alone}}]
    route: [{destination: {host: echo, subset: v3}, weight: 0}]
  - route:
    - {destination: {host: echo, subset: v1}, weight: 70}
    - {destination: {host: echo, subset: v2}, weight: 20}
    - {destination: {host: echo, subset: v3}, weight: 10}
""")
def test_P12_weights(lab):
    count = 800
    seen = lab.versions("p12.test", "/", count, parallel=4)
    for version, share in (("v1", 0.7), ("v2", 0.2), ("v3", 0.1)):
        assert_share(seen[version], count, share)
    assert sum(seen.values()) == count and set(seen) == {"v1", "v2", "v3"}
    assert lab.versions("p12.test", "/none", 50) == {"v2": 50}, "no request goes where the weight is 0"
    assert lab.versions("p12.test", "/alone", 5) == {"v3": 5}, "a single destination has no use for a weight"


@rules(f"""
VirtualService p20
  hosts: [p20.test]
  http:
  - match: [{{uri: {{prefix: /abort}}}}]
    fault: {{abort: {{httpStatus: 418, percentage: {{value: 30}}}}}}
    {to()}
  - match: [{{uri: {{prefix: /rare}}}}]
    fault: {{abort: {{httpStatus: 500, percentage: {{value: 0.5}}}}}}
    {to()}
  - match: [{{uri: {{prefix: /delay}}}}]
    fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 40}}}}}}
    {to()}
  - match: [{{uri: {{prefix: /both}}}}]
    fault: {{delay: {{fixedDelay: 0.3s, percentage: {{value: 100}}}}, abort: {{httpStatus: 503, percentage: {{value: 100}}}}}}
    {to()}
  - match: [{{uri: {{prefix: /late}}}}]
    fault: {{delay: {{fixedDelay: 0.3s, percentage: {{value: 100}}}}}}
    timeout: 0.2s
    {to()}
  - match: [{{uri: {{prefix: /unsaid}}}}]
    fault: {{delay: {{fixedDelay: 10s}}, abort: {{httpStatus: 500}}}}
    {to()}
  - match: [{{uri: {{prefix: /grpc}}}}]
    fault: {{abort: {{grpcStatus: UNAVAILABLE, percentage: {{value: 100}}}}}}
    {to()}
  - {to()}
""")
def test_P20_faults_have_their_rates(lab):
    def delays():
        return sum(map(int, lab.envoy_stats(CLIENT, r"\.fault\.delays_injected$").values()))

    count = 600
    seen = lab.versions("p20.test", "/abort", count, parallel=4, headers={"x-key": "p20"})
    aborted = seen["418 fault filter abort"]
    assert_share(aborted, count, 0.3)
    assert seen["v1"] == count - aborted == lab.came("p20")["v1"], "what is aborted never arrives"
    got = lab.ask_many("p20.test", "/rare", 1000, parallel=4)
    assert_share(sum(a.status == 500 for a in got), len(got), 0.005)
    before = delays()
    got = lab.ask_many("p20.test", "/delay", 300, parallel=150)
    assert {a.status for a in got} == {200}
    delayed = delays() - before  # not by their times: on a busy machine a request that was not delayed may take as long
    assert_share(delayed, len(got), 0.4)
    assert sum(a.ms >= 1000 - EARLY for a in got) >= delayed
    got = lab.ask("p20.test", "/both")
    assert got.status == 503 and 300 - EARLY <= got.ms < 300 + SLACK
    got = lab.ask("p20.test", "/late")
    assert got.status == 200 and got.ms >= 300 - EARLY, "a delay is before the time that the rule gives"
    assert lab.versions("p20.test", "/unsaid", 20) == {"v1": 20}, "without a percentage there is no fault"
    got = lab.ask("p20.test", "/grpc", headers={"content-type": "application/grpc"})
    assert got.status == 200 and got.headers["grpc-status"] == "14"


@rules(f"""
VirtualService p18
  hosts: [p18.test]
  http:
  - match: [{{uri: {{prefix: /short}}}}]
    timeout: 0.4s
    {to()}
  - {to()}
---
VirtualService p18g
  hosts: [p18.secure.test]
  gateways: [gates]
  http:
  - timeout: 0.4s
    route: [{{destination: {{host: echo, port: {{number: 80}}, subset: v1}}}}]
""")
def test_P18_timeouts(lab):
    late = {"x-do": "delay=9"}
    for order in ({"host": "p18.test"}, {"host": "p18.secure.test", "pod": OUTSIDE, "to": "10.88.2.2", "port": 8080}):
        got = lab.ask(path="/short", headers=late, **order)
        assert got.status == 504 and got.text == "upstream request timeout" and 400 - EARLY <= got.ms < 400 + SLACK, got
    assert lab.version("p18.test", "/short") == "v1"
    got = lab.ask("p18.test", headers={"x-do": "delay=1.5"})
    assert got.status == 200 and got.ms >= 1500 - EARLY, "without a timeout there is none"
    # What a gRPC client asks for counts, up to the rule's own.
    for path, asked, least in (("/", "300m", 300), ("/short", "9S", 400)):
        got = lab.ask("p18.test", path, headers={**late, "content-type": "application/grpc", "grpc-timeout": asked})
        assert got.headers["grpc-status"] in ("4", "14") and least - EARLY <= got.ms < least + SLACK, got


@rules(f"VirtualService p18up\n  hosts: [p18up.test]\n  http: [{{timeout: 0.5s, {to()}}}]\n")
def test_P18_a_timeout_begins_when_the_request_is_complete(lab):
    got = lab.ask("p18up.test", method="POST", body="a long upload", slow=1.0)
    assert got.status == 200 and got.said["body"] == "a long upload" and got.ms >= 1000 - EARLY


@rules(f"""
VirtualService p19
  hosts: [p19.test]
  http:
  - match: [{{uri: {{prefix: /three}}}}]
    retries: {{attempts: 3, retryOn: 5xx}}
    {to()}
  - match: [{{uri: {{prefix: /off}}}}]
    retries: {{attempts: 0}}
    {to()}
  - match: [{{uri: {{prefix: /code}}}}]
    retries: {{attempts: 2, retryOn: "409,gateway-error"}}
    {to()}
  - match: [{{uri: {{prefix: /each}}}}]
    retries: {{attempts: 2, perTryTimeout: 0.2s, retryOn: gateway-error}}
    {to()}
  - match: [{{uri: {{prefix: /within}}}}]
    timeout: 0.5s
    retries: {{attempts: 9, perTryTimeout: 0.2s, retryOn: gateway-error}}
    {to()}
  - {to()}
""")
def test_P19_retries_are_counted_at_the_server(lab):
    def tries(path, orders):
        key = f"p19{path}{orders}"
        got = lab.ask("p19.test", path, headers={"x-key": key, "x-do": orders})
        return got.status, lab.came(key)["v1"], got

    assert tries("/three", "status=503")[:2] == (503, 4)
    status, count, got = tries("/three", "fail=2")
    assert (status, count, got.said["headers"]["x-envoy-attempt-count"]) == (200, 3, "3")
    assert tries("/three", "status=409")[:2] == (409, 1)
    assert tries("/off", "status=503")[:2] == (503, 1) and tries("/off", "reply=grpc-status:14")[:2] == (200, 1)
    assert tries("/code", "status=409")[:2] == (409, 3) and tries("/code", "status=502")[:2] == (502, 3) and tries("/code", "status=500")[:2] == (500, 1)
    status, count, got = tries("/each", "delay=1")
    assert (status, count) == (504, 3) and 600 - EARLY <= got.ms < 600 + SLACK
    status, count, got = tries("/within", "delay=1")
    assert status == 504 and 2 <= count <= 3 and 500 - EARLY <= got.ms < 500 + SLACK, "the whole timeout includes the retries"
    # Without retries of its own a rule has the mesh's: twice, when the server was not reached or says "unavailable" or "cancelled".
    assert tries("/", "status=503")[:2] == (503, 1) and tries("/", "reply=grpc-status:14")[:2] == (200, 3) and tries("/", "reply=grpc-status:1")[:2] == (200, 3)


@contextlib.contextmanager
def mesh_config(lab, line):
    path = lab.dir / "mesh.yaml"
    before = path.read_text()
    try:
        path.write_text(f"{before}  {line}\n")
        lab.settle()
        yield
    finally:
        path.write_text(before)
        lab.settle()


@rules(service("p19m", 19), f"VirtualService p19m\n  hosts: [p19m.test]\n  http: [{{{to()}}}]\n")
def test_P19_the_meshs_default_of_retries(lab):
    def tries(host):
        lab.ask(host, headers={"x-key": host, "x-do": "status=503"})
        return sum(lab.came(host).values())

    assert tries("p19m") == tries("p19m.test") == 1
    with mesh_config(lab, "defaultHttpRetryPolicy: {attempts: 4, retryOn: 5xx}"):
        assert tries("p19m.test") == tries("p19m") == 5


@rules("""
ServiceEntry p19dead
  hosts: [p19dead.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.88.3.1, ports: {http: 8080}}, {address: 10.88.3.2, ports: {http: 1}}]
---
VirtualService p19dead
  hosts: [p19dead.test]
  http:
  - match: [{uri: {prefix: /off}}]
    retries: {attempts: 0}
    route: [{destination: {host: p19dead.test}}]
  - route: [{destination: {host: p19dead.test}}]
""")
def test_P19_a_dead_endpoint_costs_no_request(lab):
    """Retries go to another endpoint than the one that failed: Envoy chooses anew up to five times. Twice in vain are 60 times half of 1/64 squared,
    so that three of 60 requests fail by bad luck once in ten millions of runs."""
    assert lab.versions("p19dead.test", count=60)["out-1"] >= 58
    seen = lab.versions("p19dead.test", "/off", 40)
    assert set(seen) != {"out-1"}, "without retries some requests meet the dead one"


@rules("VirtualService p12g\n  hosts: [p12.secure.test]\n  gateways: [gates]\n  http: [{route: [" + ", ".join(
    f"{{destination: {{host: echo, port: {{number: 80}}, subset: {v}}}, weight: {w}}}" for v, w in (("v1", 25), ("v2", 75))) + "]}]\n")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_P12_weights_at_a_gateway(lab, scheme):
    assert through_gateway(lab, "p12.secure.test", scheme=scheme) in ("v1", "v2")
    tls = {"name": "p12.secure.test", "ca": str(lab.certificates.ca)} if scheme == "https" else None
    seen = lab.versions("p12.secure.test", "/", 400, pod=OUTSIDE, to="10.88.2.2", port=8443 if tls else 8080, tls=tls)
    assert_share(seen["v2"], 400, 0.75)
    assert sum(seen.values()) == seen["v1"] + seen["v2"]
