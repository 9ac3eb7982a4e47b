"""The mutating webhook over HTTPS: what the API server sends and gets, selection, refusals, metrics. The pods themselves are golden cases."""
import base64
import json
import subprocess
import sys

import pytest
import yaml

from fake_kube import FakeKube, kubeconfig, wait_until
from test_webhook import BUILD, ROOT, Hook

sys.path.insert(0, str(ROOT / "tests/golden"))
import test_inject as golden  # noqa: E402

MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "cart-", "labels": {"app": "cart"}},
       "spec": {"containers": [{"name": "cart", "image": "shop/cart:1"}]}}


def copy(value):
    return json.loads(json.dumps(value))


def apply_patch(document, patch):
    """RFC 6902, as the API server applies it."""
    document = copy(document)
    for operation in patch:
        *way, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        at = document
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if isinstance(at, list):
            last = len(at) if last == "-" else int(last)
        if operation["op"] == "remove":
            del at[last]
        elif operation["op"] == "add" and isinstance(at, list):
            assert last <= len(at)
            at.insert(last, operation["value"])
        else:
            assert operation["op"] in ("add", "replace") and (operation["op"] == "add" or isinstance(at, list) or last in at)
            at[last] = operation["value"]
    return document


class Injector(Hook):
    def __init__(self, folder, *extra):
        super().__init__(folder, "--inject-image", "fairlead/proxy:1", *extra)

    def inject(self, pod, path="/inject", **extra):
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {"uid": "u-7", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "shop",
                            "object": pod, **extra}}
        status, answer = self.post(path, json.dumps(body))
        assert status == 200 and answer["response"]["uid"] == "u-7", answer
        return answer["response"]

    def injected(self, pod, path="/inject", **extra):
        """The pod as the API server keeps it, and the operations."""
        response = self.inject(pod, path, **extra)
        assert response["allowed"], response
        patch = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
        assert "patch" not in response or response["patchType"] == "JSONPatch"
        return apply_patch(pod, patch), patch

    def count(self, name):
        return float(next((line.split()[1] for line in self.metrics().splitlines() if line.startswith(name + " ")), 0))


@pytest.fixture(scope="module")
def hook(tmp_path_factory):
    h = Injector(tmp_path_factory.mktemp("inject"), "--inject-never", "app=legacy")
    yield h
    assert h.stop() == 0


def proxy_of(pod, lists=("containers", "initContainers")):
    return next(c for name in lists for c in pod["spec"].get(name, []) if c["name"] == "istio-proxy")


def env_of(pod):
    return {e["name"]: e.get("value") for e in proxy_of(pod)["env"]}


PODS = [c for c in golden.CASES if not golden.options_of(c) and "kind: Pod\n" in c.read_text()]


@pytest.mark.parametrize("case", PODS, ids=golden.name)
def test_I01_the_webhook_gives_what_kube_inject_gives(hook, case):
    pod = yaml.safe_load(case.read_text())
    got, patch = hook.injected(pod)
    assert got == yaml.safe_load(golden.wanted(case).read_text()) and patch


@pytest.mark.parametrize("case", PODS, ids=golden.name)
def test_I01_a_second_review_changes_nothing(hook, case):
    once, _ = hook.injected(yaml.safe_load(case.read_text()))
    before = hook.page("webhook")["pods"]
    again, patch = hook.injected(once)
    assert patch == [] and again == once
    assert hook.page("webhook")["pods"]["unchanged"] == before["unchanged"] + 1


def test_I01_what_others_wrote_is_not_replaced(hook):
    """The patch only adds, but for Prometheus' annotations and probes: two webhooks may work on one pod."""
    pod = copy(POD)
    pod["metadata"]["annotations"] = {"prometheus.io/port": "80"}
    pod["spec"]["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 80}}
    pod["spec"]["initContainers"] = [{"name": "setup", "image": "i"}]
    pod["spec"]["volumes"] = [{"name": "kube-api-access", "projected": {}}]
    _, patch = hook.injected(pod)
    assert [(o["op"], o["path"]) for o in patch if o["op"] != "add"] == [
        ("replace", "/metadata/annotations/prometheus.io~1port"),
        ("remove", "/spec/containers/0/livenessProbe/tcpSocket")]


def test_I01_cluster_and_network_of_the_path(hook):
    env = env_of(hook.injected(POD, "/inject/cluster/east--slash--1/net/net1")[0])
    assert env["FAIRLEAD_AGENT_CLUSTER_ID"] == "east/1" and env["FAIRLEAD_AGENT_NETWORK"] == "net1"
    env = env_of(hook.injected(POD, "/inject/:ENV:cluster=west:ENV:net=net2")[0])
    assert env["FAIRLEAD_AGENT_CLUSTER_ID"] == "west" and env["FAIRLEAD_AGENT_NETWORK"] == "net2"
    env = env_of(hook.injected(POD, "/inject/net")[0])
    assert env["FAIRLEAD_AGENT_CLUSTER_ID"] == "Kubernetes" and "FAIRLEAD_AGENT_NETWORK" not in env
    pod = copy(POD)
    pod["metadata"]["labels"]["topology.istio.io/network"] = "of-the-pod"
    assert env_of(hook.injected(pod, "/inject/net/net1")[0])["FAIRLEAD_AGENT_NETWORK"] == "of-the-pod"


@pytest.mark.parametrize("change,ns", [
    (lambda p: p["metadata"]["labels"].update({"sidecar.istio.io/inject": "false"}), "shop"),
    (lambda p: p["metadata"].update(annotations={"sidecar.istio.io/inject": "false"}), "shop"),
    (lambda p: p["metadata"]["labels"].update(app="legacy"), "shop"),
    (lambda p: p["spec"].update(hostNetwork=True), "shop"),
    (lambda p: None, "kube-system"),
    (lambda p: p["metadata"].update(namespace="kube-public"), "shop"),
])
def test_I02_pods_that_get_no_proxy_start_as_they_are(hook, change, ns):
    pod = copy(POD)
    change(pod)
    before = hook.count("sidecar_injection_skip_total")
    response = hook.inject(pod, namespace=ns)
    assert response == {"uid": "u-7", "allowed": True}
    assert hook.count("sidecar_injection_skip_total") == before + 1


def test_I02_label_over_annotation_over_selector(hook):
    pod = copy(POD)
    pod["metadata"].update(annotations={"sidecar.istio.io/inject": "false"}, labels={"app": "legacy", "sidecar.istio.io/inject": "true"})
    assert proxy_of(hook.injected(pod)[0])


def test_I02_a_word_that_is_neither_yes_nor_no_is_told(hook):
    for word, told in (("no", "the pod gets no proxy"), ("yes", "the pod gets a proxy"), ("maybe", "the pod gets no proxy")):
        pod = copy(POD)
        pod["metadata"]["labels"]["sidecar.istio.io/inject"] = word
        response = hook.inject(pod)
        assert response["allowed"] and ("patch" in response) == ("a proxy" in told) and told in response["warnings"][0]


def test_I02_what_is_no_pod_is_allowed(hook):
    assert hook.inject(None, operation="DELETE") == {"uid": "u-7", "allowed": True}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    assert hook.inject(service, kind={"group": "", "version": "v1", "kind": "Service"}) == {"uid": "u-7", "allowed": True}


def test_I03_a_wrong_annotation_refuses_the_pod_with_the_rule(hook):
    pod = copy(POD)
    pod["metadata"]["annotations"] = {"sidecar.istio.io/proxyCPU": "much"}
    before = hook.count("sidecar_injection_failure_total")
    response = hook.inject(pod, dryRun=True)
    assert not response["allowed"] and "patch" not in response
    assert response["status"]["message"] == \
        'sidecar injection: annotation sidecar.istio.io/proxyCPU: "much" is not a quantity such as 100m or 128Mi'
    assert hook.count("sidecar_injection_failure_total") == before + 1
    assert "pod refused" in hook.log.read_text() and "cart-" in hook.log.read_text()


def test_I03_what_has_no_effect_warns_the_user(hook):
    pod = copy(POD)
    pod["metadata"]["annotations"] = {"sidecar.istio.io/extraStatTags": "x"}
    response = hook.inject(pod)
    assert response["allowed"] and response["patch"] and "extraStatTags]: has no effect" in response["warnings"][0]


def test_I04_status_token_and_rights(hook):
    pod, _ = hook.injected(POD)
    status = json.loads(pod["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert list(status) == ["initContainers", "containers", "volumes", "imagePullSecrets", "revision"]
    assert set(status["volumes"]) == {v["name"] for v in pod["spec"]["volumes"]}
    token = next(v for v in pod["spec"]["volumes"] if v["name"] == "istio-token")["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"path": "istio-token", "expirationSeconds": 43200, "audience": "istio-ca"}
    rights = proxy_of(pod)["securityContext"]
    assert rights["runAsUser"] == rights["runAsGroup"] == 1337 and rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"} and rights["readOnlyRootFilesystem"]


def test_I04_on_openshift_the_users_range_is_the_namespaces(tmp_path):
    hook = Injector(tmp_path, "--inject-platform", "openshift")
    space = tmp_path / "source/shop.yaml"

    def ids():
        rights = proxy_of(hook.injected(POD)[0])["securityContext"]
        return rights["runAsUser"], rights["runAsGroup"]
    try:
        assert ids() == (1337, 1337)
        space.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {openshift.io/sa.scc.uid-range: 1000650000/10000}}\n")
        wait_until(lambda: ids() == (1000659999, 1000659999))
    finally:
        assert hook.stop() == 0


def test_I04_the_agent_accepts_every_option_that_it_is_given(hook, tmp_path):
    """Environment variables are options of the agent by name: one that it does not know would be ignored in silence."""
    pod = copy(POD)
    pod["metadata"]["annotations"] = {
        "sidecar.istio.io/agentLogLevel": "all:warn,ads:debug", "sidecar.istio.io/componentLogLevel": "http:debug",
        "status.sidecar.istio.io/port": "15025", "sidecar.istio.io/interceptionMode": "NONE", "proxy.istio.io/config": json.dumps({
            "concurrency": 1, "terminationDrainDuration": "30s", "proxyMetadata": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"}})}
    pod["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"path": "/$(HOME)", "port": 80}}
    env = {k: v for k, v in env_of(hook.injected(pod, "/inject/net/n1")[0]).items() if v}
    known = subprocess.run([BUILD / "agent/agent", "--help"], capture_output=True, text=True, check=True).stdout
    for name in env:
        if name.startswith("FAIRLEAD_AGENT_"):
            assert f"--{name[len('FAIRLEAD_AGENT_'):].lower().replace('_', '-')}" in known, name
    expanded = {k: v.replace("$(POD_NAME)", "cart-1").replace("$(POD_NAMESPACE)", "shop").replace("$(INSTANCE_IP)", "127.0.0.1")
                .replace("$(SERVICE_ACCOUNT)", "cart").replace("$(ISTIO_META_NODE_NAME)", "node").replace("$$", "$") for k, v in env.items()}
    expanded |= {"FAIRLEAD_AGENT_STATE_DIR": str(tmp_path / "state"), "FAIRLEAD_AGENT_ADMIN_ADDRESS": f"unix:{tmp_path}/admin",
                 "FAIRLEAD_AGENT_NO_ENVOY": "true", "FAIRLEAD_AGENT_STATUS_ADDRESS": "127.0.0.1:0"}
    with open(tmp_path / "log", "w") as log:
        agent = subprocess.Popen([BUILD / "agent/agent"], env=expanded, stderr=log)
    try:
        wait_until(lambda: (tmp_path / "state/envoy-rev.json").exists())
        node = json.loads((tmp_path / "state/envoy-rev.json").read_text())["node"]
        assert node["id"] == "sidecar~127.0.0.1~cart-1.shop~shop.svc.cluster.local" and node["metadata"]["INTERCEPTION_MODE"] == "NONE"
        assert node["metadata"]["LABELS"]["service.istio.io/canonical-name"] == "cart"
        assert node["metadata"]["ANNOTATIONS"]["status.sidecar.istio.io/port"] == "15025"
        assert node["metadata"]["PROXY_CONFIG"]["concurrency"] == 1
    finally:
        agent.terminate()
        assert agent.wait(20) == 0


def test_P124_the_meshs_default_config_is_under_what_the_pod_says(hook):
    mesh = hook.folder / "source/mesh.yaml"
    mesh.write_text("""apiVersion: fairlead.dev/v1
kind: MeshConfig
metadata: {name: default}
spec: {proxyListenPort: 15101, proxyInboundListenPort: 15106, defaultConfig: {concurrency: 3, terminationDrainDuration: 7s, gatewayTopology: {numTrustedProxies: 1},
  proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: "true", MINE: "no"}}}
""")
    pod = copy(POD)
    pod["metadata"]["annotations"] = {"proxy.istio.io/config": "concurrency: 4\nproxyMetadata: {MINE: 'yes'}"}
    try:
        wait_until(lambda: "PROXY_CONFIG" in env_of(hook.injected(POD)[0]))
        injected = hook.injected(pod)[0]
        env, init = env_of(injected), next(c for c in injected["spec"]["initContainers"] if c["name"] == "istio-init")
        assert init["args"] == ["capture", "--envoy-port=15101", "--inbound-capture-port=15106"]
        assert (env["FAIRLEAD_AGENT_CONCURRENCY"], env["MINE"], env["ISTIO_META_ENABLE_SELF_DISCOVERY"]) == ("4", "yes", "true")
        assert env["FAIRLEAD_AGENT_DRAIN_DURATION"] == "7s"
        assert json.loads(env["PROXY_CONFIG"])["gatewayTopology"] == {"numTrustedProxies": 1}
    finally:
        mesh.unlink()
    wait_until(lambda: "PROXY_CONFIG" not in env_of(hook.injected(POD)[0]))


def test_I03_proxy_config_resources_come_with_the_source(hook):
    source = hook.folder / "source/proxy-config.yaml"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "labels": {"app": "cart"}},
           "spec": {"containers": [{"name": "app", "image": "app"}]}}

    def concurrency():
        return env_of(hook.injected(copy(pod))[0]).get("FAIRLEAD_AGENT_CONCURRENCY")
    before = concurrency()
    source.write_text("""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: istio-system}
spec: {concurrency: 5}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: cart, namespace: shop}
spec: {selector: {matchLabels: {app: cart}}, concurrency: 6, environmentVariables: {WHO: cart}}
""")
    wait_until(lambda: concurrency() == "6")
    assert env_of(hook.injected(copy(pod))[0])["WHO"] == "cart"
    source.unlink()
    wait_until(lambda: concurrency() == before)


def test_I03_the_agent_accepts_every_argument_of_istio_init(hook):
    """What injection lets through, capture must: an istio-init that fails stops the pod without a word to its user."""
    seen = set()
    for case in PODS:
        pod, _ = hook.injected(yaml.safe_load(case.read_text()))
        for container in pod["spec"].get("initContainers", []):
            if container["name"] == "istio-init":
                done = subprocess.run([BUILD / "agent/agent", *container["args"], "--dry-run"], capture_output=True, text=True, check=False)
                assert done.returncode == 0 and "table inet fairlead_capture" in done.stdout, f"{case.name}: {done.stderr}"
                seen |= {a.split("=")[0] for a in container["args"][1:]}
    # Eight annotations, four of proxyMetadata's variables, the mode, the proxy's user.
    assert len(seen) == 14, seen


def test_I01_settings_are_read_again_without_a_restart(tmp_path):
    """As kubelet shows a ConfigMap: a folder with a link that is swapped. What is wrong is said, and the last good settings hold."""
    def publish(number, text):
        version = tmp_path / f"settings/..{number}"
        version.mkdir(parents=True)
        (version / "config").write_text(text)
        link = tmp_path / "settings/..new"
        link.symlink_to(version.name)
        link.rename(tmp_path / "settings/..data")
    greeting = "defaultTemplates: [sidecar, custom]\ntemplates: {custom: 'metadata: {labels: {hello: %s}}'}"
    publish(1, "templates: {sidecar: 'spec: {}'}")
    (tmp_path / "settings/config").symlink_to("..data/config")
    hook = Injector(tmp_path, "--inject-config", tmp_path / "settings/config")

    def label():
        return hook.injected(POD)[0]["metadata"]["labels"].get("hello")

    def error():
        return hook.page("webhook")["injection_settings"]["error"]
    try:
        assert "cannot be replaced" in error()
        response = hook.inject(POD)  # not injected by other settings than those that are wanted
        assert not response["allowed"] and "the settings are not good" in response["status"]["message"] and "sidecar" in response["status"]["message"]
        publish(2, greeting % "world")
        wait_until(lambda: not error())
        assert label() == "world" and proxy_of(hook.injected(POD)[0])
        publish(3, greeting % "{{ .Values.x }}")
        wait_until(lambda: "line 1: {{ .Values.x }}: is not supported" in error())
        assert label() == "world" and "galley_injection_settings_bad 1" in hook.metrics()
        assert "the last good ones hold" in hook.log.read_text()
        publish(4, greeting % '{{ index .ObjectMeta.Labels "app" }}')
        wait_until(lambda: label() == "cart")
        assert not error() and "galley_injection_settings_bad 0" in hook.metrics()
        assert hook.inject(dict(POD, metadata={"annotations": {"inject.istio.io/templates": "other"}}))["status"]["message"].endswith(
            'template "other" does not exist; there are custom, gateway, sidecar')
    finally:
        assert hook.stop() == 0


def test_I06_a_gateway_of_a_container_with_image_auto(hook):
    pod = {"metadata": {"name": "ingress", "annotations": {"inject.istio.io/templates": "gateway"}},
           "spec": {"containers": [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 80}]}]}}
    got, _ = hook.injected(pod)
    assert [c["name"] for c in got["spec"]["containers"]] == ["istio-proxy"] and "initContainers" not in got["spec"]
    assert proxy_of(got)["image"] == "fairlead/proxy:1" and {p["containerPort"] for p in proxy_of(got)["ports"]} == {80, 15090}
    assert env_of(got)["FAIRLEAD_AGENT_TYPE"] == "router" and "security.istio.io/tlsMode" not in got["metadata"]["labels"]


def test_I07_metrics_have_istios_names(hook):
    before = {n: hook.count(f"sidecar_injection_{n}_total") for n in ("requests", "success", "failure", "skip")}
    seconds = hook.count("sidecar_injection_time_seconds_count")
    hook.injected(POD)
    assert hook.post("/inject", "{")[0] == 400
    after = {n: hook.count(f"sidecar_injection_{n}_total") for n in before}
    assert {n: after[n] - before[n] for n in before} == {"requests": 2, "success": 1, "failure": 1, "skip": 0}
    assert hook.count("sidecar_injection_time_seconds_count") == seconds + 1


def test_I07_the_bundle_of_the_mutating_configuration_is_kept(tmp_path):
    fake = FakeKube()
    fake.apply(MUTATING, {"metadata": {"name": "injector"}, "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {}}]})
    (tmp_path / "config").write_text(kubeconfig(fake.url))
    hook = Injector(tmp_path, "--kubeconfig", tmp_path / "config", "--webhook-configuration", "mutating/injector")
    try:
        wait_until(lambda: fake.objects[(MUTATING, "/injector")]["webhooks"][0]["clientConfig"].get("caBundle"))
    finally:
        assert hook.stop() == 0
        fake.close()


def test_I01_without_an_image_there_is_no_injector(tmp_path):
    hook = Hook(tmp_path)
    try:
        assert hook.post("/inject", "{}")[0] == 404
    finally:
        assert hook.stop() == 0


@pytest.mark.parametrize("option,value", [("--inject-resources", "{"), ("--inject-platform", "openshft")])
def test_I01_options_that_are_wrong_are_said_at_the_start(tmp_path, option, value):
    result = subprocess.run([BUILD / "galley/galley", "--source", tmp_path, "--bus", f"ipc://{tmp_path}/{{role}}", "--admin-address",
                             f"unix:{tmp_path}/admin", "--inject-image", "i", option, value], capture_output=True, text=True,
                            timeout=20, check=False)
    assert result.returncode == 1 and option in result.stderr
