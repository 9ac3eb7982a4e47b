"""What VirtualServices make of requests, by the simulator: delegates, visibility, claims, rewrites, mirrors, faults, TLS and TCP rules."""
import pytest

from test_sim import GATEWAY, GOLDEN, REST_V1, SUBSETS, TO_V2, cluster, mesh, route  # noqa: F401 (mesh is a fixture)

PASS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pass, namespace: default}
spec:
  hosts: [a.example.com, b.example.com]
  addresses: [10.50.0.0/16]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 5432, name: tcp, protocol: TCP}]
---
"""


def service(name, spec, ns="default"):
    return f"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {ns}}}\nspec:\n{spec}\n"


def mesh_config(spec):
    return f"---\napiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec: {spec}\n"


PRIVATE = '{defaultVirtualServiceExportTo: ["."]}'
FULL = '  hosts: [reviews.default.svc.cluster.local]\n'
TO_V2_FULL = "  http: [{route: [{destination: {host: reviews.default.svc.cluster.local, subset: v2}}]}]\n"


@pytest.mark.parametrize("export,mesh_default,subset", [("", "", "v2"), ("", PRIVATE, ""), ('["*"]', PRIVATE, "v2"), ('["."]', "", ""),
                                                        ("[default]", PRIVATE, "v2"), ("[elsewhere, default]", "", "v2"),
                                                        ("[elsewhere]", "", "")])
def test_P03_who_sees_a_virtual_service_of_another_namespace(mesh, export, mesh_default, subset):
    m = mesh(SUBSETS + service("reviews", FULL + (f"  exportTo: {export}\n" if export else "") + TO_V2_FULL, ns="other")
             + (mesh_config(mesh_default) if mesh_default else ""))
    assert m.to(authority="reviews") == {cluster(subset): 100}


CLAIMS = """
  - match: [{headers: {"@request.auth.claims.group": {exact: dev}}, withoutHeaders: {"@request.auth.claims[banned]": {}}}]
""" + TO_V2 + REST_V1


@pytest.mark.parametrize("claims,subset", [(None, "v1"), ({"group": "dev"}, "v2"), ({"group": ["ops", "dev"]}, "v2"),
                                           ({"Group": "dev"}, "v1"), ({"group": "dev", "banned": "yes"}, "v1")])
def test_P07_claims_of_the_jwt_choose_the_route_at_a_gateway(mesh, claims, subset):
    m = mesh(GATEWAY + route(CLAIMS, hosts="[bookinfo.example.com]", extra="gateways: [web]"), node="gateway")
    assert m.to(dst="10.88.1.2:8080", authority="bookinfo.example.com", claims=claims,
                headers={"@request.auth.claims.group": "dev"}) == {cluster(subset): 100}


def test_P10_stat_prefix_of_the_match(mesh):
    m = mesh(route("  - match: [{uri: {prefix: /a}, statPrefix: alpha}, {uri: {prefix: /b}}]\n" + TO_V2))
    assert m.ask(authority="reviews", path="/a")["rule"]["statPrefix"] == "alpha"
    assert "statPrefix" not in m.ask(authority="reviews", path="/b")["rule"]


@pytest.mark.parametrize("path,upstream", [("/old/x?q=1", "/new/x?q=1"), ("/old", "/new"), ("/one?q=1", "/1?q=1"), ("/else", "/else")])
def test_P15_rewrites_of_the_path(mesh, path, upstream):
    m = mesh(route("""  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new, authority: new.example}
""" + TO_V2 + "  - match: [{uri: {exact: /one}}]\n    rewrite: {uri: /1}\n" + TO_V2 + REST_V1))
    got = m.ask(authority="reviews", path=path)["upstream"]
    assert got == {"path": upstream, "authority": "new.example" if path.startswith("/old") else "reviews"}


def test_P15_rewrites_by_regular_expression(mesh):
    m = mesh(route("""  - match: [{uri: {prefix: /r}}]
    rewrite: {uriRegexRewrite: {match: "/r/([^/]+)", rewrite: "/x/\\\\1"}}
""" + TO_V2))
    assert m.ask(authority="reviews", path="/r/a")["action"]["regexRewrite"] == {
        "pattern": {"regex": "/r/([^/]+)"}, "substitution": "/x/\\1"}


@pytest.mark.parametrize("match,headers,path,subset", [
    ('headers: {x: {exact: ""}}', {"x": ""}, "/", "v2"), ('headers: {x: {exact: ""}}', {"x": "1"}, "/", "v1"), ('headers: {x: {exact: ""}}', {}, "/", "v1"),
    ('withoutHeaders: {x: {regex: "*"}}', {}, "/", "v2"), ('withoutHeaders: {x: {regex: "*"}}', {"x": "1"}, "/", "v1"),
    ('withoutHeaders: {x: {exact: ""}}', {}, "/", "v1"), ('withoutHeaders: {x: {exact: ""}}', {"x": "1"}, "/", "v2"),
    ('queryParams: {q: {exact: ""}}', {}, "/?q", "v2"), ('queryParams: {q: {exact: ""}}', {}, "/?q=1", "v1"), ("queryParams: {q: {}}", {}, "/?q=1", "v2"),
    ('uri: {exact: ""}', {}, "/", "v1"), ('uri: {prefix: ""}', {}, "/x", "v2"), ("method: {}", {}, "/", "v2"),
    ('uri: {regex: "/a.*"}, ignoreUriCase: true', {}, "/A", "v1"), ('uri: {regex: "(?i)/a.*"}', {}, "/A", "v2")])
def test_P04_P06_P08_what_is_there_and_what_is_empty(mesh, match, headers, path, subset):
    m = mesh(route(f"  - match: [{{{match}}}]\n" + TO_V2 + REST_V1))
    assert m.to(authority="reviews", headers=headers, path=path) == {cluster(subset): 100}


def test_P11_a_regular_expression_for_everything_ends_the_list(mesh):
    m = mesh(route('  - match: [{uri: {regex: ".*"}}]\n' + TO_V2 + REST_V1))
    assert [r["route"]["cluster"] for r in m.ask(authority="reviews") and next(
        vh for rc in m.resources["rds"] for vh in rc["virtualHosts"] if vh["name"].startswith("reviews."))["routes"]] == [cluster("v2")]


@pytest.mark.parametrize("spec,dst,port", [
    ("derivePort: FROM_REQUEST_PORT", "10.96.1.13:9080", 9080), ("scheme: https, derivePort: FROM_PROTOCOL_DEFAULT", "10.96.1.13:9080", 443),
    ("authority: a.example, derivePort: FROM_PROTOCOL_DEFAULT", "10.96.1.13:9080", None), ("authority: a.example, port: 80", "10.96.1.13:9080", None),
    ("authority: a.example, port: 443", "10.96.1.13:9080", 443), ("scheme: https, authority: a.example, port: 443", "10.96.1.13:9080", None)])
def test_P14_ports_of_redirects(mesh, spec, dst, port):
    assert mesh(route(f"  - redirect: {{{spec}}}\n")).ask(authority="reviews", dst=dst)["redirect"].get("portRedirect") == port


def test_P18_zero_switches_a_delegates_inherited_timeout_off(mesh):
    m = mesh(route(ROOT) + service("rules", RULES + "    timeout: 0s\n", ns="team"))
    assert m.ask(authority="reviews", path="/r/a", headers={"team": "r"})["action"]["timeout"] == "0s"


HASHED = SUBSETS.replace("subsets:", "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}, subsets:")


@pytest.mark.parametrize("retries,previous", [("", False), ("retries: {attempts: 2}", False), ("retries: {attempts: 2, retryIgnorePreviousHosts: true}", True)])
def test_P19_P32_retries_stay_with_the_host_that_the_hash_chose(mesh, retries, previous):
    m = mesh(route(f"  - {retries}\n" * bool(retries) + (TO_V2 if retries else "  - " + TO_V2.strip() + "\n")).replace(SUBSETS, HASHED))
    assert ("retryHostPredicate" in m.ask(authority="reviews")["action"]["retryPolicy"]) == previous


def test_P19_other_localities(mesh):
    policy = mesh(route("  - retries: {attempts: 2, retryRemoteLocalities: true, backoff: 1s}\n" + TO_V2)).ask(authority="reviews")["action"]["retryPolicy"]
    assert policy["retryPriority"]["name"] == "envoy.retry_priorities.previous_priorities"
    assert policy["retryPriority"]["typedConfig"]["updateFrequency"] == 2 and policy["retryBackOff"] == {"baseInterval": "1s"}


def test_P13_what_an_only_destination_sets_comes_after_the_rules(mesh):
    own = "  - headers: {request: {set: {x: rule}}}\n    route:\n    - {destination: {host: reviews, subset: v1}, headers: {request: {set: {x: destination}}}%s}\n"
    assert [h["header"]["value"] for h in mesh(route(own % "")).ask(authority="reviews")["rule"]["requestHeadersToAdd"]] == ["rule", "destination"]
    several = mesh(route(own % ", weight: 1" + "    - {destination: {host: reviews, subset: v2}, weight: 0}\n")).ask(authority="reviews")
    (share,) = several["action"]["weightedClusters"]["clusters"]
    assert [h["header"]["value"] for x in (share, several["rule"]) for h in x["requestHeadersToAdd"]] == ["destination", "rule"]


ROOT = """  - match: [{uri: {prefix: /r}, headers: {team: {exact: r}}}]
    timeout: 7s
    delegate: {name: rules, namespace: team}
""" + REST_V1
RULES = "  http:\n  - match: [{uri: {prefix: /r/a}}]\n" + TO_V2.replace("host: reviews", "host: reviews.default.svc.cluster.local")


@pytest.mark.parametrize("path,headers,subset", [("/r/a", {"team": "r"}, "v2"), ("/r/a", {}, "v1"), ("/r/b", {"team": "r"}, "v1"),
                                                 ("/a", {"team": "r"}, "v1")])
def test_P17_a_delegate_narrows_the_root(mesh, path, headers, subset):
    m = mesh(route(ROOT) + service("rules", RULES, ns="team"))
    assert m.to(authority="reviews", path=path, headers=headers) == {cluster(subset): 100}


def test_P17_a_delegate_inherits_what_it_does_not_say(mesh):
    m = mesh(route(ROOT) + service("rules", RULES, ns="team"))
    assert m.ask(authority="reviews", path="/r/a", headers={"team": "r"})["action"]["timeout"] == "7s"
    m = mesh(route(ROOT) + service("rules", RULES + "    timeout: 1s\n", ns="team"))
    assert m.ask(authority="reviews", path="/r/a", headers={"team": "r"})["action"]["timeout"] == "1s"


@pytest.mark.parametrize("match", ["{uri: {prefix: /other}}", "{uri: {}}", "{headers: {team: {}}}", "{uri: {exact: /r/a}, headers: {team: {exact: x}}}", "{uri: {regex: /r/.*}}",
                                   "{uri: {prefix: /r/a}, ignoreUriCase: true}", "{uri: {prefix: /}}"])
def test_P17_a_delegate_that_contradicts_the_root_has_no_effect(mesh, match):
    m = mesh(route(ROOT) + service("rules", RULES.replace("{uri: {prefix: /r/a}}", match), ns="team"))
    assert m.to(authority="reviews", path="/r/a", headers={"team": "r"}) == {cluster("v1"): 100}


@pytest.mark.parametrize("export,subset", [("[default]", "v2"), ('["*"]', "v2"), ('["."]', "v1"), ("[elsewhere]", "v1")])
def test_P17_a_delegate_must_be_visible_to_the_root(mesh, export, subset):
    m = mesh(route(ROOT) + service("rules", f"  exportTo: {export}\n" + RULES, ns="team"))
    assert m.to(authority="reviews", path="/r/a", headers={"team": "r"}) == {cluster(subset): 100}


def test_P17_a_virtual_service_with_hosts_is_no_delegate(mesh):
    m = mesh(route(ROOT) + service("rules", "  hosts: [elsewhere.example]\n" + RULES, ns="team"))
    assert m.to(authority="reviews", path="/r/a", headers={"team": "r"}) == {cluster("v1"): 100}


def test_P17_parts_of_matches_are_joined(mesh):
    m = mesh(route("""  - name: root
    match: [{name: get, method: {exact: GET}}, {name: put, method: {exact: PUT}, queryParams: {q: {exact: "1"}}}]
    delegate: {name: rules, namespace: team}
""" + REST_V1) + service("rules", RULES.replace("  - match", "  - name: leaf\n    match").replace("{uri:", "{name: a, uri:"), ns="team"))
    assert m.ask(authority="reviews", path="/r/a")["route"] == "root-leaf.get-a"
    assert m.ask(authority="reviews", path="/r/a?q=1", method="PUT")["route"] == "root-leaf.put-a"
    assert m.to(authority="reviews", path="/r/a", method="PUT") == {cluster("v1"): 100}


def test_P20_faults_of_a_share_of_the_requests(mesh):
    m = mesh(route("  - match: [{uri: {prefix: /none}}]\n    fault: {delay: {fixedDelay: 2s}, abort: {httpStatus: 500}}\n" + TO_V2
                   + "  - fault: {delay: {fixedDelay: 2s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}\n" + TO_V2))
    assert "typedPerFilterConfig" not in m.ask(authority="reviews", path="/none")["rule"], "no percentage: no request"
    fault = m.ask(authority="reviews")["rule"]["typedPerFilterConfig"]["envoy.filters.http.fault"]
    assert fault["delay"] == {"fixedDelay": "2s", "percentage": {"numerator": 1000, "denominator": "MILLION"}}
    assert fault["abort"] == {"grpcStatus": 14, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}


def test_P21_mirrors_have_a_share_each_and_the_hosts_own_name(mesh):
    m = mesh(route(TO_V2.replace("    route", "  - route") + "    mirrors: [{destination: {host: reviews, subset: v1}, percentage: {value: 5}}, "
                   "{destination: {host: productpage}}]\n"))
    got = [(p["cluster"], p["runtimeFraction"]["defaultValue"]["numerator"], p["disableShadowHostSuffixAppend"])
           for p in m.ask(authority="reviews")["action"]["requestMirrorPolicies"]]
    assert got == [(cluster("v1"), 50000, True), (cluster(host="productpage.default.svc.cluster.local"), 1000000, True)]


def test_P21_a_proxy_may_want_the_suffix_for_shadows(mesh, tmp_path):
    node = tmp_path / "shadow.node.json"
    node.write_text((GOLDEN / "sidecar.node.json").read_text().replace('"NAMESPACE"', '"FAIRLEAD_SHADOW_SUFFIX": "true", "NAMESPACE"'))
    m = mesh(route(TO_V2.replace("    route", "  - route") + "    mirror: {host: reviews, subset: v1}\n"), node=node)
    assert "disableShadowHostSuffixAppend" not in m.ask(authority="reviews")["action"]["requestMirrorPolicies"][0]


def test_P22_cors_policy(mesh):
    m = mesh(route("  - corsPolicy: {allowOrigins: [{exact: https://a}], allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], "
                   "maxAge: 1h, allowCredentials: true, unmatchedPreflights: IGNORE}\n" + TO_V2))
    cors = m.ask(authority="reviews")["rule"]["typedPerFilterConfig"]["envoy.filters.http.cors"]
    assert {k: cors[k] for k in ("allowMethods", "allowHeaders", "exposeHeaders", "maxAge", "allowCredentials",
                                 "forwardNotMatchingPreflights", "allowOriginStringMatch")} == {
        "allowMethods": "GET,PUT", "allowHeaders": "x-a,x-b", "exposeHeaders": "x-c", "maxAge": "3600", "allowCredentials": True,
        "forwardNotMatchingPreflights": False, "allowOriginStringMatch": [{"exact": "https://a"}]}


TLS_RULES = """  hosts: [a.example.com, b.example.com]
  tls:
  - match: [{sniHosts: [a.example.com], sourceLabels: {app: other}}, {sniHosts: [a.example.com], port: 8443}]
    route: [{destination: {host: never.example.com}}]
  - match: [{sniHosts: [b.example.com], destinationSubnets: [10.50.1.0/24], sourceNamespace: default}]
    route: [{destination: {host: reviews, port: {number: 9080}}}]
  - match: [{sniHosts: [a.example.com, b.example.com]}]
    route: [{destination: {host: b.example.com, port: {number: 443}}, weight: 3}, {destination: {host: a.example.com}, weight: 1}]
"""
SHARES = {cluster(port=443, host="b.example.com"): 3, cluster(port=443, host="a.example.com"): 1}


@pytest.mark.parametrize("sni,dst,want", [("a.example.com", "10.50.1.1:443", {"PassthroughCluster": 100}), ("a.example.com", "10.50.2.1:443", SHARES),
                                          ("b.example.com", "10.50.2.1:443", SHARES), ("b.example.com", "10.50.1.1:443", {cluster(): 100})])
def test_P23_tls_by_server_name_subnet_and_caller(mesh, sni, dst, want):
    m = mesh(PASS + service("pass", TLS_RULES))
    assert m.to(dst=dst, tls=True, http=False, sni=sni) == want


def test_P23_rules_of_several_virtual_services_for_one_name_do_not_collide(mesh):
    one = "  hosts: [%s]\n  tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: %s, port: {number: 9080}}}]}]\n"
    m = mesh(PASS + service("wild", one % ('"*.example.com"', "productpage")) + service("exact", one % ("a.example.com", "reviews")))
    assert m.to(dst="10.50.2.1:443", tls=True, http=False, sni="a.example.com") == {cluster(): 100}
    names = [n for x in m.resources["lds"] if x["name"] == "0.0.0.0_443" for c in x["filterChains"]
             for n in c.get("filterChainMatch", {}).get("serverNames", [])]
    assert len(names) == len(set(names)), names


TCP_RULES = """  hosts: [a.example.com]
  tcp:
  - match: [{port: 1}, {sourceLabels: {app: other}}]
    route: [{destination: {host: never.example.com}}]
  - match: [{destinationSubnets: [10.50.1.0/24, 10.50.2.2], port: 5432}]
    route: [{destination: {host: reviews, port: {number: 9080}}}]
  - route: [{destination: {host: a.example.com, port: {number: 5432}}, weight: 9}, {destination: {host: b.example.com, port: {number: 5432}}, weight: 1}]
"""
TCP_SHARES = {cluster(port=5432, host="a.example.com"): 9, cluster(port=5432, host="b.example.com"): 1}


@pytest.mark.parametrize("dst,want", [("10.50.1.7:5432", {cluster(): 100}), ("10.50.2.2:5432", {cluster(): 100}), ("10.50.2.3:5432", TCP_SHARES)])
def test_P24_tcp_by_subnet_port_and_caller(mesh, dst, want):
    m = mesh(PASS + service("pass", TCP_RULES))
    assert m.to(dst=dst, http=False) == want


def test_P25_on_the_mesh_the_first_of_two_wins_whole(mesh):
    m = mesh(route("  - match: [{uri: {prefix: /a}}]\n" + TO_V2) + service("second", "  hosts: [reviews]\n  http:\n" + REST_V1))
    assert m.to(authority="reviews", path="/a") == {cluster("v2"): 100}
    assert m.ask(authority="reviews", path="/b")["status"] == 404


def test_P25_at_a_gateway_several_are_merged_and_what_takes_everything_is_last(mesh):
    one = "  hosts: [bookinfo.example.com]\n  gateways: [web]\n  http:\n  - match: [{uri: {prefix: /%s}}]\n%s  - name: rest-of-%s\n%s"
    m = mesh(GATEWAY + SUBSETS + service("one", one % ("one", TO_V2, "one", TO_V2)) + service("two", one % ("two", TO_V2, "two", TO_V2)),
             node="gateway")
    ask = {"dst": "10.88.1.2:8080", "authority": "bookinfo.example.com"}
    assert m.to(path="/two", **ask) == {cluster("v2"): 100}
    assert m.ask(path="/two", **ask).get("route") == ""
    assert m.ask(path="/three", **ask)["route"] == "rest-of-one"


def test_P26_routes_have_the_names_of_rule_and_match_and_the_access_log_shows_them(mesh):
    m = mesh(route("  - name: rule\n    match: [{name: one, uri: {prefix: /one}}, {uri: {prefix: /two}}]\n" + TO_V2 + REST_V1)
             + mesh_config("{accessLogFile: /dev/stdout}"))
    assert m.ask(authority="reviews", path="/one")["route"] == "rule.one"
    assert m.ask(authority="reviews", path="/two")["route"] == "rule"
    assert "%ROUTE_NAME%" in str(next(x for x in m.resources["lds"] if x["name"] == "0.0.0.0_9080"))


def test_P13_the_rules_host_beats_the_destinations(mesh):
    m = mesh(route("""  - match: [{uri: {prefix: /both}}]
    headers: {request: {add: {host: rule.example}}}
    route: [{destination: {host: reviews, subset: v1}, headers: {request: {set: {":authority": dest.example}}}}]
  - route: [{destination: {host: reviews, subset: v1}, headers: {request: {set: {":authority": dest.example}}}}]
"""))
    assert m.ask(authority="reviews", path="/both")["upstream"]["authority"] == "rule.example"
    assert m.ask(authority="reviews", path="/x")["upstream"]["authority"] == "dest.example"
