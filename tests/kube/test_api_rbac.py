"""What each account of the control plane may do, asked of the API server itself (the question of `kubectl auth can-i`), and tried with its token."""
import pytest

from api import Refused
from conftest import SYSTEM

WEBHOOKS = ("mutatingwebhookconfigurations", f"fairlead-sidecar-injector-{SYSTEM}")
GALLEY, PILOT, CITADEL = (f"{SYSTEM}:{name}" for name in ("galley", "pilot", "citadel"))

# account, verb, resource ("plural" or "plural.group"), namespace ("": all), name
MAY = [
    *((GALLEY, verb, resource, "", "") for verb in ("list", "watch") for resource in (
        "services", "pods", "nodes", "namespaces", "serviceaccounts", "secrets", "configmaps", "endpointslices.discovery.k8s.io", "virtualservices.networking.istio.io",
        "gateways.networking.istio.io", "sidecars.networking.istio.io", "peerauthentications.security.istio.io")),
    *((GALLEY, "patch", f"{plural}/status.{group}", "shop", "x") for plural, group in (
        ("virtualservices", "networking.istio.io"), ("authorizationpolicies", "security.istio.io"), ("telemetries", "telemetry.istio.io"),
        ("wasmplugins", "extensions.istio.io"))),
    *((GALLEY, verb, "workloadentries.networking.istio.io", "shop", "") for verb in ("create", "patch", "delete")),
    (GALLEY, "patch", "workloadentries/status.networking.istio.io", "shop", ""),
    (GALLEY, "create", "subjectaccessreviews.authorization.k8s.io", "", ""),
    (GALLEY, "create", "leases.coordination.k8s.io", SYSTEM, ""), (GALLEY, "update", "leases.coordination.k8s.io", SYSTEM, "fairlead-galley-status"),
    (GALLEY, "patch", f"{WEBHOOKS[0]}.admissionregistration.k8s.io", "", WEBHOOKS[1]),
    (CITADEL, "create", "tokenreviews.authentication.k8s.io", "", ""), (CITADEL, "list", "namespaces", "", ""), (CITADEL, "watch", "configmaps", "", ""), (CITADEL, "create", "configmaps", "shop", ""),
    (CITADEL, "patch", "configmaps", "shop", "istio-ca-root-cert"),
    (CITADEL, "get", "secrets", SYSTEM, "istio-ca-secret"), (CITADEL, "create", "secrets", SYSTEM, ""),
]
MAY_NOT = [
    # galley signs nothing, and changes nothing of its users but the entries of workloads that register.
    *((GALLEY, verb, "secrets", ns, "") for verb in ("create", "update", "patch", "delete") for ns in ("", SYSTEM)),
    *((GALLEY, verb, "configmaps", SYSTEM, "") for verb in ("create", "update", "patch", "delete")),
    *((GALLEY, verb, "virtualservices.networking.istio.io", "default", "") for verb in ("create", "update", "patch", "delete")),
    *((GALLEY, "create", what, "", "") for what in (
        "pods", "certificatesigningrequests.certificates.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io", "serviceaccounts/token")),
    (GALLEY, "patch", f"{WEBHOOKS[0]}.admissionregistration.k8s.io", "", "of-others"),
    (GALLEY, "create", f"{WEBHOOKS[0]}.admissionregistration.k8s.io", "", ""),
    (GALLEY, "update", "leases.coordination.k8s.io", SYSTEM, "of-others"), (GALLEY, "create", "leases.coordination.k8s.io", "default", ""),
    # pilot has nothing to ask of the API server: gateways' certificates come by the bus.
    *((PILOT, verb, resource, SYSTEM, "") for verb in ("get", "list", "watch", "create", "update", "patch", "delete") for resource in (
        "secrets", "configmaps", "pods", "services")),
    (PILOT, "list", "virtualservices.networking.istio.io", "default", ""),
    *((who, "create", "subjectaccessreviews.authorization.k8s.io", "", "") for who in (PILOT, CITADEL)),
    # citadel writes what is its own.
    *((CITADEL, verb, "secrets", ns, "") for verb in ("get", "list", "watch", "create", "update", "delete") for ns in ("default", "kube-system")),
    (CITADEL, "get", "secrets", SYSTEM, "fairlead-bus"), (CITADEL, "list", "secrets", SYSTEM, ""), (CITADEL, "delete", "secrets", SYSTEM, "istio-ca-secret"),
    (CITADEL, "patch", "configmaps", "shop", "of-the-shop"), (CITADEL, "delete", "configmaps", "shop", "istio-ca-root-cert"),
    (CITADEL, "list", "pods", "", ""), (CITADEL, "list", "virtualservices.networking.istio.io", "", ""), (CITADEL, "create", "serviceaccounts/token", "shop", ""),
    # Nobody gets at more rights, at nodes or into pods.
    *((who, verb, what, "", "") for who in (GALLEY, PILOT, CITADEL) for verb, what in (
        ("create", "pods/exec"), ("bind", "clusterroles.rbac.authorization.k8s.io"), ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"), ("update", "nodes"), ("delete", "namespaces"), ("create", "deployments.apps"))),
]


def name_of(row):
    return "-".join(part.split(":")[-1] for part in row if part)


def allowed(plane, who, verb, resource, ns, name):
    resource, _, group = resource.partition(".")
    resource, _, sub = resource.partition("/")
    return plane.api.may(who, verb, resource, ns, group, name, sub)


@pytest.mark.parametrize("row", MAY, ids=name_of)
def test_C08_an_account_may_do_its_work(plane, accounts, row):
    assert allowed(plane, *row)


@pytest.mark.parametrize("row", MAY_NOT, ids=name_of)
def test_C08_and_nothing_else(plane, accounts, row):
    assert not allowed(plane, *row)


def test_C08_a_token_of_pilot_is_refused_by_the_server(plane, accounts):
    pilot = plane.api.with_token(plane.api.token_of(SYSTEM, "pilot"))
    for kind, version in (("Secret", "v1"), ("Pod", "v1"), ("ConfigMap", "v1")):
        with pytest.raises(Refused) as refused:
            pilot.json("GET", plane.api.path(version, kind, SYSTEM))
        assert refused.value.status == 403 and "system:serviceaccount:istio-system:pilot" in refused.value.message


def test_C08_the_tables_are_of_every_rule(plane, control_plane_objects):
    """Each resource that the chart grants appears above, so that a rule that is added is looked at here."""
    asked = {row[2].partition(".")[0] for row in MAY}
    for role in control_plane_objects:
        if role["kind"] in ("Role", "ClusterRole") and "helm.sh/hook" not in role["metadata"].get("annotations", {}):
            for rule in role["rules"]:
                granted = set(rule.get("resources", [])) - {"*", "*/status", "validatingwebhookconfigurations"}
                assert granted <= asked, f"{role['metadata']['name']}: {granted - asked}"
