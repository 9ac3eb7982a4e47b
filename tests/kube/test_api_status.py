"""Statuses on a real API server: galley writes them under its own account, the server keeps them, and nothing is written twice."""
from conftest import SYSTEM, until

NETWORKING = "networking.istio.io/v1"


def virtual_service(host):
    return {"apiVersion": NETWORKING, "kind": "VirtualService", "metadata": {"name": "told", "namespace": "default"},
            "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": "nowhere.default.svc.cluster.local"}}]}]}}


def test_G12_G19_an_object_is_told_what_became_of_it(plane, galley):
    def told():
        return plane.api.get("VirtualService", "told", version=NETWORKING)

    def condition():
        return next((c for c in told().get("status", {}).get("conditions", []) if c["type"] == "Reconciled"), {})

    plane.api.apply(virtual_service("one.example"))
    first = until(condition, 60, what="a status")
    assert first["status"] == "True" and first["observedGeneration"] == told()["metadata"]["generation"]
    codes = [m["type"]["code"] for m in told()["status"]["validationMessages"]]
    assert "IST0101" in codes  # no such host
    owners = {(m["manager"], m.get("subresource")) for m in told()["metadata"]["managedFields"]}
    assert ("fairlead-status", "status") in owners
    lease = plane.api.get("Lease", "fairlead-galley-status", ns=SYSTEM, version="coordination.k8s.io/v1")
    assert lease["spec"]["holderIdentity"] and lease["spec"]["leaseDurationSeconds"] == 15
    # Its own write comes back by the watch, and causes no other.
    written, version = galley.admin.page("status_writer")["writer"]["written"], told()["metadata"]["resourceVersion"]
    renewed = lease["spec"]["renewTime"]
    until(lambda: plane.api.get("Lease", "fairlead-galley-status", ns=SYSTEM, version="coordination.k8s.io/v1")["spec"]["renewTime"] != renewed, 30)
    assert told()["metadata"]["resourceVersion"] == version and galley.admin.page("status_writer")["writer"]["written"] == written
    plane.api.apply(virtual_service("two.example"))
    until(lambda: condition().get("observedGeneration") == first["observedGeneration"] + 1, 30, what="a status of the new generation")
    assert condition()["lastTransitionTime"] == first["lastTransitionTime"], "it was true all the time"
    plane.api.delete("VirtualService", "told", version=NETWORKING, now=True)
