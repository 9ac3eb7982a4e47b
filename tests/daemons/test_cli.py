"""The fairlead command against real daemons that it started itself: control plane only, and a small mesh with two real Envoys."""
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc")).resolve()
FAIRLEAD = BUILD / "cli/fairlead"
ENVOY = subprocess.run([ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()
STEPS = ROOT / "samples/bookinfo-steps"
COMMANDS = ["up", "status", "validate", "proxy-status", "proxy-config", "bus", "wait"]
USER = 64123  # an ordinary user, who need not have a name

MESH = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.7.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 9080}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: front}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: ["*"]
  gateways: [front]
  http: [{route: [{destination: {host: web, subset: v1, port: {number: 80}}}]}]
"""

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web, version: v1}}
spec:
  serviceAccountName: web
  containers:
  - name: web
    command: [python3, -S, %s/samples/bookinfo/src/echo.py, --port, "9080"]
    ports: [{containerPort: 9080}]
status: {phase: Running, podIP: 10.88.7.1, conditions: [{type: Ready, status: "True"}]}
""" % ROOT

FRONT = """
apiVersion: v1
kind: Pod
metadata: {name: front-1, labels: {istio: front}, annotations: {inject.istio.io/templates: gateway}}
spec: {containers: [{name: istio-proxy, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.88.7.2, conditions: [{type: Ready, status: "True"}]}
"""


def run(*words, input=None, env=None, timeout=60, **named):
    return subprocess.run([FAIRLEAD, *map(str, words)], input=input, env=env, capture_output=True, text=True, timeout=timeout, check=False, **named)


def until(check, seconds=30):
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        assert time.monotonic() < end, f"not within {seconds} s: {got}"
        time.sleep(0.05)


def processes_with(text):
    """Processes of whose command line `text` is a part, but not this one."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Up:
    """A `fairlead up` with a folder of its own, in which everything is: configuration, state, the runtime directory."""

    def __init__(self, source, *options, user=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
        self.dir, self.state = self.folder / "c", self.folder / "s"
        if callable(source):
            self.dir.mkdir()
            source(self.dir)
        else:
            shutil.copytree(source, self.dir)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder / "r"), FAIRLEAD_ENVOY=ENVOY)
        self.prefix = []
        if user and os.getuid() == 0:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user, user)
            self.prefix = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(
            [*self.prefix, FAIRLEAD, "up", self.dir, "--state", self.state, "--listen", "127.0.0.1:0", *options],
            env=self.env, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            until(self.is_up, 60)
        except BaseException:
            self.kill()
            raise

    def output(self):
        return (self.folder / "log").read_text()

    def is_up(self):
        assert self.process.poll() is None, self.output()
        return "The mesh is up" in self.output() or None

    def ask(self, *words, **named):
        return run(*words, env=self.env, **named)

    def json(self, *words):
        done = self.ask(*words, "-o", "json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def control(self, method, path):
        done = subprocess.run(["curl", "-s", "-X", method, "--unix-socket", self.state / "up.sock", f"http://up{path}"], capture_output=True,
                              text=True, timeout=10, check=True)
        return done.stdout

    def unit(self, name):
        return next((u for u in json.loads(self.control("GET", "/mesh"))["mesh"]["units"] if u["name"] == name), None)

    def listen(self):
        return json.loads(self.control("GET", "/mesh"))["listen"]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def close(self):
        if self.process.poll() is None:
            self.stop()
        self.log.close()
        left = until(lambda: not processes_with(str(self.folder)) or None, 10)
        shutil.rmtree(self.folder)
        assert left


@pytest.fixture(scope="module")
def plane():
    """Galley, pilot and citadel on Bookinfo's configuration; no pod."""
    up = Up(ROOT / "samples/bookinfo", "--no-pods")
    yield up
    up.close()


def small_mesh(folder):
    (folder / "mesh.yaml").write_text(MESH)
    (folder / "web.yaml").write_text(WEB)
    (folder / "front.yaml").write_text(FRONT)


@pytest.fixture(scope="module")
def mesh():
    """A gateway and one pod behind it."""
    up = Up(small_mesh)
    yield up
    up.close()


# ---- words

def test_every_command_is_listed_and_has_help():
    listed = run("--help")
    assert listed.returncode == 0
    commands = re.findall(r"^  ([a-z][a-z-]+) ", listed.stdout, re.M)
    assert set(COMMANDS) <= set(commands) and len(set(commands)) == len(commands)
    for command in commands:
        done = run(command, "--help")
        assert done.returncode == 0 and done.stderr == ""
        assert f"Usage: fairlead {command}" in done.stdout
        assert "Options:\n  --" in done.stdout
    assert run("up", "-h").stdout == run("up", "--help").stdout


def test_version_and_wrong_words():
    assert re.fullmatch(r"fairlead \d+\.\d+\.\d+\n", run("--version").stdout)
    done = run("proxystatus")
    assert done.returncode == 2 and 'did you mean "proxy-status"?' in done.stderr
    assert run().returncode == 2
    for words in (["status", "--nonsense"], ["validate"], ["proxy-config", "cheese", "x"], ["bus", "play"], ["status", "-o", "xml"], ["up"],
                  ["bus", "record"], ["bus", "tap", "--topic", "cheese"], ["proxy-config", "routes"]):
        done = run(*words)
        assert done.returncode in (1, 2), words
        assert done.stderr.startswith(f"fairlead {words[0]}: "), done.stderr
        assert done.stdout == ""


# ---- validate

def test_validate_accepts_what_is_good():
    done = run("validate", ROOT / "samples/bookinfo")
    assert done.returncode == 0
    assert re.search(r"11 files, 29 objects accepted, .*: 0 errors, 0 warnings", done.stdout)
    for step in sorted(STEPS.glob("*.yaml")):
        good = step.stem not in ("reviews-one-bad", "reviews-broken")
        assert run("validate", step).returncode == (0 if good else 1), step


def test_G11_validate_names_file_line_path_and_rule():
    path = STEPS / "reviews-one-bad.yaml"
    done = run("validate", path)
    assert done.returncode == 1
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip().startswith("wieght"))
    assert f"{path}:{line}: error: VirtualService default/reviews: spec.http[0].route[0].wieght: unknown field" in done.stdout
    assert "[unknown-field]" in done.stdout
    broken = run("validate", STEPS / "reviews-broken.yaml")
    assert broken.returncode == 1 and "[yaml-syntax]" in broken.stdout


def test_validate_for_programs_and_from_stdin():
    text = (STEPS / "reviews-one-bad.yaml").read_text()
    done = run("validate", "-o", "json", "-", input=text)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["files"], result["accepted"], result["errors"]) == (1, 2, 1)
    (problem,) = result["problems"]
    assert problem["file"] == "stdin" and problem["rule"] == "unknown-field" and problem["path"] == "spec.http[0].route[0].wieght"
    assert run("validate", "-", input="").returncode == 0


def test_validate_takes_several_paths_as_one_configuration(tmp_path):
    shutil.copy(STEPS / "reviews-v1.yaml", tmp_path / "a.yaml")
    shutil.copy(STEPS / "reviews-v3.yaml", tmp_path / "b.yaml")
    done = run("validate", tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert done.returncode == 1 and "[duplicate-object]" in done.stdout and str(tmp_path / "a.yaml") in done.stdout
    assert run("validate", tmp_path / "a.yaml").returncode == 0


def test_validate_says_what_it_cannot_read(tmp_path):
    done = run("validate", tmp_path / "nothing.yaml")
    assert done.returncode == 1 and "No such file" in done.stderr


# ---- the control plane alone

def test_status_of_a_control_plane(plane):
    done = plane.ask("status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^galley +yes +\d", done.stdout, re.M)
    assert re.search(r"^pilot +citadel +live ", done.stdout, re.M)
    assert "29 objects accepted, 0 rejected, 0 errors" in done.stdout
    status = plane.json("status")
    assert status["ready"] is True and status["state"] == str(plane.state) and status["pods"] == []
    assert [d["name"] for d in status["daemons"]] == ["galley", "pilot", "citadel"]
    for daemon in status["daemons"]:
        assert daemon["private_bytes"] > 0 and daemon["starts"] == 1 and os.path.exists(f"/proc/{daemon['pid']}")
        assert daemon["version"] == run("--version").stdout.split()[1]
    assert {(b["subscriber"], b["publisher"], b["state"]) for b in status["bus"]} == {("pilot", "galley", "live"), ("pilot", "citadel", "live")}


def test_status_names_a_rejected_object(plane):
    target = plane.dir / "networking/virtual-service-reviews.yaml"
    good = target.read_text()
    shutil.copy(STEPS / "reviews-one-bad.yaml", target)
    until(lambda: plane.json("status")["configuration"]["rejected"])
    config = plane.json("status")["configuration"]
    assert [r["key"] for r in config["rejected"]] == ["VirtualService/default/reviews"]
    assert config["errors"] == 1 and config["problems"][0]["rule"] == "unknown-field"
    table = plane.ask("status").stdout
    assert re.search(r"^VirtualService/default/reviews +unknown-field +\S+virtual-service-reviews.yaml:\d+ ", table, re.M)
    target.write_text(good)
    until(lambda: not plane.json("status")["configuration"]["rejected"])


def test_status_of_a_daemon_that_is_down(plane):
    plane.control("POST", "/unit/citadel?do=stop")
    until(lambda: plane.unit("citadel")["pid"] == 0)
    done = plane.ask("status")
    assert done.returncode == 1
    assert re.search(r"^citadel +no .*does not answer$", done.stdout, re.M)
    plane.control("POST", "/unit/citadel?do=start")
    until(lambda: plane.ask("status").returncode == 0)


def test_a_killed_daemon_is_started_again(plane):
    before = plane.unit("galley")
    os.kill(before["pid"], signal.SIGKILL)
    after = until(lambda: (lambda u: u if u["pid"] not in (0, before["pid"]) else None)(plane.unit("galley")))
    assert after["starts"] == before["starts"] + 1
    until(lambda: plane.ask("status").returncode == 0)
    assert "ended and will be started again" in plane.output()


def test_daemons_can_be_asked_by_address(plane):
    addresses = [f"--{d}=unix:{plane.state}/{d}.admin" for d in ("galley", "pilot", "citadel")]
    env = dict(os.environ, XDG_RUNTIME_DIR=str(plane.folder / "elsewhere"))
    assert run("status", env=env).returncode == 1
    done = run("status", *addresses, env=env)
    assert done.returncode == 0 and re.search(r"^pilot +yes ", done.stdout, re.M)
    assert run("proxy-status", addresses[1], env=env).stdout.startswith("NAME ")
    nobody = run("proxy-status", "--pilot", "127.0.0.1:1", env=env)
    assert nobody.returncode == 1 and "127.0.0.1:1 does not answer" in nobody.stderr
    assert run("status", "--state", plane.state, env=env).returncode == 0


def test_tap_shows_the_snapshot_and_then_changes(plane):
    once = plane.ask("bus", "tap", "--once")
    assert once.returncode == 0, once.stderr
    lines = [json.loads(line) for line in once.stdout.splitlines()]
    assert {line["publisher"] for line in lines} == {"galley", "citadel"} and all(line["resync"] for line in lines)
    (reviews,) = [line for line in lines if line["topic"] == "virtual_service" and line["key"] == "default/reviews"]
    assert reviews["value"]["spec"]["http"][0]["route"][0]["destination"]["host"].startswith("reviews")
    tap = subprocess.Popen([FAIRLEAD, "bus", "tap", "--topic", "virtual_service"], env=plane.env, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    try:
        assert {json.loads(tap.stdout.readline())["key"] for _ in range(2)} == {"default/bookinfo", "default/reviews"}
        target = plane.dir / "networking/virtual-service-reviews.yaml"
        good = target.read_text()
        shutil.copy(STEPS / "reviews-90-10.yaml", target)
        change = json.loads(tap.stdout.readline())
        assert (change["op"], change["key"], change["resync"]) == ("put", "default/reviews", False)
        assert sorted(r["weight"] for r in change["value"]["spec"]["http"][0]["route"]) == [10, 90]
        target.unlink()
        gone = json.loads(tap.stdout.readline())
        assert (gone["op"], gone["key"]) == ("delete", "default/reviews") and "value" not in gone
        target.write_text(good)
        assert json.loads(tap.stdout.readline())["op"] == "put"
    finally:
        tap.send_signal(signal.SIGINT)
        assert tap.wait(10) == 0
        tap.stdout.close()


def test_a_recording_is_replayed_by_pilot(plane, tmp_path):
    file = tmp_path / "recording"
    result = json.loads(plane.ask("bus", "record", file, "--once", "-o", "json").stdout)
    assert result["file"] == str(file) and result["changes"] == 23 and result["publisher"] == "galley"
    rendered = subprocess.run(
        [BUILD / "pilot/pilot", "--replay", file, "--render", ROOT / "tests/golden/pilot/sidecar.node.json", "--admin-address",
         f"unix:{tmp_path}/admin"], capture_output=True, text=True, timeout=60, check=True)
    names = {c["name"] for c in json.loads(rendered.stdout)["cds"]}
    assert "outbound|9080|v3|reviews.default.svc.cluster.local" in names
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        refused = subprocess.run([BUILD / "pilot/pilot", "--replay", file, "--xds-address", address, "--admin-address", f"unix:{tmp_path}/admin"],
                                 capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1 and f"--xds-address: listen on {address}" in refused.stderr.splitlines()[-1]
    none = plane.ask("bus", "record", file, "--bus", f"ipc://{tmp_path}/{{role}}", "--timeout", "300ms")
    assert none.returncode == 1 and "galley does not answer on the bus" in none.stderr


# ---- a mesh with Envoys

def fetch(up, path="/"):
    try:
        with urllib.request.urlopen(f"http://{up.listen()}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def test_the_machine_reaches_a_pod_through_the_gateway(mesh):
    status, body = until(lambda: fetch(mesh))
    assert status == 200
    assert "spiffe://cluster.local/ns/default/sa/default" in json.dumps(json.loads(body)["peer"])


def test_status_lists_pods(mesh):
    status = mesh.json("status")
    assert status["ready"] is True
    assert {(p["name"], p["ip"], p["ready"], p["gateway"]) for p in status["pods"]} == {
        ("web-1", "10.88.7.1", True, False), ("front-1", "10.88.7.2", True, True)}
    assert re.search(r"^web-1 +default +10\.88\.7\.1 +yes +yes ", mesh.ask("status").stdout, re.M)


def synced(up):
    rows = up.json("proxy-status")
    return len(rows) == 2 and all(r["cluster_status"][t]["status"] == "SYNCED" for r in rows for t in ("cds", "lds", "eds", "rds"))


def test_O02_proxy_status(mesh):
    until(lambda: synced(mesh))
    done = mesh.ask("proxy-status")
    assert done.returncode == 0
    head, *rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert head == ["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "PILOT", "VERSION"]
    assert [r[0] for r in rows] == ["front-1.default", "web-1.default"]
    assert all(r[1:7] == ["Kubernetes"] + ["SYNCED"] * 4 + ["pilot-0"] for r in rows)
    one = mesh.ask("proxy-status", "web-1.default")
    assert re.search(r"^cds +SYNCED +\d+ +([0-9a-f]{16}) +\1 ", one.stdout, re.M)
    assert mesh.ask("proxy-status", "web-1", "-n", "default").stdout == one.stdout
    assert mesh.ask("proxy-status", "web-1", "-n", "shop").returncode == 1
    assert "has no proxy ghost" in mesh.ask("proxy-status", "ghost").stderr


CLUSTER = "outbound|80|v1|web.default.svc.cluster.local"


@pytest.mark.parametrize("source", ["envoy", "pilot"])
def test_O03_proxy_config_tables(mesh, source):
    until(lambda: synced(mesh))

    def table(kind, pod="front-1.default"):
        done = mesh.ask("proxy-config", kind, pod, "--from", source)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout

    assert re.match("ADDRESSES +PORT +MATCH +DESTINATION\n", table("listeners"))
    assert re.search(r"^0\.0\.0\.0 +8080 +ALL +Route: http\.8080$", table("listeners"), re.M)
    assert re.search(r"^http\.8080 .* /\* +front\.default +" + re.escape(CLUSTER) + "$", table("routes"), re.M)
    assert re.search(r"^web\.default\.svc\.cluster\.local +80 +v1 +outbound +EDS +web\.default$", table("clusters"), re.M)
    outlier = "OK" if source == "envoy" else "-"
    assert re.search(r"^10\.88\.7\.1:9080 +HEALTHY +" + outlier + " +" + re.escape(CLUSTER) + "$", table("endpoints"), re.M)
    assert re.search(r"^0\.0\.0\.0 +15006 +Trans: tls; App: istio.*; Addr: \*:9080 +Inline Route: /\*$", table("listeners", "web-1"), re.M)
    everything = table("all")
    parts = ["LISTENERS", "ROUTES", "CLUSTERS", "ENDPOINTS"] + (["SECRETS"] if source == "envoy" else [])
    assert [line for line in everything.splitlines() if re.fullmatch("[A-Z]+", line)] == parts


def test_O03_what_envoy_has_is_what_pilot_sent(mesh):
    until(lambda: synced(mesh))
    for kind in ("clusters", "listeners", "routes"):
        sent = {r["name"]: r["version"] for r in mesh.json("proxy-config", kind, "front-1", "--from", "pilot")}
        has = {r["name"]: r["version"] for r in mesh.json("proxy-config", kind, "front-1", "--from", "envoy") if r["state"] == "ACTIVE"}
        assert sent and sent == has


def test_O03_proxy_config_for_programs(mesh):
    until(lambda: synced(mesh))
    (cluster,) = mesh.json("proxy-config", "clusters", "front-1", "--name", CLUSTER)
    assert cluster["resource"]["name"] == CLUSTER and cluster["state"] == "ACTIVE"
    everything = mesh.json("proxy-config", "all", "front-1")
    assert set(everything) == {"listeners", "routes", "clusters", "endpoints", "secrets"}
    bootstrap = json.loads(mesh.ask("proxy-config", "bootstrap", "web-1").stdout)
    assert bootstrap["node"]["id"].startswith("sidecar~10.88.7.1~web-1.default~")


def test_O03_secrets_are_shown_without_private_keys(mesh):
    done = mesh.ask("proxy-config", "secrets", "web-1")
    assert re.search(r"^default +Cert Chain +ACTIVE +yes +[0-9a-f]+ +\S+Z +\S+Z +spiffe://cluster\.local/ns/default/sa/web$", done.stdout, re.M)
    assert re.search(r"^ROOTCA +CA +ACTIVE +yes ", done.stdout, re.M)
    for words in (["secrets", "web-1"], ["all", "web-1"], ["bootstrap", "web-1"]):
        text = mesh.ask("proxy-config", *words, "-o", "json").stdout
        assert text and "private" not in text.lower()
    refused = mesh.ask("proxy-config", "secrets", "web-1", "--from", "pilot")
    assert refused.returncode == 1 and "pilot sends no secrets" in refused.stderr


def test_proxy_config_falls_back_to_pilot_and_says_so(mesh):
    agent = mesh.state / "pods/default.front-1/agent.admin"
    agent.rename(agent.with_suffix(".away"))
    try:
        done = mesh.ask("proxy-config", "clusters", "front-1")
        assert done.returncode == 0 and "web.default.svc.cluster.local" in done.stdout
        assert "what pilot sent, because Envoy was not reached" in done.stderr
        assert mesh.ask("proxy-config", "clusters", "front-1", "--from", "envoy").returncode == 1
    finally:
        agent.with_suffix(".away").rename(agent)
    ghost = mesh.ask("proxy-config", "clusters", "ghost")
    assert ghost.returncode == 1 and "has no proxy ghost" in ghost.stderr


def test_the_agent_passes_on_only_what_shows(mesh):
    def ask(method, path):
        return subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket", mesh.state / "pods/default.web-1/agent.admin",
             f"http://agent{path}"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert ask("GET", "/envoy/server_info") == "200"
    assert ask("GET", "/envoy/stats?filter=server.state") == "200"
    for method, path in (("POST", "/envoy/quitquitquit"), ("GET", "/envoy/quitquitquit"), ("GET", "/envoy/"), ("GET", "/envoy/logging")):
        assert ask(method, path) in ("404", "405"), path
    assert ask("GET", "/envoy/ready") == "200"


def inside(up, pod, *command):
    pid = json.loads((up.state / "pods" / pod / "run.json").read_text())["app"]
    return subprocess.run(["nsenter", "-t", str(pid), "-n", "-m", *command], capture_output=True, text=True, timeout=30, check=False).stdout


@pytest.mark.skipif(os.getuid() != 0, reason="enters a pod's namespaces")
def test_names_in_a_pod(mesh):
    assert inside(mesh, "default.web-1", "getent", "hosts", "web.default.svc").startswith("10.96.7.1 ")
    start = time.monotonic()
    assert inside(mesh, "default.web-1", "getent", "hosts", "no-such-name.example") == ""
    assert time.monotonic() - start < 2


def test_a_dead_pod_comes_back(mesh):
    before = mesh.unit("default/web-1")
    os.kill(before["pid"], signal.SIGKILL)
    after = until(lambda: (lambda u: u if u["pid"] not in (0, before["pid"]) else None)(mesh.unit("default/web-1")))
    assert after["starts"] == before["starts"] + 1
    until(lambda: fetch(mesh, "/again"), 60)
    until(lambda: mesh.ask("status").returncode == 0, 60)


@pytest.mark.parametrize("part", ["app", "agent"])
def test_a_dead_part_of_a_pod_comes_back(mesh, part):
    def parts():
        return json.loads((mesh.state / "pods/default.web-1/run.json").read_text())

    before, unit = parts(), mesh.unit("default/web-1")
    os.kill(before[part], signal.SIGKILL)
    after = until(lambda: (lambda p: p if p[part] not in (0, before[part]) else None)(parts()))
    other = "agent" if part == "app" else "app"
    assert after[other] == before[other] and after["pid"] == before["pid"]
    assert mesh.unit("default/web-1")["starts"] == unit["starts"]
    until(lambda: mesh.ask("status").returncode == 0, 60)
    until(lambda: fetch(mesh, "/again"), 60)


def test_a_pod_whose_sockets_would_have_too_long_paths_is_named(mesh):
    name = "w" * 80
    (mesh.dir / "long.yaml").write_text(WEB.replace("web-1", name).replace("10.88.7.1", "10.88.7.9"))
    until(lambda: f"default/{name}" in mesh.output() and "over 107 bytes" in mesh.output())
    (mesh.dir / "long.yaml").unlink()
    assert mesh.ask("status").returncode == 0


def test_pods_follow_the_directory(mesh):
    (mesh.dir / "more.yaml").write_text(WEB.replace("web-1", "web-2").replace("10.88.7.1", "10.88.7.3"))
    until(lambda: {p["name"]: p["ready"] for p in mesh.json("status")["pods"]}.get("web-2"), 60)
    pid = mesh.unit("default/web-2")["pid"]
    (mesh.dir / "more.yaml").write_text("kind: [\n")
    until(lambda: "yaml-syntax" in mesh.output())
    assert mesh.unit("default/web-2")["pid"] == pid
    (mesh.dir / "more.yaml").unlink()
    until(lambda: mesh.unit("default/web-2")["pid"] == 0, 60)
    assert fetch(mesh)[0] == 200


# ---- the end, and what cannot begin

def mounts():
    return pathlib.Path("/proc/self/mountinfo").read_text()


def namespaces():
    found = set()
    for entry in pathlib.Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(entry))
        except OSError:
            pass
    return found


SLEEPER = """
apiVersion: v1
kind: Pod
metadata: {name: sleeper, annotations: {sidecar.istio.io/inject: "false"}}
spec:
  containers:
  - {name: app, command: [sh, -c, "sleep 1001 & sleep 1002; true", MARK]}
status: {podIP: 10.88.9.1}
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(end):
    before = mounts()

    def source(folder):
        (folder / "pod.yaml").write_text(SLEEPER.replace("MARK", str(folder)))

    up = Up(source)
    inside = [os.readlink(f"/proc/{p}/ns/net") for p in processes_with(str(up.folder)) if p != up.process.pid]
    own = set(inside) - {os.readlink("/proc/self/ns/net")}
    assert len(own) == 2  # the node's and the pod's
    pod = mesh_pids(up)
    assert len(pod) >= 3  # its init, the shell and the sleeps
    up.process.send_signal(end)
    assert up.process.wait(60) == (-end if end == signal.SIGKILL else 0)
    until(lambda: not processes_with(str(up.folder)), 10)
    until(lambda: not any(map(lives, pod)), 10)
    assert not own & namespaces()
    assert mounts() == before
    up.close()


def lives(pid):
    """A process that has ended and that the machine's first process has not collected yet does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mesh_pids(up):
    """Every process in the network namespace of the one pod."""
    pid = up.unit("default/sleeper")["pid"]
    until(lambda: len(in_namespace(pid)) >= 4)
    return in_namespace(pid)


def in_namespace(pid):
    wanted = os.readlink(f"/proc/{pid}/ns/net")
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/net") == wanted:
                found.append(int(entry.name))
        except OSError:
            pass
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="every other test ran as an ordinary user already")
def test_an_ordinary_user_runs_a_mesh():
    def source(folder):
        small_mesh(folder)
        (folder / "config.yaml").write_text(
            "apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {trustDomain: shop.example}\n")
        (folder / "bad.yaml").write_text("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: bad}\nspec: {selektor: {}}\n")

    up = Up(source, user=USER)
    try:
        assert os.stat(f"/proc/{up.process.pid}").st_uid == USER
        status, body = until(lambda: fetch(up), 60)
        assert status == 200 and "spiffe://shop.example/ns/default/sa/default" in body
        assert "bad.yaml:4: error: Gateway default/bad: spec.selektor: unknown field" in up.output()
    finally:
        up.close()


def start_fails(tmp_path, *options, env=None, **named):
    source = tmp_path / "c"
    source.mkdir(exist_ok=True)
    (source / "web.yaml").write_text(WEB)
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as state:
        os.chmod(state, 0o777)
        done = run("up", source, "--state", f"{state}/s", "--listen", "127.0.0.1:0", *options,
                   env=dict(os.environ, FAIRLEAD_ENVOY=ENVOY, XDG_RUNTIME_DIR=f"{state}/r", **(env or {})), **named)
    assert done.returncode == 1 and done.stderr.startswith("fairlead up: ")
    return done.stderr


def test_what_is_missing_is_named(tmp_path):
    assert "no Envoy: \"/nowhere/envoy\"" in start_fails(tmp_path, "--envoy", "/nowhere/envoy")
    assert "--bin" in start_fails(tmp_path, "--bin", tmp_path)
    empty = tmp_path / "bin"
    empty.mkdir()
    assert "install iproute2" in start_fails(tmp_path, env={"PATH": str(empty)})
    assert "--only-daemons: \"pilots\"" in start_fails(tmp_path, "--only-daemons", "pilots")
    assert "at most 60" in start_fails(tmp_path, "--state", f"{tmp_path}/{'x' * 60}")
    assert run("up", tmp_path / "nothing").returncode == 1
    assert "is not a directory" in run("up", ROOT / "README.md").stderr


def forbid_user_namespaces():
    """In the child: a user namespace without a mapped user, in which no further one may be made."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x10000000) == 0
    pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")


def test_without_user_namespaces_an_ordinary_user_is_told(tmp_path):
    for path in [tmp_path, *tmp_path.parents]:
        if path.is_relative_to("/tmp") and path.stat().st_uid == os.getuid() and path != pathlib.Path("/tmp"):
            path.chmod(0o755)
    assert "make a user namespace" in start_fails(tmp_path, preexec_fn=forbid_user_namespaces)


def test_a_state_directory_and_a_port_belong_to_one(plane):
    again = plane.ask("up", plane.dir, "--no-pods", "--state", plane.state)
    assert again.returncode == 1 and "a mesh is already running with state in" in again.stderr
    folder = tempfile.mkdtemp(prefix="fl-", dir="/tmp")
    taken = plane.ask("up", plane.dir, "--no-pods", "--state", folder, "--listen", plane.listen())
    assert taken.returncode == 1 and "--listen" in taken.stderr and "Address already in use" in taken.stderr
    shutil.rmtree(folder)
    assert plane.ask("status").returncode == 0


def test_daemons_start_in_the_order_that_is_asked_for():
    up = None
    folder = tempfile.mkdtemp(prefix="fl-", dir="/tmp")
    log = open(pathlib.Path(folder) / "log", "w+")
    env = dict(os.environ, XDG_RUNTIME_DIR=f"{folder}/r")
    process = subprocess.Popen([FAIRLEAD, "up", ROOT / "samples/bookinfo", "--no-pods", "--only-daemons", "none", "--state", f"{folder}/s",
                                "--listen", "127.0.0.1:0"], env=env, stdout=log, stderr=log)
    try:
        up = until(lambda: (lambda d: json.loads(d.stdout) if d.stdout else None)(run("status", "-o", "json", env=env)))
        assert [d["up"] for d in up["daemons"]] == [False] * 3
        for daemon in ("pilot", "citadel", "galley"):
            subprocess.run(["curl", "-s", "-X", "POST", "--unix-socket", f"{folder}/s/up.sock", f"http://up/unit/{daemon}?do=start"], check=True,
                           timeout=10, stdout=subprocess.DEVNULL)
            until(lambda d=daemon: next(x for x in json.loads(run("status", "-o", "json", env=env).stdout)["daemons"] if x["name"] == d)["up"])
        until(lambda: run("status", env=env).returncode == 0)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log.close()
        shutil.rmtree(folder)
