"""Statuses of a cluster's objects: written by one galley, once for each thing there is to say, against an API server that can be made to fail."""
import json
import os
import pathlib
import subprocess
import time

import pytest

from fake_kube import FakeKube, wait_until
from test_distribution import Proxy
from test_galley_kubernetes import SERVICES, VIRTUAL_SERVICES, Galley, service, virtual_service
from xds_client import RDS

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc")).resolve()
LEASES = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases"
LEASE = (LEASES, "istio-system/fairlead-galley-status")
DESTINATION_RULES = "/apis/networking.istio.io/v1/destinationrules"
POLICIES = "/apis/security.istio.io/v1/authorizationpolicies"


class Cluster:
    def __init__(self, folder):
        self.folder, self.fake, self.galleys, self.proxies, self.pilot = folder, FakeKube(), [], [], None
        self.fake.apply(SERVICES, service("cart"))
        self.fake.apply(VIRTUAL_SERVICES, virtual_service("cart", "cart"))

    def galley(self, name="one", *options):
        folder = self.folder / name
        folder.mkdir()
        g = Galley(folder, self.fake, "--instance", name, "--status-lease", "1s", *options)
        self.galleys.append(g)
        return g

    def start_pilot(self, galley):
        folder = galley.socket.parent
        with open(folder / "pilot.log", "w", encoding="utf-8") as log:
            self.pilot = subprocess.Popen([BUILD / "pilot/pilot", "--bus", f"ipc://{folder}/{{role}}", "--xds-address", f"unix:{folder}/xds",
                                           "--admin-address", f"unix:{folder}/pilot.admin"], stderr=log)
        wait_until((folder / "xds").exists)
        return folder / "xds"

    def proxy(self, xds, name, **more):
        self.proxies.append(Proxy(xds, name, **more))
        return self.proxies[-1]

    def status(self, path=VIRTUAL_SERVICES, name="shop/cart"):
        return self.fake.objects[path, name].get("status", {})

    def condition(self, kind="Reconciled", **where):
        return next((c for c in self.status(**where).get("conditions", []) if c["type"] == kind), {})

    def written(self, name="shop/cart"):
        return [s for _, n, s in list(self.fake.statuses) if n == name]

    def holder(self):
        return self.fake.objects.get(LEASE, {}).get("spec", {}).get("holderIdentity")

    def change(self, timeout):
        vs = virtual_service("cart", "cart")
        vs["spec"]["http"][0]["timeout"] = timeout
        vs["status"] = self.status()
        self.fake.apply(VIRTUAL_SERVICES, vs)

    def close(self):
        for p in self.proxies:
            p.close()
        for process in [self.pilot] if self.pilot else []:
            process.terminate()
            assert process.wait(20) == 0
        for g in self.galleys:
            if g.process.poll() is None:
                assert g.stop() == 0
        self.fake.close()


@pytest.fixture
def cluster(tmp_path):
    c = Cluster(tmp_path)
    yield c
    c.close()


def test_N01_G12_a_status_tells_how_many_proxies_have_the_object_and_who_rejects_it(cluster):
    galley = cluster.galley()
    xds = cluster.start_pilot(galley)
    cluster.proxy(xds, "p1")
    bad = cluster.proxy(xds, "p2")
    wait_until(lambda: cluster.condition().get("message") == "2/2 proxies up to date.", 40)
    first = cluster.condition()
    assert first["status"] == "True" and first["observedGeneration"] == 1 and cluster.status()["observedGeneration"] == 1
    assert cluster.condition("AcceptedByProxies")["message"] == "acknowledged by 2 of 2 proxies"
    assert first["lastTransitionTime"].endswith("Z")
    bad.slow = {RDS}
    cluster.change("3s")
    wait_until(lambda: cluster.condition().get("message") == "1/2 proxies up to date.")
    assert cluster.condition()["status"] == "False" and cluster.condition()["observedGeneration"] == 2
    bad.let_go()
    wait_until(lambda: cluster.condition()["status"] == "True")
    assert cluster.condition()["message"] == "2/2 proxies up to date."


def test_G12_analysis_and_quarantine_show_in_the_status(cluster):
    cluster.galley()
    wait_until(lambda: cluster.condition())
    cluster.fake.apply(DESTINATION_RULES, {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "none", "namespace": "shop"},
                                           "spec": {"host": "nowhere"}})
    wait_until(lambda: cluster.status(DESTINATION_RULES, "shop/none").get("validationMessages"))
    message = cluster.status(DESTINATION_RULES, "shop/none")["validationMessages"][0]
    assert message["type"] == {"code": "IST0174", "name": "UnknownDestinationRuleHost"} and message["level"] == "WARNING"
    assert message["documentationUrl"] == "https://istio.io/latest/docs/reference/config/analysis/ist0174/"
    bad = virtual_service("cart", "cart")
    bad["spec"]["http"][0]["wieght"] = 3
    cluster.fake.apply(VIRTUAL_SERVICES, bad)
    wait_until(lambda: cluster.condition().get("reason") == "NotAccepted")
    assert cluster.condition()["status"] == "False" and "the last good one stays in force" in cluster.condition()["message"]
    assert [m["type"]["code"] for m in cluster.status()["validationMessages"]] == ["IST0106"]
    cluster.fake.apply(POLICIES, {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {}})
    wait_until(lambda: cluster.condition(path=POLICIES, name="shop/p").get("reason") == "NotApplied")


def test_a_status_is_written_once_and_not_again_because_of_itself(cluster):
    galley = cluster.galley()
    wait_until(lambda: cluster.written())
    wait_until(lambda: not galley.page("status_writer")["writer"]["queued"])
    published = galley.metric("galley_published_total")
    for name in ("later", "last"):
        passes = galley.metric("galley_status_passes_total")
        cluster.fake.apply(SERVICES, service(name))
        wait_until(lambda: galley.metric("galley_status_passes_total") > passes)
    assert len(cluster.written()) == 1
    assert galley.metric("galley_published_total") == published + 4  # the services and their endpoints; nothing of the status
    cluster.galleys.remove(galley)
    assert galley.stop() == 0
    again = cluster.galley("two")
    wait_until(again.ready)
    wait_until(lambda: again.page("status_writer")["lease"]["held"])
    wait_until(lambda: again.metric("galley_status_passes_total") >= 1)
    assert len(cluster.written()) == 1


def test_conditions_of_others_stay(cluster):
    vs = virtual_service("cart", "cart")
    other = {"type": "Theirs", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    vs["status"] = {"conditions": [other], "theirs": 1}
    cluster.fake.apply(VIRTUAL_SERVICES, vs)
    cluster.galley()
    wait_until(lambda: cluster.condition())
    assert other in cluster.status()["conditions"] and cluster.status()["theirs"] == 1


def test_who_takes_a_status_away_again_and_again_gets_no_loop(cluster):
    galley = cluster.galley()
    wait_until(lambda: cluster.condition())
    for _ in range(20):
        vs = virtual_service("cart", "cart")
        cluster.fake.apply(VIRTUAL_SERVICES, vs)
        time.sleep(0.05)
    assert len(cluster.written()) <= 3
    assert galley.page("status_writer")["writer"]["queued"] <= 1
    wait_until(lambda: cluster.condition(), 30)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_refuses_is_asked_less_often(cluster, status):
    galley = cluster.galley()
    wait_until(lambda: cluster.condition())
    cluster.fake.refuse(status, "come back later", 10)
    cluster.change("5s")
    wait_until(lambda: cluster.condition().get("observedGeneration") == 2, 60)
    assert galley.ready()


def test_G19_one_of_two_writes_and_the_other_takes_over(cluster):
    one = cluster.galley("one")
    wait_until(lambda: cluster.holder() == "one" and cluster.condition())
    two = cluster.galley("two")
    wait_until(two.ready)
    cluster.change("7s")
    wait_until(lambda: cluster.condition().get("observedGeneration") == 2)
    assert two.page("status_writer")["writer"]["written"] == 0 and not two.page("status_writer")["lease"]["held"]
    one.process.kill()
    one.process.wait()
    cluster.galleys.remove(one)
    wait_until(lambda: cluster.holder() == "two", 20)
    cluster.change("8s")
    wait_until(lambda: cluster.condition().get("observedGeneration") == 3)
    assert cluster.fake.objects[LEASE]["spec"]["leaseTransitions"] == 1
    assert cluster.fake.objects[LEASE]["spec"]["renewTime"].count(".") == 1


def test_many_statuses_come_at_a_bounded_rate(cluster):
    for i in range(60):
        cluster.fake.apply(VIRTUAL_SERVICES, virtual_service(f"v{i}", f"h{i}.example"))
    cluster.galley()
    wait_until(lambda: len(cluster.fake.statuses) >= 61, 30)
    times = [t for t, _, _ in cluster.fake.statuses]
    assert times[60] - times[0] > 60 / 20 * 0.8
    assert len({n for _, n, _ in cluster.fake.statuses}) == 61


def test_nothing_is_written_where_it_is_not_wanted(cluster):
    galley = cluster.galley("one", "--no-status")
    wait_until(galley.ready)
    passes = galley.page("objects")
    assert passes and galley.page("status_writer")["lease"] is None
    assert cluster.fake.count("/leases") == 0 and cluster.fake.count("/status") == 0


def test_N08_wait_knows_generations(cluster):
    galley = cluster.galley()
    xds = cluster.start_pilot(galley)
    cluster.proxy(xds, "p1")
    cluster.change("9s")

    def wait(*words):
        return subprocess.run([BUILD / "cli/fairlead", "wait", "virtualservices", "cart.shop", "--galley", f"unix:{galley.socket}", *words],
                              capture_output=True, text=True, check=False)
    assert wait("--generation", "2").returncode == 0
    late = wait("--generation", "3", "--timeout", "300ms")
    assert late.returncode == 1 and "galley has generation 2" in late.stderr
    assert json.loads(wait("-o", "json").stdout)["objects"][0]["generation"] == 2
