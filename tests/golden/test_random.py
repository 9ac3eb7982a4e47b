"""Random VirtualServices made of odd values: what galley accepts, Envoy accepts. Each file has many, so that one Envoy judges them all; when
it refuses, the test tries them one by one and names those that galley should have refused."""
import json
import os
import pathlib
import random
import re
import subprocess

import envoy_accept
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
FOLDER = ROOT / "tests/golden/pilot"
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
OBJECTS = 150
GATEWAY = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "web", "namespace": "default"},
           "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}
# (what is fine in most places, what is odd)
TEXTS = (["a", "/a b", "/x", "ü", "%%", "a.b", "http://x/y?z#w", "\"q\"", "a,b", "0", "-1", "~", "/" + "x" * 300],
         ["", "a\tb", "a\nb", "100%", "%REQ(x)%", "%START_TIME%", "%NOPE%", "\\1", "[", "(a|b)*", "*", "..", ":path", "%RESP(X?Y):9%",
          "%DYNAMIC_METADATA(a:b)%", "%PROTOCOL%"])
NAMES = (["x", "X-Upper", "x_y", "a.b", "cookie", "te", "x" * 200, "content-length"],
         [":method", "host", "x y", "", "@request.auth.claims.a", "@request.auth.claims[a][b.c]"])
DURATIONS = (["1ms", "1.5s", "100h", "300000h"], ["0s", "0.0005s", "-1s"])
STATUSES = ([200, 204, 404, 599], [-1, 0, 99, 301, 600])
NUMBERS = ([1, 99, 100, 65535, 2147483647], [-1, 0, 65536])
ODD = 0.06


class Maker:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def one(self, values):
        return self.rng.choice(values)

    def of(self, fine_and_odd):
        return self.one(fine_and_odd[self.rng.random() < ODD])

    def maybe(self, **makers):
        """A dictionary of a few of the fields."""
        chosen = {k: m() for k, m in makers.items() if self.rng.random() < 1.6 / len(makers)}
        return {k: v for k, v in chosen.items() if v is not None}

    def text(self):
        return self.of(TEXTS)

    def string_match(self):
        kind = self.one(["exact", "prefix", "regex"])
        return {kind: self.text()}

    def string_map(self):
        return {self.of(NAMES): self.text()}

    def match_map(self):
        return {self.of(NAMES): self.string_match()}

    def percent(self):
        return {"value": self.of(([0, 0.0001, 0.5, 50, 100], [0.00001, 101]))}

    def duration(self):
        return self.of(DURATIONS)

    def number(self):
        return self.of(NUMBERS)

    def status(self):
        return self.of(STATUSES)

    def destination(self):
        return {"host": self.of((["reviews", "productpage", "nobody.example.com"], ["*", "A B"])),
                **self.maybe(subset=lambda: self.of((["v1"], ["V1", ""])), port=lambda: {"number": self.of(([9080], [0, 70000]))})}

    def header_ops(self):
        return self.maybe(set=self.string_map, add=self.string_map, remove=lambda: [self.of(NAMES)])

    def headers(self):
        return self.maybe(request=self.header_ops, response=self.header_ops)

    def match(self):
        return self.maybe(name=self.text, uri=self.string_match, scheme=self.string_match, method=self.string_match, authority=self.string_match,
                          headers=self.match_map, withoutHeaders=self.match_map, queryParams=self.match_map, statPrefix=self.text,
                          ignoreUriCase=lambda: True, port=lambda: self.one([8080, 0]))

    def weighted(self):
        return self.maybe(headers=self.headers) | {"destination": self.destination(), "weight": self.number()}

    def retries(self):
        return {"attempts": self.number()} | self.maybe(perTryTimeout=self.duration, backoff=self.duration, retryRemoteLocalities=lambda: True,
                          retryOn=lambda: self.of((["5xx", "503,reset", "retriable-headers, 100"], ["x", "", "cancelled,,5xx"])))

    def fault(self):
        return self.one([{"delay": self.maybe(percentage=self.percent) | self.of(([{"fixedDelay": self.duration()}], [{}]))},
                         {"abort": self.maybe(percentage=self.percent) | self.one([{"httpStatus": self.status()}, {"grpcStatus": "UNAVAILABLE"}])}])

    def cors(self):
        return self.maybe(allowOrigins=lambda: [self.string_match()], allowMethods=lambda: [self.of((["GET", "*"], ["get", "X Y"]))],
                          allowHeaders=lambda: [self.of(NAMES)], exposeHeaders=lambda: [self.of(NAMES)], maxAge=lambda: self.of((["1h", "24h"], DURATIONS[1])),
                          allowCredentials=lambda: True, unmatchedPreflights=lambda: self.one(["FORWARD", "IGNORE"]))

    def action(self):
        kind = self.rng.random()
        if kind < 0.15:
            return {"redirect": {"authority": self.text()} | self.maybe(
                uri=self.text, scheme=lambda: self.of((["https"], ["ftp"])), port=self.number,
                redirectCode=lambda: self.of(([301, 302, 308, 399], [200, 0])))}
        if kind < 0.25:
            return {"directResponse": {"status": self.status(), **self.maybe(body=lambda: {"string": self.one(["", "x" * 5000])})}}
        return {"route": [self.weighted() for _ in range(self.one([1, 1, 2]))]} | self.maybe(
            rewrite=lambda: self.one([{"uri": self.text()}, {"authority": self.text()},
                                      {"uriRegexRewrite": {"match": self.text(), "rewrite": self.text()}}]),
            timeout=self.duration, retries=self.retries, fault=self.fault,
            mirrors=lambda: [{"destination": self.destination(), **self.maybe(percentage=self.percent)}])

    def rule(self):
        return self.maybe(name=self.text, match=lambda: [self.match() for _ in range(self.one([1, 2]))], headers=self.headers,
                          corsPolicy=self.cors) | self.action()

    def virtual_service(self, number):
        return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": f"vs{number}", "namespace": "default"},
                "spec": {"hosts": [f"h{number}.example.com"], "gateways": ["web"], "http": [self.rule() for _ in range(self.one([1, 2, 3]))]}}


def write(path, objects):
    path.write_text("\n---\n".join(json.dumps(o) for o in [GATEWAY, *objects]))
    return path


def accepted(path, objects):
    out = subprocess.run([BUILD / "tests/golden/galley_golden", path], capture_output=True, text=True, check=True).stdout
    refused = set(re.findall(r": error: VirtualService default/(\w+):", out))
    return [o for o in objects if o["metadata"]["name"] not in refused]


def refusal(path):
    rendered = subprocess.run([BUILD / "tests/golden/pilot_golden", FOLDER / "gateway.node.json", FOLDER / "base.yaml", path],
                              capture_output=True, text=True, check=True).stdout
    return envoy_accept.accept(json.loads(rendered), envoy_accept.envoy_path())


SEEDS = os.environ.get("FAIRLEAD_RANDOM_SEEDS", "0:4").split(":")


@pytest.mark.parametrize("seed", range(*map(int, SEEDS)))
def test_N02_what_galley_accepts_envoy_accepts(tmp_path, seed):
    maker = Maker(seed)
    objects = [maker.virtual_service(i) for i in range(OBJECTS)]
    good = accepted(write(tmp_path / "all.yaml", objects), objects)
    assert OBJECTS / 5 < len(good) < OBJECTS, "the values are too odd or not odd enough"
    if refusal(write(tmp_path / "good.yaml", good)) is None:
        return
    found = {json.dumps(o["spec"]): r for o in good if (r := refusal(write(tmp_path / "one.yaml", [o])))}
    raise AssertionError("\n".join(f"{spec}\n    {text[-300:]}" for spec, text in found.items()) or "only together")
