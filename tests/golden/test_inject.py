"""Golden files of injection: <case>.in.yaml through `fairlead kube-inject` must give <case>.want.yaml, and going through once more changes nothing.

A comment "# options: ..." in a case is given to the command. `pytest tests/golden/test_inject.py --update` writes the wanted files anew. The webhook's
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
    return shlex.split(found.group(1)) if found else []


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
    ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", "neither true nor false"),
    ("sidecar.istio.io/nativeSidecar", "2", "neither true nor false"),
    ("sidecar.istio.io/capNetBindService", "yes", "neither true nor false"),
    ("sidecar.istio.io/interceptionMode", "TPROXY", "TPROXY is not supported"),
    ("sidecar.istio.io/interceptionMode", "none", "neither REDIRECT nor NONE"),
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
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1", "not supported"),
    ("traffic.sidecar.istio.io/exclude", "1", "not known"),
    ("prometheus.istio.io/merge-metrics", "si", "neither true nor false"),
    ("inject.istio.io/templates", "grpc-agent", "gateway and sidecar do"),
    ("inject.istio.io/templates", "sidecar,gateway", "one of gateway and sidecar"),
    ("proxy.istio.io/config", "concurrency: [", "line 1"),
    ("proxy.istio.io/config", "a\n---\nb", "one YAML map"),
    ("proxy.istio.io/config", "concurency: 1", "concurency: unknown field"),
    ("proxy.istio.io/config", "concurrency: -1", "0..1024"),
    ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: 'true'", "true or false"),
    ("proxy.istio.io/config", "terminationDrainDuration: 5", "a duration"),
    ("proxy.istio.io/config", "interceptionMode: TPROXY", "REDIRECT or NONE"),
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


def test_I03_what_has_no_effect_is_a_warning():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart", "annotations": {
        "sidecar.istio.io/bootstrapOverride": "mine", "sidecar.istio.io/proxyCpu": "1"}},
        "spec": {"dnsPolicy": "Default", "containers": [{"name": "cart", "image": "i"}]}}
    result = inject(json.dumps(pod))
    assert result.returncode == 0
    for text in ("bootstrapOverride]: has no effect", "proxyCpu]: is not known", "may not find pilot"):
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
])
def test_I05_wrong_usage_is_said(arguments, code, told):
    result = subprocess.run([BUILD / "cli/fairlead", "kube-inject", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == code and told in result.stderr


def test_I05_a_broken_document_injects_nothing():
    result = inject("kind: Pod\nmetadata: {\n")
    assert result.returncode == 1 and result.stdout == "" and "-:3: error: " in result.stderr
