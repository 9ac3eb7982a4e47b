"""citadel on Kubernetes, against an API server that can be made to fail (fake_kube.py): the cluster's tokens, and the bundle in every namespace."""
import base64
import json
import subprocess
import time

import grpc
import pytest

from fake_kube import FakeKube, kubeconfig, wait_until
from test_citadel import Citadel, csr, openssl

CONFIG_MAPS = "/api/v1/configmaps"
NAMESPACES = "/api/v1/namespaces"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """A cluster's key for service account tokens."""

    def __init__(self, folder, kid):
        self.path, self.kid = folder / f"{kid}.pem", kid
        openssl("genrsa", "-out", str(self.path), "2048")

    def jwk(self):
        modulus = openssl("rsa", "-in", str(self.path), "-noout", "-modulus").strip().split("=")[1]
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}

    def token(self, issuer, ns="shop", account="cart", audience="istio-ca", seconds=600):
        now = int(time.time())
        claims = {"iss": issuer, "sub": f"system:serviceaccount:{ns}:{account}", "aud": [audience], "iat": now, "exp": now + seconds,
                  "kubernetes.io": {"namespace": ns, "serviceaccount": {"name": account, "uid": "u"}}}
        text = b64(json.dumps({"alg": "RS256", "kid": self.kid}).encode()) + "." + b64(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.path], input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{b64(signature)}"


@pytest.fixture
def fake():
    server = FakeKube()
    yield server
    server.close()


@pytest.fixture
def issuer(tmp_path, fake):
    i = Issuer(tmp_path, "first")
    fake.jwks = {"keys": [i.jwk()]}
    return i


REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


def account(ns, name, audiences=("istio-ca",)):
    return {"authenticated": True, "user": {"username": f"system:serviceaccount:{ns}:{name}"}, "audiences": list(audiences)}


def started(tmp_path, fake, *options):
    (tmp_path / "config").write_text(kubeconfig(fake.url))
    return Citadel(tmp_path, "--kubernetes", "--kubeconfig", tmp_path / "config", *options)


@pytest.fixture
def reviewing(tmp_path, fake, issuer):
    """The API server gives no keys away: it has to be asked."""
    fake.keyless = True
    c = started(tmp_path, fake)
    wait_until(lambda: c.page("cluster")["failures"] > 0)
    yield c
    assert c.stop() == 0


@pytest.fixture
def always(tmp_path, fake, issuer):
    c = started(tmp_path, fake, "--token-review", "always")
    wait_until(lambda: c.page("cluster")["keysAgeMs"] >= 0)
    yield c
    assert c.stop() == 0


@pytest.fixture
def citadel(tmp_path, fake, issuer):
    for name in ("shop", "istio-system", "kube-system"):
        fake.apply(NAMESPACES, {"metadata": {"name": name}})
    (tmp_path / "config").write_text(kubeconfig(fake.url))
    c = Citadel(tmp_path, "--kubernetes", "--kubeconfig", tmp_path / "config")
    wait_until(lambda: c.page("cluster")["keysAgeMs"] >= 0)
    yield c
    assert c.stop() == 0


def bundle(fake, ns):
    found = fake.objects.get((CONFIG_MAPS, f"{ns}/istio-ca-root-cert"))
    return found and found["data"].get("root-cert.pem")


def test_C10_a_projected_token_of_the_cluster_gets_a_certificate(citadel, fake, issuer, tmp_path):
    chain = citadel.create(csr(tmp_path)[0], issuer.token(fake.issuer))
    assert len(chain) >= 2


@pytest.mark.parametrize("change,text", [
    ({"audience": "other"}, "audience"),
    ({"seconds": -10}, "expired"),
    ({"ns": "other"}, "cart"),
])
def test_C10_other_audience_expired_or_foreign_tokens_are_refused(citadel, fake, issuer, tmp_path, change, text):
    code, details = citadel.refusal(csr(tmp_path)[0], issuer.token(fake.issuer, **change))
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    assert text in details


def test_a_token_of_another_issuer_with_the_clusters_key_is_refused(citadel, issuer, tmp_path):
    code, details = citadel.refusal(csr(tmp_path)[0], issuer.token("https://elsewhere"))
    assert code == grpc.StatusCode.UNAUTHENTICATED and "issuer" in details


def test_C16_every_namespace_has_the_bundle_but_the_systems_own(citadel, fake):
    wait_until(lambda: bundle(fake, "shop") and bundle(fake, "istio-system"))
    assert bundle(fake, "shop") == (citadel.state / "root-cert.pem").read_text()
    assert bundle(fake, "kube-system") is None
    assert fake.objects[(CONFIG_MAPS, "shop/istio-ca-root-cert")]["metadata"]["labels"] == {"istio.io/config": "true"}
    fake.apply(NAMESPACES, {"metadata": {"name": "new"}})
    wait_until(lambda: bundle(fake, "new"), seconds=5)


def test_C16_a_bundle_that_is_changed_or_deleted_is_repaired_within_a_second(citadel, fake):
    wait_until(lambda: bundle(fake, "shop"))
    good = bundle(fake, "shop")
    fake.apply(CONFIG_MAPS, {"metadata": {"name": "istio-ca-root-cert", "namespace": "shop"}, "data": {"root-cert.pem": "mine"}})
    wait_until(lambda: bundle(fake, "shop") == good, seconds=1)
    fake.delete(CONFIG_MAPS, "shop", "istio-ca-root-cert")
    wait_until(lambda: bundle(fake, "shop") == good, seconds=1)


def test_a_write_that_is_refused_is_tried_again(citadel, fake):
    wait_until(lambda: bundle(fake, "shop"))
    fake.refuse(500, "etcd is away", 1)
    fake.delete(CONFIG_MAPS, "shop", "istio-ca-root-cert")
    wait_until(lambda: bundle(fake, "shop"), seconds=5)
    assert citadel.metric('citadel_root_cert_configmaps_written_total{result="failed"}') == 1


def test_an_api_server_that_goes_away_takes_nothing_from_citadel(citadel, fake, issuer, tmp_path):
    fake.refuse(503, "away", 1000)
    fake.end_watches()
    assert len(citadel.create(csr(tmp_path)[0], issuer.token(fake.issuer))) >= 2
    assert citadel.get("/readyz")[0] == 200


def test_C10_without_keys_the_api_server_is_asked_once(reviewing, fake, issuer, tmp_path):
    asked = []
    fake.review = lambda token, audiences: asked.append((token, audiences)) or account("shop", "cart")
    token = issuer.token(fake.issuer)
    request = csr(tmp_path)[0]
    for _ in range(3):
        assert len(reviewing.create(request, token)) >= 2
    assert asked == [(token, ["istio-ca"])]
    assert reviewing.metric('citadel_token_reviews_total{result="good"}') == 1
    assert reviewing.metric("citadel_token_reviews_remembered_total") == 2
    assert reviewing.page("issuances")["issuances"][0]["authenticator"] == "token-review"
    assert token not in reviewing.get("/debug/cluster")[1]


@pytest.mark.parametrize("status,text", [
    ({"authenticated": False, "error": "token has been invalidated"}, "invalidated"),
    (account("shop", "cart", ["https://kubernetes.default.svc"]), "audience"),
    (account("shop", "cart", []), "audience"),
    ({"authenticated": True, "user": {"username": "admin"}, "audiences": ["istio-ca"]}, "service account"),
    (account("shop", "other"), "spiffe://cluster.local/ns/shop/sa/other"),
    (account("sh/op", "cart"), "SPIFFE"),
])
def test_C10_what_the_api_server_does_not_vouch_for_is_refused(reviewing, fake, issuer, tmp_path, status, text):
    fake.review = lambda token, audiences: status
    code, details = reviewing.refusal(csr(tmp_path)[0], issuer.token(fake.issuer))
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    assert text in details


def test_C10_a_refusal_is_remembered_for_a_moment_only(reviewing, fake, issuer, tmp_path):
    token, request = issuer.token(fake.issuer), csr(tmp_path)[0]
    for _ in range(5):
        assert reviewing.refusal(request, token)[0] == grpc.StatusCode.UNAUTHENTICATED
    assert fake.count("POST " + REVIEWS) == 1
    fake.review = lambda token, audiences: account("shop", "cart")

    def taken():
        try:
            return reviewing.create(request, token)
        except grpc.RpcError:
            return None
    wait_until(taken, seconds=10)


def test_C10_no_keys_and_no_answer_is_try_again_later(reviewing, fake, issuer, tmp_path):
    fake.refuse(503, "away", 1000)
    code, details = reviewing.refusal(csr(tmp_path)[0], issuer.token(fake.issuer))
    assert code == grpc.StatusCode.UNAVAILABLE and "away" in details


def test_C10_always_asks_also_about_tokens_that_verify(always, fake, issuer, tmp_path):
    token, request = issuer.token(fake.issuer), csr(tmp_path)[0]
    fake.review = lambda token, audiences: {"authenticated": False, "error": "the pod is gone"}
    code, details = always.refusal(request, token)
    assert code == grpc.StatusCode.UNAUTHENTICATED and "the pod is gone" in details
    fake.review = lambda token, audiences: account("shop", "other")
    code, details = always.refusal(request, issuer.token(fake.issuer, seconds=601))
    assert code == grpc.StatusCode.UNAUTHENTICATED and "another identity" in details
    # Join tokens are not the cluster's to judge.
    before = fake.count("POST " + REVIEWS)
    assert len(always.create(request, always.token())) >= 2
    assert fake.count("POST " + REVIEWS) == before


def test_C10_always_falls_back_on_the_keys_when_the_api_server_is_away(always, fake, issuer, tmp_path):
    fake.refuse(503, "away", 1000)
    assert len(always.create(csr(tmp_path)[0], issuer.token(fake.issuer))) >= 2
    assert always.metric('citadel_token_reviews_total{result="no_answer"}') == 1
    assert always.refusal(csr(tmp_path)[0], issuer.token(fake.issuer, seconds=-10))[0] == grpc.StatusCode.UNAUTHENTICATED


def test_C10_a_token_that_ends_is_not_remembered_beyond_its_end(reviewing, fake, issuer, tmp_path):
    fake.review = lambda token, audiences: account("shop", "cart")
    token, request = issuer.token(fake.issuer, seconds=2), csr(tmp_path)[0]
    assert len(reviewing.create(request, token)) >= 2
    fake.review = lambda token, audiences: {"authenticated": False, "error": "token has expired"}

    def refused():
        try:
            return not reviewing.create(request, token)
        except grpc.RpcError as error:
            return "expired" in error.details()
    wait_until(refused, seconds=10)


def test_an_unknown_way_to_review_tokens_is_an_error(tmp_path, fake):
    (tmp_path / "config").write_text(kubeconfig(fake.url))
    c = started(tmp_path, fake, "--token-review", "sometimes")
    assert c.process.wait(10) != 0
    assert "is none of auto, always, never" in (tmp_path / "log").read_text()
