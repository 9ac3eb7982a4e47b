"""The three daemons on this machine, under measurement: started from nothing in a folder of their own, stopped by process id."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))


class Failed(Exception):
    """A workload could not be run; the text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    def __init__(self, folder, name, *options):
        self.name, self.folder = name, folder
        self.admin = free_port()
        self.options = [str(o) for o in options]
        self.process = None

    def start(self):
        log = open(self.folder / f"{self.name}.log", "a", encoding="utf-8")
        command = [BUILD / self.name / self.name, "--bus", f"ipc://{self.folder}/{{role}}", "--admin-address", f"127.0.0.1:{self.admin}",
                   *self.options]
        self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def ready(self):
        try:
            self.get("/readyz")
            return True
        except (urllib.error.URLError, ConnectionError):
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended: {(self.folder / (self.name + '.log')).read_text()[-2000:]}") from None
            return False

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").splitlines()
                   if line.startswith((name + " ", name + "{")))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Mesh:
    """galley, pilot and citadel on the files of gen_mesh.py; `xds` is where proxies connect."""

    def __init__(self, folder, generated, pilot_options=()):
        self.folder, self.generated = pathlib.Path(folder), pathlib.Path(generated)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.xds = f"127.0.0.1:{free_port()}"
        self.citadel = Daemon(self.folder, "citadel", "--address", "127.0.0.1:0", "--state-dir", self.folder / "citadel-state")
        self.galley = Daemon(self.folder, "galley", "--source", self.generated / "mesh")
        self.pilot = Daemon(self.folder, "pilot", "--xds-address", self.xds, *pilot_options)
        self.all = [self.citadel, self.galley, self.pilot]

    def start(self, patience=120):
        """Seconds until pilot has the configuration."""
        begin = time.monotonic()
        for daemon in self.all:
            daemon.start()
        while not self.pilot.ready():
            if time.monotonic() - begin > patience:
                raise Failed(f"not ready within {patience} s: {(self.folder / 'pilot.log').read_text()[-2000:]}")
            time.sleep(0.002)
        return time.monotonic() - begin

    def pids(self):
        return ",".join(str(d.process.pid) for d in self.all)

    def stop(self):
        for daemon in reversed(self.all):
            daemon.stop()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Load:
    """The load client; every method is one of its commands."""

    def __init__(self, address, pids, clients):
        self.process = subprocess.Popen([BUILD / "tests/bench/xds_load", address, pids, clients], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the load client ended at {words}")
        answer = json.loads(line)
        if not answer["ok"]:
            raise Failed(f"{words}: {line.strip()}")
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
