"""The verdicts of the analysis against the simulator: a rule that is said to be shadowed or never to match gets no request of many."""
import itertools
import json
import random
import subprocess

import pytest

from test_sim import BUILD, GATEWAY, SUBSETS, mesh  # noqa: F401 (mesh is a fixture)

PATHS = ("/", "/a", "/a/b", "/a/bc", "/b", "/A")
REQUESTS = [{"path": p, "method": m, "headers": h} for p, m, h in itertools.product(
    PATHS, ("GET", "POST"), ({}, {"x": "1"}, {"x": "12"}, {"x": ""}, {"y": "1"}, {"x": "1", "y": "2"}))]
URIS = ("{prefix: /}", "{prefix: /a}", "{prefix: /a/b}", "{exact: /a}", "{exact: /a/b}", '{regex: "/a.*"}', "{prefix: /b}")
VALUES = ("{}", '{exact: ""}', '{regex: ".*"}', '{exact: "1"}', '{prefix: "1"}', '{regex: "1."}', '{exact: "2"}')


def random_match(rng):
    parts = []
    if rng.random() < 0.7:
        parts.append(f"uri: {rng.choice(URIS)}")
        if rng.random() < 0.2:
            parts.append("ignoreUriCase: true")
    if rng.random() < 0.3:
        parts.append(f"method: {{exact: {rng.choice(('GET', 'POST'))}}}")
    for field in ("headers", "withoutHeaders"):
        chosen = [f"{name}: {rng.choice(VALUES)}" for name in "xy" if rng.random() < 0.25]
        if chosen:
            parts.append(f"{field}: {{{', '.join(chosen)}}}")
    if rng.random() < 0.1:
        parts.append(rng.choice(("port: 9080", "port: 1", "sourceNamespace: default", "sourceLabels: {app: productpage}",
                                 "gateways: [mesh]", "gateways: [default/web]", "gateways: [default/web], sourceLabels: {app: other}")))
    return "{" + ", ".join(parts) + "}"


def random_rules(rng, name, port):
    rules = []
    for i in range(rng.randint(3, 7)):
        matches = ", ".join(random_match(rng) for _ in range(rng.randint(1, 2)))
        match = f"\n    match: [{matches}]" if rng.random() < 0.9 else ""
        rules.append(f"  - name: {name}.http[{i}]{match}\n    route: [{{destination: {{host: reviews, port: {{number: {port}}}}}}}]\n")
    return "".join(rules)


def virtual_service(rng, name, host, gateways, port=9080):
    return (f"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\nspec:\n"
            f"  hosts: [{host}]\n  gateways: {gateways}\n  http:\n{random_rules(rng, name, port)}")


def hit(m, **where):
    lines = "".join(json.dumps(dict(request, **where)) + "\n" for request in REQUESTS)
    out = subprocess.run([BUILD / "tests/sim/sim", m.rendered], input=lines, capture_output=True, text=True, check=True).stdout
    return {json.loads(line).get("route", "") for line in out.splitlines()} - {""}


def verdicts(folder):
    result = subprocess.run([BUILD / "cli/fairlead", "analyze", "-o", "json", folder / "case.yaml"], capture_output=True, text=True, check=False)
    return {f"{v['object'].split('/')[1]}.{v['rule']}": v for v in json.loads(result.stdout)["verdicts"]}


def compare(folder, routes):
    said = verdicts(folder)
    wrong = [said[name] for name in routes if said[name]["verdict"] != "live"]
    assert wrong == []
    return sum(v["verdict"] != "live" for v in said.values())


@pytest.mark.parametrize("seed", range(12))
def test_N05_no_request_reaches_a_dead_rule_on_the_mesh(mesh, tmp_path, seed):
    rng = random.Random(seed)
    m = mesh(SUBSETS + virtual_service(rng, "one", "reviews", "[mesh, web]") + virtual_service(rng, "two", "reviews", "[mesh]"))
    assert compare(tmp_path, hit(m, authority="reviews", dst="10.96.1.13:9080")) >= 3  # All of the younger one, at the least.


@pytest.mark.parametrize("seed", range(12))
def test_N05_no_request_reaches_a_dead_rule_at_a_gateway(mesh, tmp_path, seed):
    rng = random.Random(100 + seed)
    m = mesh(GATEWAY + SUBSETS + virtual_service(rng, "one", "bookinfo.example.com", "[web]")
             + virtual_service(rng, "two", "bookinfo.example.com", "[web]"), node="gateway")
    routes = hit(m, authority="bookinfo.example.com", dst="10.88.1.2:8080")
    compare(tmp_path, routes)
    assert routes
