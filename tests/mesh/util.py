"""What all tests of the mesh need: paths, waiting for a condition, HTTP over Unix sockets, metrics, figures of processes."""
import functools
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc")).resolve()
SANITIZED = BUILD.name in ("asan", "tsan")
BOOKINFO = ROOT / "samples/bookinfo"
STEPS = ROOT / "samples/bookinfo-steps"
# What a wait may take at most; a wait that depends on nothing but a daemon's own work gets less.
PATIENCE = 90 if SANITIZED else 45


@functools.cache
def has_tproxy():
    """Whether the kernel can do what traffic capture with TPROXY needs."""
    rules = "table inet t { chain c { type filter hook prerouting priority mangle; meta l4proto tcp tproxy to :1; }; }"
    return subprocess.run(["unshare", "-Urn", "nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False).returncode == 0


class NotYet(AssertionError):
    """A condition that was waited for did not come."""


def until(condition, seconds=PATIENCE, what="", every=0.02):
    """Returns the first true value of condition(); errors on the way count as "not yet" and the last one is reported."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, http.client.HTTPException, ValueError, AssertionError, KeyError, subprocess.SubprocessError) as error:
            last = error
        if time.monotonic() > end:
            raise NotYet(f"{what or condition} not within {seconds} s; last: {last!r}"[:4000])
        time.sleep(every)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection, path, method="GET", headers=None, body=None):
    """(status, headers, body) of one request; closes the connection."""
    try:
        connection.request(method, path, body=body, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


class Admin:
    """The HTTP pages of a daemon or agent on its Unix socket."""

    def __init__(self, path):
        self.path = path

    def ask(self, path, method="GET", timeout=10):
        status, _, body = ask(UnixConnection(self.path, timeout), path, method)
        return status, body.decode()

    def page(self, name):
        status, text = self.ask(f"/debug/{name}")
        assert status == 200, f"/debug/{name}: {status} {text}"
        return json.loads(text)

    def ready(self):
        return self.ask("/readyz")[0] == 200

    def metrics(self):
        """[(name, labels, value)]"""
        return parse_metrics(self.ask("/metrics")[1])

    def metric(self, name, **labels):
        """The sum of the samples of a name that have these labels; 0 when there is none."""
        return metric_sum(self.metrics(), name, **labels)


SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse_metrics(text):
    found = []
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match:
            found.append((match[1], dict(LABEL.findall(match[2] or "")), float(match[3])))
    return found


def metric_sum(samples, name, **labels):
    return sum(value for n, have, value in samples if n == name and labels.items() <= have.items())


def children(pid):
    """Direct children of a process."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(x) for x in task.read_text().split()]
        except OSError:
            continue
    return found


def listens(pid, port):
    """Whether some process in the network namespace of this one listens on a port."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def private_kb(pid):
    """Memory that only this process holds."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes_with(variable):
    """Processes whose environment holds "NAME=value" at their start."""
    found = []
    wanted = variable.encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


SANITIZER = re.compile(r"(ERROR: (?:Address|Leak|Thread)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer|Assertion .* failed)")


def sanitizer_reports(folder):
    """What the sanitizers, or failed assertions of ours, wrote into the logs below a folder."""
    found = []
    for path in sorted(pathlib.Path(folder).rglob("*.log")):
        text = path.read_text(errors="replace")
        match = SANITIZER.search(text)
        if match:
            found.append(f"{path}:\n{text[max(0, match.start() - 200):match.start() + 3000]}")
    return found


def sanitizer_environment():
    # Options by program (%b). The agent's has no search for leaks: in a pod /proc is the machine's while process ids are the pod's own, so that the
    # search would look at other processes, or at none. tests/daemons search the agent for leaks.
    own = pathlib.Path(__file__).resolve().parent / "sanitizer/%b"
    return {"ASAN_OPTIONS": f"detect_leaks=1:abort_on_error=0:exitcode=99:include_if_exists={own}", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
