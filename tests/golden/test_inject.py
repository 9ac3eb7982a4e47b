"""Golden files of injection: <case>.in.yaml through `fairlead kube-inject` must give <case>.want.yaml, and going through once more changes nothing.

A comment "# options: ..." in a case is given to the command; a file <case>.settings.yaml is its --injectConfigFile. `pytest tests/golden/test_inject.py --update` writes the wanted files anew. The webhook's
answers to the same cases are in tests/daemons/test_injector.py.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
CASES = sorted((HERE / "inject").glob("*.in.yaml"))
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))


def options_of(case):
    found = re.search(r"^# options: (.*)$", case.read_text(), re.M)
    settings = case.with_name(case.name.replace(".in.yaml", ".settings.yaml"))
    return (shlex.split(found.group(1)) if found else []) + (["--injectConfigFile", str(settings)] if settings.exists() else [])


def inject(text, *options):
    return subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", "--image", "fairlead/proxy:1", *options], input=text,
                          capture_output=True, text=True, check=False)


def wanted(case):
    return case.with_name(case.name.replace(".in.yaml", ".want.yaml"))


def name(case):
    return case.name.removesuffix(".in.yaml")


@pytest.mark.parametrize("case", CASES, ids=name)
def test_I01_I03_I05_golden(case, request):
    result = inject(case.read_text(), *options_of(case))
    assert result.returncode == 0, result.stderr
    got = "".join(f"# {line}\n" for line in result.stderr.splitlines()) + result.stdout
    if request.config.getoption("--update"):
        wanted(case).write_text(got)
    assert got == wanted(case).read_text()


@pytest.mark.parametrize("case", CASES, ids=name)
def test_I01_injecting_again_changes_nothing(case):
    once = inject(case.read_text(), *options_of(case))
    again = inject(once.stdout, *options_of(case))
    assert again.returncode == 0 and again.stdout == once.stdout


def test_no_wanted_file_without_its_case():
    assert sorted((HERE / "inject").glob("*.want.yaml")) == [wanted(c) for c in CASES]
    assert {c.name.removesuffix(".settings.yaml") for c in (HERE / "inject").glob("*.settings.yaml")} <= {name(c) for c in CASES}


REFUSED = [  # annotation, value, what the user is told
    ("sidecar.istio.io/proxyCPU", "much", "not a quantity"),
    ("sidecar.istio.io/proxyCPULimit", "-1", "not a quantity"),
    ("sidecar.istio.io/proxyMemory", "1 Gi", "not a quantity"),
    ("sidecar.istio.io/proxyMemoryLimit", "", "not a quantity"),
    ("sidecar.istio.io/proxyImage", "a b", "not an image"),
    ("sidecar.istio.io/proxyImageType", "/", "not a type of image"),
    ("sidecar.istio.io/logLevel", "loud", "Envoy's levels"),
    ("sidecar.istio.io/componentLogLevel", "http", "component:level"),
    ("sidecar.istio.io/agentLogLevel", "all:loud", "scope:level"),
    ("sidecar.istio.io/bootstrapOverride", "a/b", "not a ConfigMap's name"),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", "neither true nor false"),
    ("sidecar.istio.io/nativeSidecar", "2", "neither true nor false"),
    ("sidecar.istio.io/capNetBindService", "yes", "neither true nor false"),
    ("sidecar.istio.io/interceptionMode", "none", "not REDIRECT, TPROXY or NONE"),
    ("sidecar.istio.io/userVolume", "{", "expected"),
    ("sidecar.istio.io/userVolume", '[{"emptyDir": {}}]', "list of objects with names"),
    ("sidecar.istio.io/userVolumeMount", '{"a": 1}', "an object for each name"),
    ("status.sidecar.istio.io/port", "65536", "not 0..65535"),
    ("readiness.status.sidecar.istio.io/periodSeconds", "0", "not a number of 1.."),
    ("readiness.status.sidecar.istio.io/failureThreshold", "x", "not a number of 1.."),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", "-1", "not a number of 0.."),
    ("traffic.sidecar.istio.io/includeInboundPorts", "80,*", "not a port"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "*", "not a port"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0", "not an address range"),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/33", "not an address range"),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "0", "not a port"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "http", "not a port"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "an-interface-too-long", "not an interface"),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "net 1", "not an interface"),
    ("istio.io/reroute-virtual-interfaces", ";", "not an interface"),
    ("traffic.sidecar.istio.io/exclude", "1", "not known"),
    ("prometheus.io/port", "http", '"http" is not 1..65535'),
    ("prometheus.io/port", "15090", "port 15090 belongs to the proxy"),
    ("prometheus.io/scheme", "ftp", "neither http nor https"),
    ("prometheus.istio.io/scrape-targets", "8080:/a, x:/b", '"x" is not 1..65535'),
    ("prometheus.istio.io/scrape-targets", ",".join(["80"] * 17), "more than 16 targets"),
    ("prometheus.istio.io/merge-metrics", "si", "neither true nor false"),
    ("inject.istio.io/templates", "grpc-agent", "does not exist; there are gateway, sidecar"),
    ("inject.istio.io/templates", "", 'template "" does not exist'),
    ("inject.istio.io/templates", "sidecar,", 'template "" does not exist'),
    ("inject.istio.io/templates", "sidecar,gateway", "one of gateway and sidecar"),
    ("proxy.istio.io/config", "concurrency: [", "line 1"),
    ("proxy.istio.io/config", "a\n---\nb", "one YAML map"),
    ("proxy.istio.io/config", "concurency: 1", "concurency: unknown field"),
    ("proxy.istio.io/config", "concurrency: -1", "0..1024"),
    ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: 'true'", "true or false"),
    ("proxy.istio.io/config", "terminationDrainDuration: 5", "a duration"),
    ("proxy.istio.io/config", "interceptionMode: EBPF", "REDIRECT, TPROXY or NONE"),
    ("proxy.istio.io/config", "proxyMetadata: {A: 1}", "an object of texts"),
    ("proxy.istio.io/config", "statusPort: 99999", "0..65535"),
    ("proxy.istio.io/config", "envoyAccessLogService: {address: logs}", "host:port"),
    ("proxy.istio.io/config", "envoyMetricsService: {}", "host:port"),
    ("proxy.istio.io/config", "envoyMetricsServiceAddress: ':1'", "host:port"),
    ("proxy.istio.io/config", "statsdUdpAddress: 'statsd.example:8125'", "IP address"),
    ("proxy.istio.io/config", "fileFlushInterval: 0s", "1ms..1h"),
    ("proxy.istio.io/config", "fileFlushMinSizeKb: -1", "kilobytes"),
    ("proxy.istio.io/config", "image: debug", "imageType"),
    ("proxy.istio.io/config", "proxyStatsMatcher: {inclusionPrefixes: a}", "lists of texts"),
    ("proxy.istio.io/config", "discoveryAddress: ''", "host:port"),
    ("sidecar.istio.io/statsInclusionPrefixes", "x" * 120000, "too large"),
]


@pytest.mark.parametrize("annotation,value,told", REFUSED, ids=[f"{a}-{v[:20]}" for a, v, _ in REFUSED])
def test_I03_a_wrong_annotation_is_refused_by_name(annotation, value, told):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart", "annotations": {annotation: value}},
           "spec": {"containers": [{"name": "cart", "image": "i"}]}}
    result = inject(json.dumps(pod))
    assert result.returncode == 1 and result.stdout == ""
    assert "Pod cart" in result.stderr and told in result.stderr
    assert annotation in result.stderr or told == "too large"


@pytest.mark.parametrize("variable,value,told", [
    ("INVALID_DROP", "perhaps", "neither true nor false"),
    ("ISTIO_OUTBOUND_OWNER_GROUPS", "a;b", "neither a group's id nor its name"),
    ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "*", "neither a group's id nor its name"),
    ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "10.0.0.0/8", "not a range of 127.0.0.0/8"),
])
@pytest.mark.parametrize("by", ["the pod", "the mesh"])
def test_A16_a_wrong_setting_of_capture_is_refused_by_name(variable, value, told, by):
    config = json.dumps({"proxyMetadata": {variable: value}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart", "annotations": {"proxy.istio.io/config": config} if by == "the pod" else {}},
           "spec": {"containers": [{"name": "cart", "image": "i"}]}}
    result = inject(json.dumps(pod), *(["--proxy-config", config] if by == "the mesh" else []))
    assert result.returncode == 1 and f"Pod cart: proxyMetadata: {variable}: " in result.stderr and told in result.stderr


@pytest.mark.parametrize("change,told", [
    (lambda p: p.pop("spec"), "spec: an object"),
    (lambda p: p["spec"].update(containers=[]), "spec.containers: a list"),
    (lambda p: p["spec"].update(containers=[{}]), "spec.containers[0].name"),
    (lambda p: p["spec"].update(volumes={}), "spec.volumes: a list"),
    (lambda p: p["metadata"].update(labels={"a": 1}), "label a: a string"),
    (lambda p: p["metadata"].update(annotations={"a": None}), "annotation a: a string"),
])
def test_I01_what_is_no_pod_is_refused(change, told):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart"}, "spec": {"containers": [{"name": "cart", "image": "i"}]}}
    change(pod)
    result = inject(json.dumps(pod))
    assert result.returncode == 1 and told in result.stderr


@pytest.mark.parametrize("annotations", [{"prometheus.io/scrape": "false"}, {"prometheus.istio.io/merge-metrics": "false"}])
def test_I03_metrics_that_are_not_merged_may_be_anywhere(annotations):
    pod = {"kind": "Pod", "metadata": {"name": "cart", "annotations": {**annotations, "prometheus.io/port": "http"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    assert inject(json.dumps(pod)).returncode == 0


def test_I03_what_has_no_effect_is_a_warning():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart", "annotations": {
        "sidecar.istio.io/extraStatTags": "mine", "sidecar.istio.io/proxyCpu": "1"}},
        "spec": {"dnsPolicy": "Default", "containers": [{"name": "cart", "image": "i"}]}}
    result = inject(json.dumps(pod))
    assert result.returncode == 0
    for text in ("extraStatTags]: has no effect", "proxyCpu]: is not known", "may not find pilot"):
        assert text in result.stderr


def test_I05_every_kind_with_pods_and_lists_of_them(tmp_path):
    pod = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    kinds = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"]
    items = [{"apiVersion": "v1", "kind": k, "metadata": {"name": k.lower()}, "spec": {"template": pod}} for k in kinds]
    items.append({"apiVersion": "v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": pod}}}})
    items.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"template": "x"}})
    result = subprocess.run([BUILD / "cli/fairlead", "kube-inject", "-f", "-", "--image", "p:1", "-o", tmp_path / "out"],
                            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    parts = (tmp_path / "out").read_text().split("---\n")
    assert len(parts) == 8
    assert all("name: istio-proxy" in p for p in parts[:7]) and "istio-proxy" not in parts[7]
    assert 'name: FAIRLEAD_AGENT_WORKLOAD\n          value: statefulset' in parts[1]


@pytest.mark.parametrize("arguments,code,told", [
    (["--image", "i"], 2, "--filename"), (["-f", "/dev/null"], 2, "--image"), (["-f", "/no/such", "--image", "i"], 1, "/no/such"),
    (["-f", "/dev/null", "--image", "i", "--resources", "[]"], 2, "a JSON object"),
    (["-f", "/dev/null", "--image", "i", "--platform", "openshft"], 2, '--platform: "openshft" is not openshift'),
])
def test_I05_wrong_usage_is_said(arguments, code, told):
    result = subprocess.run([BUILD / "cli/fairlead", "kube-inject", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == code and told in result.stderr


def test_I05_a_broken_document_injects_nothing():
    result = inject("kind: Pod\nmetadata: {\n")
    assert result.returncode == 1 and result.stdout == "" and "-:3: error: " in result.stderr


BAD_SETTINGS = [  # the file, what the user is told
    ("templates: {custom: 'metadata: {labels: {a: b}}'}\ntemplate: x", "template: unknown field"),
    ("templates: [a]", "templates: an object of texts"),
    ("templates: {custom: {metadata: {}}}", "templates: an object of texts"),
    ("templates: {sidecar: 'spec: {}'}", 'template "sidecar" is part of the program and cannot be replaced'),
    ("templates: {custom: 'spec: ['}", 'template "custom": line 2'),
    ("templates: {custom: '[a]'}", 'template "custom": one YAML map'),
    ("templates: {custom: 'status: {}'}", 'template "custom": status: is not in a pod'),
    ("templates: {custom: 'spec: 7'}", 'template "custom": spec: an object'),
    ("templates: {custom: 'metadata: {labels: {a: 1}}'}", 'template "custom": labels: an object of texts'),
    ("templates: {custom: 'spec: {containers: [{image: x}]}'}", "spec.containers[0].name: is needed"),
    ("templates: {custom: 'spec: {containers: [x]}'}", "spec.containers[0]: an object"),
    ("templates: {custom: 'spec: {containers: [{name: a, env: [{value: x}]}]}'}", "spec.containers[0].env[0].name: is needed"),
    ("templates: {custom: 'spec: {$retainKeys: [a]}'}", "spec.$retainKeys: of the merge's own words only $patch"),
    ("templates: {custom: 'spec: {$patch: merge}'}", "spec.$patch: delete or replace"),
    ("templates:\n  custom: |\n    spec:\n      {{ if .Values.x }}\n      a: b\n      {{ end }}", 'template "custom", line 2: {{ if .Values.x }}: is not supported'),
    ("templates:\n  custom: |\n    {{- /* a\n    b */ -}}\n    a: {{ .Values.global.hub }}", 'template "custom", line 3: {{ .Values.global.hub }}: is not'),
    ("templates: {custom: 'a: {{ .ObjectMeta.Labels }}'}", "{{ .ObjectMeta.Labels }}: a map cannot be put into a text"),
    ("templates: {custom: 'a: {{ index .ObjectMeta \"x\" }}'}", "index takes .ObjectMeta.Labels or"),
    ("templates: {custom: 'a: {{ index .ObjectMeta.Labels x }}'}", "index takes .ObjectMeta.Labels or"),
    ("templates: {custom: 'a: {{ .Revision | upper }}'}", "behind | only default and quote"),
    ("templates: {custom: 'a: {{ .Revision | default .ProxyImage }}'}", "default takes a text in quotes"),
    ("templates: {custom: 'a: {{ .Revision .ProxyImage }}'}", "one value, then functions behind |"),
    ("templates: {custom: 'a: {{ }}'}", "is not supported"),
    ("templates: {custom: 'a: {{ .Revision '}", 'template "custom", line 1: {{ without }}'),
    ("templates: {custom: '{{/* never ends }}'}", "{{ without }}"),
    ("defaultTemplates: [sidecar, custom]", 'defaultTemplates: template "custom" does not exist; there are gateway, sidecar'),
    ("defaultTemplates: sidecar", "defaultTemplates: a list of names"),
    ("defaultTemplates: [sidecar, gateway]", "defaultTemplates: one of gateway and sidecar"),
    ("aliases: {a: [b], b: [sidecar]}", 'aliases: a: "b" is an alias itself'),
    ("aliases: {a: [c]}", 'aliases: a: template "c" does not exist'),
    ("aliases: {a: c}", "aliases: a: a list of names"),
    ("policy: off", "policy: enabled or disabled"),
    ("neverInjectSelector: {matchLabels: {}}", "neverInjectSelector: a list of label selectors"),
    ("neverInjectSelector: [{labels: {}}]", "neverInjectSelector: [0]: labels: unknown field"),
    ("neverInjectSelector: [{matchLabels: {a: 1}}]", "neverInjectSelector: [0]: matchLabels: an object of texts"),
    ("alwaysInjectSelector: [{matchExpressions: [{key: a, operator: Equals}]}]", "matchExpressions[0]: operator: In, NotIn"),
    ("alwaysInjectSelector: [{matchExpressions: [{key: a, operator: In}]}]", "matchExpressions[0]: values: at least one"),
    ("alwaysInjectSelector: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]", "values: none is expected"),
    ("alwaysInjectSelector: [{matchExpressions: [{operator: Exists}]}]", "matchExpressions[0]: key: a label's name"),
    ("injectedAnnotations: {a: 1}", "injectedAnnotations: an object of texts"),
    ("defaultAnnotations: {sidecar.istio.io/inject: 'true'}", "defaultAnnotations: sidecar.istio.io/inject is not an annotation of injection"),
    ("defaultAnnotations: {sidecar.istio.io/logLevel: loud}", "defaultAnnotations: annotation sidecar.istio.io/logLevel: "),
    ("defaultAnnotations: {a: b}", "defaultAnnotations: a is not an annotation"),
    ("[", "line 2"),
]


@pytest.mark.parametrize("text,told", BAD_SETTINGS, ids=[t for _, t in BAD_SETTINGS])
def test_I01_settings_that_are_wrong_are_refused_before_any_pod(tmp_path, text, told):
    (tmp_path / "settings.yaml").write_text(text)
    result = inject("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: i}]}\n", "--injectConfigFile", tmp_path / "settings.yaml")
    assert result.returncode == 2 and result.stdout == ""
    assert "--injectConfigFile: " in result.stderr and str(tmp_path / "settings.yaml") in result.stderr and told in result.stderr


def test_I01_what_a_template_makes_of_one_pod_is_refused_by_name(tmp_path):
    """A value may be the end of the text's form; the pod is refused, and told which template."""
    (tmp_path / "settings.yaml").write_text("templates: {custom: 'metadata: {labels: {a: {{ index .ObjectMeta.Annotations \"say\" }}}}'}")
    for say, told in (("[", 'template "custom": line 1'), ("{b: c}", 'template "custom": labels: an object of texts')):
        pod = {"kind": "Pod", "metadata": {"name": "cart", "annotations": {"say": say, "inject.istio.io/templates": "sidecar,custom"}},
               "spec": {"containers": [{"name": "a", "image": "i"}]}}
        result = inject(json.dumps(pod), "--injectConfigFile", tmp_path / "settings.yaml")
        assert result.returncode == 1 and "Pod cart" in result.stderr and told in result.stderr


def test_I01_a_template_cannot_grow_without_bound(tmp_path):
    (tmp_path / "settings.yaml").write_text("templates: {custom: '#" + '{{ index .ObjectMeta.Annotations "say" }}' * 100 + "'}")
    pod = {"kind": "Pod", "metadata": {"name": "cart", "annotations": {"say": "x" * 50000, "inject.istio.io/templates": "sidecar,custom"}},
           "spec": {"containers": [{"name": "a", "image": "i"}]}}
    result = inject(json.dumps(pod), "--injectConfigFile", tmp_path / "settings.yaml")
    assert result.returncode == 1 and "would be longer than" in result.stderr


def test_I04_traffic_of_the_user_that_a_template_gives_the_proxy_is_not_captured(tmp_path):
    (tmp_path / "settings.yaml").write_text("templates: {u: 'spec: {containers: [{name: istio-proxy, securityContext: {runAsUser: 2000}}]}'}\n"
                                            "defaultTemplates: [sidecar, u]")
    result = inject("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: i}]}\n", "--injectConfigFile", tmp_path / "settings.yaml")
    assert "runAsUser: 2000" in result.stdout and '"--proxy-uid=2000"' in result.stdout
