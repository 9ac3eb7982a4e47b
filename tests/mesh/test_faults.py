"""Scenarios 5 and 6: daemons that die under load, and what goes on while they are away."""
import itertools
import json
import os
import signal
import time

import pytest
import util
from mesh import Mesh
from small import small
from test_traffic import GATEWAY_ID, ID, SOON, callers, effect
from util import until

DAEMONS = ("galley", "pilot", "citadel")
PROXIES = 7
# What an Envoy counts when it takes something new.
CHANGES = "^(cluster_manager.cluster_(added|modified|removed)|listener_manager.listener_(added|modified|removed))"


def pushes(mesh):
    return mesh.admin("pilot").metric("pilot_xds_pushes")


def envoy_changes(mesh):
    pods = [u["name"] for u in mesh.units() if u["kind"] == "pod"]
    return {pod: mesh.envoy_stats(pod, CHANGES) for pod in pods}


def all_connected(mesh):
    return len({p["id"] for p in mesh.admin("pilot").page("syncz")}) == PROXIES


@pytest.mark.scenario(5)
@pytest.mark.parametrize("victims", [("galley",), ("pilot",), ("citadel",), DAEMONS], ids="+".join)
def test_scenario_5_N12_A07_killed_daemons_cost_no_request_and_push_nothing(mesh, victims, figures):
    until(lambda: all_connected(mesh))
    sent, counted = pushes(mesh), envoy_changes(mesh)
    if "pilot" in victims:
        sent = 0  # a new process counts anew
    with mesh.load(enough=50) as load:
        load.more(20)
        before = {name: mesh.unit(name)["pid"] for name in victims}
        for name in victims:
            mesh.control(name, "kill")
        for name in victims:
            until(lambda n=name: mesh.unit(n)["pid"] not in (0, before[n]) and mesh.is_ready(mesh.unit(n)), what=f"{name} back")
        until(lambda: all_connected(mesh), what="all proxies connected")
        until(lambda: mesh.admin("pilot").page("bus")["galley"]["state"] == "live", what="the bus is live")
        load.more(30)
        assert pushes(mesh) == sent, [m for m in mesh.admin("pilot").metrics() if m[0] == "pilot_xds_pushes"]
        assert envoy_changes(mesh) == counted
        seconds = effect(load, mesh.step("reviews-v3.yaml"), "v3")
        assert seconds < SOON * (3 if util.SANITIZED else 1)
    figures.add(f"SIGKILL of {'+'.join(victims)} under load", f"{load.assert_clean()} requests, 0 failed, 0 pushes; next edit {seconds * 1000:.0f} ms")


@pytest.mark.scenario(5)
def test_scenario_5_P97_what_changed_while_pilot_was_away_costs_no_request(mesh):
    """The route moves to a service that is new, and back: clusters come before routes and go after them on a resumed stream, too."""
    with mesh.load(rate=50 if not util.SANITIZED else 20, workers=6, enough=50) as load:
        load.more(10)
        for step, version in (("reviews-new-subset.yaml", "v3"), ("reviews-v1.yaml", "v1")):
            mesh.stop_unit("pilot")
            mesh.step(step)
            load.more(10)
            mesh.control("pilot", "start")
            until(lambda: all_connected(mesh), what="all proxies connected")
            effect(load, time.monotonic(), version)
    load.assert_clean()


@pytest.mark.scenario(5)
@pytest.mark.parametrize("order", list(itertools.permutations(DAEMONS)), ids="-".join)
def test_scenario_5_every_start_order_works(order):
    """From nothing: the pods are there first, then one daemon after the other, each alive before the next one starts."""
    with Mesh(prepare=small, only=[], quick=True) as mesh:
        for name in order:
            mesh.control(name, "start")
            until(lambda n=name: mesh.admin(n).ask("/healthz")[0] == 200, what=f"{name} alive")
        mesh.wait_ready()
        until(lambda: mesh.get("/x")[0] == 200, 10, "the gateway serves")
        answer = mesh.json("/x")
        assert answer["peer"] == GATEWAY_ID, answer


@pytest.mark.scenario(5)
def test_scenario_5_proxies_that_come_and_go_do_no_harm(mesh):
    """Pods are killed and come back while configuration changes: what pilot keeps for their return is not theirs."""
    starts = mesh.unit("pilot")["starts"]
    pods = ["default/ratings-v1", "default/reviews-v2", "default/reviews-v3"]
    for name, mode in zip(pods, ("strict", "permissive", "strict")):
        before = mesh.unit(name)["pid"]
        mesh.control(name, "kill")
        mesh.step(f"peer-{mode}.yaml", "security.yaml")
        mesh.step("reviews-90-10.yaml" if mode == "strict" else "reviews-v1.yaml")
        until(lambda n=name, b=before: mesh.unit(n)["pid"] not in (0, b) and mesh.is_ready(mesh.unit(n)), what=f"{name} back")
    mesh.step("reviews-v3.yaml")
    until(lambda: mesh.reviews() == "v3")
    until(lambda: callers(mesh.json("/api/v1/products/0/reviews")).get("ratings") == ID.format("reviews"))
    assert mesh.unit("pilot")["starts"] == starts


@pytest.mark.scenario(6)
def test_scenario_6_A19_N14_pods_live_while_pilot_and_citadel_are_away(mesh):
    with mesh.load() as load:
        load.more(10)
        for name in ("pilot", "citadel"):
            mesh.stop_unit(name)
        mesh.step("echo.yaml", "echo.yaml")
        until(lambda: mesh.run_file("default/echo-v1")["agent"] > 0, what="the new pod's agent runs")
        until(lambda: mesh.admin("default/echo-v1").ask("/healthz/ready")[0] == 503, what="it says that it is not ready")
        load.more(20)
    load.assert_clean()
    # An Envoy that is restarted now is served by its agent.
    first = mesh.envoy_pid("default/reviews-v1")
    os.kill(first, signal.SIGKILL)
    until(lambda: mesh.envoy_pid("default/reviews-v1") != first and mesh.is_ready(mesh.unit("default/reviews-v1")), what="reviews-v1 is back")
    assert callers(mesh.json("/api/v1/products/0/reviews"))["reviews"] == ID.format("productpage")
    # So is one whose agent was restarted too: key, certificate and configuration are on disk.
    agent = mesh.run_file("default/details-v1")["agent"]
    os.kill(agent, signal.SIGKILL)
    until(lambda: mesh.run_file("default/details-v1")["agent"] not in (0, agent) and mesh.is_ready(mesh.unit("default/details-v1")),
          what="details-v1 is back")
    assert callers(mesh.json("/api/v1/products/0/details"))["details"] == ID.format("productpage")
    assert mesh.admin("default/echo-v1").ask("/healthz/ready")[0] == 503
    for name in ("pilot", "citadel"):
        mesh.control(name, "start")
    until(lambda: mesh.is_ready(mesh.unit("default/echo-v1")), what="the new pod is ready")
    status, body = until(lambda: asked if (asked := mesh.curl("default/productpage-v1", "http://echo:9080/hello"))[0] == 200 else None, 20,
                         "productpage reaches echo")
    assert json.loads(body)["peer"] == ID.format("productpage"), (status, body)
