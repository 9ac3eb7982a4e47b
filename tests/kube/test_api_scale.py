"""1,000 services with 5,000 pods: what galley knows is right and small, and stays so over an API server that restarts and an etcd that forgets.

Right is what a fresh galley, started at that moment, says. Last of the API-level tests, because of what it leaves in the cluster.
"""
import os
import signal
import time

import pytest

import util
from conftest import daemons, short_folder, shutil, until
from fleet import NAMESPACE, Fleet

SERVICES, EACH = 1000, 5
MEMORY_MAX = 100 << 20


def endpoints(page):
    """{host: {(address, port, locality, ...)}}: what is published of each service."""
    found = {}
    for entry in page:
        held = entry.get("endpoints", {}).get("endpoints", [])
        found[entry["service"]["hostname"]] = (entry["service"], sorted(str(sorted(e.items(), key=str)) for e in held))
    return found


@pytest.fixture(scope="module")
def watching(plane, definitions, accounts, galley):
    """A galley that has watched all of it come."""
    folder = short_folder()
    daemon = daemons.galley(folder, "kubernetes", "--kubeconfig", accounts("galley", folder), "--debounce=20ms")
    with daemon:
        daemon.wait_ready()
        daemon.idle_kb = util.private_kb(daemon.process.pid)
        yield daemon
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def fleet(plane, watching):
    start = time.monotonic()
    made = Fleet(plane, SERVICES, EACH)
    made.make()
    print(f"{SERVICES} services and {SERVICES * EACH} pods made in {time.monotonic() - start:.0f} s")
    return made


def published(daemon):
    return endpoints(daemon.admin.page("services"))


def complete(daemon, each=EACH):
    of_fleet = {h: e for h, e in published(daemon).items() if f".{NAMESPACE}.svc." in h}
    return len(of_fleet) == SERVICES and all(len(e[1]) == each for e in of_fleet.values())


def assert_like_a_fresh_one(plane, accounts, daemon):
    """What the daemon publishes is what one says that has just listed everything."""
    folder = short_folder()
    fresh = daemons.galley(folder, "kubernetes", "--kubeconfig", accounts("galley", folder), instance="fresh")
    with fresh:
        fresh.wait_ready()
        wanted = published(fresh)
        until(lambda: published(daemon) == published(fresh), 30, "the same as a fresh galley")
        assert len(wanted) >= SERVICES
    shutil.rmtree(folder)


def test_P84_five_thousand_pods(plane, accounts, watching, fleet):
    start = time.monotonic()
    until(lambda: complete(watching), 60, "all endpoints published", every=0.5)
    print(f"complete {time.monotonic() - start:.1f} s after the last EndpointSlice")
    assert_like_a_fresh_one(plane, accounts, watching)
    private = util.private_kb(watching.process.pid) * 1024
    print(f"galley's private memory: {watching.idle_kb / 1024:.1f} MB empty, {private / 2**20:.1f} MB with the fleet, "
          f"{util.cpu_seconds(watching.process.pid):.1f} s of processor")
    assert private < MEMORY_MAX


def changed(plane, service):
    """A pod of a service goes away."""
    plane.api.delete("Pod", f"s{service:04}-0", NAMESPACE, now=True)


def addresses(daemon, service):
    return len(published(daemon)[f"s{service:04}.{NAMESPACE}.svc.cluster.local"][1])


def test_P84_a_change_of_one_pod_is_one_change(plane, watching, fleet):
    before = watching.admin.page("bus")["sequence"]
    start = time.monotonic()
    changed(plane, 1)
    until(lambda: addresses(watching, 1) == EACH - 1, what="the pod gone")
    print(f"a pod's end is published {1000 * (time.monotonic() - start):.0f} ms after it was asked for")
    assert watching.admin.page("bus")["sequence"] - before <= 3


def test_P84_a_restarted_api_server_changes_nothing(plane, accounts, watching, fleet):
    sequence = watching.admin.page("bus")["sequence"]

    def away():
        changed_while = watching.admin.ask("/readyz")
        assert changed_while[0] == 200
        until(lambda: "API server is away" in watching.admin.ask("/readyz")[1], 20, "an age in /readyz")
    plane.restart_server(down=away)
    until(lambda: "API server is away" not in watching.admin.ask("/readyz")[1], 60, "watches again")
    assert watching.admin.page("bus")["sequence"] == sequence, "something was published again although nothing had changed"
    changed(plane, 2)
    until(lambda: addresses(watching, 2) == EACH - 1, 60, "a change after the restart")
    assert_like_a_fresh_one(plane, accounts, watching)


def test_P84_what_etcd_has_forgotten_is_listed_again(plane, accounts, watching, fleet):
    """The daemon stands still while things change, etcd drops the past, and the API server's cache of it goes with a restart."""
    lists = sum(w["lists"] for w in watching.admin.page("kubernetes")["watches"])
    os.kill(watching.process.pid, signal.SIGSTOP)
    try:
        changed(plane, 3)
        plane.api.delete("Service", "s0004", NAMESPACE)
        plane.restart_server(down=plane.compact)
    finally:
        os.kill(watching.process.pid, signal.SIGCONT)
    gone = f"s0004.{NAMESPACE}.svc.cluster.local"
    until(lambda: gone not in published(watching) and addresses(watching, 3) == EACH - 1, 90, "what happened meanwhile")
    assert sum(w["lists"] for w in watching.admin.page("kubernetes")["watches"]) > lists
    assert_like_a_fresh_one(plane, accounts, watching)
    assert util.private_kb(watching.process.pid) * 1024 < MEMORY_MAX
