"""docs/OPERATIONS.md on a real node, section by section, under load: scaling, rolls, upgrade and rollback, backup, rotation, each component away.

And what the document cannot show: that nothing unchanged is sent again, that proxies spread, that the API server may go away, and that galley's absence
stops nobody else's pods (N21).
"""
import base64
import json

import pytest

import guide
from conftest import SYSTEM, until

SECTIONS = guide.sections("docs/OPERATIONS.md")
APPS = ("productpage", "details", "reviews", "ratings")
TYPES = ("cds", "lds", "rds")


def updates(mesh):
    """How often each proxy of Bookinfo took a configuration of a type: (pod, metric) -> count."""
    return {(pod["metadata"]["name"], name): value for app in ("productpage", "details", "reviews") for pod in mesh.pods("default", f"app={app}")
            for name, _, value in mesh.metrics(pod, 15020, "/stats/prometheus")
            if name.startswith("envoy_") and name.endswith("_update_success") and any(t in name for t in TYPES)}


@pytest.mark.parametrize("title,blocks", SECTIONS, ids=[title.lower().replace(" ", "-").replace(",", "") for title, _ in SECTIONS])
def test_O11_what_the_guide_says_costs_no_request(mesh, title, blocks):
    with mesh.load(rate=30) as load:
        load.more(20)
        for block in blocks:
            mesh.shell.run(block)
            load.more(10)
        load.more(20)
    print(f"{title}: {load.assert_clean()} requests, none failed")


def test_P107_N12_proxies_spread_over_pilots_and_nothing_unchanged_is_sent_again(mesh):
    before = updates(mesh)
    mesh.shell.run("""helm upgrade fairlead charts/fairlead --namespace istio-system --reuse-values --wait --set pilot.autoscaleEnabled=false \\
        --set pilot.replicaCount=3 --set galley.replicaCount=2""")
    mesh.shell.run("kubectl -n istio-system rollout restart deployment/pilot && kubectl -n istio-system rollout status deployment/pilot --timeout=60s")

    def connected():
        return [sum(v for n, _, v in mesh.metrics(pod, 15014) if n == "pilot_xds") for pod in mesh.daemons("pilot")]
    until(lambda: len(connected()) == 3 and sum(connected()) >= 7, what="all proxies connected to three pilots")
    assert sum(n > 0 for n in connected()) >= 2, connected()
    with mesh.load(rate=30) as load:
        load.more(20)
        mesh.shell.run("kubectl -n istio-system rollout restart deployment/galley && kubectl -n istio-system rollout status deployment/galley --timeout=60s")
        load.more(20)
    load.assert_clean()
    after = updates(mesh)
    assert before and {key: (count, after[key]) for key, count in before.items() if after[key] != count} == {}
    print(f"proxies by pilot: {connected()}")


def test_G14_the_api_server_goes_away_and_comes_back(mesh):
    sequence = mesh.page(mesh.daemons("galley")[0], 15024, "bus")["sequence"]
    with mesh.load(rate=30, enough=60) as load:
        load.more(20)
        mesh.node.restart_server(down=lambda: load.more(60))
        until(lambda: mesh.api.exists("Deployment", "reviews-v1", version="apps/v1"), what="the API server serving")
        load.more(20)
        mesh.node.kubectl("apply", "-f", "samples/bookinfo-steps/reviews-v3.yaml")
        until(lambda: mesh.reviews() == "v3", what="a change after the outage")
        mesh.node.kubectl("apply", "-f", "samples/bookinfo-steps/reviews-v1.yaml")
        until(lambda: mesh.reviews() == "v1", what="a change after the outage")
    load.assert_clean()
    assert mesh.page(mesh.daemons("galley")[0], 15024, "bus")["sequence"] > sequence


def wait_for_pod(mesh, ns, name):
    until(lambda: mesh.api.get("Pod", name, ns)["status"]["phase"] == "Running", what=f"{ns}/{name} running")
    return [c["name"] for c in mesh.api.get("Pod", name, ns)["spec"]["containers"]]


def test_N21_without_galley_pods_start(mesh):
    """By the chart's default also those of the mesh, without a proxy; a roll when galley is back gives it to them."""
    mesh.node.namespace("elsewhere")
    mesh.shell.run("""kubectl -n istio-system scale deployment/galley --replicas=0
        kubectl -n istio-system wait --for=delete pod --selector app.kubernetes.io/name=galley --timeout=60s""")
    try:
        for ns in ("elsewhere", "default", "kube-system"):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "namespace": ns}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "late", "image": "docker.io/fairlead/bookinfo:0.1.0", "args": ["-c", "import time; time.sleep(1e6)"]}]}}
            mesh.api.create(pod)
            assert wait_for_pod(mesh, ns, "late") == ["late"]
    finally:
        mesh.shell.run("""kubectl -n istio-system scale deployment/galley --replicas=1
            kubectl -n istio-system rollout status deployment/galley --timeout=60s""")
    found = mesh.shell.run("kubectl get pods -n default --selector '!service.istio.io/canonical-name' --field-selector status.phase=Running -o name")
    assert found.split() == ["pod/late"]
    mesh.api.delete("Pod", "late", now=True)
    until(lambda: not mesh.api.exists("Pod", "late"), what="the pod gone")
    pod["metadata"] = {"name": "late", "namespace": "default"}
    mesh.api.create(pod)
    assert "istio-proxy" in wait_for_pod(mesh, "default", "late")
    for ns in ("elsewhere", "default", "kube-system"):
        mesh.api.delete("Pod", "late", ns, now=True)


def roots_of(mesh, pod):
    """Serial numbers of the roots that a pod's Envoy trusts, and of the issuers' end: its own chain."""
    certificates = mesh.envoy(pod, "/certs")["certificates"]
    trusted = {c["serial_number"] for entry in certificates for c in entry["ca_cert"]}
    chain = {c["serial_number"] for entry in certificates for c in entry["cert_chain"]}
    return trusted, chain


def test_C02_the_root_is_rotated_under_load(mesh):
    """By hand and without the waiting: start, both roots everywhere, the new one signs, all workloads anew, no request lost."""
    keeper = "kubectl --namespace istio-system exec deployment/citadel --container ca-keeper -- citadel rotate-root"
    bundle = lambda: mesh.api.get("ConfigMap", "istio-ca-root-cert", "default")["data"]["root-cert.pem"]  # noqa: E731
    pods = lambda: [*(p for app in APPS for p in mesh.pods("default", f"app={app}")), *mesh.pods(SYSTEM, "istio=ingressgateway")]  # noqa: E731
    assert bundle().count("BEGIN CERTIFICATE") == 1
    old = {pod["metadata"]["name"]: roots_of(mesh, pod) for pod in pods()}
    assert len(old) == 7 and all(len(trusted) == 1 for trusted, _ in old.values())
    with mesh.load(rate=30, enough=60) as load:
        load.more(20)
        mesh.shell.run(f"{keeper} start --namespace istio-system")
        until(lambda: bundle().count("BEGIN CERTIFICATE") == 2, 30, "both roots in the ConfigMap")
        until(lambda: all(len(roots_of(mesh, pod)[0]) == 2 for pod in pods()), 120, "every Envoy trusting both", every=1)
        load.more(20)
        mesh.shell.run(f"{keeper} next --now --namespace istio-system")
        until(lambda: '"drain"' in json.dumps(mesh.page(mesh.daemons("citadel")[0], 15034, "ca")), 60, "the new root signing")
        for app in ("reviews-v1", "details-v1", "productpage-v1"):
            mesh.shell.run(f"kubectl rollout restart deployment/{app} && kubectl rollout status deployment/{app} --timeout=120s")
        load.more(40)
    print(f"root rotated: {load.assert_clean()} requests, none failed")
    anew = [pod for pod in pods() if pod["metadata"]["name"] not in old]
    assert len(anew) == 3
    for pod in anew:
        trusted, chain = roots_of(mesh, pod)
        assert len(trusted) == 2 and not chain & next(iter(old.values()))[0]


def test_C02_the_root_survived_all_of_it(mesh):
    """Backup, restore, rolls and scaling: the Secret's roots are those that workloads are told."""
    first = mesh.api.get("ConfigMap", "istio-ca-root-cert", "default")["data"]["root-cert.pem"]
    assert base64.b64decode(mesh.api.get("Secret", "istio-ca-secret", SYSTEM)["data"]["root-cert.pem"]).decode() == first
