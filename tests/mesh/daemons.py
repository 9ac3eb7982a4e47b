"""Single daemons without `fairlead up`: each with a state directory, its log, and its pages on a Unix socket."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import util


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """galley, pilot or citadel. `folder` is short: Unix sockets are made in it. Ended at the end of a `with` block, and must end well."""

    def __init__(self, name, folder, *options, instance=None):
        self.name, self.folder = instance or name, pathlib.Path(folder)
        self.state = self.folder / self.name
        self.state.mkdir(exist_ok=True)
        self.log_path = self.folder / f"{self.name}.log"
        self.admin = util.Admin(self.folder / f"{self.name}.admin")
        self.argv = [util.BUILD / name / name, "--admin-address", f"unix:{self.admin.path}", "--state-dir", self.state, *map(str, options)]
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env={**os.environ, **util.sanitizer_environment()})

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self):
        def check():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}"
            return self.admin.ready()
        util.until(check, what=f"{self.name} ready")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            code = self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if kind is None:
            assert code in (0, -signal.SIGKILL), f"{self.name} ended with {code}:\n{self.log()[-3000:]}"


def bus_of(folder):
    return f"ipc://{folder}/{{role}}"


def galley(folder, source, *options, bus=None, instance=None):
    return Daemon("galley", folder, "--source", source, "--bus", bus or bus_of(folder), *options, instance=instance)


def pilot(folder, *options, bus=None, instance=None):
    """`.address` is where it serves xDS in plaintext."""
    port = free_port()
    daemon = Daemon("pilot", folder, "--xds-address", f"127.0.0.1:{port}", "--bus", bus or bus_of(folder), *options, instance=instance)
    daemon.address = f"127.0.0.1:{port}"
    return daemon


def citadel(folder, *options):
    port = free_port()
    daemon = Daemon("citadel", folder, "--address", f"127.0.0.1:{port}", "--bus", bus_of(folder), *options)
    daemon.address = f"localhost:{port}"
    return daemon


def copy_of_bookinfo(folder):
    return pathlib.Path(shutil.copytree(util.BOOKINFO, pathlib.Path(folder) / "source", ignore=shutil.ignore_patterns("__pycache__")))
