"""Keys of Secrets are for gateways whose account may list Secrets, by the API server's word. galley on fake_kube.py, a real citadel, pilot and agent; grpcio
plays Envoy."""
import base64
import pathlib
import subprocess
import tempfile
import threading

import pytest

import test_agent
import xds_client
from fake_kube import FakeKube, kubeconfig
from test_agent import BUILD, free_port, start_agent
from xds_client import LDS, SECRET, until

NAMESPACE = "istio-system"
KEY, CA = "kubernetes://web", "kubernetes://web-cacert"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

GATEWAY = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "web", "namespace": NAMESPACE},
           "spec": {"selector": {"app": "gateway"}, "servers": [{"port": {"number": 8443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example.com"],
                                                                 "tls": {"mode": "SIMPLE", "credentialName": "web"}}]}}


def account(name, ns=NAMESPACE):
    return {"metadata": {"name": name, "namespace": ns}}


def secret(folder, name="web", ns=NAMESPACE):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=a.example.com"], check=True, capture_output=True)
    certificate, key = (base64.b64encode((folder / f).read_bytes()).decode() for f in ("cert.pem", "key.pem"))
    return {"metadata": {"name": name, "namespace": ns}, "type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}}


class Mesh(test_agent.Mesh):
    def __init__(self, folder, fake):  # pylint: disable=super-init-not-called
        self.folder, self.prefix, self.daemons, self.fake = folder, (), [], fake
        self.xds, self.tls, self.ca = free_port(), free_port(), free_port()
        self.bus = ["--bus", f"ipc://{folder}/{{role}}"]
        self.citadel = self.add("citadel", "--address", f"127.0.0.1:{self.ca}", *self.bus)
        until(self.citadel.ready)
        self.roots = folder / "citadel" / "root-cert.pem"
        (folder / "kubeconfig").write_text(kubeconfig(fake.url))
        self.galley = self.add("galley", "--source", "kubernetes", "--kubeconfig", folder / "kubeconfig", "--no-status", "--access-age", "1s", *self.bus)
        self.pilot = self.add("pilot", *self.bus, "--xds-address", f"127.0.0.1:{self.xds}", "--xds-tls-address", f"127.0.0.1:{self.tls}", "--ca-token",
                              self.token(NAMESPACE, "istiod"), "--ca-address", f"127.0.0.1:{self.ca}", "--ca-roots", self.roots, "--ca-name",
                              "spiffe://cluster.local/ns/istio-system/sa/citadel")
        until(self.pilot.ready)
        until(lambda: "TLS is open" in self.pilot.log())

    def gateway(self, name):
        """An Envoy behind an agent with this service account, that asks for the Secret."""
        start_agent(self, "--type", "router", "--pod-name", "gw-1", "--pod-namespace", NAMESPACE, "--service-account", name, "--labels", '{"app":"gateway"}',
                    "--token-file", self.token(NAMESPACE, name))
        envoy = test_agent.ads(self)
        envoy.subscribe(LDS)
        envoy.subscribe(SECRET, KEY, CA)
        return envoy

    def answers(self):
        return (self.galley.page("access") or {}).get("answers", {})

    def withheld(self):
        return [p.get("secrets_withheld") for p in self.pilot.page("syncz")]


@pytest.fixture
def fake(tmp_path):
    server = FakeKube()
    server.asked, allowed = [], server.access
    server.access = lambda user, what: server.asked.append((user, what)) or allowed(user, what) | {"reason": "no role"}
    server.apply("/api/v1/serviceaccounts", account("gateway"))
    server.apply("/api/v1/serviceaccounts", account("elsewhere", "default"))
    server.apply("/api/v1/secrets", secret(tmp_path))
    server.apply("/apis/networking.istio.io/v1/gateways", GATEWAY)
    yield server
    server.close()


@pytest.fixture
def mesh(fake):
    with tempfile.TemporaryDirectory(prefix="fl-") as path:
        m = Mesh(pathlib.Path(path), fake)
        yield m
        codes = m.stop()
        assert set(codes.values()) == {0}, codes


def held(envoy, name=KEY):
    return name in envoy.held[SECRET]


def taken_away(envoy, since):
    return any(KEY in r["removed"] for r in envoy.seen[since:])


def listens(envoy):
    return any("8443" in name for name in envoy.held.get(LDS, {}))


def test_P98_a_gateway_gets_keys_when_its_account_may_list_secrets(mesh, fake):
    envoy = mesh.gateway("gateway")
    until(lambda: held(envoy, CA))  # a CA is public
    until(lambda: mesh.withheld() == ["no role"])
    assert not held(envoy) and not listens(envoy)
    assert mesh.pilot.metric("pilot_sds_certificate_errors_total") == 1 and "keys of Secrets are withheld" in mesh.pilot.log()
    assert mesh.answers() == {f"{NAMESPACE}/gateway": "no role"}  # the other namespace has no Secret
    # A RoleBinding comes: the answer is asked for again, and the gateway listens.
    fake.listers.add(f"{NAMESPACE}/gateway")
    until(lambda: held(envoy) and listens(envoy))
    assert mesh.withheld() == [None] and "given the keys of Secrets again" in mesh.pilot.log()
    assert set(map(str, fake.asked)) == {str(("system:serviceaccount:istio-system:gateway", {"namespace": NAMESPACE, "verb": "list", "resource": "secrets"}))}
    # It goes: the key is taken away.
    fake.listers.clear()
    until(lambda: not held(envoy) and not listens(envoy))
    envoy.close()


def test_P98_an_api_server_that_does_not_answer_changes_nothing(mesh, fake):
    fake.listers.add(f"{NAMESPACE}/gateway")
    envoy = mesh.gateway("gateway")
    until(lambda: held(envoy) and listens(envoy))
    since = len(envoy.seen)
    fake.mute.add(REVIEWS)
    until(lambda: mesh.galley.metric('galley_access_reviews_total{result="no_answer"}') >= 1)
    # Who was not asked about before is refused, with the reason.
    fake.apply("/api/v1/serviceaccounts", account("late"))
    until(lambda: "did not answer" in mesh.answers().get(f"{NAMESPACE}/late", ""))
    assert mesh.answers()[f"{NAMESPACE}/gateway"] == "allowed" and held(envoy)
    fake.mute.clear()
    fake.listers.add(f"{NAMESPACE}/late")
    until(lambda: set(mesh.answers().values()) == {"allowed"})
    assert not taken_away(envoy, since)
    envoy.close()


def test_P98_a_galley_that_starts_again_takes_no_key_away(mesh, fake):
    fake.listers.add(f"{NAMESPACE}/gateway")
    envoy = mesh.gateway("gateway")
    until(lambda: held(envoy) and listens(envoy))
    since, answered, gate, allowed = len(envoy.seen), len(fake.asked), threading.Event(), fake.access
    mesh.galley.stop()
    fake.access = lambda user, what: (allowed(user, what), gate.wait(10))[0]
    mesh.galley.start()
    # Nothing is published, neither the Secret, before it is known who may have it.
    until(lambda: len(fake.asked) > answered)
    until(lambda: "asked who may list Secrets" in mesh.galley.get("/readyz")[1])
    assert not mesh.galley.ready()
    gate.set()
    until(mesh.galley.ready)
    fake.apply("/api/v1/services", {"metadata": {"name": "new", "namespace": NAMESPACE}, "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "http", "port": 80}]}})
    until(lambda: "new.istio-system" in str(mesh.pilot.page("registryz")))  # pilot follows the new one
    assert held(envoy) and not taken_away(envoy, since)
    # A Secret and an account that are gone are not asked about any more.
    fake.delete("/api/v1/secrets", NAMESPACE, "web")
    until(lambda: not mesh.answers() and not held(envoy))
    envoy.close()
