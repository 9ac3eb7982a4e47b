"""The Helm charts without a cluster: they lint, their schemas refuse what is misspelt, and what they render fits the daemons.

helm is built from its Go module, once (tests/kube/toolbox.py).
"""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/kube"))
import toolbox  # noqa: E402
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
CHARTS = ROOT / "charts"
NAMES = ("base", "fairlead", "gateway")


@pytest.fixture(scope="session")
def helm():
    binary = toolbox.tool("helm")

    def run(*arguments, values=None, ok=True):
        extra = ["-f", "-"] if values is not None else []
        result = subprocess.run([binary, *map(str, arguments), *extra], input=json.dumps(values) if values is not None else None,
                                capture_output=True, text=True, check=False)
        assert (result.returncode == 0) == ok, result.stdout + result.stderr
        return result.stdout + ("" if ok else result.stderr)
    return run


@pytest.fixture(scope="session")
def render(helm):
    def run(chart="fairlead", values=None, release="fairlead"):
        text = helm("template", release, CHARTS / chart, "-n", "istio-system", values=values)
        return [d for d in yaml.safe_load_all(text) if d]
    return run


def of_kind(objects, kind, name=None):
    return [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]


def containers(objects):
    for o in objects:
        if o["kind"] in ("Deployment", "Job"):
            spec = o["spec"]["template"]["spec"]
            for c in spec.get("initContainers", []) + spec["containers"]:
                yield o, spec, c


@pytest.mark.parametrize("chart", NAMES)
def test_O11_charts_lint(helm, chart):
    helm("lint", "--strict", CHARTS / chart)


@pytest.mark.parametrize("values", [
    {}, {"pilot": {"autoscaleEnabled": False, "replicaCount": 3}}, {"revision": "canary"}, {"global": {"networkPolicy": {"enabled": True}}},
    {"validation": {"enabled": False}}, {"citadel": {"caSecret": "cacerts", "replicaCount": 2}},
    {"galley": {"env": {"FAIRLEAD_GALLEY_DEBOUNCE": "50ms"}, "nodeSelector": {"x": "y"}, "tolerations": [{"operator": "Exists"}]}},
])
def test_every_object_has_a_name_and_a_namespace_that_fits(render, values):
    objects = render(values=values)
    assert len(objects) > 15
    seen = set()
    for o in objects:
        key = (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
        assert key not in seen, key
        seen.add(key)
        if not o["kind"].startswith(("Cluster", "Validating", "Mutating", "CustomResource")):
            assert o["metadata"]["namespace"] == "istio-system", key


def test_rendering_is_repeatable_so_an_upgrade_changes_nothing(render):
    assert render() == render()


def test_the_definitions_are_those_that_galley_makes():
    made = subprocess.run([BUILD / "galley/galley", "crds"], capture_output=True, text=True, check=True).stdout
    assert (CHARTS / "base/files/crds.yaml").read_text() == made, "galley crds > charts/base/files/crds.yaml"


def options_of(program, command=()):
    text = subprocess.run([BUILD / program, *command, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  --([\w-]+)", text, re.M))


def test_every_argument_is_an_option_of_its_daemon(render):
    checked = 0
    for _, _, c in containers(render()):
        if c["name"] in ("ca-secret", "ca-keeper"):
            known = options_of("citadel/citadel", ["ca-secret"])
        elif c["name"] == "bus-keys":
            known = options_of("cli/fairlead", ["bus-keys"])
        else:
            known = options_of(f"{c['name']}/{c['name']}")
        for argument in c.get("args", []) + c.get("command", []):
            if argument.startswith("--"):
                assert argument[2:].split("=")[0] in known, f"{c['name']}: {argument}"
                checked += 1
    assert checked > 30


def test_containers_are_confined_and_bounded(render):
    for o, spec, c in containers(render()):
        where = f"{o['metadata']['name']}/{c['name']}"
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        security = c["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}, where
        assert c["resources"]["requests"]["memory"], where
        if o["kind"] == "Deployment" and c in spec["containers"] and c.get("ports"):
            assert c["livenessProbe"] and c["readinessProbe"], where


def test_I04_on_openshift_the_namespace_says_who_runs(render):
    """Its policy refuses a user outside of the namespace's range; elsewhere the charts name one."""
    assert any(a == "--inject-cni" for _, _, c in containers(render(values={"pilot": {"cni": {"enabled": True}}})) for a in c.get("args", []))
    for platform in ("openshift", ""):
        objects = render(values={"global": {"platform": platform}}) + render("gateway", {"platform": platform})
        users = [s.get("runAsUser") for o, spec, c in containers(objects) for s in (spec["securityContext"], c["securityContext"])]
        assert (set(users) == {None}) if platform else {1337, 1338} < set(users)
        arguments = of_kind(objects, "Deployment", "galley")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--inject-platform=openshift" in arguments) == bool(platform)


def test_ports_of_services_lead_to_ports_of_containers(render):
    objects = render()
    for service in of_kind(objects, "Service"):
        target = [o for o in of_kind(objects, "Deployment") if service["spec"]["selector"].items() <= o["spec"]["template"]["metadata"]["labels"].items()]
        assert len(target) == 1, service["metadata"]["name"]
        names = {p["name"] for c in target[0]["spec"]["template"]["spec"]["containers"] for p in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in names, port


def test_O14_pilot_is_found_under_istiods_name_and_ports(render):
    service = of_kind(render(), "Service", "istiod")[0]
    assert {p["port"] for p in service["spec"]["ports"]} == {15010, 15012, 15014}


def options_given(objects, name):
    return dict(a[2:].split("=", 1) for _, _, c in containers(objects) if c["name"] == name for a in c["args"] if "=" in a)


def test_O14_the_control_planes_ports_are_istios(render):
    objects = render()
    pilot = options_given(objects, "pilot")
    assert [pilot[n + "-address"] for n in ("xds", "xds-tls", "admin", "http")] == ["*:15010", "*:15012", "*:15014", "127.0.0.1:8080"]
    assert options_given(objects, "galley")["webhook-address"] == "*:15017"
    webhook = of_kind(objects, "Service", "fairlead-galley")[0]["spec"]["ports"][0]
    assert (webhook["port"], webhook["targetPort"]) == (443, "webhook")
    # ControlZ: each daemon's own default, on its pod's loopback alone.
    for name in ("galley", "pilot", "citadel"):
        text = subprocess.run([BUILD / name / name, "--help"], capture_output=True, text=True, check=True).stdout
        assert re.search(r"--ctrlz-port=.*\(default 9876\)", text) and re.search(r"(?s)--ctrlz-address=[^-]*\(default localhost\)", text), text
        assert not [o for o in options_given(objects, name) if o.startswith("ctrlz")]


def test_O10_istioctl_finds_pilot_and_only_pilot(render):
    pods = {o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in of_kind(render(values={"revision": "blue"}), "Deployment")}
    assert [n for n, labels in pods.items() if labels.get("istio.io/rev") == "blue"] == ["pilot"]
    assert pods["pilot"]["app"] == "istiod" and [n for n, labels in pods.items() if "app" in labels] == ["pilot"]


def test_the_bus_is_reached_by_names_with_an_address_for_each_publisher(render):
    objects = render(values={"galley": {"replicaCount": 2}, "citadel": {"replicaCount": 2}})
    arguments = of_kind(objects, "Deployment", "pilot")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    address = next(a for a in arguments if a.startswith("--bus=")).removeprefix("--bus=tcp://")
    for role in ("galley", "citadel"):
        name, namespace = address.replace("{role}", role).split(".")[:2]
        service = of_kind(objects, "Service", name)[0]
        assert service["metadata"]["namespace"] == namespace and service["spec"]["clusterIP"] == "None"
        assert {p["port"] for p in service["spec"]["ports"]} == {15030, 15031}


def rules_of(objects, account):
    """All rules that a service account gets, by its bindings."""
    out = []
    for binding in of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding"):
        if any(s["name"] == account for s in binding["subjects"]):
            out += of_kind(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])[0]["rules"]
    return out


def may(rules, verb, resource):
    return [r for r in rules if verb in r["verbs"] and resource in r.get("resources", [])]


def test_each_account_has_what_it_needs_and_no_more(render):
    objects = render()
    galley, citadel, pilot = (rules_of(objects, a) for a in ("galley", "citadel", "pilot"))
    assert may(galley, "watch", "services") and not any(may(galley, v, "secrets") for v in ("create", "update", "patch", "delete"))
    writes = [r for r in galley if {"create", "update", "delete", "patch"} & set(r["verbs"])]
    entries = [r for r in writes if r["apiGroups"] == ["networking.istio.io"]]
    assert [r["resources"] for r in entries] == [["workloadentries", "workloadentries/status"]]  # of workloads that register themselves
    statuses = [r for r in writes if r["resources"] == ["*/status"]]
    assert [(r["verbs"], len(r["apiGroups"])) for r in statuses] == [(["patch"], 4)]
    leases = [(r["verbs"], r.get("resourceNames")) for r in writes if r["apiGroups"] == ["coordination.k8s.io"]]
    assert leases == [(["create"], None), (["get", "update"], ["fairlead-galley-status"])]
    questions = [r for r in writes if r["apiGroups"] == ["authorization.k8s.io"]]
    assert [(r["resources"], r["verbs"]) for r in questions] == [(["subjectaccessreviews"], ["create"])]
    rest = [r for r in writes if r not in entries + statuses + questions and r["apiGroups"] != ["coordination.k8s.io"]]
    assert all(r.get("resourceNames") and r["apiGroups"] == ["admissionregistration.k8s.io"] for r in rest)
    assert all(r["resourceNames"] == ["istio-ca-secret"] for r in may(citadel, "get", "secrets")) and not may(citadel, "list", "secrets")
    assert all(r["resourceNames"] == ["istio-ca-root-cert"] for r in may(citadel, "patch", "configmaps"))
    assert pilot == []
    assert of_kind(objects, "ServiceAccount", "pilot")[0]["automountServiceAccountToken"] is False


def test_galley_may_watch_every_kind_that_it_reads(render):
    rules = rules_of(render(), "galley")
    kinds = re.findall(r'^KIND\(\w+,\s*"\w+",\s*"([^"]*)",\s*"[^"]*",\s*"(\w+)"', (ROOT / "protos/kinds.def").read_text(), re.M)
    assert len(kinds) > 10
    for group, plural in kinds:
        if group != "fairlead.dev":
            assert any(group in r.get("apiGroups", []) and {plural, "*"} & set(r["resources"]) and "watch" in r["verbs"] for r in rules), plural


def test_a_pod_gets_only_its_own_key_of_the_bus(render):
    for o in of_kind(render(), "Deployment"):
        volume = next(v for v in o["spec"]["template"]["spec"]["volumes"] if v["name"] == "bus-keys")
        assert [i["key"] for i in volume["secret"]["items"] if i["key"].endswith(".key")] == [o["metadata"]["name"] + ".key"]


def test_N21_the_webhook_lets_the_cluster_go_on_without_galley(render):
    objects = render()
    for webhook in of_kind(objects, "ValidatingWebhookConfiguration")[0]["webhooks"]:
        assert webhook["failurePolicy"] == "Ignore" and webhook["timeoutSeconds"] <= 5
        assert all(g.endswith(".istio.io") for r in webhook["rules"] for g in r["apiGroups"])
    for webhook in of_kind(objects, "MutatingWebhookConfiguration")[0]["webhooks"]:
        assert webhook["failurePolicy"] == "Ignore" and webhook["timeoutSeconds"] <= 5
        left_out = webhook["namespaceSelector"]["matchExpressions"][0]
        assert left_out["operator"] == "NotIn" and {"kube-system", "kube-node-lease"} <= set(left_out["values"])
    for _, spec, _ in containers(objects):
        pod = next(o for o in objects if o["kind"] in ("Deployment", "Job") and o["spec"]["template"]["spec"] is spec)["spec"]["template"]
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", "an own pod must not wait for galley"


def selects(selector, labels):
    for e in selector["matchExpressions"]:
        value = labels.get(e["key"])
        held = {"In": value in e.get("values", []), "NotIn": value not in e.get("values", []), "Exists": value is not None,
                "DoesNotExist": value is None}[e["operator"]]
        if not held:
            return False
    return True


SELECTION = [  # values, labels of the namespace, labels of the pod, injected?
    ({}, {}, {}, False), ({}, {"istio-injection": "enabled"}, {}, True), ({}, {"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, False),
    ({}, {"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, False), ({}, {}, {"sidecar.istio.io/inject": "true"}, True),
    ({}, {"istio.io/rev": "canary"}, {}, False), ({"revision": "canary"}, {"istio.io/rev": "canary"}, {}, True),
    ({"revision": "canary"}, {"istio-injection": "enabled"}, {}, False),
    ({"revision": "canary"}, {}, {"istio.io/rev": "canary"}, True), ({"revision": "canary"}, {"istio.io/rev": "other"}, {"istio.io/rev": "canary"}, False),
    ({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}, {}, {}, True),
    ({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}, {"istio-injection": "disabled"}, {}, False),
    ({}, {"kubernetes.io/metadata.name": "kube-system", "istio-injection": "enabled"}, {}, False),
    ({}, {"istio.io/rev": "default"}, {}, True), ({}, {}, {"istio.io/rev": "default"}, True),
    ({}, {"istio-injection": "enabled", "istio.io/rev": "canary"}, {}, True),  # the older label is first
    ({"revision": "canary", "revisionTags": ["prod"]}, {"istio.io/rev": "prod"}, {}, True),
    ({"revision": "canary", "revisionTags": ["prod"]}, {"istio.io/rev": "stage"}, {}, False),
    ({"revision": "canary", "revisionTags": ["prod"]}, {}, {"istio.io/rev": "prod"}, True),
    ({"revision": "canary", "revisionTags": ["prod"]}, {"istio.io/rev": "prod"}, {"sidecar.istio.io/inject": "false"}, False),
    ({"revision": "canary", "revisionTags": ["prod"]}, {"istio-injection": "enabled"}, {}, False),
    ({"revision": "canary", "revisionTags": ["default"]}, {"istio-injection": "enabled"}, {}, True),
    ({"revision": "canary", "revisionTags": ["default"]}, {}, {"sidecar.istio.io/inject": "true"}, True),
    ({"revision": "canary", "revisionTags": ["default"]}, {"istio.io/rev": "default"}, {}, True),
    ({"revision": "canary", "revisionTags": ["default"], "sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}, {}, {}, True),
]


@pytest.mark.parametrize("values,ns,pod,injected", SELECTION)
def test_I02_G07_who_is_injected(render, values, ns, pod, injected):
    ns = {"kubernetes.io/metadata.name": "shop", **ns}
    webhooks = [w for c in of_kind(render(values=values), "MutatingWebhookConfiguration") for w in c["webhooks"]]
    chosen = [w["name"] for w in webhooks if selects(w["namespaceSelector"], ns) and selects(w["objectSelector"], pod)]
    assert len(chosen) == injected, chosen


def test_I01_templates_of_the_values_reach_the_injector(render, tmp_path):
    """The ConfigMap is galley's file, and kube-inject takes it as it is."""
    webhook = {"templates": {"custom": "metadata:\n  labels:\n    hello: {{ .ObjectMeta.Name }}\n"}, "defaultTemplates": ["sidecar", "custom"],
               "aliases": {"both": ["gateway", "custom"]}, "neverInjectSelector": [{"matchLabels": {"job": "batch"}}],
               "alwaysInjectSelector": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}], "injectedAnnotations": {"x/y": "z"}}
    for values, name in (({"sidecarInjectorWebhook": webhook}, "istio-sidecar-injector"), ({"revision": "canary"}, "istio-sidecar-injector-canary")):
        objects = render(values=values)
        spec = of_kind(objects, "Deployment", "galley")[0]["spec"]["template"]["spec"]
        volume = next(v for v in spec["volumes"] if v.get("configMap") == {"name": name})
        mount = next(m for m in spec["containers"][0]["volumeMounts"] if m["name"] == volume["name"])
        assert f"--inject-config={mount['mountPath']}/config" in spec["containers"][0]["args"]
        (tmp_path / "config").write_text(of_kind(objects, "ConfigMap", name)[0]["data"]["config"])
        pod = "kind: Pod\nmetadata: {name: world}\nspec: {containers: [{name: a, image: i}]}\n"
        done = subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", "--image", "p:1", "--injectConfigFile", tmp_path / "config"], input=pod,
                              capture_output=True, text=True, check=True)
        labels = yaml.safe_load(done.stdout)["metadata"]["labels"]
        assert labels.get("hello") == ("world" if "sidecarInjectorWebhook" in values else None)


def test_I05_kube_inject_from_the_config_maps_does_what_galley_does(render, tmp_path):
    """Istio's offline workflow: three texts out of ConfigMaps. The other side has galley's own options."""
    values = {"revision": "canary", "meshConfig": {"trustDomain": "td", "enablePrometheusMerge": False, "defaultConfig": {"concurrency": 3, "proxyMetadata": {"A": "b"}}},
              "pilot": {"cni": {"enabled": True}}, "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": False, "injectedAnnotations": {"x/y": "z"}},
              "global": {"hub": "example.com/mesh", "tag": "7", "imagePullPolicy": "Always", "imagePullSecrets": ["one", "two"], "network": "net1", "platform": "openshift",
                         "multiCluster": {"clusterName": "east"}, "proxy": {"clusterDomain": "c.local", "resources": {"limits": {"cpu": 3}}, "logLevel": "info",
                                                                            "nativeSidecar": True}}}
    objects = render(values=values)
    texts = of_kind(objects, "ConfigMap", "istio-sidecar-injector-canary")[0]["data"]
    for name, text in (("config", texts["config"]), ("values", texts["values"]), ("mesh", of_kind(objects, "ConfigMap", "istio")[0]["data"]["mesh"])):
        (tmp_path / name).write_text(text)
    pod = {"kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}, "spec": {"containers": [
        {"name": "a", "image": "i", "livenessProbe": {"httpGet": {"port": 80}}}]}}

    def inject(*options, ok=True):
        done = subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", *options], input=json.dumps(pod), capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == ok, done.stderr
        return done.stdout if ok else done.stderr
    offline = inject("--injectConfigFile", tmp_path / "config", "--valuesFile", tmp_path / "values", "--meshConfigFile", tmp_path / "mesh")
    arguments = of_kind(objects, "Deployment", "galley")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    options = [a.replace("--inject-", "--") for a in arguments if a.startswith("--inject-") and "--inject-config" not in a]
    options += [a for a in arguments if a.startswith(("--trust-domain", "--domain-suffix"))]
    mesh = ["--proxy-config", json.dumps(values["meshConfig"]["defaultConfig"]), "--no-metrics-merge"]
    assert offline == inject(*options, *mesh, "--injectConfigFile", tmp_path / "config")
    assert all(word in offline for word in ("example.com/mesh/fairlead-proxy:7", "net1", "east", "td", "c.local", "istiod.istio-system.svc", "restartPolicy"))
    # What is given counts before the values.
    given = inject("--image", "other:1", "--valuesFile", tmp_path / "values", "--cluster-id", "west")
    assert 'image: "other:1"' in given and "value: west" in given and "east" not in given
    for option, text, told in (("--valuesFile", "global: {network: 7}", "global.network: another type"), ("--valuesFile", "global: {imagePullSecrets: [{}]}", "imagePullSecrets"),
                               ("--valuesFile", "[", "bad:2: "), ("--valuesFile", "[]", "one YAML map"), ("--meshConfigFile", "trustDoman: x", "spec.trustDoman: unknown"),
                               ("--meshConfigFile", "{a", "bad:2: ")):
        (tmp_path / "bad").write_text(text)
        message = inject("--image", "i", option, tmp_path / "bad", ok=False)
        assert option in message and str(tmp_path / "bad") in message and told in message, message


def test_I03_settings_of_all_proxies_are_annotations_that_pods_need_not_have(render, tmp_path):
    settings = {"includeIPRanges": "10.0.0.0/8", "excludeIPRanges": "10.1.0.0/16", "includeInboundPorts": "80", "excludeInboundPorts": "81",
                "includeOutboundPorts": "82", "excludeOutboundPorts": "83", "logLevel": "info", "componentLogLevel": "http:debug", "statusPort": 15025,
                "readinessInitialDelaySeconds": 1, "readinessPeriodSeconds": 2, "readinessFailureThreshold": 3}
    assert "defaultAnnotations" not in of_kind(render(), "ConfigMap", "istio-sidecar-injector")[0]["data"]["config"]
    config = of_kind(render(values={"global": {"proxy": settings}}), "ConfigMap", "istio-sidecar-injector")[0]["data"]["config"]
    assert set(yaml.safe_load(config)["defaultAnnotations"].values()) == {str(v) for v in settings.values()}
    (tmp_path / "config").write_text(config)
    pod = {"kind": "Pod", "metadata": {"name": "a", "annotations": {"traffic.sidecar.istio.io/excludeOutboundPorts": "84"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    done = subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", "--image", "p:1", "--injectConfigFile", tmp_path / "config"], input=json.dumps(pod),
                          capture_output=True, text=True, check=True)
    spec = yaml.safe_load(done.stdout)["spec"]
    assert set(spec["initContainers"][0]["args"][1:]) == {
        "--include-inbound-ports=80", "--include-outbound-ranges=10.0.0.0/8", "--exclude-outbound-ranges=10.1.0.0/16", "--include-outbound-ports=82",
        "--exclude-outbound-ports=84", "--exclude-inbound-ports=15025,81"}
    proxy = spec["containers"][1]
    assert [proxy["readinessProbe"][n] for n in ("initialDelaySeconds", "periodSeconds", "failureThreshold")] == [1, 2, 3]
    env = {e["name"]: e.get("value") for e in proxy["env"]}
    assert env["FAIRLEAD_AGENT_ENVOY_LOG_LEVEL"] == "info,http:debug" and env["FAIRLEAD_AGENT_STATUS_ADDRESS"] == "*:15025"


def test_I07_reinvocation_and_priority_are_values(render):
    objects = render(values={"sidecarInjectorWebhook": {"reinvocationPolicy": "IfNeeded"}, "global": {"priorityClassName": "system-cluster-critical"}})
    webhooks = of_kind(objects, "MutatingWebhookConfiguration")[0]["webhooks"]
    assert {w["reinvocationPolicy"] for w in webhooks} == {"IfNeeded"} and {w["sideEffects"] for w in webhooks} == {"None"}
    assert {o["spec"]["template"]["spec"]["priorityClassName"] for o in of_kind(objects, "Deployment")} == {"system-cluster-critical"}
    assert {w["reinvocationPolicy"] for w in of_kind(render(), "MutatingWebhookConfiguration")[0]["webhooks"]} == {"Never"}


def test_G07_a_tag_has_a_configuration_and_a_service(render, helm):
    objects = render(values={"revision": "canary", "revisionTags": ["prod", "default"]})
    arguments = of_kind(objects, "Deployment", "galley")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    pilot = of_kind(objects, "Deployment", "pilot")[0]["spec"]["template"]
    assert "--revision=canary" in arguments and "--inject-revision=canary" in arguments
    for tag in ("prod", "default"):
        name = f"istio-revision-tag-{tag}"
        configuration = of_kind(objects, "MutatingWebhookConfiguration", name)[0]
        assert configuration["metadata"]["labels"].items() >= {"istio.io/tag": tag, "istio.io/rev": "canary", "app": "sidecar-injector"}.items()
        assert f"--webhook-configuration=mutating/{name}" in arguments
        assert any(name in r.get("resourceNames", []) and "patch" in r["verbs"] for r in rules_of(objects, "galley"))
        service = of_kind(objects, "Service", f"istiod-revision-tag-{tag}")[0]
        assert service["spec"]["selector"].items() <= pilot["metadata"]["labels"].items() and service["metadata"]["labels"]["istio.io/tag"] == tag
        assert f"--identity-dns=istiod-revision-tag-{tag}.istio-system.svc" in pilot["spec"]["containers"][0]["args"]
    text = helm("template", "x", CHARTS / "fairlead", values={"revisionTags": ["default"]}, ok=False)
    assert "revisionTags: the revision is the default one already" in text


@pytest.mark.parametrize("values,judged", [
    ({}, {None, "default"}), ({"revision": "canary"}, {"canary"}), ({"revision": "canary", "defaultRevision": "canary"}, {None, "canary"}),
    ({"revision": "canary", "revisionTags": ["default"]}, {None, "canary"}), ({"defaultRevision": "canary"}, {"default"}),
    ({"validation": {"enabled": False}}, set()),
])
def test_G06_G07_each_revision_judges_what_is_its_own(render, values, judged):
    """And nothing but Istio's groups: no other object waits for a galley."""
    webhooks = [w for c in of_kind(render(values=values), "ValidatingWebhookConfiguration") for w in c["webhooks"]]
    asked = {rev for rev in (None, "default", "canary") if any(selects(w["objectSelector"], {"istio.io/rev": rev} if rev else {}) for w in webhooks)}
    assert asked == judged
    assert all(g.endswith(".istio.io") for w in webhooks for r in w["rules"] for g in r["apiGroups"])


def test_O12_what_is_asked_of_a_node(render):
    """The proxy's request is Istio's; the control plane's are what it needs, in all a fraction of istiod's 500m and 2 GiB."""
    asked = {c["name"]: c["resources"]["requests"] for o, _, c in containers(render()) if o["kind"] == "Deployment" and "ca-" not in c["name"]}
    assert asked == {"galley": {"cpu": "10m", "memory": "32Mi"}, "pilot": {"cpu": "100m", "memory": "64Mi"}, "citadel": {"cpu": "10m", "memory": "32Mi"}}
    assert json.loads(options_given(render(), "galley")["inject-resources"])["requests"] == {"cpu": "100m", "memory": "128Mi"}
    mine = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    for name in ("galley", "pilot", "citadel"):
        assert next(c["resources"] for _, _, c in containers(render(values={name: {"resources": mine}})) if c["name"] == name) == mine


def test_O11_the_autoscaler_is_istios_by_default(render):
    spec = of_kind(render(), "HorizontalPodAutoscaler", "pilot")[0]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 5)
    assert spec["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]


def test_O11_a_network_policy_allows_what_is_needed(render):
    assert not of_kind(render(), "NetworkPolicy")
    policies = {o["metadata"]["name"]: o["spec"] for o in of_kind(render(values={"global": {"networkPolicy": {"enabled": True}}}), "NetworkPolicy")}
    for_all = {name: [p["port"] for rule in spec["ingress"] if "from" not in rule for p in rule["ports"]] for name, spec in policies.items()}
    assert for_all == {"galley": [15017, 15024], "pilot": [15010, 15012, 15014], "citadel": [15034]}
    inside = {name: [p["port"] for rule in spec["ingress"] if "from" in rule for p in rule["ports"]] for name, spec in policies.items()}
    assert inside == {"galley": [15030, 15031], "pilot": [], "citadel": [15030, 15031, 8060]}
    for spec in policies.values():
        for rule in spec["ingress"]:
            for who in rule.get("from", []):
                assert who["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "fairlead", "app.kubernetes.io/instance": "fairlead"}


def test_O11_scaling_is_by_component(render):
    values = {"pilot": {"autoscaleMin": 2, "autoscaleMax": 9}, "citadel": {"replicaCount": 3}}
    objects = render(values=values)
    scaler = of_kind(objects, "HorizontalPodAutoscaler", "pilot")[0]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert "replicas" not in of_kind(objects, "Deployment", "pilot")[0]["spec"]
    assert of_kind(objects, "Deployment", "citadel")[0]["spec"]["replicas"] == 3
    assert {o["metadata"]["name"] for o in of_kind(objects, "PodDisruptionBudget")} == {"pilot", "citadel"}
    fixed = render(values={"pilot": {"autoscaleEnabled": False, "replicaCount": 4}})
    assert not of_kind(fixed, "HorizontalPodAutoscaler") and of_kind(fixed, "Deployment", "pilot")[0]["spec"]["replicas"] == 4


def test_the_mesh_config_is_one_that_galley_accepts(render, tmp_path):
    mesh = yaml.safe_load(of_kind(render(), "ConfigMap", "istio")[0]["data"]["mesh"])
    document = {"apiVersion": "fairlead.dev/v1", "kind": "MeshConfig", "metadata": {"name": "default"}, "spec": mesh}
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(document))
    subprocess.run([BUILD / "cli/fairlead", "validate", tmp_path / "mesh.yaml"], check=True)


REFUSED = [
    ("fairlead", {"pilto": {}}), ("fairlead", {"pilot": {"replicas": 3}}), ("fairlead", {"pilot": {"workers": 0}}),
    ("fairlead", {"citadel": {"rootKey": "dsa"}}), ("fairlead", {"citadel": {"rootTTL": "10 years"}}),
    ("fairlead", {"validation": {"timeoutSeconds": 90}}), ("fairlead", {"validation": {"failurePolicy": "Maybe"}}),
    ("fairlead", {"revisionTags": ["Prod"]}), ("fairlead", {"revisionTags": ["a", "a"]}), ("fairlead", {"revision": "a b"}),
    ("fairlead", {"sidecarInjectorWebhook": {"reinvocationPolicy": "Always"}}), ("fairlead", {"experimental": {"stable": True}}), ("fairlead", {"sidecarInjectorWebhook": {"failurePolicy": "Maybe"}}),
    ("fairlead", {"sidecarInjectorWebhook": {"templates": {"sidecar": "spec: {}"}}}), ("fairlead", {"sidecarInjectorWebhook": {"templates": {"x": {}}}}),
    ("fairlead", {"sidecarInjectorWebhook": {"neverInjectSelector": [{"labels": {}}]}}), ("fairlead", {"global": {"proxy": {"autoInject": "maybe"}}}),
    ("base", {"enableCRDTemplates": "yes"}), ("gateway", {"kind": "Pod"}), ("gateway", {"service": {"typ": "ClusterIP"}}),
]


@pytest.mark.parametrize("chart,values", REFUSED)
def test_values_that_are_misspelt_or_out_of_range_are_refused(helm, chart, values):
    text = helm("template", "x", CHARTS / chart, values=values, ok=False)
    assert "values don't meet the specifications" in text


def test_C11_citadel_may_read_pods_only_when_there_are_node_accounts(render, helm):
    def seen(values):
        objects = render(values=values)
        rules = of_kind(objects, "ClusterRole", "fairlead-citadel-istio-system")[0]["rules"]
        pods = [rule["verbs"] for rule in rules if "pods" in rule.get("resources", [])]
        args = [a for o, _, c in containers(objects) if c["name"] == "citadel" for a in c["args"] if a.startswith("--trusted-node-accounts")]
        return pods, args

    assert seen({}) == ([], []) == seen({"trustedZtunnelNamespace": "x"})
    may = [["get", "list"]]
    assert seen({"trustedZtunnelName": "ztunnel"}) == (may, ["--trusted-node-accounts=istio-system/ztunnel"])
    assert seen({"trustedZtunnelName": "ztunnel", "trustedZtunnelNamespace": "kube-system"}) == (may, ["--trusted-node-accounts=kube-system/ztunnel"])
    both = {"trustedZtunnelName": "z", "citadel": {"env": {"CA_TRUSTED_NODE_ACCOUNTS": "a/b,c/d"}}}
    assert seen(both) == (may, ["--trusted-node-accounts=a/b,c/d"])
    said = helm("template", "x", CHARTS / "fairlead", values={"citadel": {"env": {"CA_TRUSTED_NODE_ACCOUNTS": "ztunnel"}}}, ok=False)
    assert "CA_TRUSTED_NODE_ACCOUNTS" in said


@pytest.mark.parametrize("value,version,native", [("auto", "v1.33.0", True), ("auto", "v1.37.2-gke.100", True), ("auto", "v1.32.9", False),
                                                  (True, "v1.29.0", True), (False, "v1.37.0", False), (None, "v1.37.0", False)])
def test_A12_native_sidecars_where_the_cluster_has_them(helm, value, version, native):
    values = {} if value is None else {"global": {"proxy": {"nativeSidecar": value}}}
    text = helm("template", "x", CHARTS / "fairlead", "--kube-version", version, values=values)
    assert ("--inject-native-sidecars" in text) == native


def test_C16_the_bundles_name_is_chosen_in_one_place(render, tmp_path):
    for values, name in (({}, "istio-ca-root-cert"), ({"global": {"trustBundleName": "roots"}}, "roots")):
        objects = render(values=values)
        assert options_given(objects, "citadel")["roots-config-map"] == options_given(objects, "galley")["inject-roots-config-map"] == name
        volumes = {o["metadata"]["name"]: [v["configMap"]["name"] for v in o["spec"]["template"]["spec"]["volumes"] if v["name"] == "istiod-ca-cert"]
                   for o in of_kind(objects, "Deployment")}
        assert volumes == {"galley": [name], "pilot": [name], "citadel": []}
        assert [r["resourceNames"] for r in rules_of(objects, "citadel") if "configmaps" in r.get("resources", []) and "patch" in r["verbs"]] == [[name]]
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: i}]}\n"
    done = subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", "--image", "p:1", "--roots-config-map", "roots"], input=pod,
                          capture_output=True, text=True, check=True)
    assert {v["name"]: v for v in yaml.safe_load(done.stdout)["spec"]["volumes"]}["istiod-ca-cert"]["configMap"]["name"] == "roots"


@pytest.mark.parametrize("chart", NAMES)
def test_every_value_is_in_the_schema(chart):
    def check(values, schema, path):
        for key, value in values.items():
            assert key in schema["properties"], f"{path}.{key}"
            if isinstance(value, dict) and "properties" in schema["properties"][key]:
                check(value, schema["properties"][key], f"{path}.{key}")
    check(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()), json.loads((CHARTS / chart / "values.schema.json").read_text()), chart)


def test_P88_a_gateway_of_a_network_takes_its_traffic_alone(render):
    objects = render("gateway", {"networkGateway": "far"}, release="east-west")
    service, pod = of_kind(objects, "Service")[0], of_kind(objects, "Deployment")[0]["spec"]["template"]
    assert service["metadata"]["labels"]["topology.istio.io/network"] == pod["metadata"]["labels"]["topology.istio.io/network"] == "far"
    assert [p["port"] for p in service["spec"]["ports"]] == [15021, 15443]
    assert "topology.istio.io/network" not in service["spec"]["selector"]
    assert {"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": "far"} in pod["spec"]["containers"][0]["env"]


def test_P88_mesh_networks_become_a_key_of_the_config_map(render, tmp_path):
    networks = {"far": {"endpoints": [{"fromCidr": "10.2.0.0/16"}], "gateways": [{"address": "192.0.2.2", "port": 15443}]}}
    objects = render("fairlead", {"global": {"network": "near", "meshNetworks": networks}})
    spec = yaml.safe_load(of_kind(objects, "ConfigMap", "istio")[0]["data"]["meshNetworks"])
    document = {"apiVersion": "fairlead.dev/v1", "kind": "MeshNetworks", "metadata": {"name": "default"}, "spec": spec}
    assert spec == {"networks": networks}
    (tmp_path / "networks.yaml").write_text(yaml.safe_dump(document))
    subprocess.run([BUILD / "cli/fairlead", "validate", tmp_path / "networks.yaml"], check=True)
    galley = of_kind(objects, "Deployment", "galley")[0]["spec"]["template"]["spec"]["containers"][0]
    assert "--inject-network=near" in galley["args"]
    assert "meshNetworks" not in of_kind(render("fairlead"), "ConfigMap", "istio")[0]["data"]


def test_a_gateway_is_filled_in_by_the_injector(render):
    objects = render("gateway", release="istio-ingressgateway")
    pod = of_kind(objects, "Deployment")[0]["spec"]["template"]
    assert pod["metadata"]["labels"]["istio"] == "ingressgateway" and pod["metadata"]["labels"]["app"] == "istio-ingressgateway"
    assert pod["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
    assert pod["spec"]["containers"][0]["image"] == "auto"
    assert of_kind(objects, "Service")[0]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    named = render("gateway", {"labels": {"istio": "mine"}, "name": "edge"})
    assert of_kind(named, "Deployment", "edge")[0]["spec"]["selector"]["matchLabels"]["istio"] == "mine"


def test_P98_a_gateway_may_list_the_secrets_of_its_namespace(render):
    objects = render("gateway", release="edge")
    role, binding = of_kind(objects, "Role", "edge")[0], of_kind(objects, "RoleBinding", "edge")[0]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]
    assert binding["roleRef"]["name"] == "edge" and role["metadata"]["namespace"] == binding["metadata"]["namespace"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": of_kind(objects, "ServiceAccount")[0]["metadata"]["name"]}]
    without = render("gateway", {"rbac": {"enabled": False}})
    assert not of_kind(without, "Role") and not of_kind(without, "RoleBinding")
