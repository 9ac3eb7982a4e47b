"""galley with the Kubernetes API as its source, against an API server that can be made to fail (fake_kube.py)."""
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest

from fake_kube import FakeKube, kubeconfig, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
PODS = "/api/v1/pods"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/virtualservices"
CONFIG_MAPS = "/api/v1/namespaces/istio-system/configmaps"


def service(name, ns="shop", port=80):
    return {"metadata": {"name": name, "namespace": ns}, "spec": {"clusterIP": "10.0.0.1", "selector": {"app": name},
                                                                   "ports": [{"name": "http", "port": port, "targetPort": 8080}]}}


def slice_of(name, address, ns="shop"):
    return {"metadata": {"name": name + "-x", "namespace": ns, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}]}


def virtual_service(name, host, ns="shop", **extra):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": ns},
            "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}], **extra}}


class Galley:
    def __init__(self, folder, fake, *extra):
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(kubeconfig(fake.url))
        self.socket = folder / "admin"
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            [BUILD / "galley/galley", "--source", "kubernetes", "--kubeconfig", self.kubeconfig, "--bus", f"ipc://{folder}/{{role}}",
             "--admin-address", f"unix:{self.socket}", *extra], stderr=self.log)

    def get(self, path):
        result = subprocess.run(["curl", "-s", "--max-time", "5", "--unix-socket", self.socket, f"http://x{path}"], capture_output=True, text=True,
                                check=False)
        return result.stdout

    def page(self, name):
        return json.loads(self.get(f"/debug/{name}") or "null")

    def ready(self):
        return self.get("/readyz").startswith("ready")

    def services(self):
        return {s["service"]["hostname"].split(".")[0]: s for s in self.page("services") or []}

    def addresses(self, name):
        found = self.services().get(name, {})
        return [e["address"] for e in found.get("endpoints", {}).get("endpoints", [])]

    def in_force(self, key):
        return any(o["key"] == key and o["in_force"] for o in self.page("objects") or [])

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").splitlines() if line.startswith(name + "{") or line.startswith(name + " "))

    def watch(self, plural):
        return next(w for w in self.page("kubernetes")["watches"] if w["resource"].endswith("/" + plural))

    def stop(self):
        self.process.terminate()
        code = self.process.wait(10)
        self.log.close()
        return code


@pytest.fixture
def fake():
    server = FakeKube()
    yield server
    server.close()


@pytest.fixture
def galley(tmp_path, fake):
    fake.apply(SERVICES, service("cart"))
    fake.apply(SLICES, slice_of("cart", "10.1.0.1"))
    fake.apply(VIRTUAL_SERVICES, virtual_service("cart", "cart"))
    g = Galley(tmp_path, fake)
    yield g
    if g.process.poll() is None:
        assert g.stop() == 0


def test_P83_services_slices_and_routes_of_the_cluster_are_published(galley, fake):
    wait_until(galley.ready)
    assert galley.addresses("cart") == ["10.1.0.1"]
    assert galley.in_force("VirtualService/shop/cart")
    fake.apply(SLICES, slice_of("cart", "10.1.0.2"))
    wait_until(lambda: galley.addresses("cart") == ["10.1.0.2"])
    fake.delete(VIRTUAL_SERVICES, "shop", "cart")
    wait_until(lambda: not galley.in_force("VirtualService/shop/cart"))


def test_a_service_without_a_slice_has_no_endpoints(galley, fake):
    fake.apply(PODS, {"metadata": {"name": "p", "namespace": "shop", "labels": {"app": "new"}}, "spec": {},
                      "status": {"podIP": "10.1.0.9", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
    fake.apply(SERVICES, service("new"))
    wait_until(lambda: "new" in galley.services())
    assert galley.addresses("new") == []


def test_lists_come_in_pages_and_are_published_at_once(tmp_path, fake):
    for i in range(600):
        fake.apply(SERVICES, service(f"s{i:03}"))
    galley = Galley(tmp_path, fake)
    try:
        wait_until(galley.ready)
        assert len(galley.services()) == 600
        assert fake.count("continue=") == 2
        assert galley.page("bus")["sequence"] == 1
    finally:
        assert galley.stop() == 0


def test_a_bad_object_of_the_cluster_is_quarantined_and_its_last_good_version_stays(galley, fake):
    wait_until(galley.ready)
    bad = virtual_service("cart", "cart")
    bad["spec"]["http"][0]["wieght"] = 3
    fake.apply(VIRTUAL_SERVICES, bad)
    wait_until(lambda: galley.page("quarantine"))
    assert "VirtualService/shop/cart" in json.dumps(galley.page("quarantine"))
    assert galley.in_force("VirtualService/shop/cart")
    assert "spec.http[0].wieght" in json.dumps(galley.page("diagnostics"))
    fake.apply(VIRTUAL_SERVICES, virtual_service("cart", "cart"))
    wait_until(lambda: not galley.page("quarantine"))


def test_gone_means_a_new_list_and_what_was_deleted_meanwhile_is_gone(galley, fake):
    wait_until(galley.ready)
    fake.apply(SERVICES, service("old"))
    wait_until(lambda: "old" in galley.services())
    lists = galley.watch("services")["lists"]
    fake.delete(SERVICES, "shop", "old", silently=True)
    fake.expire()
    wait_until(lambda: galley.watch("services")["lists"] > lists)
    wait_until(lambda: "old" not in galley.services())
    assert "cart" in galley.services()


def test_a_watch_that_ends_goes_on_without_a_new_list(galley, fake):
    wait_until(galley.ready)
    before = galley.watch("services")
    fake.end_watches()
    fake.apply(SERVICES, service("later"))
    wait_until(lambda: "later" in galley.services())
    wait_until(lambda: galley.watch("services")["watches"] > before["watches"])
    assert galley.watch("services")["lists"] == before["lists"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_server_that_refuses_costs_only_age(galley, fake, status):
    wait_until(galley.ready)
    published = galley.metric("galley_published_total")
    fake.refuse(status, "come back later", 40)
    fake.end_watches()
    wait_until(lambda: galley.metric("kube_watch_failures_total") >= 15)
    assert galley.addresses("cart") == ["10.1.0.1"] and galley.ready()
    wait_until(lambda: all_watching(galley), seconds=60)
    fake.apply(SERVICES, service("later"))
    wait_until(lambda: "later" in galley.services())
    assert galley.metric("galley_published_total") > published


def test_a_kind_that_is_not_installed_counts_as_empty_until_it_is(tmp_path, fake):
    fake.apply(SERVICES, service("cart"))
    fake.apply(VIRTUAL_SERVICES, virtual_service("cart", "cart"))
    fake.known = {SERVICES, SLICES, PODS}
    galley = Galley(tmp_path, fake)
    try:
        wait_until(galley.ready)
        assert galley.watch("virtualservices")["state"] == "absent"
        fake.known = None
        wait_until(lambda: galley.in_force("VirtualService/shop/cart"), seconds=30)
    finally:
        assert galley.stop() == 0


def all_watching(galley):
    return all(w["state"] == "watching" for w in galley.page("kubernetes")["watches"])


UNUSABLE = {
    "an_error_event": {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "unable to decode an object in the watch stream"}},
    "no_json": b"<html>\n",
    "an_event_that_is_too_large": b'{"type":"MODIFIED","object":"' + b"x" * (9 << 20) + b'"}\n',
}


@pytest.mark.parametrize("line", UNUSABLE.values(), ids=UNUSABLE)
def test_a_past_that_cannot_be_watched_is_listed_anew(galley, fake, line):
    wait_until(lambda: galley.ready() and all_watching(galley))
    fake.spoil(SERVICES, line)
    fake.end_watches()
    wait_until(lambda: galley.watch("services")["failures"] == 1)
    fake.apply(SERVICES, service("later"))
    wait_until(lambda: "later" in galley.services())
    assert galley.watch("services")["lists"] == 2 and galley.watch("services")["failures"] == 1


def test_a_page_token_that_is_not_valid_any_more_means_a_new_list(tmp_path, fake):
    for i in range(300):
        fake.apply(SERVICES, service(f"s{i:03}"))

    def another_server():
        fake.epoch += 1
    fake.before_page = another_server
    galley = Galley(tmp_path, fake)
    try:
        wait_until(galley.ready)
        assert len(galley.services()) == 300 and galley.watch("services")["lists"] == 2
    finally:
        assert galley.stop() == 0


def test_a_definition_that_is_removed_while_it_is_watched_leaves_an_empty_kind(galley, fake):
    wait_until(galley.ready)
    fake.delete(VIRTUAL_SERVICES, "shop", "cart")
    wait_until(lambda: not galley.in_force("VirtualService/shop/cart"))
    fake.known = {SERVICES, SLICES, PODS}
    fake.end_watches()
    wait_until(lambda: galley.watch("virtualservices")["state"] == "absent")


def test_a_server_that_does_not_yet_know_a_kind_does_not_empty_it(galley, fake):
    wait_until(lambda: galley.ready() and all_watching(galley))
    published = galley.metric("galley_published_total")
    fake.known = {SERVICES, SLICES, PODS}
    fake.end_watches()
    wait_until(lambda: galley.watch("virtualservices")["failures"] >= 2)
    fake.known = None
    wait_until(lambda: galley.watch("virtualservices")["state"] == "watching")
    assert galley.metric("galley_published_total") == published and galley.in_force("VirtualService/shop/cart")
    # One that never knows it is believed in the end.
    fake.known = {SERVICES, SLICES, PODS}
    fake.end_watches()
    wait_until(lambda: galley.watch("virtualservices")["state"] == "absent")
    wait_until(lambda: not galley.in_force("VirtualService/shop/cart"))


def test_when_the_server_is_back_all_kinds_are_watched_at_once_and_have_forgotten_their_pauses(galley, fake):
    wait_until(lambda: galley.ready() and all_watching(galley))
    fake.go_away()
    wait_until(lambda: min(w["failures"] for w in galley.page("kubernetes")["watches"]) >= 5)  # the next pauses are of 4 to 8 s
    fake.come_back()
    wait_until(lambda: any(w["state"] == "watching" for w in galley.page("kubernetes")["watches"]))
    wait_until(lambda: all_watching(galley), seconds=2)
    since = {w["resource"]: w["watches"] for w in galley.page("kubernetes")["watches"]}
    time.sleep(1.1)  # the server says nothing: that they last is what shows that it serves
    fake.cut()
    wait_until(lambda: all(w["watches"] > since[w["resource"]] for w in galley.page("kubernetes")["watches"]), seconds=3)
    wait_until(lambda: all_watching(galley), seconds=3)
    fake.apply(SERVICES, service("later"))
    wait_until(lambda: "later" in galley.services())


def test_a_server_that_takes_requests_and_does_not_answer_is_away(galley, fake):
    wait_until(lambda: galley.ready() and all_watching(galley))
    fake.freeze()
    fake.end_watches()
    wait_until(lambda: galley.watch("services")["state"] == "asking")
    wait_until(lambda: "the API server is away" in galley.get("/readyz"))
    assert galley.ready()
    fake.freeze(False)
    wait_until(lambda: "the API server is away" not in galley.get("/readyz"))


def test_the_mesh_config_is_the_config_map_istio(galley, fake):
    wait_until(galley.ready)
    fake.apply(CONFIG_MAPS, {"metadata": {"name": "istio", "namespace": "istio-system"},
                             "data": {"mesh": "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\naccessLogFile: /dev/stdout\n"}})
    wait_until(lambda: galley.in_force("MeshConfig//default"))
    fake.apply(CONFIG_MAPS, {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "outboundTrafficPolicy: {mode: WRONG}"}})
    wait_until(lambda: galley.page("quarantine"))
    assert galley.in_force("MeshConfig//default")


def test_P49_P98_config_maps_with_a_ca_and_secrets_that_may_have_a_certificate(galley, fake, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "ca.key",
                    "-out", tmp_path / "ca.pem", "-days", "2", "-subj", "/CN=test"], check=True, capture_output=True)
    ca = (tmp_path / "ca.pem").read_text()

    def config_map(data):
        fake.apply("/api/v1/configmaps", {"metadata": {"name": "roots", "namespace": "shop"}, "data": data})

    def published():
        return next((t["keys"] for t in galley.page("bus")["topics"] if t["topic"] == "config_map"), 0)

    wait_until(galley.ready)
    config_map({"ca.crt": ca})
    wait_until(lambda: published() == 1)
    # One that cannot be read is refused and the last good one stays.
    config_map({"ca.crt": "no PEM"})
    wait_until(lambda: "the CA certificate is not PEM" in json.dumps(galley.page("diagnostics")))
    assert published() == 1
    # One without a CA is not even looked at.
    config_map({"color": "blue"})
    wait_until(lambda: published() == 0 and not galley.page("quarantine"))
    assert not any(o["key"].startswith("ConfigMap/") for o in galley.page("objects"))
    asked = [r for r in fake.requests if r.startswith("GET /api/v1/secrets?")]
    assert asked and all("type!%3Dhelm.sh/release.v1,type!%3Dkubernetes.io/service-account-token" in r for r in asked)


def test_P88_the_mesh_networks_are_another_key_of_the_config_map(galley, fake):
    def config_map(**data):
        fake.apply(CONFIG_MAPS, {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": data})

    networks = "networks:\n  home:\n    endpoints:\n    - fromRegistry: Kubernetes\n    gateways:\n    - address: 192.0.2.1\n      port: 15443\n"
    network = lambda: {e.get("network", "") for e in galley.services()["cart"]["endpoints"]["endpoints"]}  # noqa: E731
    wait_until(galley.ready)
    config_map(mesh="{}", meshNetworks=networks)
    wait_until(lambda: network() == {"home"})
    assert galley.in_force("MeshConfig//default") and galley.in_force("MeshNetworks//default")
    (home,) = galley.page("networks")
    assert home["gateways"] == [{"address": "192.0.2.1", "port": 15443}], home
    config_map(mesh="{}", meshNetworks=networks.replace("192.0.2.1", "not an address"))
    wait_until(lambda: galley.page("quarantine"))
    assert network() == {"home"}, "what was accepted stays"
    config_map(mesh="{}")
    wait_until(lambda: network() == {""})


def test_replicas_give_the_same_content_hashes(tmp_path, fake):
    for i in range(20):
        fake.apply(SERVICES, service(f"s{i:02}"))
        fake.apply(SLICES, slice_of(f"s{i:02}", f"10.1.1.{i}"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Galley(tmp_path / "a", fake)
    wait_until(first.ready)
    fake.apply(SERVICES, service("s05", port=81))  # another history than the second one's
    wait_until(lambda: first.services()["s05"]["service"]["ports"][0]["number"] == 81)
    second = Galley(tmp_path / "b", fake)
    try:
        wait_until(second.ready)
        hashes = [[(o["key"], o["in_force"]) for o in g.page("objects")] for g in (first, second)]
        assert len(hashes[0]) == 40 and hashes[0] == hashes[1]
    finally:
        assert first.stop() == 0 and second.stop() == 0


KUBECONFIGS = [
    ({}, "there is no context"),
    ({"user": {"exec": {"command": "aws"}}}, '"exec" is not supported'),
    ({"user": {"client-certificate-data": "AAAA"}}, "belong together"),
    ({"cluster": {"certificate-authority-data": "not base64!"}}, "is not base64"),
    ({"cluster": {"certificate-authority": "nowhere.crt"}}, "does not exist"),
    ({"cluster": {"server": "ftp://x"}}, "is not an http(s) URL"),
    ({"cluster": {"proxy-url": "http://p"}}, '"proxy-url" is not supported'),
]


@pytest.mark.parametrize("change,text", KUBECONFIGS)
def test_a_kubeconfig_that_cannot_be_used_is_refused_with_the_reason(tmp_path, change, text):
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
    if change:
        config["contexts"] = [{"name": "c", "context": {"cluster": "k", "user": "u"}}]
        config["clusters"] = [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", **change.get("cluster", {})}}]
        config["users"] = [{"name": "u", "user": change.get("user", {})}]
    (tmp_path / "config").write_text(json.dumps(config))
    result = subprocess.run([BUILD / "galley/galley", "--source", "kubernetes", "--kubeconfig", tmp_path / "config", "--bus",
                             f"ipc://{tmp_path}/{{role}}", "--admin-address", f"unix:{tmp_path}/admin"],
                            capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1
    assert text in result.stderr.replace('\\"', '"') and str(tmp_path / "config") in result.stderr


def test_outside_a_cluster_without_a_kubeconfig_it_says_so(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
    result = subprocess.run([BUILD / "galley/galley", "--source", "kubernetes", "--bus", f"ipc://{tmp_path}/{{role}}", "--admin-address",
                             f"unix:{tmp_path}/admin"], capture_output=True, text=True, timeout=20, check=False, env=env)
    assert result.returncode == 1
    assert "not in a cluster" in result.stderr
