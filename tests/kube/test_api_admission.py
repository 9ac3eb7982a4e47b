"""Validation through the API server: what is applied to a cluster meets the same rules as files do (tests/golden/galley)."""
import re

import pytest
import yaml

import toolbox
from api import Refused
from conftest import SYSTEM, rendered, until

GOLDEN = toolbox.ROOT / "tests/golden/galley"
NETWORKING = "networking.istio.io/v1"


def cases(prefix):
    for path in sorted(GOLDEN.glob(f"*/{prefix}*.in.yaml")):
        documents = []
        for text in re.split(r"^---$", path.read_text(), flags=re.M):
            try:
                documents += [d for d in [yaml.safe_load(text)] if isinstance(d, dict)]
            except yaml.YAMLError:
                continue  # what is no YAML does not get as far as a server
        documents = [d for d in documents if str(d.get("apiVersion", "")).split("/")[0].endswith(".istio.io")]
        if documents:
            yield pytest.param(documents, id=f"{path.parent.name}-{path.name.removesuffix('.in.yaml')}")


def ask(plane, document, strict=True):
    """None when it may be, else what the user is told. Strict as kubectl is: without, the API server drops fields that it does not know."""
    document["metadata"].setdefault("namespace", "default")
    try:
        plane.api.create(document, dry_run=True, strict=strict)
    except Refused as refused:
        return refused.message
    return None


@pytest.fixture(scope="module")
def namespaces(plane):
    for name in ("shop", "prod", "other", "ns", "bookinfo", "test"):
        plane.namespace(name)


def existing_namespace(plane, document):
    return plane.api.exists("Namespace", document["metadata"].get("namespace", "default"))


@pytest.mark.parametrize("documents", cases("rejected"))
def test_G04_what_files_may_not_say_is_refused(plane, galley, namespaces, documents):
    for document in documents:
        assert ask(plane, document) is not None, document["metadata"]["name"]


@pytest.mark.parametrize("documents", [*cases("accepted"), *cases("warned")])
def test_G04_what_files_may_say_is_taken(plane, galley, namespaces, documents):
    asked = 0
    for document in documents:
        if existing_namespace(plane, document):
            told = ask(plane, document)
            assert told is None, f"{document['kind']} {document['metadata']['name']}: {told}"
            asked += 1
    assert asked


def gateway(protocol="HTTP", **server):
    return {"apiVersion": NETWORKING, "kind": "Gateway", "metadata": {"name": "edge", "namespace": "default"},
            "spec": {"selector": {"istio": "edge"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": protocol}, "hosts": ["*"], **server}]}}


def test_G04_the_user_is_told_path_and_rule(plane, galley):
    message = ask(plane, gateway("GOPHER"))
    assert 'admission webhook "validation.istio.io" denied the request' in message
    assert 'spec.servers[0].port.protocol: "GOPHER" is no protocol of a server' in message


def test_G04_warnings_reach_the_user(plane, galley):
    assert ask(plane, gateway(port={"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080})) is None
    assert any("targetPort" in w and "has no effect" in w for w in plane.api.warnings), plane.api.warnings


def test_G04_kubectl_shows_both(plane, galley):
    text = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(gateway("GOPHER")), ok=False)
    assert "GOPHER" in text and "denied the request" in text


def test_G04_a_dry_run_leaves_nothing(plane, galley):
    before = galley.admin.page("bus")["sequence"]
    assert ask(plane, gateway()) is None
    assert plane.api.exists("Gateway", "edge", version=NETWORKING) is None
    assert not galley.in_force("Gateway/default/edge") and galley.admin.page("bus")["sequence"] == before


def test_G06_G07_only_what_is_of_this_revision_is_judged(plane, galley):
    """Another revision's configuration is another control plane's to refuse."""
    for labels, judged in (({}, True), ({"istio.io/rev": "default"}, True), ({"istio.io/rev": "other"}, False)):
        document = gateway("GOPHER")
        document["metadata"]["labels"] = labels
        assert (ask(plane, document) is not None) == judged, labels


STABLE = [  # group and version, kind, spec, what the stable channel has of it; None: all
    (NETWORKING.replace("v1", "v1alpha3"), "EnvoyFilter", {"configPatches": []}, "EnvoyFilter is not part"),
    ("networking.istio.io/v1beta1", "ProxyConfig", {"concurrency": 1}, "ProxyConfig is not part"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin", {"url": "oci://example.com/x"}, "WasmPlugin is not part"),
    ("telemetry.istio.io/v1", "Telemetry", {"tracing": [{"useRequestIdForTraceSampling": True}]}, "useRequestIdForTraceSampling is not part"),
    ("telemetry.istio.io/v1", "Telemetry", {"metrics": [{"reportingInterval": "5s"}]}, "reportingInterval is not part"),
    ("telemetry.istio.io/v1", "Telemetry", {"accessLogging": [{"filter": {"expression": "true"}}]}, "accessLogging[].filter is not part"),
    ("telemetry.istio.io/v1", "Telemetry", {"tracing": [{"randomSamplingPercentage": 1}], "accessLogging": [{}]}, None),
    ("security.istio.io/v1", "AuthorizationPolicy", {"rules": [{"from": [{"source": {"trustDomains": ["a"]}}]}]}, "trustDomains and notTrustDomains are not"),
    ("security.istio.io/v1", "AuthorizationPolicy", {"rules": [{"from": [{"source": {"namespaces": ["a"]}}]}, {}]}, None),
    ("security.istio.io/v1", "AuthorizationPolicy", {}, None),
]


def test_G03_the_stable_channel_is_kept_by_the_api_server(plane, definitions):
    """ValidatingAdmissionPolicy (experimental.stableValidationPolicy): no galley is asked."""
    policies = [o for o in rendered("fairlead", {"experimental": {"stableValidationPolicy": True}}) if o["kind"].startswith("ValidatingAdmissionPolicy")]
    assert len(policies) == 2
    filters = {"apiVersion": STABLE[0][0], "kind": "EnvoyFilter", "metadata": {"name": "x", "namespace": "default"}, "spec": STABLE[0][2]}
    assert ask(plane, filters) is None
    plane.api.apply(*policies)
    try:
        until(lambda: "not part of the stable channel" in (ask(plane, filters) or ""), 60, what="the policy in force")
        for version, kind, spec, told in STABLE:
            message = ask(plane, {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "default"}, "spec": spec})
            assert (message is None) if told is None else message and told in message, (kind, spec, message)
        for revision, judged in (("default", True), ("other", False)):
            filters["metadata"]["labels"] = {"istio.io/rev": revision}
            assert bool(ask(plane, filters)) == judged, revision
        assert plane.api.get(policies[0]["kind"], policies[0]["metadata"]["name"], version="admissionregistration.k8s.io/v1").get("status", {}).get(
            "typeChecking", {}).get("expressionWarnings") in (None, [])
    finally:
        for policy in reversed(policies):
            plane.api.delete(policy["kind"], policy["metadata"]["name"], version="admissionregistration.k8s.io/v1")
    filters["metadata"].pop("labels")
    until(lambda: ask(plane, filters) is None, 60, what="the policy gone")


def test_N21_G06_what_slips_in_while_galley_is_away_is_quarantined(plane, galley):
    """Fail open: the API server takes what galley cannot judge, and galley keeps it from the mesh when it is back. Fail closed keeps back Istio's kinds alone."""
    name = f"fairlead-validator-{SYSTEM}"
    plane.api.create(gateway())
    until(lambda: galley.in_force("Gateway/default/edge"), what="the gateway in force")
    galley.daemon.stop()
    try:
        plane.api.edit("Gateway", "edge", lambda o: o.update(spec=gateway("GOPHER")["spec"]), version=NETWORKING)
        plane.api.create({**gateway("GOPHER"), "metadata": {"name": "never-good", "namespace": "default"}})

        def fail(policy):
            plane.api.patch("ValidatingWebhookConfiguration", name, [
                {"op": "replace", "path": f"/webhooks/{i}/failurePolicy", "value": policy} for i in range(2)],
                version="admissionregistration.k8s.io/v1", form="json")
        another = {**gateway(), "metadata": {"name": "another", "namespace": "default"}}
        fail("Fail")
        until(lambda: "failed calling webhook" in (ask(plane, another) or ""), what="configuration kept back")
        for obj in ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "free"}},
                    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "free"}, "spec": {"ports": [{"port": 80}]}},
                    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "free"},
                     "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}):
            assert ask(plane, obj) is None, obj["kind"]
        fail("Ignore")
        until(lambda: ask(plane, another) is None, what="the policy of the chart again")
    finally:
        galley.start_again()
    galley.daemon.wait_ready()
    until(lambda: {q["key"] for q in galley.admin.page("quarantine")} >= {"Gateway/default/edge", "Gateway/default/never-good"}, what="the quarantine")
    assert not galley.in_force("Gateway/default/never-good")
    assert plane.api.get("ValidatingWebhookConfiguration", name, version="admissionregistration.k8s.io/v1")["webhooks"][0]["failurePolicy"] == "Ignore"
    for gone in ("edge", "never-good"):
        plane.api.delete("Gateway", gone, version=NETWORKING)
    until(lambda: not galley.admin.page("quarantine"), what="an empty quarantine")
