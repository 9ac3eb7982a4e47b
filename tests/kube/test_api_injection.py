"""Injection by the API server: golden pods (tests/golden/inject) come back as `fairlead kube-inject` writes them, and who is injected is the chart's choice."""
import json
import shutil

import pytest
import yaml

import test_inject as golden
from api import Refused
from conftest import Galley, called_here, make_accounts, rendered, short_folder, until

PODS = [c for c in golden.CASES if not golden.options_of(c) and "kind: Pod\n" in c.read_text()]


def held(wanted, got, path="pod"):
    """Everything that is wanted is there, in its place; what the API server adds (defaults, its own token volume) is not compared."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            if value or key in got:
                assert key in got, f"{path}.{key} is missing"
                held(value, got[key], f"{path}.{key}")
    elif isinstance(wanted, list):
        named = all(isinstance(w, dict) and "name" in w for w in wanted) and path.rsplit(".", 1)[-1] in ("volumes", "containers", "initContainers")
        for index, value in enumerate(wanted):
            match = [g for g in got if g["name"] == value["name"]] if named else got[index:index + 1]
            assert len(match) == 1, f"{path}[{index}]: {value}"
            held(value, match[0], f"{path}[{index}]")
    elif str(wanted).startswith("{") and path.endswith(".value"):
        held(json.loads(wanted), json.loads(got), path)
    elif not (path.endswith("cpu") or path.endswith("memory")):
        assert wanted == got, f"{path}: {wanted!r} is wanted, {got!r} is there"


@pytest.fixture(scope="module")
def shop(plane, galley):
    for name, labels in (("shop", {"istio-injection": "enabled"}), ("plain", {}), ("never", {"istio-injection": "disabled"})):
        plane.namespace(name, **labels)
    for account in ("cart", "web", "edge"):
        plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "shop"}})
    return "shop"


def create(plane, pod, ns):
    pod["metadata"]["namespace"] = ns
    account = pod["spec"].get("serviceAccountName", "default")
    if not plane.api.exists("ServiceAccount", account, ns):
        plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": ns}})
    return plane.api.create(pod, dry_run=True)


def names(pod):
    return [c["name"] for c in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]]


@pytest.mark.parametrize("case", PODS, ids=golden.name)
def test_I01_the_api_server_keeps_what_kube_inject_writes(plane, shop, case):
    wanted = yaml.safe_load(golden.wanted(case).read_text())
    wanted["metadata"].pop("namespace", None)
    pod = yaml.safe_load(case.read_text())
    pod["metadata"].setdefault("labels", {}).setdefault("sidecar.istio.io/inject", "true")
    got = create(plane, pod, shop)
    for own in pod["spec"]["containers"]:
        if own["name"] == "istio-proxy" and "readinessProbe" in own:  # the API server fills in what it leaves out, before the webhook sees it
            next(c for c in wanted["spec"]["containers"] if c["name"] == "istio-proxy")["readinessProbe"] = own["readinessProbe"]
    held(wanted, got)


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart"}, "spec": {"containers": [{"name": "cart", "image": "i"}]}}


@pytest.mark.parametrize("ns,labels,injected", [
    ("shop", {}, True), ("shop", {"sidecar.istio.io/inject": "false"}, False), ("plain", {}, False), ("plain", {"sidecar.istio.io/inject": "true"}, True),
    ("never", {"sidecar.istio.io/inject": "true"}, False), ("kube-system", {"sidecar.istio.io/inject": "true"}, False),
    ("istio-system", {"sidecar.istio.io/inject": "true"}, True), ("istio-system", {}, False),
])
def test_I02_the_chart_chooses_who_is_injected(plane, shop, ns, labels, injected):
    pod = {**POD, "metadata": {"name": "cart", "labels": labels}}
    if ns == "kube-system":
        plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": ns}})
    assert ("istio-proxy" in names(create(plane, pod, ns))) == injected


def test_I06_the_image_of_a_gateway_is_not_always_pulled(plane, shop):
    """The API server gives the placeholder `auto`, which has no tag, the policy Always, before the webhook sees the pod."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "edge", "annotations": {"inject.istio.io/templates": "gateway"}},
           "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}
    container = create(plane, pod, shop)["spec"]["containers"][0]
    assert container["image"] == "fairlead/proxy:1" and container["imagePullPolicy"] == "IfNotPresent"


def test_I01_pods_of_a_deployment_are_injected(plane, shop):
    """Through the controllers, as users make them."""
    plane.kubectl("-n", "shop", "create", "deployment", "cart", "--image=i")
    pod = until(lambda: plane.api.list("Pod", "shop", labelSelector="app=cart"), what="a pod of the Deployment")[0]
    assert names(pod) == ["istio-init", "i", "istio-proxy"]
    env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][1]["env"]}
    assert env["FAIRLEAD_AGENT_WORKLOAD"] == "cart"
    plane.api.delete("Deployment", "cart", "shop", version="apps/v1")


def test_I03_a_wrong_annotation_is_told_to_who_creates_the_pod(plane, shop):
    text = plane.kubectl("-n", "shop", "run", "cart", "--image=i", "--annotations=sidecar.istio.io/proxyCPU=much", ok=False)
    assert "sidecar.istio.io/proxyCPU" in text and "not a quantity" in text and "namespace.sidecar-injector.istio.io" in text


CANARY = "istio-canary"
TEMPLATE = """
metadata:
  labels: {hello: {{ .ObjectMeta.Namespace }}}
spec:
  containers:
  - name: istio-proxy
    env: [{name: GREETING, value: {{ index .ObjectMeta.Labels "say" | default "nothing" | quote }}}]
    resources: {$patch: replace, requests: {cpu: 50m}}
    startupProbe: null
  - {name: helper, image: "helper:1"}
  tolerations: [{operator: Exists}]
"""


@pytest.fixture(scope="module")
def canary(plane, galley):
    """A second control plane's galley: another revision, under its own account, with a tag."""
    plane.namespace(CANARY)
    objects = rendered("fairlead", {"revision": "canary", "revisionTags": ["prod"], "sidecarInjectorWebhook": {"templates": {"custom": TEMPLATE}}},
                       release="canary", ns=CANARY)
    path = short_folder()
    (path / "config").write_text(next(o for o in objects if o["metadata"]["name"] == "istio-sidecar-injector-canary")["data"]["config"])
    hooks = [o for o in objects if o["kind"].endswith("WebhookConfiguration")]
    made = Galley(path, make_accounts(plane, objects, CANARY)("galley", path), "--revision", "canary", "--inject-revision", "canary",
                  "--root-namespace", CANARY, "--inject-config", path / "config",
                  configurations=[f"{o['kind'].removesuffix('WebhookConfiguration').lower()}/{o['metadata']['name']}" for o in hooks])
    with made.daemon:
        made.daemon.wait_ready()
        plane.api.apply(*(called_here(o, made.port()) for o in hooks))
        until(lambda: len(made.admin.page("webhook")["configurations"]) == 3 and all(c["current"] for c in made.admin.page("webhook")["configurations"]),
              what="the CA bundles set, the tag's too")
        yield made
    for hook in hooks:
        plane.api.delete(hook["kind"], hook["metadata"]["name"], version="admissionregistration.k8s.io/v1")
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def revisions(plane, canary):
    """Namespaces by what they choose."""
    for name, labels in (("by-rev", {"istio.io/rev": "canary"}), ("by-tag", {"istio.io/rev": "prod"}), ("by-default", {"istio.io/rev": "default"}),
                         ("by-other", {"istio.io/rev": "stage"}), ("by-none", {}), ("by-injection", {"istio-injection": "enabled"})):
        plane.namespace(name, **labels)
    until(lambda: revision_of(create(plane, dict(POD, metadata={"name": "cart"}), "by-rev")) == "canary", what="the webhooks of canary called")


def revision_of(pod):
    status = pod["metadata"].get("annotations", {}).get("sidecar.istio.io/status")
    return status and json.loads(status)["revision"]


@pytest.mark.parametrize("ns,labels,revision", [
    ("by-rev", {}, "canary"), ("by-tag", {}, "canary"), ("by-default", {}, "default"), ("by-other", {}, None), ("by-none", {}, None),
    ("by-none", {"istio.io/rev": "prod"}, "canary"), ("by-none", {"istio.io/rev": "canary"}, "canary"), ("by-none", {"istio.io/rev": "default"}, "default"),
    ("by-none", {"sidecar.istio.io/inject": "true"}, "default"), ("by-none", {"istio.io/rev": "stage", "sidecar.istio.io/inject": "true"}, None),
    ("by-tag", {"sidecar.istio.io/inject": "false"}, None), ("by-injection", {"istio.io/rev": "canary"}, "default"),
])
def test_G07_revision_and_tag_choose_the_injector(plane, revisions, ns, labels, revision):
    assert revision_of(create(plane, dict(POD, metadata={"name": "cart", "labels": labels}), ns)) == revision


def test_I01_a_template_of_the_values_is_in_the_pod_that_the_api_server_keeps(plane, revisions):
    pod = {**POD, "metadata": {"name": "cart", "labels": {"say": "hello"}, "annotations": {"inject.istio.io/templates": "sidecar,custom"}}}
    got = create(plane, pod, "by-tag")
    proxy = next(c for c in got["spec"]["containers"] if c["name"] == "istio-proxy")
    assert got["metadata"]["labels"]["hello"] == "by-tag" and names(got) == ["istio-init", "cart", "helper", "istio-proxy"]
    assert {"name": "GREETING", "value": "hello"} in proxy["env"] and proxy["resources"] == {"requests": {"cpu": "50m"}}
    assert "startupProbe" not in proxy and {"operator": "Exists"} in got["spec"]["tolerations"]
    pod["metadata"]["annotations"]["inject.istio.io/templates"] = "sidecar,other"
    with pytest.raises(Refused, match='template "other" does not exist; there are custom, gateway, sidecar'):
        create(plane, pod, "by-tag")


def test_G07_each_revision_reads_its_own_configuration(plane, galley, canary):
    """An object without the label is everybody's; one with it is one revision's alone, and judged by that one."""
    service = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "of-canary", "namespace": "default"},
               "spec": {"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}
    plane.api.create(service)
    until(lambda: galley.in_force("Gateway/default/of-canary") and canary.in_force("Gateway/default/of-canary"), what="the gateway of all")
    plane.api.edit("Gateway", "of-canary", lambda o: o["metadata"].update(labels={"istio.io/rev": "canary"}), version="networking.istio.io/v1")
    until(lambda: not galley.in_force("Gateway/default/of-canary"), what="the gateway no more of the default revision")
    assert canary.in_force("Gateway/default/of-canary")
    service["metadata"].update(name="bad", labels={"istio.io/rev": "canary"})
    service["spec"]["servers"][0]["port"]["protocol"] = "GOPHER"
    with pytest.raises(Refused, match="GOPHER"):
        plane.api.create(service, dry_run=True)
    plane.api.delete("Gateway", "of-canary", version="networking.istio.io/v1")


def test_N21_G06_pods_start_while_galley_is_away(plane, shop, galley):
    """The chart's default lets them start without a sidecar; Fail keeps mesh pods back, and nobody else's."""
    name, version = "fairlead-sidecar-injector-istio-system", "admissionregistration.k8s.io/v1"
    held_back = plane.api.get("MutatingWebhookConfiguration", name, version=version)
    galley.daemon.stop()
    try:
        assert names(create(plane, dict(POD, metadata={"name": "cart"}), "shop")) == ["cart"]
        plane.api.patch("MutatingWebhookConfiguration", name, [
            {"op": "replace", "path": f"/webhooks/{i}/failurePolicy", "value": "Fail"} for i in range(len(held_back["webhooks"]))],
            version=version, form="json")

        def refused():
            try:
                create(plane, dict(POD, metadata={"name": "cart"}), "shop")
            except Refused as error:
                return "failed calling webhook" in str(error)
            return False
        until(refused, what="mesh pods kept back")
        for ns in ("plain", "istio-system", "kube-system"):
            assert names(create(plane, dict(POD, metadata={"name": "cart"}), ns)) == ["cart"]
    finally:
        plane.api.patch("MutatingWebhookConfiguration", name, [
            {"op": "replace", "path": f"/webhooks/{i}/failurePolicy", "value": "Ignore"} for i in range(len(held_back["webhooks"]))],
            version=version, form="json")
        galley.start_again()
    galley.daemon.wait_ready()
    until(lambda: "istio-proxy" in names(create(plane, dict(POD, metadata={"name": "cart"}), "shop")), what="injection again")
