"""galley's admission webhooks over HTTPS: what the API server sends and gets, certificates, CA bundles kept right."""
import json
import os
import pathlib
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from fake_kube import FakeKube, kubeconfig, wait_until
from test_citadel import openssl

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

VIRTUAL_SERVICE = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "cart", "namespace": "shop"},
                   "spec": {"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "cart"}}]}]}}


def make_certificate(folder):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=hook",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))


class Hook:
    def __init__(self, folder, *extra):
        self.folder, self.certs, source = folder, folder / "certs", folder / "source"
        for d in (self.certs, source):
            d.mkdir()
        make_certificate(self.certs)
        self.socket = folder / "admin"
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [BUILD / "galley/galley", "--source", source, "--bus", f"ipc://{folder}/{{role}}", "--admin-address", f"unix:{self.socket}",
             "--webhook-address", "127.0.0.1:0", "--webhook-cert-dir", self.certs, *extra], stderr=open(self.log, "w"))
        wait_until(self.port)

    def port(self):
        found = [line for line in self.log.read_text().splitlines() if "serving webhooks" in line]
        return found and int(found[-1].split("port=")[1])

    def post(self, path, body):
        context = ssl.create_default_context(cafile=self.certs / "tls.crt")
        request = urllib.request.Request(f"https://127.0.0.1:{self.port()}{path}", data=body.encode(), headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def review(self, obj, operation="CREATE", **extra):
        kind = {"group": (obj or VIRTUAL_SERVICE)["apiVersion"].split("/")[0], "version": "v1", "kind": (obj or VIRTUAL_SERVICE)["kind"]}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {"uid": "u-1", "kind": kind, "operation": operation, "namespace": "shop", "object": obj, **extra}}
        status, answer = self.post("/validate", json.dumps(body))
        assert status == 200 and answer["kind"] == "AdmissionReview" and answer["response"]["uid"] == "u-1"
        return answer["response"]

    def page(self, name):
        text = subprocess.run(["curl", "-s", "--unix-socket", self.socket, f"http://x/debug/{name}"], capture_output=True, text=True, check=False).stdout
        return json.loads(text or "null")

    def metrics(self):
        return subprocess.run(["curl", "-s", "--unix-socket", self.socket, "http://x/metrics"], capture_output=True, text=True, check=False).stdout

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture(scope="module")
def hook(tmp_path_factory):
    h = Hook(tmp_path_factory.mktemp("hook"))
    yield h
    assert h.stop() == 0


def changed(path, value):
    out = json.loads(json.dumps(VIRTUAL_SERVICE))
    at = out
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return out


def test_G04_a_good_object_is_allowed(hook):
    assert hook.review(VIRTUAL_SERVICE) == {"uid": "u-1", "allowed": True}


def test_G02_an_unknown_field_is_refused_with_its_path(hook):
    response = hook.review(changed(["spec", "http", 0, "wieght"], 3))
    assert not response["allowed"]
    assert "spec.http[0].wieght" in response["status"]["message"] and "unknown" in response["status"]["message"]


def test_all_problems_are_said_at_once(hook):
    bad = changed(["spec", "http", 0, "timeout"], "never")
    bad["spec"]["host"] = "x"
    message = hook.review(bad)["status"]["message"]
    assert "spec.http[0].timeout" in message and "spec.host: unknown" in message


def test_a_name_that_the_server_will_make_is_no_problem(hook):
    obj = changed(["metadata"], {"generateName": "cart-"})
    assert hook.review(obj)["allowed"]


def test_what_the_server_adds_to_metadata_is_no_problem(hook):
    obj = json.loads(json.dumps(VIRTUAL_SERVICE))
    obj["metadata"].update(uid="x", resourceVersion="7", generation=2, creationTimestamp="2026-01-01T00:00:00Z",
                           managedFields=[{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}])
    assert hook.review(obj, "UPDATE")["allowed"]


def test_warnings_are_returned_as_warnings(hook):
    obj = {"apiVersion": "networking.istio.io/v1", "kind": "EnvoyFilterOfTomorrow", "metadata": {"name": "x", "namespace": "shop"}, "spec": {}}
    response = hook.review(obj)
    assert response["allowed"] and "has no effect" in response["warnings"][0]


def test_a_deletion_and_a_foreign_kind_are_allowed(hook):
    assert hook.review(None, "DELETE")["allowed"]
    assert hook.review({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"nonsense": 1}})["allowed"]


def test_G05_the_object_that_asks_to_be_refused_is(hook):
    obj = changed(["metadata", "annotations"], {"internal.istio.io/webhook-always-reject": "true"})
    assert "asks to be refused" in hook.review(obj, dryRun=True)["status"]["message"]


@pytest.mark.parametrize("body,text", [
    ("", "not JSON"), ("{", "not JSON"), ("[]", "apiVersion"), ('{"apiVersion": "admission.k8s.io/v1beta1"}', "apiVersion"),
    ('{"apiVersion": "admission.k8s.io/v1", "request": {}}', "uid"),
])
def test_what_is_no_review_is_an_error_of_the_caller(hook, body, text):
    status, answer = hook.post("/validate", body)
    assert status == 400 and text in answer
    assert "galley_validation_http_error" in hook.metrics()


def test_a_review_that_is_too_large_is_refused_by_size(hook):
    status, answer = hook.post("/validate", json.dumps({"x": "y" * (5 << 20)}))
    assert status == 413 and "4 MiB" in answer


def test_C18_a_new_certificate_is_served_without_a_restart(hook):
    starts = hook.page("webhook")["starts"]
    make_certificate(hook.certs)
    wait_until(lambda: hook.page("webhook")["starts"] > starts and hook.page("webhook")["serving"])

    def serves_the_new_one():
        try:
            return hook.review(VIRTUAL_SERVICE)["allowed"]
        except (urllib.error.URLError, ConnectionError):
            return False
    wait_until(serves_the_new_one)


def test_G05_C18_the_ca_bundle_is_set_and_repaired(tmp_path):
    fake = FakeKube()
    webhooks = [{"name": f"{n}.validation.istio.io", "clientConfig": {"service": {"name": "galley", "namespace": "istio-system"}}} for n in "ab"]
    key = (VALIDATING, "/fairlead")
    fake.apply(VALIDATING, {"metadata": {"name": "fairlead"}, "webhooks": webhooks})
    fake.apply(VALIDATING, {"metadata": {"name": "of-others"}, "webhooks": webhooks})
    (tmp_path / "config").write_text(kubeconfig(fake.url))
    hook = Hook(tmp_path, "--kubeconfig", tmp_path / "config", "--webhook-configuration", "validating/fairlead")
    try:
        def bundles(of=key):
            return [w["clientConfig"].get("caBundle") for w in fake.objects[of]["webhooks"]]
        wait_until(lambda: all(bundles()))
        import base64
        assert base64.b64decode(bundles()[0]) == (hook.certs / "tls.crt").read_bytes()
        fake.apply(VALIDATING, {"metadata": {"name": "fairlead"}, "webhooks": webhooks})  # applied again, without the bundle
        wait_until(lambda: all(bundles()))
        assert not any(bundles((VALIDATING, "/of-others")))
        wait_until(lambda: hook.page("webhook")["configurations"] == [{"configuration": "fairlead", "found": True, "current": True}])
    finally:
        assert hook.stop() == 0
        fake.close()


def test_webhooks_without_a_certificate_are_refused(tmp_path):
    result = subprocess.run([BUILD / "galley/galley", "--source", tmp_path, "--bus", f"ipc://{tmp_path}/{{role}}", "--admin-address",
                             f"unix:{tmp_path}/admin", "--webhook-address", "127.0.0.1:0"], capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1 and "needs a certificate" in result.stderr


def test_a_certificate_may_come_later(tmp_path):
    hook = Hook.__new__(Hook)
    hook.folder, hook.certs, hook.log, hook.socket = tmp_path, tmp_path / "certs", tmp_path / "log", tmp_path / "admin"
    (tmp_path / "source").mkdir()
    hook.process = subprocess.Popen(
        [BUILD / "galley/galley", "--source", tmp_path / "source", "--bus", f"ipc://{tmp_path}/{{role}}", "--admin-address", f"unix:{hook.socket}",
         "--webhook-address", "127.0.0.1:0", "--webhook-cert-dir", hook.certs], stderr=open(hook.log, "w"))
    try:
        wait_until(lambda: "no certificate" in hook.log.read_text())
        hook.certs.mkdir()
        make_certificate(hook.certs)
        wait_until(hook.port)
        wait_until(lambda: hook.page("webhook")["serving"])
        assert hook.review(VIRTUAL_SERVICE)["allowed"]
    finally:
        assert hook.stop() == 0
