"""Connection pools, circuit breaking, outlier detection and how connections are made, by real requests to servers without a proxy of their own."""
from lab import CLIENT, EARLY, HTTP, MORE, OUT, SLACK, TCP, rules, service
from test_balancing import ALL, external, policy
from util import until

COLD = "outside/out-1"


def over_tcp(name, address, port):
    """A ServiceEntry over the TCP server of out-1."""
    return (f"ServiceEntry {name}\n  hosts: [{name}.ext.example]\n  addresses: [{address}]\n"
            f"  ports: [{{number: {port}, name: tcp, protocol: TCP, targetPort: {TCP}}}]\n  resolution: STATIC\n"
            f"  endpoints: [{{address: {OUT['out-1']}}}]\n---\n")


def statuses(answers):
    return {status: sum(a.status == status for a in answers) for status in {a.status for a in answers}}


def overflowed(answers):
    return [a for a in answers if a.status == 503 and a.headers.get("x-envoy-overloaded") == "true"]


@rules(external("p37a", "out-1"), policy("p37a", "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}"),
       external("p37b", "out-1"), policy("p37b", "{connectionPool: {http: {http2MaxRequests: 3}}}"),
       external("p37c", "out-1"), policy("p37c", "{connectionPool: {http: {maxRequestsPerConnection: 1}}}"),
       external("p37r", "out-1"), policy("p37r", "{connectionPool: {http: {maxRetries: 1}}}"),
       "VirtualService p37r\n  hosts: [p37r.ext.example]\n  http: [{retries: {attempts: 1, retryOn: 5xx}, route: [{destination: {host: p37r.ext.example}}]}]")
def test_P37_limits_of_http(lab):
    lab.ask("p37a.ext.example")  # its connection is there: a request that waits for one counts as waiting
    got = lab.ask_many("p37a.ext.example", count=20, parallel=20, headers={"x-key": "p37a", "x-do": "delay=1"})
    assert lab.taken(COLD, "p37a")["most"] == 1, "one connection carries one request at a time"
    assert len(overflowed(got)) == 18 and statuses(got) == {200: 2, 503: 18}, "one request waits, the others are refused"
    got = lab.ask_many("p37b.ext.example", count=20, parallel=20, headers={"x-key": "p37b", "x-do": "delay=1"})
    assert lab.taken(COLD, "p37b")["most"] == 3 and statuses(got) == {200: 3, 503: 17} and len(overflowed(got)) == 17
    got = lab.ask_many("p37c.ext.example", count=10)
    assert len({a.said["connection"] for a in got}) == 10, "every request has a connection of its own"
    got = lab.ask_many("p37b.ext.example", count=10)
    assert len({a.said["connection"] for a in got}) == 1, "and elsewhere they share one"
    got = lab.ask_many("p37r.ext.example", count=20, parallel=20, headers={"x-key": "p37r", "x-do": "status=500,delay=0.3"})
    arrived = len(lab.taken(COLD, "p37r")["requests"])
    assert statuses(got) == {500: 20} and 20 < arrived < 28, (arrived, "one at a time is tried again")


@rules(over_tcp("p36", "10.96.36.1", 9036), policy("p36", "{connectionPool: {tcp: {maxConnections: 2}}}"),
       external("p36d", "out-1"), policy("p36d", "{connectionPool: {tcp: {maxConnectionDuration: 0.5s}}}"),
       external("p36i", "out-1"), policy("p36i", "{connectionPool: {http: {idleTimeout: 0.2s}}}"),
       external("p36j", "out-1"), policy("p36j", "{connectionPool: {tcp: {idleTimeout: 0.2s, tcpKeepalive: {time: 77s, interval: 7s, probes: 3}}}}"),
       external("p36c", "out-1").replace(OUT["out-1"], "10.88.77.77"), policy("p36c", "{connectionPool: {tcp: {connectTimeout: 0.3s}}}"),
       "VirtualService p36c\n  hosts: [p36c.ext.example]\n  http: [{retries: {attempts: 0}, route: [{destination: {host: p36c.ext.example}}]}]")
def test_P36_limits_of_connections(lab):
    got = lab.talk("10.96.36.1", 9036, count=6, parallel=6, hold=1.5, timeout=10)
    assert sum(a.status == 200 for a in got) == 2, "the other connections are closed at once"
    # At most this old, however much it is used.
    first = lab.ask("p36d.ext.example").said["connection"]
    until(lambda: lab.ask("p36d.ext.example").said["connection"] != first, 5, "another connection")
    for name in ("p36i", "p36j"):
        lab.ask(f"{name}.ext.example")
        until(lambda n=name: [*lab.envoy_stats(CLIENT, f"{n}.*upstream_cx_idle_timeout$").values()] == ["1"], 5, "the idle connection is closed")
    got = lab.ask("p36c.ext.example")
    assert got.status == 503 and "timeout" in got.text and 300 - EARLY <= got.ms < 300 + SLACK, got


@rules(over_tcp("p36t", "10.96.36.2", 9037), policy("p36t", "{connectionPool: {tcp: {idleTimeout: 2s, tcpKeepalive: {time: 77s}}}}"))
def test_P36_an_idle_connection_is_closed_and_kept_alive_until_then(lab):
    script = ("import socket, subprocess; s = socket.create_connection(('10.96.36.2', 9037), 10); s.sendall(b'x\\n'); s.recv(9999); "
              f"print(subprocess.run(['ss', '-tnoH', 'dst', '{OUT['out-1']}'], capture_output=True, text=True).stdout); s.settimeout(10); print('end', s.recv(9))")
    said = lab.run_in(CLIENT, "python3", "-c", script)
    assert "timer:(keepalive,1min1" in said and "end b''" in said, said


EJECT = "interval: 0.5s, baseEjectionTime: 4s, maxEjectionPercent: 100"
EJECT_LONG = EJECT.replace("4s", "60s")


@rules(external("p38", *ALL), policy("p38", f"{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{consecutive5xxErrors: 3, {EJECT}}}}}"),
       external("p38g", *ALL),
       policy("p38g", f"{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, {EJECT_LONG}}}}}"),
       external("p38m", *ALL),
       policy("p38m", "{loadBalancer: {simple: ROUND_ROBIN}, "
              "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 34, baseEjectionTime: 60s}}"))
def test_P38_what_fails_is_ejected_and_comes_back(lab):
    sick = {"x-do-out-2": "status=500"}
    assert lab.versions("p38.ext.example", count=9, headers=sick)["out-2"] == 0
    # An ejection goes by Envoy's main thread, and holds some moments later.
    until(lambda: lab.versions("p38.ext.example", count=30) == {"out-1": 15, "out-3": 15}, 5, "ejected after three")
    until(lambda: lab.versions("p38.ext.example", count=9) == {name: 3 for name in ALL}, 20, "it is back")
    # An error of the application is no error of a gateway.
    assert len(lab.versions("p38g.ext.example", count=30, headers=sick)) == 3
    lab.versions("p38g.ext.example", count=6, headers={"x-do-out-2": "status=502"})
    until(lambda: lab.versions("p38g.ext.example", count=30) == {"out-1": 15, "out-3": 15}, 5)
    lab.versions("p38m.ext.example", count=6, headers={"x-do": "status=500"})
    until(lambda: len(lab.versions("p38m.ext.example", count=30)) == 2, 5, "a third of the endpoints at most")


@rules(external("p38c", *ALL), policy("p38c", "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, "
                                      "outlierDetectionHttpErrorCodes: [429, 430], maxEjectionPercent: 100, baseEjectionTime: 60s}}"),
       external("p38h", *ALL), policy("p38h", "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, minHealthPercent: 50, "
                                      "maxEjectionPercent: 100, baseEjectionTime: 60s}}"))
def test_P38_which_answers_are_errors_and_when_all_are_used_all_the_same(lab):
    assert statuses(lab.ask_many("p38c.ext.example", count=9, headers={"x-do-out-2": "status=500"})) == {200: 6, 500: 3}, "no error here"
    lab.ask_many("p38c.ext.example", count=3, headers={"x-do-out-2": "status=429"})
    until(lambda: set(lab.versions("p38c.ext.example", count=8)) == {"out-1", "out-3"}, 5)
    lab.ask_many("p38h.ext.example", count=3, headers={"x-do-out-2": "status=500"})
    until(lambda: set(lab.versions("p38h.ext.example", count=8)) == {"out-1", "out-3"}, 5)
    lab.ask_many("p38h.ext.example", count=2, headers={"x-do-out-1": "status=500"})
    until(lambda: set(lab.versions("p38h.ext.example", count=9)) == set(ALL), 5, "a third is less than half")


@rules(external("p38l", "out-1", "out-2").replace(f"{OUT['out-2']}, ports: {{http: {HTTP}}}", f"{OUT['out-2']}, ports: {{http: 1}}"),
       policy("p38l", "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {splitExternalLocalOriginErrors: true, "
              "consecutiveLocalOriginFailures: 2, consecutive5xxErrors: 0, baseEjectionTime: 60s, maxEjectionPercent: 100}}"),
       "VirtualService p38l\n  hosts: [p38l.ext.example]\n  http: [{retries: {attempts: 0}, route: [{destination: {host: p38l.ext.example}}]}]")
def test_P38_an_endpoint_that_cannot_be_reached_is_ejected(lab):
    first = lab.versions("p38l.ext.example", count=4)
    assert first["out-1"] == 2, first
    until(lambda: lab.versions("p38l.ext.example", count=20) == {"out-1": 20}, 5)


@rules(f"""
ServiceEntry p41
  hosts: [p41.ext.example]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {HTTP}}}, {{number: 81, name: http-more, protocol: HTTP, targetPort: {MORE}}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-1']}}}]
---
DestinationRule p41
  host: p41.ext.example
  trafficPolicy:
    connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}
    portLevelSettings: [{{port: {{number: 81}}, loadBalancer: {{simple: RANDOM}}}}]
""")
def test_P41_settings_of_a_port(lab):
    assert len({a.said["connection"] for a in lab.ask_many("p41.ext.example", count=5)}) == 5
    assert len({a.said["connection"] for a in lab.ask_many("p41.ext.example:81", count=5, port=81)}) == 1, "it inherits nothing"


@rules(external("p42a", "out-1"), policy("p42a", "{proxyProtocol: {version: V1}}"), external("p42b", "out-1"), policy("p42b", "{proxyProtocol: {version: V2}}"),
       external("p42r", "out-1"), policy("p42r", "{retryBudget: {percent: 1, minRetryConcurrency: 1}}"),
       "VirtualService p42r\n  hosts: [p42r.ext.example]\n  http: [{retries: {attempts: 1, retryOn: 5xx}, route: [{destination: {host: p42r.ext.example}}]}]")
def test_P42_proxy_protocol_and_retry_budget(lab):
    one = lab.ask("p42a.ext.example").said["proxied"].split()
    assert one[:3] == ["PROXY", "TCP4", "10.88.2.4"], one
    two = lab.ask("p42b.ext.example").said["proxied"].split()
    assert two[:2] == ["v2", "10.88.2.4"], two
    # All fail at the same moment, and one at a time may be tried again.
    got = lab.ask_many("p42r.ext.example", count=30, parallel=30, headers={"x-key": "p42r", "x-do": "status=500,delay=0.3"})
    assert statuses(got) == {500: 30}
    arrived = len(lab.taken(COLD, "p42r")["requests"])
    assert 30 < arrived < 40, arrived


@rules(f"""
ServiceEntry p42t
  hosts: [p42t.ext.example]
  addresses: [10.96.42.1]
  ports: [{{number: 9042, name: tcp, protocol: TCP}}]
  resolution: STATIC
  endpoints: [{{address: {OUT['out-2']}, ports: {{tcp: {HTTP}}}}}]
---
DestinationRule p42t
  host: p42t.ext.example
  trafficPolicy: {{tunnel: {{protocol: CONNECT, targetHost: far.example, targetPort: {TCP}}}}}
""")
def test_P42_tcp_through_a_tunnel(lab):
    lab.tell("outside/out-2", {"do": "places", "places": {"far.example": OUT["out-3"]}})
    (got,) = lab.talk("10.96.42.1", 9042, "through")
    assert got.said["version"] == "out-3" and got.said["from"] == OUT["out-2"], got
    assert lab.taken("outside/out-2", "CONNECT")["requests"][-1]["path"] == f"far.example:{TCP}"


@rules(service("p37many", 39, "{app: echo, version: v1}"), policy("p37many", "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}}}", "p37many"))
def test_P37_streams_of_a_connection(lab):
    got = lab.ask_many("p37many", to="10.96.3.39", count=4, parallel=4, headers={"x-do": "delay=1"})
    assert statuses(got) == {200: 4}
    (opened,) = lab.envoy_stats(CLIENT, r"\|\|p37many.*upstream_cx_http2_total$").values()
    assert int(opened) == 4


@rules(service("p37in", 37), """
DestinationRule p37in
  host: p37in.default.svc.cluster.local
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
  subsets: [{name: v1, labels: {version: v1}}]
---
VirtualService p37in
  hosts: [p37in]
  http: [{route: [{destination: {host: p37in, subset: v1}}]}]
""")
def test_P37_requests_are_upgraded_to_http2_between_proxies(lab):
    assert lab.ask_many("p37in", count=3)[-1].version == "v1"
    (opened,) = lab.envoy_stats(CLIENT, r"\|v1\|p37in.*upstream_cx_http2_total$").values()
    assert int(opened) == 1
