"""The mesh on a real node: installed by helm as docs/INSTALL.md says, Bookinfo injected, traffic through the gateway by mutual TLS."""
import json
import time

import pytest

import toolbox
from conftest import SYSTEM, until

STEPS = toolbox.ROOT / "samples/bookinfo-steps"
APPS = ("productpage", "details", "reviews", "ratings")


def bookinfo_pods(mesh):
    return [p for app in APPS for p in mesh.pods("default", f"app={app}")]


def test_O11_an_empty_cluster_has_a_mesh_by_helm(mesh):
    for name in ("galley", "pilot", "citadel"):
        status = mesh.api.get("Deployment", name, SYSTEM, "apps/v1")["status"]
        assert status["readyReplicas"] == status["replicas"] == 1
    assert mesh.api.exists("Secret", "fairlead-bus", SYSTEM) and mesh.api.exists("Secret", "istio-ca-secret", SYSTEM)
    assert not mesh.api.exists("Job", "fairlead-bus-keys", SYSTEM, "batch/v1"), "the job that makes the keys is removed when it is done"
    restarts = [c["restartCount"] for name in ("galley", "pilot", "citadel") for p in mesh.daemons(name) for c in p["status"]["containerStatuses"]]
    assert len(restarts) >= 3 and not any(restarts), restarts


def test_O10_each_daemon_has_controlz_on_its_pods_loopback(mesh):
    for name, scope in (("galley", "kubernetes"), ("pilot", "ads"), ("citadel", "bundles")):
        pod = mesh.daemons(name)[0]
        url = "http://127.0.0.1:9876/scopej/" + scope
        assert json.loads(mesh.inside(pod, url))["output_level"] == "info"
        assert mesh.inside(pod, "-X", "PUT", "-o", "/dev/null", "-w", "%{http_code}", "-d", '{"output_level": "warn"}', url) == "202"
        assert json.loads(mesh.inside(pod, url))["output_level"] == "warn"
        assert mesh.inside(pod, "-X", "PUT", "-d", '{"output_level": "info"}', url) == ""
        with pytest.raises(OSError):
            mesh.fetch(pod["status"]["podIP"], 9876, "/scopej/")
    pilot = mesh.daemons("pilot")[0]
    assert "ready" in mesh.inside(pilot, "http://127.0.0.1:8080/ready")
    assert [p["metadata"]["name"] for p in mesh.pods(SYSTEM, "istio.io/rev=default,app=istiod")] == [pilot["metadata"]["name"]]


def test_O12_each_daemon_fits_its_request(mesh):
    asked = {"galley": 15024, "pilot": 15014, "citadel": 15034}
    for name, port in asked.items():
        pod = mesh.daemons(name)[0]
        request = next(c for c in pod["spec"]["containers"] if c["name"] == name)["resources"]["requests"]["memory"]
        memory = mesh.page(pod, port, "memory")
        print(f"{name}: {memory['private_bytes'] >> 10} KiB of its own, {request} asked for")
        assert memory["private_bytes"] < int(request.removesuffix("Mi")) << 20


def test_I01_each_pod_has_its_proxy_confined(mesh):
    pods = bookinfo_pods(mesh)
    assert len(pods) == 6
    for pod in pods:
        proxy = next(c for c in pod["spec"]["containers"] if c["name"] == "istio-proxy")
        security = proxy["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["runAsNonRoot"] and security["capabilities"] == {"drop": ["ALL"]}
        assert all(c["ready"] and c["restartCount"] == 0 for c in pod["status"]["containerStatuses"])
        assert "initContainers" in json.loads(pod["metadata"]["annotations"]["sidecar.istio.io/status"])
    for name in ("galley", "pilot", "citadel"):
        spec = mesh.daemons(name)[0]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and all(c["securityContext"]["readOnlyRootFilesystem"] for c in spec["containers"])


def test_T02_the_page_comes_through_the_gateway_by_mutual_tls(mesh):
    with mesh.load(rate=40) as load:
        load.more(30)
    load.assert_clean()
    reviews = mesh.pods("default", "app=reviews,version=v1")[0]
    samples = [labels for name, labels, _ in mesh.metrics(reviews, 15020, "/stats/prometheus") if name == "istio_requests_total"]
    served = [s for s in samples if s["reporter"] == "destination"]
    assert served and all(s["connection_security_policy"] == "mutual_tls" for s in served)
    assert {s["source_principal"] for s in served} == {"spiffe://cluster.local/ns/default/sa/bookinfo-productpage"}
    assert {s["destination_workload"] for s in served} == {"reviews-v1"}


def apply_step(mesh, name):
    mesh.node.kubectl("apply", "-f", STEPS / name)


def test_P83_what_is_applied_takes_effect(mesh):
    assert mesh.reviews() == "v1"
    for step, version in (("reviews-v3.yaml", "v3"), ("reviews-v1.yaml", "v1")):
        apply_step(mesh, step)
        start = time.monotonic()
        until(lambda: {mesh.reviews() for _ in range(3)} == {version}, what=version)
        print(f"{step}: {1000 * (time.monotonic() - start):.0f} ms from kubectl's end to its effect on requests")
    apply_step(mesh, "reviews-jason-v2.yaml")
    until(lambda: mesh.reviews({"end-user": "jason", "Cookie": "user=jason"}) == "v2", what="v2 for jason")
    assert mesh.reviews() != "v2"
    apply_step(mesh, "reviews-v1.yaml")
    until(lambda: {mesh.reviews() for _ in range(3)} == {"v1"}, what="v1 again")


def test_G04_what_is_wrong_is_refused_when_it_is_applied(mesh):
    wrong = mesh.api.get("VirtualService", "reviews", version="networking.istio.io/v1")
    wrong["spec"]["http"][0]["timeout"] = "1500us"  # a duration, so the definition lets it pass; Envoy counts in milliseconds
    del wrong["metadata"]["resourceVersion"]  # galley writes its status meanwhile
    text = mesh.node.kubectl("replace", "-f", "-", stdin=json.dumps(wrong), ok=False)
    assert "spec.http[0].timeout" in text and "denied the request" in text
    assert mesh.reviews() == "v1"


CLIENT = """import http.client,sys
try:
    c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5); c.request("GET", sys.argv[3]); print(c.getresponse().status)
except OSError as e: print(type(e).__name__)
except http.client.HTTPException as e: print(type(e).__name__)"""


@pytest.fixture(scope="module")
def outsider(mesh):
    """A pod without a proxy."""
    mesh.node.namespace("outside")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": "outside"},
           "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
               "name": "client", "image": "docker.io/fairlead/bookinfo:0.1.0", "args": ["-c", "import time; time.sleep(1e6)"]}]}}
    mesh.api.apply(pod)
    until(lambda: mesh.api.get("Pod", "client", "outside")["status"]["phase"] == "Running", what="the client running")

    def ask(host, port, path):
        return mesh.node.kubectl("-n", "outside", "exec", "client", "--", "python3", "-c", CLIENT, host, port, path).strip()
    return ask


def test_P84_who_has_no_identity_is_refused_where_it_is_strict(mesh, outsider):
    """INSTALL.md's last step made the mesh strict."""
    until(lambda: outsider("details.default.svc.cluster.local", 9080, "/health") != "200", what="plaintext refused")
    assert mesh.reviews() == "v1"
    apply_step(mesh, "peer-permissive.yaml")
    until(lambda: outsider("details.default.svc.cluster.local", 9080, "/health") == "200", what="plaintext accepted")
    apply_step(mesh, "peer-strict.yaml")
    until(lambda: outsider("details.default.svc.cluster.local", 9080, "/health") != "200", what="plaintext refused again")


def test_A10_probes_reach_the_application_although_it_is_strict(mesh):
    """The kubelet has no certificate: its HTTP probes go to the agent, which asks the application."""
    for pod in bookinfo_pods(mesh):
        application = next(c for c in pod["spec"]["containers"] if c["name"] != "istio-proxy")
        assert application["readinessProbe"]["httpGet"]["port"] == 15020
        assert next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")["status"] == "True"


WHO = """import http.server
class Who(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())
http.server.ThreadingHTTPServer(("", 9080), Who).serve_forever()"""


def test_A16_I03_with_tproxy_an_application_sees_who_calls(mesh):
    """Envoy has the one right that it needs for that, and the client has come by mutual TLS all the same."""
    mesh.api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "who", "namespace": "default"},
                    "spec": {"selector": {"app": "who"}, "ports": [{"name": "http", "port": 9080}]}})
    mesh.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": "who", "namespace": "default", "labels": {"app": "who"}, "annotations": {"sidecar.istio.io/interceptionMode": "TPROXY"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "who", "image": "docker.io/fairlead/bookinfo:0.1.0", "args": ["-c", WHO], "ports": [{"containerPort": 9080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 9080}, "periodSeconds": 1}}]}})

    def ready():
        (pod,) = mesh.pods("default", "app=who")
        return pod if all(c["ready"] for c in pod["status"].get("containerStatuses", [{"ready": False}])) else None
    pod = until(ready, what="the pod with TPROXY ready")
    security = next(c for c in pod["spec"]["containers"] if c["name"] == "istio-proxy")["securityContext"]
    assert security["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]} and not security["allowPrivilegeEscalation"]
    client = mesh.pods("default", "app=productpage")[0]

    def ask():
        code = "import urllib.request; print(urllib.request.urlopen('http://who:9080/', timeout=5).read().decode())"
        return mesh.node.kubectl("-n", "default", "exec", client["metadata"]["name"], "-c", "productpage", "--", "python3", "-c", code).strip()
    until(lambda: ask() == client["status"]["podIP"], what="the client's address")
    served = [labels for name, labels, _ in mesh.metrics(pod, 15020, "/stats/prometheus") if name == "istio_requests_total"]
    assert {s["connection_security_policy"] for s in served if s["reporter"] == "destination"} == {"mutual_tls"}, served
    mesh.node.kubectl("-n", "default", "delete", "pod/who", "service/who", "--wait=false")


def requests_served(mesh, pod):
    return sum(value for name, labels, value in mesh.metrics(pod, 15020, "/stats/prometheus")
               if name == "istio_requests_total" and labels["reporter"] == "destination")


def test_P85_endpoints_follow_the_pods(mesh):
    """Scaled under load: requests are spread over the new ones, and those that end take none with them."""
    with mesh.load(rate=40, enough=60) as load:
        load.more(20)
        mesh.node.kubectl("scale", "deployment/reviews-v1", "--replicas=3")
        mesh.node.kubectl("rollout", "status", "deployment/reviews-v1", "--timeout=60s")
        load.more(60)
        served = []
        for pod in mesh.pods("default", "app=reviews,version=v1"):
            served.append(requests_served(mesh, pod))
        assert len(served) == 3 and all(served), served
        mesh.node.kubectl("scale", "deployment/reviews-v1", "--replicas=1")
        until(lambda: len(mesh.api.list("Pod", "default", labelSelector="app=reviews,version=v1")) == 1, 90, "two pods gone")
        load.more(40)
    load.assert_clean()
