"""The mesh as a whole: an ordinary user's, its end, and what it costs."""
import os
import shutil
import subprocess
import time

import pytest
import util
from mesh import Mesh
from small import small
from test_traffic import GATEWAY_ID
from util import until

NOBODY = 65534
DAEMONS = ("galley", "pilot", "citadel")
LIMIT_KB = 30 * 1024
IDLE_SECONDS = 5


def copy_of_programs(folder):
    """Where any user may read them."""
    for name in ("galley/galley", "pilot/pilot", "citadel/citadel", "agent/agent", "cli/fairlead"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(util.BUILD / name, target)
    shutil.copy(subprocess.run([util.ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip(), folder / "envoy")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    return folder


def with_other_ports(folder):
    small(folder)
    with open(folder / "mesh.yaml", "a", encoding="utf-8") as file:
        file.write("  proxyListenPort: 15101\n  proxyInboundListenPort: 15106\n")


@pytest.mark.scenario(11)
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_N24_A16_ordinary_user_runs_a_mesh():
    """With other ports of proxies than the usual ones, to which capture has to lead."""
    with Mesh(prepare=with_other_ports, user=NOBODY, programs=copy_of_programs, quick=True) as mesh:
        assert {os.stat(f"/proc/{u['pid']}").st_uid for u in mesh.units()} == {NOBODY}
        assert mesh.json("/x")["peer"] == GATEWAY_ID
        listening = mesh.run_in("default/echo-v1", "ss", "-Htln")
        assert all(f":{port} " in listening for port in (15101, 15106)) and not any(f":{port} " in listening for port in (15001, 15006))
        # Link addresses that change when pods come and go make others wait for ARP.
        assert "0a:58:0a:58:00:01" in mesh.run_in(None, "ip", "link", "show", "fl0")
        assert "0a:58:0a:58:01:14" in mesh.run_in("default/echo-v1", "ip", "link", "show", "eth0")
        mesh.step("peer-strict.yaml", "security.yaml")
        until(lambda: mesh.curl(None, "http://10.88.1.20:9080/x")[0] == 0, 10, "plaintext refused")
        assert mesh.json("/x")["peer"] == GATEWAY_ID


def tree(pid):
    return [pid, *(c for child in util.children(pid) for c in tree(child))]


@pytest.mark.scenario(12)
@pytest.mark.skipif(util.SANITIZED, reason="sanitizers hold memory of their own")
def test_idle_daemons_hold_little_memory(mesh, figures):
    pids = {name: tree(mesh.unit(name)["pid"]) for name in DAEMONS}
    spent = {name: sum(map(util.cpu_seconds, p)) for name, p in pids.items()}
    time.sleep(IDLE_SECONDS)  # what is measured is the passing of time
    total = 0
    for name in DAEMONS:
        memory = sum(map(util.private_kb, pids[name]))
        idle = (sum(map(util.cpu_seconds, pids[name])) - spent[name]) / IDLE_SECONDS
        figures.add(f"{name}: private memory; CPU idle; CPU so far", f"{memory / 1024:.1f} MB; {100 * idle:.1f} %; {spent[name]:.1f} s")
        total += memory
    figures.add("three daemons, idle, private memory", f"{total / 1024:.1f} MB (limit 30)")
    assert total <= LIMIT_KB
