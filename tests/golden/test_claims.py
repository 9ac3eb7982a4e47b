"""Routing by the claims of a JWT, by a real Envoy that checks real tokens: its filter leaves the claims where pilot's routes look for them."""
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import subprocess
import tempfile
import time

import pytest

import envoy_accept
from test_pilot import FOLDER, render

SECRET = b"thirty-two bytes are good enough"
JWT = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def plain(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims):
    head = ".".join(plain(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, {"iss": "tests", **claims}))
    return f"{head}.{plain(hmac.new(SECRET, head.encode(), hashlib.sha256).digest())}"


def server(routes, path):
    """A bootstrap: claims as a RequestAuthentication's filter leaves them, then the routes, which answer with the name of their cluster."""
    for host in routes["virtualHosts"]:
        for route in host["routes"]:
            if "route" in route:
                route["directResponse"] = {"status": 200, "body": {"inlineString": route.pop("route")["cluster"]}}
            route.pop("typedPerFilterConfig", None)
    keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": plain(SECRET)}]})
    provider = {"issuer": "tests", "localJwks": {"inlineString": keys}, "payloadInMetadata": "payload", "clearRouteCache": True}
    jwt = {"@type": JWT, "providers": {"p": provider}, "rules": [
        {"match": {"prefix": "/"}, "requires": {"requiresAny": {"requirements": [{"providerName": "p"}, {"allowMissing": {}}]}}}]}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    hcm = {"@type": HCM, "statPrefix": "in", "routeConfig": routes, "httpFilters": [
        {"name": "envoy.filters.http.jwt_authn", "typedConfig": jwt}, {"name": "envoy.filters.http.router", "typedConfig": router}]}
    return {"staticResources": {"listeners": [{"name": "in", "address": {"pipe": {"path": path}}, "filterChains": [{"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typedConfig": hcm}]}]}]}}


@contextlib.contextmanager
def envoy(config, folder):
    with open(f"{folder}/log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([envoy_accept.envoy_path(), "--config-yaml", json.dumps(config), "--use-dynamic-base-id", "--disable-hot-restart",
                                    "--concurrency", "1"], stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.host)


@pytest.fixture(scope="module")
def ask():
    """Where requests with claims (None: without a token) and headers lead."""
    rendered = render(FOLDER / "gateway.node.json", FOLDER / "base.yaml", FOLDER / "gateway/P07-jwt-claims.in.yaml")
    (routes,) = [r for r in rendered["rds"] if r["name"] == "http.8080"]
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as folder, envoy(server(routes, f"{folder}/s"), folder) as process:

        def ask(claims, **headers):
            connection = Connection(f"{folder}/s")
            more = {} if claims is None else {"authorization": f"Bearer {token(claims)}"}
            connection.request("GET", "/", headers={"host": "bookinfo.example.com", **more, **{k.replace("_", "-"): v for k, v in headers.items()}})
            reply = connection.getresponse()
            return reply.read().decode().split("|")[-1].split(".")[0] if reply.status == 200 else reply.status

        end = time.monotonic() + 30
        while True:
            try:
                ask(None)
                break
            except OSError:
                with open(f"{folder}/log", encoding="utf-8") as log:
                    assert process.poll() is None and time.monotonic() < end, log.read()[-3000:]
                time.sleep(0.02)
        yield ask


@pytest.mark.parametrize("claims,to", [
    ({"group": "dev"}, "reviews"), ({"group": ["ops", "dev"]}, "reviews"), ({"group": "ops"}, 403), ({"group": "develop"}, 403), ({"Group": "dev"}, 403),
    ({"group": {"dev": True}}, 403), ({}, 403), (None, 403),
    ({"realm.x": {"Roles": ["user", "admin"]}}, "productpage"), ({"realm.x": {"Roles": "admin"}}, "productpage"), ({"realm.x": {"roles": ["admin"]}}, 403),
    ({"realm": {"x": {"Roles": ["admin"]}}}, 403), ({"realm.x": {"Roles": ["admin"]}, "banned": "yes"}, 403),
    ({"realm.x": {"Roles": ["admin"]}, "banned": {"since": "1999"}}, 403)])
def test_P07_claims_of_a_token_choose_the_route(ask, claims, to):
    assert ask(claims, x_plain="1") == to


def test_P07_a_header_with_the_name_of_a_claim_is_no_claim(ask):
    assert ask({"realm.x": {"Roles": "admin"}}) == 403, "the other conditions of the match hold, too"
    assert ask(None, **{"@request.auth.claims.group": "dev"}) in (400, 403)
