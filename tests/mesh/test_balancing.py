"""How a client's Envoy chooses among endpoints, by real requests: simple balancers, stickiness, localities, warm-up."""
import json
import time

import pytest
from lab import CALLER, CLIENT, ENOUGH, HTTP, INGRESS_IP, OUT, OUTSIDE, TCP, assert_share, rules, service
from util import until


def external(name, *endpoints, port=80):
    """A ServiceEntry over the servers outside; an endpoint is "out-1" with more of its fields."""
    rows = "".join(f"\n  - {{address: {OUT[e[:5]]}, ports: {{http: {HTTP}}}{e[5:]}}}" for e in endpoints)
    return (f"ServiceEntry {name}\n  hosts: [{name}.ext.example]\n  ports: [{{number: {port}, name: http, protocol: HTTP}}]\n"
            f"  resolution: STATIC\n  endpoints:{rows}\n---\n")


def policy(name, spec, host=None):
    return f"DestinationRule {name}\n  host: {host or f'{name}.ext.example'}\n  trafficPolicy: {spec}\n---\n"


ALL = ("out-1", "out-2", "out-3")


@rules(external("p31rr", *ALL), policy("p31rr", "{loadBalancer: {simple: ROUND_ROBIN}}"),
       external("p31rnd", *ALL), policy("p31rnd", "{loadBalancer: {simple: RANDOM}}"),
       external("p31lr", *ALL), policy("p31lr", "{loadBalancer: {simple: LEAST_REQUEST}}"),
       external("p31any", *ALL, port=HTTP), policy("p31any", "{loadBalancer: {simple: PASSTHROUGH}}"))
def test_P31_simple_balancers(lab):
    assert lab.versions("p31rr.ext.example", count=30) == {name: 10 for name in ALL}
    seen = lab.versions("p31rnd.ext.example", count=300)
    for name in ALL:
        assert_share(seen[name], 300, 1 / 3)
    # One is slow; the others get more, because it always has requests open.
    seen = lab.versions("p31lr.ext.example", count=200, parallel=12, headers={"x-do-out-2": "delay=0.3"})
    assert seen["out-2"] < 60 < seen["out-1"] and sum(seen.values()) == 200, seen
    for name, address in OUT.items():
        assert lab.versions("p31any.ext.example", count=3, to=address, port=HTTP) == {name: 3}, "the address that was called"


HASHES = {"header": "httpHeaderName: x-user", "cookie": "httpCookie: {name: who, ttl: 60s}", "query": "httpQueryParameterName: user",
          "source": "useSourceIp: true"}
ALGORITHMS = {"ring": "ringHash: {minimumRingSize: 2048}", "maglev": "maglev: {tableSize: 101}", "default": ""}
STICKY = [(key, algorithm) for key in HASHES for algorithm in ALGORITHMS]


def sticky(key, algorithm):
    name = f"p32-{key}-{algorithm}"
    inside = ", ".join(filter(None, (HASHES[key], ALGORITHMS[algorithm])))
    return external(name, *ALL) + policy(name, f"{{loadBalancer: {{consistentHash: {{{inside}}}}}}}")


def of_user(key, user):
    """The part of a request that is hashed, different for each user."""
    return {"header": {"headers": {"x-user": user}}, "cookie": {"headers": {"cookie": f"a=1; who={user}"}}, "query": {"path": f"/?a=1&user={user}"},
            "source": {"source": f"10.88.2.{100 + user}"}}[key]


@rules(*(sticky(*row) for row in STICKY))
@pytest.mark.parametrize("key, algorithm", STICKY)
def test_P32_requests_stick_to_an_endpoint(lab, key, algorithm):
    users = range(12)
    if key == "source":
        for user in users:
            lab.run_in(CLIENT, "ip", "addr", "replace", f"10.88.2.{100 + user}/16", "dev", "eth0")
    host = f"p32-{key}-{algorithm}.ext.example"
    seen = {user: lab.versions(host, count=4, close=True, **of_user(key, user)) for user in users}
    assert all(len(found) == 1 and sum(found.values()) == 4 for found in seen.values()), seen
    assert len(set().union(*seen.values())) > 1, f"all users on one endpoint: {seen}"
    assert set().union(*seen.values()) <= set(ALL)


@rules(sticky("cookie", "ring").replace("p32-cookie-ring", "p32set"))
def test_P32_a_caller_without_the_cookie_gets_one(lab):
    got = lab.ask("p32set.ext.example")
    (cookie,) = [v for k, v in got.every if k == "set-cookie"]
    assert cookie.startswith("who=") and "Max-Age=60" in cookie
    assert lab.versions("p32set.ext.example", count=6, close=True, headers={"cookie": cookie.split(";")[0].replace('"', "")}) == {got.version: 6}


ATTRIBUTES = "name: who, path: /app, ttl: 0s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]"


@rules(sticky("cookie", "maglev").replace("p32-cookie-maglev", "p32att").replace("name: who, ttl: 60s", ATTRIBUTES))
def test_P32_the_cookie_has_a_path_and_attributes_and_lasts_for_the_session(lab):
    (cookie,) = [v for k, v in lab.ask("p32att.ext.example").every if k == "set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"Path=/app", "SameSite=Strict", "Secure"} and "Max-Age" not in cookie, cookie


@rules("ServiceEntry p32tcp\n  hosts: [p32tcp.ext.example]\n  addresses: [10.96.32.1]\n  resolution: STATIC\n"
       f"  ports: [{{number: 9032, name: tcp, protocol: TCP, targetPort: {TCP}}}]\n"
       f"  endpoints: [{', '.join(f'{{address: {address}}}' for address in OUT.values())}]\n---\n",
       policy("p32tcp", "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 101}}}}"))
def test_P32_connections_of_an_address_stick_to_an_endpoint(lab):
    seen = {}
    for user in range(12):
        source = f"10.88.2.{150 + user}"
        lab.run_in(CLIENT, "ip", "addr", "replace", f"{source}/16", "dev", "eth0")
        got = lab.talk("10.96.32.1", 9032, count=4, source=source)
        seen[user] = {a.said["version"] for a in got}
    assert all(len(found) == 1 for found in seen.values()) and len(set().union(*seen.values())) > 1, seen


def retried(name, *rows):
    """A VirtualService for an external host: (path, fields) of its rules, the most specific path first."""
    return (f"VirtualService {name}\n  hosts: [{name}.ext.example]\n  http:\n"
            + "".join(f"  - {{match: [{{uri: {{prefix: {path}}}}}], {fields}, route: [{{destination: {{host: {name}.ext.example}}}}]}}\n" for path, fields in rows) + "---\n")


def tries(lab, key):
    return {name: len(lab.taken(f"outside/{name}", key)["requests"]) for name in ALL}


@rules(external("p19loc", "out-1, locality: r1/z1/s1", "out-2, locality: r2/z1/s1"), policy("p19loc", "{outlierDetection: {consecutive5xxErrors: 1000}}"),
       retried("p19loc", ("/far", "retries: {attempts: 3, retryOn: 5xx, retryRemoteLocalities: true}"), ("/", "retries: {attempts: 3, retryOn: 5xx}")))
def test_P19_retries_go_to_other_localities_where_the_rule_says_so(lab):
    order = {"headers": {"x-do-out-1": "status=500", "x-key": "p19loc"}}
    assert lab.version("p19loc.ext.example", "/far", **order) == "out-2"
    assert tries(lab, "p19loc") == {"out-1": 2, "out-2": 1, "out-3": 0}
    assert lab.ask("p19loc.ext.example", "/", **order).status == 500
    assert tries(lab, "p19loc") == {"out-1": 4, "out-2": 0, "out-3": 0}


@rules(external("p19prev", "out-1", "out-2"), policy("p19prev", "{loadBalancer: {simple: RANDOM}}"),
       retried("p19prev", ("/same", "retries: {attempts: 1, retryOn: 5xx, retryIgnorePreviousHosts: false}"), ("/", "retries: {attempts: 1, retryOn: 5xx}")))
def test_P19_a_retry_leaves_the_host_that_failed_unless_the_rule_keeps_it(lab):
    def failed(path):
        return sum(a.status == 500 for a in lab.ask_many("p19prev.ext.example", path, 200, parallel=4, headers={"x-do-out-1": "status=500"}))

    assert_share(failed("/same"), 200, 0.25)
    assert failed("/") < 20, "six times the same of two hosts"


@rules(external("p19hash", *ALL), policy("p19hash", "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"),
       retried("p19hash", ("/any", "retries: {attempts: 2, retryOn: 5xx, retryIgnorePreviousHosts: true}"), ("/", "retries: {attempts: 2, retryOn: 5xx}")))
def test_P19_P32_a_retry_stays_with_the_host_that_the_hash_chose(lab):
    own = lab.version("p19hash.ext.example", headers={"x-user": 1})
    order = {"headers": {"x-user": 1, f"x-do-{own}": "status=500", "x-key": "p19hash"}}
    assert lab.ask("p19hash.ext.example", "/", **order).status == 500 and tries(lab, "p19hash")[own] == 3
    assert lab.ask("p19hash.ext.example", "/any", **order).status == 200 and tries(lab, "p19hash")[own] == 1


@rules(external("p19back", "out-1"), retried("p19back", ("/later", "timeout: 1s, retries: {attempts: 3, retryOn: 5xx, backoff: 20s}"),
                                             ("/", "retries: {attempts: 3, retryOn: 5xx}")))
def test_P19_time_between_retries(lab):
    def count(path):
        lab.ask_many("p19back.ext.example", path, 20, parallel=20, headers={"x-do": "status=500", "x-key": f"p19back{path}"})
        return tries(lab, f"p19back{path}")["out-1"]

    assert count("/") == 80
    assert 20 <= count("/later") < 40, "a first pause of up to 20 seconds does not fit into one second, but by chance"


@rules(service("p44", 44, labels="istio.io/persistent-session=stay"), service("p44h", 45, labels="istio.io/persistent-session-header=x-stay"))
def test_P44_sessions_persist(lab):
    got = lab.ask("p44")
    (cookie,) = [v for k, v in got.every if k == "set-cookie"]
    assert lab.versions("p44", count=10, close=True, headers={"cookie": cookie.split(";")[0]}) == {got.version: 10}
    got = lab.ask("p44h")
    assert lab.versions("p44h", count=10, close=True, headers={"x-stay": got.headers["x-stay"]}) == {got.version: 10}
    assert len(lab.versions("p44", count=ENOUGH, close=True)) == 3, "who brings nothing is balanced"


OUTLIERS = "outlierDetection: {consecutive5xxErrors: 1, interval: 300s, baseEjectionTime: 300s, maxEjectionPercent: 100}"
NEAR = ("out-1, locality: r1/z1/s1", "out-2, locality: r1/z2/s1", "out-3, locality: r2/z1/s1")


@rules(external("p33f", *NEAR), policy("p33f", f"{{{OUTLIERS}}}"))
def test_P33_failover_from_zone_to_zone_to_region_as_endpoints_fail(lab):
    host = "p33f.ext.example"
    assert lab.versions(host, count=20) == {"out-1": 20}
    assert lab.ask(host, headers={"x-do-out-1": "status=500"}).status == 500
    until(lambda: lab.versions(host, count=20) == {"out-2": 20}, 5, "the other zone of the region")
    assert lab.ask(host, headers={"x-do-out-2": "status=500"}).status == 500
    until(lambda: lab.versions(host, count=20) == {"out-3": 20}, 5, "the other region")


@rules(external("p33g", *NEAR), policy("p33g", f"{{{OUTLIERS}}}"))
def test_P33_failover_as_endpoints_go(lab):
    name = f"{test_P33_failover_as_endpoints_go.__module__}-test_P33_failover_as_endpoints_go"
    host, rule = "p33g.ext.example", policy("p33g", f"{{{OUTLIERS}}}")
    assert lab.versions(host, count=10) == {"out-1": 10}
    for left, version in ((NEAR[1:], "out-2"), (NEAR[2:], "out-3"), (NEAR, "out-1")):
        lab.put(name, external("p33g", *left), rule)
        until(lambda v=version: lab.versions(host, count=10) == {v: 10}, 10, f"all to {version}")


@rules(external("p33to", *NEAR), policy("p33to", f"{{loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r3}}]}}}}, {OUTLIERS}}}"),
       external("p33pri", "out-1, labels: {tier: silver, cell: a}", "out-2, labels: {tier: gold, cell: b}", "out-3, labels: {tier: gold, cell: a}"),
       policy("p33pri", f'{{loadBalancer: {{localityLbSetting: {{failoverPriority: ["tier=gold", "cell=a"]}}}}, {OUTLIERS}}}'),
       external("p33off", *NEAR), policy("p33off", f"{{loadBalancer: {{simple: ROUND_ROBIN, localityLbSetting: {{enabled: false}}}}, {OUTLIERS}}}"),
       external("p33none", *NEAR), policy("p33none", "{loadBalancer: {simple: ROUND_ROBIN}}"))
def test_P33_order_of_failover(lab):
    """By labels; not at all when switched off, or when nothing would notice that endpoints fail."""
    assert lab.versions("p33to.ext.example", count=10) == {"out-1": 10}
    assert lab.versions("p33pri.ext.example", count=10) == {"out-3": 10}
    assert lab.ask("p33pri.ext.example", headers={"x-do-out-3": "status=500"}).status == 500
    until(lambda: lab.versions("p33pri.ext.example", count=10) == {"out-2": 10}, 5, "gold of another cell")
    for host in ("p33off.ext.example", "p33none.ext.example"):
        assert lab.versions(host, count=30) == {name: 10 for name in ALL}


SHARES = 'localityLbSetting: {distribute: [{from: "r1/z1/*", to: {"r1/z1/*": 60, "r2/z1/*": 40}}]}'


@rules(external("p33d", *NEAR), policy("p33d", f"{{loadBalancer: {{{SHARES}}}, outlierDetection: {{consecutive5xxErrors: 100}}}}"))
def test_P33_distribute(lab):
    seen = lab.versions("p33d.ext.example", count=400, parallel=2)
    assert set(seen) == {"out-1", "out-3"}
    assert_share(seen["out-3"], 400, 0.4)


WARM_SECONDS = 4
WARM = f"{{loadBalancer: {{simple: ROUND_ROBIN, warmup: {{duration: {WARM_SECONDS}s, minimumPercent: 10}}}}}}"


@rules(external("p35", "out-1"), policy("p35", WARM))
def test_P35_a_new_endpoint_is_warmed_up(lab):
    def seen():
        return lab.versions("p35.ext.example", count=60)["out-2"]

    until(lambda: time.monotonic() > lab.settled + WARM_SECONDS, what="the old endpoint is warm")
    lab.put("test_balancing-test_P35_a_new_endpoint_is_warmed_up", external("p35", "out-1", "out-2"), policy("p35", WARM))
    assert until(seen, 10, "the new endpoint") < 25, "much less than the half"
    until(lambda: seen() == 30, 3 * WARM_SECONDS, "the half")


@rules(external("p28", "out-1, labels: {version: a}, weight: 1", "out-2, labels: {version: a}, weight: 3", "out-3, labels: {version: b}"), """
DestinationRule p28
  host: p28.ext.example
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets: [{name: a, labels: {version: a}}, {name: b, labels: {version: b}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]
---
VirtualService p28
  hosts: [p28.ext.example]
  http:
  - match: [{uri: {prefix: /b}}]
    route: [{destination: {host: p28.ext.example, subset: b}}]
  - route: [{destination: {host: p28.ext.example, subset: a}}]
""")
def test_P28_P60_subsets_and_weights_of_endpoints(lab):
    assert lab.versions("p28.ext.example", "/b", 10) == {"out-3": 10}
    seen = lab.versions("p28.ext.example", count=400)
    assert seen == {"out-1": 100, "out-2": 300}


def connections(lab, host, **order):
    """How many connections ten requests one after the other had."""
    return len({a.said["connection"] for a in lab.ask_many(host, count=10, **order)})


def ones(name, namespace="default", spec="connectionPool: {http: {maxRequestsPerConnection: 1}}", more=""):
    """A rule that shows where it holds: every request has a connection of its own."""
    return f"DestinationRule {namespace}/{name}\n  host: {name.partition('-')[0]}.ext.example\n{more}  trafficPolicy: {{{spec}}}\n---\n"


@rules(external("p27a", "out-1"), ones("p27a"), ones("p27a", "other", "loadBalancer: {simple: RANDOM}"),
       external("p27b", "out-1"), ones("p27b", "istio-system"),
       external("p27r", "out-1"), ones("p27r"), ones("p27r", "istio-system", "loadBalancer: {simple: RANDOM}"),
       "VirtualService p27r\n  hosts: [p27r.secure.test]\n  gateways: [gates]\n  http: [{route: [{destination: {host: p27r.ext.example}}]}]\n---\n",
       external("p27c", "out-1, labels: {version: a}", "out-2, labels: {version: b}"),
       "DestinationRule p27c\n  host: p27c.ext.example\n  subsets: [{name: a, labels: {version: a}}]\n---\n"
       "DestinationRule p27c-more\n  host: p27c.ext.example\n  subsets: [{name: b, labels: {version: b}}]\n---\n"
       "VirtualService p27c\n  hosts: [p27c.ext.example]\n  http:\n"
       "  - {match: [{uri: {prefix: /b}}], route: [{destination: {host: p27c.ext.example, subset: b}}]}\n"
       "  - {route: [{destination: {host: p27c.ext.example, subset: a}}]}\n")
def test_P27_the_callers_namespace_comes_first_and_rules_of_a_host_are_merged(lab):
    assert connections(lab, "p27a.ext.example") == 10 and connections(lab, "p27a.ext.example", pod=CALLER) == 1
    assert connections(lab, "p27b.ext.example") == connections(lab, "p27b.ext.example", pod=CALLER) == 10, "the root namespace's is for all"
    assert connections(lab, "p27r.secure.test", pod=OUTSIDE, to=INGRESS_IP, port=8080) == 10, "a gateway in the root namespace has the service's own"
    assert lab.versions("p27c.ext.example", count=4) == {"out-1": 4} and lab.versions("p27c.ext.example", "/b", 4) == {"out-2": 4}


@rules(external("p29", "out-1"), ones("p29-some", more="  workloadSelector: {matchLabels: {app: client}}\n"), ones("p29-all", spec="loadBalancer: {simple: RANDOM}"),
       external("p30", "out-1"), ones("p30", more='  exportTo: ["."]\n'))
def test_P29_P30_whom_a_rule_is_for(lab):
    assert connections(lab, "p29.ext.example") == 10 and connections(lab, "p29.ext.example", pod="default/echo-v1") == 1, "only these workloads"
    assert connections(lab, "p30.ext.example") == 10 and connections(lab, "p30.ext.example", pod=CALLER) == 1, "only this namespace"


def test_P33_localities_are_in_the_proxys_node(lab):
    node = json.loads(lab.curl(CLIENT, "http://127.0.0.1:15000/server_info")[1])["node"]["locality"]
    assert node == {"region": "r1", "zone": "z1", "sub_zone": "s1"}


def of_namespace(namespace, out):
    return external("p59", out).replace("ServiceEntry p59", f"ServiceEntry {namespace}/p59")


@rules(of_namespace("istio-system", "out-1"), of_namespace("default", "out-2"))
def test_P59_of_two_services_of_a_host_the_one_of_the_callers_namespace_counts(lab):
    assert lab.version("p59.ext.example") == "out-2"
    with lab.change(of_namespace("other", "out-3")):
        assert lab.version("p59.ext.example") == "out-2" and lab.version("p59.ext.example", pod=CALLER) == "out-3"


def machine(out, labels=""):
    return f"WorkloadEntry {out}\n  address: {OUT[out]}\n  labels: {{app: p44vm, machine: {out}{labels}}}\n---\n"


@rules(service("p44d", 46, "{app: p44vm}", f"[{{name: http, port: 80, targetPort: {HTTP}}}]", "istio.io/persistent-session=stay"), machine("out-1"),
       service("p44n", 47, "{app: p44vm}", f"[{{name: http, port: 80, targetPort: {HTTP}}}]"))
def test_P44_P60_who_drains_keeps_its_sessions_and_gets_no_new_ones(lab):
    with lab.change(machine("out-2")):
        cookies = {a.version: next(v for k, v in a.every if k == "set-cookie").split(";")[0] for a in lab.ask_many("p44d", count=ENOUGH, close=True)}
        assert set(cookies) == set(lab.versions("p44n", count=ENOUGH)) == {"out-1", "out-2"}
        lab.put("change", machine("out-2", ", istio.io/draining: 'true'"))
        lab.settle()
        assert lab.versions("p44d", count=5, close=True, headers={"cookie": cookies["out-2"]}) == {"out-2": 5}
        assert lab.versions("p44d", count=ENOUGH, close=True) == lab.versions("p44n", count=ENOUGH) == {"out-1": ENOUGH}
