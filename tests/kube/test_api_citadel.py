"""citadel with a real API server under its own account: the CA's Secret, the bundle in every namespace, and whose tokens are good."""
import base64
import json
import subprocess
import time

import grpc
import pytest

from cluster import ISSUER
from conftest import SYSTEM, rendered, short_folder, shutil, until
from test_citadel import CITADEL, Citadel, csr

SECRET, BUNDLE = "istio-ca-secret", "istio-ca-root-cert"


def make_ca(config, out):
    return subprocess.Popen([CITADEL, "ca-secret", "--kubeconfig", config, "--namespace", SYSTEM, "--out", out], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def citadel(plane, accounts):
    folder = short_folder()
    config = accounts("citadel", folder)
    started = [make_ca(config, folder / f"ca{i}") for i in range(6)]
    said = [p.communicate(timeout=60) for p in started]
    assert sorted(out.split()[0] for out, _ in said) == ["made"] + ["took"] * 5, said
    for name in ("shop", "bank"):
        plane.namespace(name)
        plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cart", "namespace": name}})
    (folder / "state").mkdir()
    shutil.copy(folder / "ca0/root-cert.pem", folder / "state")
    made = Citadel(folder, "--kubernetes", "--kubeconfig", config, "--ca-dir", folder / "ca0")
    try:
        until(lambda: made.page("cluster")["keysAgeMs"] >= 0, what="the cluster's token keys")
        yield made
    finally:
        code = made.stop()
        shutil.rmtree(folder)
    assert code == 0


def bundle(plane, ns):
    found = plane.api.exists("ConfigMap", BUNDLE, ns)
    return found and found["data"].get("root-cert.pem")


def test_C01_of_six_replicas_one_makes_the_ca_and_all_have_the_same(plane, citadel):
    folder = citadel.folder
    held = {k: base64.b64decode(v) for k, v in plane.api.get("Secret", SECRET, SYSTEM)["data"].items()}
    for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"):
        assert {(folder / f"ca{i}" / name).read_bytes() for i in range(6)} == {held[name]}
    assert (folder / "ca5/ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_C16_every_namespace_gets_the_bundle_but_the_systems_own(plane, citadel):
    roots = (citadel.state / "root-cert.pem").read_text()
    until(lambda: all(bundle(plane, ns) == roots for ns in ("default", "shop", "bank", SYSTEM)), what="the bundle everywhere")
    plane.namespace("late")
    until(lambda: bundle(plane, "late") == roots, 5, "the bundle in a new namespace")
    assert not any(bundle(plane, ns) for ns in ("kube-system", "kube-public", "kube-node-lease"))


def test_C16_what_others_do_to_it_is_repaired_within_a_second(plane, citadel):
    roots = (citadel.state / "root-cert.pem").read_text()
    until(lambda: bundle(plane, "shop") == roots, what="the bundle")
    plane.api.patch("ConfigMap", BUNDLE, {"data": {"root-cert.pem": "mine"}}, "shop")
    start = time.monotonic()
    until(lambda: bundle(plane, "shop") == roots, 5, "the bundle repaired")
    plane.api.delete("ConfigMap", BUNDLE, "shop")
    until(lambda: bundle(plane, "shop") == roots, 5, "the bundle made again")
    print(f"bundle repaired twice in {time.monotonic() - start:.2f} s")


def test_C16_a_namespace_that_goes_away_takes_its_bundle_along(plane, citadel):
    plane.namespace("brief")
    until(lambda: bundle(plane, "brief"), what="the bundle")
    plane.api.delete("Namespace", "brief")
    until(lambda: not plane.api.exists("Namespace", "brief"), 60, "the namespace gone")
    until(lambda: citadel.page("cluster")["bundles"]["namespaces"] == citadel.page("cluster")["bundles"]["current"], what="nothing left to write")


def test_C10_a_projected_token_gets_a_certificate(plane, citadel, folder):
    chain = citadel.create(csr(folder)[0], plane.api.token_of("shop", "cart", "istio-ca"))
    assert len(chain) >= 2


def old_token(plane, **changes):
    """A token of the cluster's own key whose claims are what a test wants."""
    real = plane.api.token_of("shop", "cart", "istio-ca")
    head, claims, _ = real.split(".")
    claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
    claims.update(changes)
    text = head + "." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", plane.signing[0]], input=text.encode(), capture_output=True, check=True).stdout
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


REFUSED = [
    ("another audience", lambda plane: plane.api.token_of("shop", "cart", "other"), "audience"),
    ("the API server's audience", lambda plane: plane.api.token_of("shop", "cart"), "audience"),
    ("another namespace", lambda plane: plane.api.token_of("bank", "cart", "istio-ca"), "ns/bank/sa/cart"),
    ("another account", lambda plane: plane.api.token_of("shop", "default", "istio-ca"), "sa/default"),
    ("an expired one", lambda plane: old_token(plane, exp=int(time.time()) - 10), "expired"),
    ("one of the future", lambda plane: old_token(plane, nbf=int(time.time()) + 600), ""),
    ("another issuer", lambda plane: old_token(plane, iss="https://elsewhere"), "issuer"),
    ("a changed one", lambda plane: plane.api.token_of("shop", "cart", "istio-ca")[:-6] + "AAAAAA", ""),
]


@pytest.mark.parametrize("what,make,told", REFUSED, ids=[what for what, _, _ in REFUSED])
def test_C10_other_tokens_are_refused(plane, citadel, folder, what, make, told):
    code, details = citadel.refusal(csr(folder)[0], make(plane))
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED), details
    assert told in details


def test_C10_the_right_token_with_what_the_test_signs_is_good(plane, citadel, folder):
    """So the refusals above are not of the test's own signature."""
    assert len(citadel.create(csr(folder)[0], old_token(plane, iss=ISSUER))) >= 2


# ---- node accounts, with the right that the chart grants for them and no other


@pytest.fixture
def node_citadel(plane, citadel):
    role, before = ([o for o in rendered("fairlead", values) if o["kind"] == "ClusterRole" and "citadel" in o["metadata"]["name"]][0]
                    for values in ({"trustedZtunnelName": "ztunnel"}, {}))
    plane.api.apply(role)
    folder = short_folder()
    config = plane.api.with_token(plane.api.token_of(SYSTEM, "citadel")).kubeconfig(folder / "kubeconfig")
    (folder / "state").mkdir()
    shutil.copy(citadel.folder / "ca0/root-cert.pem", folder / "state")
    made = Citadel(folder, "--kubernetes", "--kubeconfig", config, "--ca-dir", citadel.folder / "ca0", "--trusted-node-accounts", f"{SYSTEM}/ztunnel")
    try:
        until(lambda: made.page("cluster")["keysAgeMs"] >= 0, what="the cluster's token keys")
        yield made
    finally:
        code = made.stop()
        plane.api.apply(before)
        until(lambda: not plane.api.may(f"{SYSTEM}:citadel", "list", "pods"), what="the right is taken back")
        shutil.rmtree(folder)
    assert code == 0


def test_C11_a_node_proxy_gets_the_certificates_of_its_node_alone(plane, node_citadel, folder):
    made = []

    def pod(ns, name, account, node):
        plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": ns}})
        spec = {"serviceAccountName": account, "nodeName": node, "automountServiceAccountToken": False, "containers": [{"name": "c", "image": "none"}]}
        made.append(plane.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns}, "spec": spec}))
        return made[-1]

    def asked(account, token):
        wanted = f"spiffe://cluster.local/ns/shop/sa/{account}"
        request = csr(folder, san="URI:" + wanted)[0]
        try:
            return node_citadel.create(request, token, metadata={"ImpersonatedIdentity": wanted})
        except grpc.RpcError as error:
            return error.details()

    proxy = pod(SYSTEM, "ztunnel-1", "ztunnel", "node-1")
    pod("shop", "near", "cart", "node-1")
    pod("shop", "far", "web", "node-2")
    ended = pod("shop", "ended", "job", "node-1")
    plane.api.patch("Pod", "ended", {"status": {"phase": "Succeeded"}}, "shop", sub="status")
    token = plane.api.token_of(SYSTEM, "ztunnel", "istio-ca", pod=proxy)
    try:
        assert len(asked("cart", token)) >= 2
        assert "no pod of shop/web runs on the caller's node node-1" in asked("web", token)
        assert ended and "no pod of shop/job" in asked("job", token)
        assert "bound to its pod" in asked("cart", plane.api.token_of(SYSTEM, "ztunnel", "istio-ca"))
        plane.api.delete("Pod", "near", "shop", now=True)
        assert "no pod of shop/cart" in asked("cart", token)
        plane.api.delete("Pod", "ztunnel-1", SYSTEM, now=True)
        assert "ztunnel-1 does not exist" in asked("web", token)
    finally:
        for o in made:
            if plane.api.exists("Pod", o["metadata"]["name"], o["metadata"]["namespace"]):
                plane.api.delete("Pod", o["metadata"]["name"], o["metadata"]["namespace"], now=True)
