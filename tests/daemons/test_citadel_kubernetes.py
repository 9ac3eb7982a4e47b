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

    def token(self, issuer, ns="shop", account="cart", audience="istio-ca", seconds=600, pod=None):
        now = int(time.time())
        claims = {"iss": issuer, "sub": f"system:serviceaccount:{ns}:{account}", "aud": [audience], "iat": now, "exp": now + seconds,
                  "kubernetes.io": {"namespace": ns, "serviceaccount": {"name": account, "uid": "u"}}}
        if pod:
            claims["kubernetes.io"]["pod"] = {"name": pod[0], "uid": pod[1]}
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


def test_C16_the_name_is_chosen(tmp_path, fake, issuer):
    fake.apply(NAMESPACES, {"metadata": {"name": "shop"}})
    c = started(tmp_path, fake, "--roots-config-map", "roots")
    mine = (CONFIG_MAPS, "shop/roots")
    wait_until(lambda: mine in fake.objects)
    assert fake.objects[mine]["data"]["root-cert.pem"] == (c.state / "root-cert.pem").read_text() and bundle(fake, "shop") is None
    fake.delete(CONFIG_MAPS, "shop", "roots")
    wait_until(lambda: mine in fake.objects, seconds=1)
    assert c.stop() == 0


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


# ---- node accounts: certificates for others, whose pods run on the caller's node

PODS = "/api/v1/pods"
OTHER = "spiffe://cluster.local/ns/shop/sa/cart"
NODE = ("istio-system", "ztunnel")


def pod(fake, ns, name, account, node, phase="Running", uid=None, **metadata):
    spec = {"serviceAccountName": account, **({"nodeName": node} if node else {})}
    fake.apply(PODS, {"metadata": {"namespace": ns, "name": name, "uid": uid or f"uid-of-{name}", **metadata}, "spec": spec, "status": {"phase": phase}})


@pytest.fixture
def nodes(tmp_path, fake, issuer):
    pod(fake, *NODE[:1], "ztunnel-1", NODE[1], "node-1")
    pod(fake, "istio-system", "pilot-1", "pilot", "node-1")
    pod(fake, "shop", "cart-1", "cart", "node-1")
    pod(fake, "shop", "cart-2", "cart", "node-2")
    pod(fake, "shop", "web-2", "web", "node-2")
    pod(fake, "shop", "job-1", "job", "node-1", phase="Succeeded")
    pod(fake, "shop", "failed-1", "failed", "node-1", phase="Failed")
    pod(fake, "shop", "static-1", "static", "node-1", annotations={"kubernetes.io/config.mirror": "hash"})
    pod(fake, "shop", "new-1", "new", None, phase="Pending")
    pod(fake, "other", "cart-3", "only-there", "node-1")
    c = started(tmp_path, fake, "--trusted-node-accounts", "istio-system/ztunnel,kube-system/istio-cni")
    wait_until(lambda: c.page("cluster")["keysAgeMs"] >= 0)
    yield c
    assert c.stop() == 0


def of_node(issuer, fake, uid="uid-of-ztunnel-1", name="ztunnel-1", who=NODE):
    return issuer.token(fake.issuer, *who, pod=name and (name, uid))


def for_other(citadel, tmp_path, token, wanted=OTHER):
    request = csr(tmp_path, san="URI:" + wanted)[0]
    return request, token, {"metadata": {"ImpersonatedIdentity": wanted}}


def ask(citadel, tmp_path, token, wanted=OTHER):
    request, token, more = for_other(citadel, tmp_path, token, wanted)
    return citadel.create(request, token, **more)


def refused(citadel, tmp_path, token, wanted=OTHER):
    """What the caller is told; the log says the same, and it counts."""
    before = citadel.metric("citadel_server_authentication_failure_count")
    request, token, more = for_other(citadel, tmp_path, token, wanted)
    code, details = citadel.refusal(request, token, **more)
    assert code == grpc.StatusCode.UNAUTHENTICATED, details
    assert citadel.metric("citadel_server_authentication_failure_count") == before + 1
    assert details.startswith("ImpersonatedIdentity: ") and any("refused" in line and details.split(": ", 1)[1][:60].split('"')[0] in line
                                                                 for line in citadel.lines())
    return details


def test_C11_a_node_account_gets_certificates_of_the_pods_on_its_node(nodes, fake, issuer, tmp_path):
    chain = ask(nodes, tmp_path, of_node(issuer, fake))
    assert "URI:" + OTHER in openssl("x509", "-noout", "-ext", "subjectAltName", text=chain[0])
    assert nodes.metric('citadel_node_authorizations_total{result="granted"}') == 1
    issued = nodes.page("issuances")["issuances"][0]
    assert issued["authenticator"] == "node-account" and issued["id"] == OTHER
    assert any("spiffe://cluster.local/ns/istio-system/sa/ztunnel" in line and "node=node-1" in line for line in nodes.lines())
    # Its own is asked for as everybody does.
    own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
    request = csr(tmp_path, san="URI:" + own)[0]
    assert len(nodes.create(request, of_node(issuer, fake))) >= 2
    assert len(nodes.create(request, of_node(issuer, fake), metadata={"ImpersonatedIdentity": "", "CertSigner": "x"})) >= 2
    # What the pod does later is seen at once: nothing is remembered.
    fake.delete(PODS, "shop", "cart-1")
    assert "no pod of shop/cart runs on the caller's node node-1" in refused(nodes, tmp_path, of_node(issuer, fake))


def test_C11_what_does_not_run_there_is_refused(nodes, fake, issuer, tmp_path):
    for wanted, text in [
        ("ns/shop/sa/web", "no pod of shop/web runs on the caller's node node-1"),  # on another node
        ("ns/shop/sa/nobody", "no pod of shop/nobody"),
        ("ns/shop/sa/only-there", "no pod of shop/only-there"),  # of another namespace
        ("ns/shop/sa/job", "no pod of shop/job"),
        ("ns/shop/sa/failed", "no pod of shop/failed"),
        ("ns/shop/sa/static", "no pod of shop/static"),
        ("ns/shop/sa/new", "no pod of shop/new"),
        ("ns/istio-system/sa/pilot", "control plane"),  # it may speak for anybody
        ("ns/shop/sa/a_b", "no account that Kubernetes could have"),
    ]:
        assert text in refused(nodes, tmp_path, of_node(issuer, fake), "spiffe://cluster.local/" + wanted)


def test_C11_malformed_and_foreign_identities_are_refused(nodes, fake, issuer, tmp_path):
    request = csr(tmp_path, san="URI:" + OTHER)[0]
    for wanted, text in [
        ("spiffe://other.example/ns/shop/sa/cart", "another trust domain"),
        ("spiffe://cluster.local/ns/shop", "not spiffe://<trust domain>/ns/<namespace>/sa/<account>"),
        ("shop/cart", "does not begin with spiffe://"),
    ]:
        code, details = nodes.refusal(request, of_node(issuer, fake), metadata={"ImpersonatedIdentity": wanted})
        assert code == grpc.StatusCode.UNAUTHENTICATED and text in details
    assert not fake.count("/pods")


def test_C11_a_csr_for_another_than_the_metadata_says_is_refused(nodes, fake, issuer, tmp_path):
    request = csr(tmp_path, san="URI:spiffe://cluster.local/ns/shop/sa/web")[0]
    code, details = nodes.refusal(request, of_node(issuer, fake), metadata={"ImpersonatedIdentity": OTHER})
    assert code == grpc.StatusCode.PERMISSION_DENIED and "shop/sa/web" in details
    names = csr(tmp_path, san=f"URI:{OTHER},DNS:istiod.istio-system.svc")[0]
    assert nodes.refusal(names, of_node(issuer, fake), metadata={"ImpersonatedIdentity": OTHER})[0] == grpc.StatusCode.PERMISSION_DENIED
    code, details = nodes.refusal(names, of_node(issuer, fake), metadata={"ImpersonatedIdentity": {"a": "b"}})
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "not a string" in details


def test_C11_callers_that_may_not_ask(nodes, fake, issuer, tmp_path):
    for caller, text in [
        ({"who": ("shop", "cart"), "name": "cart-1", "uid": "uid-of-cart-1"}, "shop/cart is not among"),
        ({"name": None}, "no token of the cluster that is bound to its pod"),
        ({"name": "ztunnel-9"}, "istio-system/ztunnel-9 does not exist"),
        ({"uid": "uid-of-its-predecessor"}, "is another one by now"),
        ({"name": "pilot-1", "uid": "uid-of-pilot-1"}, "has the account pilot, not the token's"),
        ({"name": "ztunnel/../../secrets/x"}, "no pod that it is bound to"),
    ]:
        assert text in refused(nodes, tmp_path, of_node(issuer, fake, **caller))
    for change, text in [({"phase": "Failed"}, "has ended"), ({"annotations": {"kubernetes.io/config.mirror": "x"}}, "is a static pod"),
                         ({"node": None}, "is on no node")]:
        pod(fake, *NODE[:1], "ztunnel-1", NODE[1], **{"node": "node-1", **change})
        assert text in refused(nodes, tmp_path, of_node(issuer, fake))


def test_C11_a_certificate_or_a_join_token_of_the_node_account_does_not_do(nodes, fake, issuer, tmp_path):
    own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
    request, key = csr(tmp_path, san="URI:" + own)
    chain = nodes.create(request, of_node(issuer, fake))
    more = {"metadata": {"ImpersonatedIdentity": OTHER}}
    code, details = nodes.refusal(request, cert=(key, "".join(chain[:-1]).encode()), **more)
    assert code == grpc.StatusCode.UNAUTHENTICATED and "bound to its pod" in details
    join = nodes.token("--namespace", "istio-system", "--service-account", "ztunnel")
    code, details = nodes.refusal(request, join, **more)
    assert code == grpc.StatusCode.UNAUTHENTICATED and "bound to its pod" in details


def test_C11_an_api_server_that_is_away_means_try_again_later(nodes, fake, issuer, tmp_path):
    fake.refuse(503, "away", 1000)
    request, token, more = for_other(nodes, tmp_path, of_node(issuer, fake))
    code, details = nodes.refusal(request, token, **more)
    assert code == grpc.StatusCode.UNAVAILABLE and "away" in details
    assert nodes.metric('citadel_node_authorizations_total{result="no_answer"}') == 1
    assert "away" in nodes.page("cluster")["nodeAccounts"]["error"]


def test_C11_by_the_api_servers_word_the_pod_is_in_extra(tmp_path, fake, issuer):
    pod(fake, *NODE[:1], "ztunnel-1", NODE[1], "node-1")
    pod(fake, "shop", "cart-1", "cart", "node-1")
    c = started(tmp_path, fake, "--trusted-node-accounts", "istio-system/ztunnel", "--token-review", "always")
    wait_until(lambda: c.page("cluster")["keysAgeMs"] >= 0)
    extra = {f"authentication.kubernetes.io/{k}": [v] for k, v in {"pod-name": "ztunnel-1", "pod-uid": "uid-of-ztunnel-1", "node-name": "node-1"}.items()}
    status = account(*NODE)
    fake.review = lambda token, audiences: {**status, "user": {**status["user"], "extra": extra}}
    token = of_node(issuer, fake, name=None)
    for _ in range(2):  # the second time from memory
        assert len(ask(c, tmp_path, token)) >= 2
    assert c.metric("citadel_token_reviews_total") == 1
    # What the token itself says counts for nothing then.
    fake.review = lambda token, audiences: account(*NODE)
    request = csr(tmp_path, san="URI:" + OTHER)[0]
    code, details = c.refusal(request, of_node(issuer, fake), metadata={"ImpersonatedIdentity": OTHER})
    assert code == grpc.StatusCode.UNAUTHENTICATED and "bound to its pod" in details
    assert c.stop() == 0


def test_C11_without_the_option_nobody_may_ask(citadel, fake, issuer, tmp_path):
    pod(fake, *NODE[:1], "ztunnel-1", NODE[1], "node-1")
    pod(fake, "shop", "cart-1", "cart", "node-1")
    assert "--trusted-node-accounts is not set" in refused(citadel, tmp_path, of_node(issuer, fake))
    assert not fake.count("/pods")


def test_C11_a_wrong_list_of_accounts_is_an_error(tmp_path, fake):
    c = started(tmp_path, fake, "--trusted-node-accounts", "a/b,c/")
    assert c.process.wait(10) != 0
    log = (tmp_path / "log").read_text()
    assert "--trusted-node-accounts" in log and "c/" in log and "is not <namespace>/<service account>" in log
