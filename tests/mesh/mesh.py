"""A whole mesh under test: `fairlead up` on a copy of Bookinfo, and every way to look at it, to change it and to hurt it."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse

import util
from load import Load
from util import until

REVIEWS = "networking/virtual-service-reviews.yaml"
NODE = "10.88.0.1"
STOP_SECONDS = 60
AGAIN_SECONDS = 1.2  # a second Ctrl-C, "at once", counts when it is no echo of the first
ENVOY_ADMIN = 15000


class Mesh:
    """`with Mesh() as mesh:` is up and ready; afterwards nothing of it is left. The directory is a copy that tests may change."""

    def __init__(self, source=util.BOOKINFO, prepare=None, options=(), only=None, user=None, programs=None, quick=False):
        """prepare(dir) changes the copy; only: the daemons that start at once, pods start anyway; programs(folder) makes another build folder;
        quick: the end does not wait for proxies to drain."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flm-", dir="/tmp"))
        self.user, self.quick = user, quick
        self.state, self.dir = self.folder / "s", self.folder / "d"
        self.state.mkdir(mode=0o700)
        shutil.copytree(source, self.dir, ignore=shutil.ignore_patterns("__pycache__"))
        if prepare:
            prepare(self.dir)
        self.original = {p.relative_to(self.dir): p.read_bytes() for p in self.dir.rglob("*") if p.is_file()}
        build = programs(self.folder / "build") if programs else util.BUILD
        if user:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user, user)
        self.mark = f"FAIRLEAD_TEST={self.folder}"
        self.log_path = self.folder / "up.log"
        self.argv = [build / "cli/fairlead", "up", self.dir, "--state", self.state, "--listen", "127.0.0.1:0",
                     "--envoy", build / "envoy" if programs else envoy(),
                     *options, *(["--only-daemons", ",".join(only) or "none"] if only is not None else [])]
        self.process = None
        self.only = only

    # ---- life

    def start(self):
        name, _, value = self.mark.partition("=")
        environment = {**os.environ, **util.sanitizer_environment(), name: value, "PYTHONDONTWRITEBYTECODE": "1",
                       "XDG_RUNTIME_DIR": str(self.folder)}
        prefix = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([*prefix, *map(str, self.argv)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=environment, start_new_session=True)
        try:
            until(self._listens, 20, "the control socket")
            if self.only is None:
                until(lambda: self._listens() and "The mesh is up" in self.log_path.read_text(), what="fairlead up says that the mesh is up")
                self.wait_ready()
        except BaseException as problem:
            problem.add_note(self.logs())
            self.end()
            raise
        return self

    def _listens(self):
        assert self.process.poll() is None, f"fairlead up ended with {self.process.returncode}: {self.log_path.read_text()[-2000:]}"
        return self.mesh()

    def wait_ready(self):
        until(lambda: all(self.is_ready(u) for u in self.units()), what="daemons and pods ready", every=0.05)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if value and not isinstance(value, GeneratorExit):
            value.add_note(self.logs())
        self.end(check=kind is None)

    def end(self, check=False):
        """Stops it as Ctrl-C does; whatever is left afterwards is killed, and counts as a failure when `check` is set."""
        code = None
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.quick:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(AGAIN_SECONDS)
                    self.process.send_signal(signal.SIGINT)
                code = self.process.wait(STOP_SECONDS)
        end = time.monotonic() + 5
        while (left := util.processes_with(self.mark)) and code is not None and time.monotonic() < end:
            time.sleep(0.05)
        names = [f"{pid}: {command_of(pid)}" for pid in left]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reports = util.sanitizer_reports(self.folder)
        if check or not os.environ.get("FAIRLEAD_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        if check:
            assert code == 0, f"fairlead up ended with {code}"
            assert not names, f"left behind: {names}"
            assert not reports, reports[0]

    def logs(self, lines=25):
        """The ends of all logs, for a failed test."""
        found = [f"==== {self.folder}"]
        for path in sorted(self.folder.rglob("*.log")):
            text = [t for t in path.read_text(errors="replace").splitlines() if '"GET /' not in t]
            if text:
                found += [f"---- {path.relative_to(self.folder)}", *text[-lines:]]
        return "\n".join(found)

    # ---- the parts

    def mesh(self):
        return json.loads(util.ask(util.UnixConnection(self.state / "up.sock", 10), "/mesh")[2])

    @property
    def address(self):
        return self.mesh()["listen"]

    def units(self):
        return self.mesh()["mesh"]["units"]

    def unit(self, name):
        return next(u for u in self.units() if u["name"] == name)

    def control(self, name, verb):
        """verb: start, stop or kill (SIGKILL; it comes back)."""
        status, _, text = util.ask(util.UnixConnection(self.state / "up.sock", 10), f"/unit/{urllib.parse.quote(name)}?do={verb}", "POST")
        assert status == 200, (name, verb, status, text)

    def stop_unit(self, name):
        self.control(name, "stop")
        until(lambda: self.unit(name)["pid"] == 0, what=f"{name} stopped")

    def start_unit(self, name):
        self.control(name, "start")
        until(lambda: self.is_ready(self.unit(name)), what=f"{name} ready")

    def kill_unit(self, name):
        """SIGKILL, and waits until a new process is ready."""
        before = self.unit(name)["pid"]
        self.control(name, "kill")
        until(lambda: self.unit(name)["pid"] not in (0, before) and self.is_ready(self.unit(name)), what=f"{name} back")

    def admin(self, name):
        """Of a daemon ("pilot") or of a pod's agent ("default/reviews-v1")."""
        return util.Admin(self.state / f"{name}.admin" if "/" not in name else self.pod_dir(name) / "agent.admin")

    def is_ready(self, unit):
        if not unit["wanted"]:
            return True
        if unit["pid"] == 0 or (unit["kind"] == "pod" and "ip" not in unit):
            return False
        try:
            if unit["kind"] == "pod" and unit["port"] and not unit["gateway"]:
                if not util.listens(self.run_file(unit["name"])["app"], unit["port"]):
                    return False
            if unit["kind"] == "pod" and not unit["proxy"]:
                return True
            return self.admin(unit["name"]).ask("/readyz" if unit["kind"] == "daemon" else "/healthz/ready")[0] == 200
        except OSError:
            return False

    def pod_dir(self, pod):
        return self.state / "pods" / pod.replace("/", ".")

    def run_file(self, pod):
        return json.loads((self.pod_dir(pod) / "run.json").read_text())

    def envoy_pid(self, pod):
        found = [c for c in util.children(self.run_file(pod)["agent"]) if "envoy" in command_of(c)]
        assert found, f"no Envoy below the agent of {pod}"
        return found[0]

    # ---- from inside

    def enter(self, pod=None):
        """The command that runs another in a pod's network and mount namespaces; without a pod in the node's, outside of the mesh."""
        pid = self.run_file(pod)["pid"] if pod else self.mesh()["mesh"]["pid"]
        return ["nsenter", "-t", str(pid), *(["-U", "--preserve-credentials"] if os.geteuid() else []), "-n", "-m"]

    def run_in(self, pod, *argv, check=True, timeout=30):
        return subprocess.run([*self.enter(pod), *map(str, argv)], capture_output=True, text=True, timeout=timeout, check=check).stdout

    def curl(self, pod, url, *options):
        """(status, body) as an application in the pod sees it; status 0: no answer."""
        out = self.run_in(pod, "curl", "-s", "-m", "10", "-w", "\n%{http_code}", *options, url, check=False)
        body, _, status = out.rpartition("\n")
        return int(status or 0), body

    def envoy_stats(self, pod, match):
        """{name: value} of the Envoy of a pod."""
        status, body = self.curl(pod, f"http://127.0.0.1:{ENVOY_ADMIN}/stats?filter={urllib.parse.quote(match)}")
        assert status == 200, (status, body)
        return {k: v.strip() for k, _, v in (line.rpartition(": ") for line in body.splitlines())}

    def proxy_metrics(self, pod):
        """[(name, labels, value)] at the agent's port 15020, as Prometheus reads it."""
        status, body = self.curl(pod, "http://127.0.0.1:15020/stats/prometheus")
        assert status == 200, (status, body[:300])
        return util.parse_metrics(body)

    # ---- traffic and configuration

    def get(self, path, **headers):
        """(status, headers, body) through the gateway."""
        import http.client  # pylint: disable=import-outside-toplevel
        names = {k.replace("_", "-"): v for k, v in headers.items()}
        return util.ask(http.client.HTTPConnection(self.address, timeout=15), path, headers=names)

    def json(self, path, **headers):
        status, _, body = self.get(path, **headers)
        assert status == 200, f"{path}: {status} {body[:300]!r}"
        return json.loads(body)

    def reviews(self, **headers):
        """Which version of reviews a page has."""
        status, answer, _ = self.get("/productpage", **headers)
        assert status == 200, status
        return answer["x-bookinfo-reviews"]

    def load(self, path="/productpage", rate=None, **more):
        """A page counts as good when all its parts answered."""
        return Load(self.address, path, rate=rate or (15 if util.SANITIZED else 30), wanted=good_page, **more)

    def step(self, name, to=REVIEWS):
        """Copies a file of samples/bookinfo-steps as `cp` does; returns the moment after it was written."""
        return self.write(to, (util.STEPS / name).read_text(encoding="utf-8"))

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text, encoding="utf-8")
        return time.monotonic()

    def remove(self, name):
        (self.dir / name).unlink()
        return time.monotonic()

    def reset(self):
        """The directory as it was, all daemons and pods running, and in force everywhere."""
        for path in self.dir.rglob("*.yaml"):
            if path.relative_to(self.dir) not in self.original:
                path.unlink()
        for name, data in self.original.items():
            if not (self.dir / name).exists() or (self.dir / name).read_bytes() != data:
                (self.dir / name).write_bytes(data)
        for unit in self.units():
            if not unit["wanted"] and (unit["kind"] == "daemon" or "ip" in unit):
                self.start_unit(unit["name"])
        self.wait_ready()
        self.settle()

    def settle(self):
        """What the directory says has been read, published, taken by pilot and acknowledged by every proxy: shown by a host made up for it."""
        host = f"settle-{time.monotonic_ns()}.example.com"
        (self.dir / "settle.yaml").write_text(SETTLE.format(host), encoding="utf-8")
        until(lambda: self.all_have(host), what=f"all proxies have {host}")

    def all_have(self, host):
        pilot = self.admin("pilot")
        proxies = pilot.page("resourcesz")
        wanted = sum(1 for u in self.units() if u["kind"] == "pod" and u.get("proxy") and u["wanted"])
        assert len(proxies) == wanted, f"{len(proxies)} proxies of {wanted}"
        for proxy in proxies:
            assert any(host in c["name"] for c in proxy["cds"]), f"{proxy['proxy']} has no {host}"
        for proxy in pilot.page("syncz"):
            for kind, status in proxy["cluster_status"].items():
                assert status["status"] in ("SYNCED", "NOT SENT"), (proxy["proxy"], kind, status)
        return True


SETTLE = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: settle
  namespace: default
spec:
  hosts: [{}]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {{number: 8099, name: tcp, protocol: TCP}}
  endpoints:
  - address: 10.88.9.98
"""


def good_page(status, headers, body):
    """"" when every part of a product page is there; the reason when not."""
    if status != 200:
        return f"status {status} {body[:80]!r}"
    if "x-bookinfo-reviews" in headers:
        if headers["x-bookinfo-reviews"] == "none":
            return "no reviews"
        for part in (b'id="details-error"', b'id="reviews-error"', b'id="ratings-error"'):
            if part in body:
                return part.decode()
    return ""


def envoy():
    return subprocess.run([util.ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()


def command_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
