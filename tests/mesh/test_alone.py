"""Scenarios 9 and 10: what can be shown without a proxy. Real daemons, clients of another hand (grpcio), no shared code."""
import json
import os
import subprocess
import time

import daemons
import edits
import lossy
import pytest
import util
import xds
from util import until

EDITS = 200


def settled(daemon, marker, *clients):
    """All clients have a cluster that came with the last edit, and equal resources from then on."""
    until(lambda: all(marker in c.snapshot()["cds"] for c in clients), what=f"{marker} at all clients of {daemon.name}")


def assert_equal(a, b, names):
    for kind in xds.URL:
        left, right = a[kind], b[kind]
        assert left.keys() == right.keys(), f"{names}: {kind} names differ: {sorted(left.keys() ^ right.keys())[:10]}"
        different = sorted(n for n in left if left[n] != right[n])
        assert not different, f"{names}: {kind} {different[:5]} differ:\n{left[different[0]]!r}\n{right[different[0]]!r}"


def equal_soon(first, second, names):
    """Two clients hold the same, byte for byte, once the last responses have arrived."""
    try:
        until(lambda: first.snapshot() == second.snapshot(), 10, names)
    except util.NotYet:
        assert_equal(first.snapshot(), second.snapshot(), names)
        raise


@pytest.mark.scenario(10)
def test_scenario_10_P96_P97_delta_and_state_of_the_world_end_equal(folder, figures):
    source = daemons.copy_of_bookinfo(folder)
    seed = int(os.environ.get("FAIRLEAD_SEED", "4711"))
    change = edits.Edits(source, seed)
    with daemons.galley(folder, source) as galley, daemons.pilot(folder) as pilot:
        galley.wait_ready()
        pilot.wait_ready()
        nodes = {"sidecar": xds.sidecar(), "gateway": xds.gateway()}
        clients = {(n, c.__name__): c(pilot.address, who) for n, who in nodes.items() for c in (xds.StateOfTheWorld, xds.Delta)}
        started = time.monotonic()
        for number in range(EDITS):
            change.step()
            if change.random.random() < 0.5:
                time.sleep(change.random.random() * 0.06)
            if number % 50 == 49:
                settled(pilot, change.marker(number), *clients.values())
                for n in nodes:
                    equal_soon(clients[n, "StateOfTheWorld"], clients[n, "Delta"], f"{n} after {number + 1} edits, seed {seed}")
        seconds = time.monotonic() - started
        with daemons.pilot(folder, instance="fresh") as fresh:
            fresh.wait_ready()
            for n, who in nodes.items():
                with xds.StateOfTheWorld(fresh.address, who) as anew:
                    equal_soon(clients[n, "Delta"], anew, f"{n}: delta and a pilot started fresh, seed {seed}")
        rejects = pilot.admin.metric("pilot_total_xds_rejects")
        sent = {c: sum(clients["sidecar", c].responses.values()) for c in ("StateOfTheWorld", "Delta")}
        for client in clients.values():
            client.close()
    assert rejects == 0
    assert {"route", "subset", "pod", "service", "broken", "mesh", "strictness"} <= set(change.done)
    figures.add("200 random edits", f"{seconds:.1f} s, {sent['StateOfTheWorld']} state-of-the-world and {sent['Delta']} delta responses")


def node_file(folder, who):
    path = os.path.join(folder, f"{who['id'].split('~')[0]}.node.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump(who, out)
    return path


def render(recording, node):
    result = subprocess.run([util.BUILD / "pilot/pilot", "--replay", recording, "--render", node], capture_output=True, timeout=60, check=False,
                            env={**os.environ, **util.sanitizer_environment()})
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def rendered_types(text):
    """{type: {name: resource}} of `pilot --render`, whatever its outermost form."""
    found = {}
    for kind, resources in json.loads(text).items():
        if kind in xds.URL and isinstance(resources, list):
            found[kind] = {r.get("name") or r.get("clusterName") or r.get("cluster_name"): r for r in resources}
    return found


@pytest.mark.scenario(9)
def test_scenario_9_N25_pilot_alone_renders_what_galley_recorded(folder):
    source = daemons.copy_of_bookinfo(folder)
    recording = os.path.join(folder, "recording")
    change = edits.Edits(source, 9)
    nodes = [xds.sidecar(), xds.gateway()]
    live = {}
    with daemons.galley(folder, source, "--record", recording) as galley, daemons.pilot(folder) as pilot:
        galley.wait_ready()
        pilot.wait_ready()
        for _ in range(20):
            change.step()
        marker = change.marker(0)
        for who in nodes:
            with xds.StateOfTheWorld(pilot.address, who) as client:
                settled(pilot, marker, client)
                until(client.complete, what="all resources")
                live[who["id"]] = client.snapshot()
    # galley, and the pilot that listened to it, are gone.
    with daemons.pilot(folder, "--replay", recording, instance="replay") as pilot:
        pilot.wait_ready()
        for who in nodes:
            with xds.Delta(pilot.address, who) as client:
                until(lambda c=client, w=who: c.snapshot() == live[w["id"]] or assert_equal(c.snapshot(), live[w["id"]], "replay and live"), 10)
    for who in nodes:
        path = node_file(folder, who)
        text = render(recording, path)
        assert text == render(recording, path)
        types = rendered_types(text)
        assert {k: sorted(v) for k, v in types.items()} == {k: sorted(v) for k, v in live[who["id"]].items()}


@pytest.mark.scenario(9)
def test_scenario_9_G15_subscriber_that_loses_messages_resyncs(folder):
    """The pilot in question hears galley's live messages through a relay that loses two of three."""
    source = daemons.copy_of_bookinfo(folder)
    change = edits.Edits(source, 12)
    with daemons.galley(folder, source) as galley, daemons.pilot(folder, instance="whole") as whole:
        galley.wait_ready()
        os.mkdir(f"{folder}/lossy")
        live = lossy.Lossy(f"{folder}/lossy/galley-live", f"{folder}/galley-live", lambda index: index % 3 != 0)
        snap = lossy.Lossy(f"{folder}/lossy/galley-snap", f"{folder}/galley-snap", lambda index: False)
        with daemons.pilot(folder, instance="lossy", bus=f"ipc://{folder}/lossy/{{role}}") as suffering:
            whole.wait_ready()
            suffering.wait_ready()
            with xds.Delta(whole.address, xds.sidecar()) as good, xds.Delta(suffering.address, xds.sidecar()) as bad:
                for _ in range(60):
                    change.step()
                    time.sleep(change.random.random() * 0.05)
                settled(whole, change.marker(1), good, bad)
                equal_soon(good, bad, "a pilot that loses messages and one that does not")
            gaps = sum(suffering.admin.metric("bus_resyncs_total", publisher="galley", reason=r) for r in ("gap", "silent_gap"))
            assert live.lost >= 10 and gaps >= 1, (live.lost, gaps)
            assert sum(whole.admin.metric("bus_resyncs_total", publisher="galley", reason=r) for r in ("gap", "silent_gap")) == 0
        live.close()
        snap.close()
