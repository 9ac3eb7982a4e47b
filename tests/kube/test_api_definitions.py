"""The CustomResourceDefinitions in a real API server: they are taken, explained, enforced, converted; every sample fits them."""
import json

import pytest
import yaml

import toolbox
from api import Refused
from conftest import until

NETWORKING = "networking.istio.io/v1"


def virtual_service(name="cart", version=NETWORKING, **http):
    return {"apiVersion": version, "kind": "VirtualService", "metadata": {"name": name, "namespace": "default"},
            "spec": {"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "cart"}}], **http}]}}


def changed(path, value, kind="VirtualService"):
    out = virtual_service() if kind == "VirtualService" else {
        "apiVersion": NETWORKING, "kind": kind, "metadata": {"name": "cart", "namespace": "default"}, "spec": {}}
    at = out
    for step, following in zip(path, [*path[1:], None]):
        if following is None:
            at[step] = value
        elif isinstance(at, dict):
            at = at.setdefault(step, [] if isinstance(following, int) else {})
        else:
            at += [{}] * (step + 1 - len(at))
            at = at[step]
    return out


@pytest.mark.parametrize("field,told", [
    ("virtualservices.spec.http.route.weight", "FIELD: weight <integer>"),
    ("vs.spec.http.fault.delay", "fixedDelay\t<string>"),
    ("destinationrules.spec.trafficPolicy.tls.mode", "ENUM:"),
    ("sidecars.spec.outboundTrafficPolicy", "mode\t<string>"),
    ("peerauthentications.spec.portLevelMtls", "<map[string]Object>"),
])
def test_G03_kubectl_explain_knows_the_fields(plane, definitions, field, told):
    until(lambda: told in plane.kubectl("explain", field), what="the group in discovery")


# Steps that show what is said about a file that is wrong.
WRONG_ON_PURPOSE = {"reviews-broken.yaml", "reviews-one-bad.yaml"}


def documents():
    for path in sorted((toolbox.ROOT / "samples").glob("**/*.yaml")):
        if path.name in WRONG_ON_PURPOSE:
            continue
        for index, document in enumerate(yaml.safe_load_all(path.read_text())):
            if document and document["apiVersion"].split("/")[0].endswith(".istio.io"):
                yield pytest.param(document, id=f"{path.relative_to(toolbox.ROOT / 'samples')}-{index}")


@pytest.mark.parametrize("document", documents())
def test_G03_every_sample_fits(plane, definitions, document):
    if document["metadata"].get("namespace", "default") not in ("default", "istio-system"):
        plane.namespace(document["metadata"]["namespace"])
    plane.api.create(document, dry_run=True, strict=True)
    assert not plane.api.warnings


REFUSED = [
    (changed(["spec", "http", 0, "timeout"], "never"), "spec.http[0].timeout", "must be a duration"),
    (changed(["spec", "http", 0, "timeout"], "-1s"), "spec.http[0].timeout", "must be a duration"),
    (changed(["spec", "http", 0, "retries"], {"attempts": 1, "perTryTimeout": "x"}), "perTryTimeout", "must be a duration"),
    (changed(["spec", "http", 0, "match"], [{"uri": {"exact": "/", "prefix": "/"}}]), "spec.http[0].match[0].uri", "must validate one and only one schema"),
    (changed(["spec", "http", 0, "route", 0, "weight"], "3"), "spec.http[0].route[0].weight", "must be of type integer"),
    (changed(["spec", "hosts"], "cart"), "spec.hosts", "must be of type array"),
    (changed(["spec", "trafficPolicy", "tls", "mode"], "MAYBE", "DestinationRule"), "spec.trafficPolicy.tls.mode", "Unsupported value"),
    (changed(["spec", "trafficPolicy", "connectionPool", "tcp", "connectTimeout"], "1 s", "DestinationRule"), "connectTimeout", "must be a duration"),
    (changed(["spec", "subsets", 0, "trafficPolicy", "outlierDetection", "interval"], "soon", "DestinationRule"), "interval", "must be a duration"),
    (changed(["spec", "subsets", 0, "trafficPolicy", "portLevelSettings", 0, "outlierDetection", "interval"], "soon", "DestinationRule"),
     "portLevelSettings[0].outlierDetection.interval", "should match"),
]


@pytest.mark.parametrize("document,path,rule", REFUSED, ids=[f"{path}-{rule[:20]}" for _, path, rule in REFUSED])
def test_G03_what_a_schema_can_say_is_refused_by_the_server(plane, definitions, document, path, rule):
    with pytest.raises(Refused) as refused:
        plane.api.create(document, dry_run=True)
    assert refused.value.status == 422 and path in refused.value.message and rule in refused.value.message, refused.value


@pytest.mark.parametrize("duration", ["1ms", "1.5s", "250ms", "1h30m", "2h45m0.5s"])
def test_G03_durations_that_are_right_pass_the_rule_and_the_pattern(plane, definitions, duration):
    plane.api.create(virtual_service(timeout=duration), dry_run=True)
    nested = changed(["spec", "subsets", 0, "trafficPolicy", "portLevelSettings", 0, "outlierDetection", "interval"], duration, "DestinationRule")
    nested["spec"]["host"], nested["spec"]["subsets"][0]["name"] = "cart", "v1"
    nested["spec"]["subsets"][0]["trafficPolicy"]["portLevelSettings"][0]["port"] = {"number": 80}
    plane.api.create(nested, dry_run=True)


def test_G03_an_unknown_field_is_told_and_under_strict_validation_refused(plane, definitions):
    document = changed(["spec", "http", 0, "wieght"], 3)
    plane.api.create(document, dry_run=True)
    assert plane.api.warnings == ['unknown field \\"spec.http[0].wieght\\"']
    with pytest.raises(Refused, match="wieght"):
        plane.api.create(document, dry_run=True, strict=True)


def test_G03_all_versions_are_one_object(plane, definitions):
    made = plane.api.create(virtual_service("old", "networking.istio.io/v1alpha3", timeout="1s"))
    try:
        for version in ("v1", "v1beta1", "v1alpha3"):
            got = plane.api.get("VirtualService", "old", version=f"networking.istio.io/{version}")
            assert got["apiVersion"] == f"networking.istio.io/{version}" and got["spec"] == made["spec"]
        plane.api.edit("VirtualService", "old", lambda o: o["spec"]["http"][0].update(timeout="2s"), version="networking.istio.io/v1alpha3")
        assert plane.api.get("VirtualService", "old", version=NETWORKING)["spec"]["http"][0]["timeout"] == "2s"
    finally:
        plane.api.delete("VirtualService", "old", version=NETWORKING)


def test_G03_the_columns_are_istios(plane, definitions):
    def columns(version, kind):
        table = plane.api.json("GET", plane.api.path(version, kind, "default"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        return [c["name"] for c in table["columnDefinitions"]]
    assert columns(NETWORKING, "VirtualService") == ["Name", "Gateways", "Hosts", "Age"]
    assert columns(NETWORKING, "ServiceEntry") == ["Name", "Hosts", "Location", "Resolution", "Age"]
    assert columns("security.istio.io/v1", "PeerAuthentication") == ["Name", "Mode", "Age"]


def test_G03_status_is_a_subresource(plane, definitions):
    plane.api.create(virtual_service("told"))
    try:
        status = {"status": {"conditions": [{"type": "Reconciled", "status": "True"}], "observedGeneration": 1}, "spec": {"hosts": ["other"]}}
        after = plane.api.patch("VirtualService", "told", status, version=NETWORKING, sub="status")
        assert after["status"]["conditions"][0]["type"] == "Reconciled"
        assert after["spec"]["hosts"] == ["cart"] and after["metadata"]["generation"] == 1
        after = plane.api.edit("VirtualService", "told", lambda o: (o["spec"].update(hosts=["other"]), o.update(status={})), version=NETWORKING)
        assert after["metadata"]["generation"] == 2 and after["status"]["conditions"]
    finally:
        plane.api.delete("VirtualService", "told", version=NETWORKING)


def test_G03_applying_them_again_changes_nothing(plane, definitions):
    for name, definition in definitions.items():
        before = plane.api.get("CustomResourceDefinition", name, version="apiextensions.k8s.io/v1")["metadata"]["generation"]
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
        assert plane.api.get("CustomResourceDefinition", name, version="apiextensions.k8s.io/v1")["metadata"]["generation"] == before
