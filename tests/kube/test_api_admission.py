"""Validation through the API server: what is applied to a cluster meets the same rules as files do (tests/golden/galley)."""
import re

import pytest
import yaml

import toolbox
from api import Refused
from conftest import SYSTEM, until

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
    assert 'admission webhook "rev.validation.istio.io" denied the request' in message
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


def test_N21_what_slips_in_while_galley_is_away_is_quarantined(plane, galley):
    """Fail open: the API server takes what galley cannot judge, and galley keeps it from the mesh when it is back."""
    name = f"fairlead-validator-{SYSTEM}"
    plane.api.create(gateway())
    until(lambda: galley.in_force("Gateway/default/edge"), what="the gateway in force")
    galley.daemon.stop()
    try:
        plane.api.edit("Gateway", "edge", lambda o: o.update(spec=gateway("GOPHER")["spec"]), version=NETWORKING)
        plane.api.create({**gateway("GOPHER"), "metadata": {"name": "never-good", "namespace": "default"}})
    finally:
        galley.start_again()
    galley.daemon.wait_ready()
    until(lambda: {q["key"] for q in galley.admin.page("quarantine")} >= {"Gateway/default/edge", "Gateway/default/never-good"}, what="the quarantine")
    assert not galley.in_force("Gateway/default/never-good")
    assert plane.api.get("ValidatingWebhookConfiguration", name, version="admissionregistration.k8s.io/v1")["webhooks"][0]["failurePolicy"] == "Ignore"
    for gone in ("edge", "never-good"):
        plane.api.delete("Gateway", gone, version=NETWORKING)
    until(lambda: not galley.admin.page("quarantine"), what="an empty quarantine")
