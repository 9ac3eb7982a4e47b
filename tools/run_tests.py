"""Runs the test suites and adds up what passed and failed; started by tools/test.

A suite is a row of SUITES: what it builds and the commands it runs. A command is either `meson` (tests registered in meson.build, by
meson suite) or `pytest`. A suite that ran no test counts as a failure: nothing can pass by not being there.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.path.join(ROOT, ".venv/bin/python3")
TOOLBOX_LOG = "build/toolbox.log"
MOST_UNSTEADY = 3  # tests of a suite that may fail and pass at once afterwards; more of them are no accident


class Meson:
    """The meson tests of one suite in one build flavour."""

    def __init__(self, flavour, suite, env=None):
        self.flavour, self.suite, self.env = flavour, suite, env or {}
        self.name = f"{suite} ({flavour})"

    def run(self):
        build(self.flavour)
        env = dict(os.environ, **self.env)
        folder = os.path.join(ROOT, "build", self.flavour)
        log = os.path.join(folder, "meson-logs", f"testlog-{self.suite}.json")
        if os.path.exists(log):
            os.unlink(log)
        subprocess.run(["meson", "test", "-C", folder, "--no-rebuild", "--suite", self.suite, "--logbase", f"testlog-{self.suite}",
                        "--print-errorlogs", "--timeout-multiplier", "6", "-q"], env=env, cwd=ROOT, check=False)
        passed = failed = 0
        if os.path.exists(log):
            for line in open(log):
                result = json.loads(line)["result"]
                passed += result in ("OK", "EXPECTEDFAIL")
                failed += result not in ("OK", "EXPECTEDFAIL", "SKIP")
        return passed, failed


class Pytest:
    """One pytest folder; `flavour` says which build's daemons it drives. `live`: the tests are about real processes and real traffic, which a busy
    machine can upset. There a few that fail are run once more, and those that pass then count as passed and are named at the end as unsteady."""

    def __init__(self, folder, flavour="gcc", args=(), live=False):
        self.folder, self.flavour, self.args, self.live = folder, flavour, args, live
        self.name = f"{os.path.basename(folder)} ({flavour})" if flavour != "gcc" else os.path.basename(folder)
        self.unsteady = []

    def run(self):
        build(self.flavour)
        passed, failed = self.pytest("--cache-clear")
        if not self.live or not 0 < len(failed) <= MOST_UNSTEADY:
            return passed, len(failed)
        print(f"{self.name}: what failed is run once more: {', '.join(failed)}", flush=True)
        passed_now, failed_now = self.pytest("--last-failed")
        if passed_now + len(failed_now) != len(failed):
            return passed, len(failed)
        self.unsteady = [name for name in failed if name not in failed_now]
        return passed + passed_now, len(failed_now)

    def pytest(self, *args):
        """(how many passed, the names of those that failed)"""
        with tempfile.TemporaryDirectory() as tmp:
            xml = os.path.join(tmp, "junit.xml")
            env = dict(os.environ, FAIRLEAD_BUILD=os.path.join(ROOT, "build", self.flavour))
            subprocess.run([PYTHON, "-m", "pytest", "-q", "--tb=short", "-rfE", f"--junitxml={xml}", *self.args, *args, self.folder],
                           cwd=ROOT, env=env, check=False)
            if not os.path.exists(xml):
                return 0, [f"{self.folder}: pytest wrote no report"]
            return outcome(ET.parse(xml).getroot())


def outcome(report):
    """(how many passed, the names of those that failed) of a JUnit report. A test that fails and whose clean-up fails is one."""
    failed, fine = {}, {}
    for case in report.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed[name] = True
        elif case.find("skipped") is None:
            fine[name] = True
    return len(fine.keys() - failed.keys()), list(failed)


SUITES = {
    "tools": [Pytest("tests/tools")],
    "protos": [Pytest("tests/protos")],
    "unit": [Meson("gcc", "unit"), Meson("asan", "unit")],
    "p256": [Meson("plain", "p256")],  # what uses the curve, with mbedTLS's own arithmetic
    "fuzz": [Meson("asan", "fuzz")],
    "io": [Pytest("tests/io"), Pytest("tests/io", "asan")],
    "golden": [Pytest("tests/golden"), Pytest("tests/golden", "asan")],
    "sim": [Pytest("tests/sim")],
    "tsan": [Meson("tsan", "pilot")],
    "daemons": [Pytest("tests/daemons", live=True), Pytest("tests/daemons", "asan", live=True)],
    "charts": [Pytest("tests/charts")],
    "docs": [Pytest("tests/docs")],
    "samples": [Pytest("tests/samples")],
    "bench": [Pytest("tests/bench")],
    "mesh": [Pytest("tests/mesh", live=True), Pytest("tests/mesh", "asan", live=True)],
    "kube": [Pytest("tests/kube", args=("-rs",), live=True)],
}

built = set()


def build(flavour):
    if flavour in built:
        return
    start = time.monotonic()
    subprocess.run([os.path.join(ROOT, "tools/build"), flavour], cwd=ROOT, check=True)
    print(f"built {flavour} in {time.monotonic() - start:.0f} s", flush=True)
    built.add(flavour)


def build_tools_meanwhile():
    """Kubernetes' programs are built from source, which takes minutes when nothing is cached: at low priority, while other suites run."""
    log = open(os.path.join(ROOT, TOOLBOX_LOG), "w", encoding="utf-8")
    return subprocess.Popen(["nice", "-n", "19", PYTHON, "tests/kube/toolbox.py"], cwd=ROOT, stdout=log, stderr=log)


def wait_for_tools(builder):
    """Said here, because pytest would keep it to itself. What could not be built is tried again by the tests that need it, and told there."""
    if builder.poll() is None:
        start = time.monotonic()
        print(f"waiting for Kubernetes' programs, which are still being built ({TOOLBOX_LOG}); what is built is kept for the next run", flush=True)
        builder.wait()
        print(f"waited {time.monotonic() - start:.0f} s", flush=True)
    if builder.returncode:
        print(f"{TOOLBOX_LOG}: {open(os.path.join(ROOT, TOOLBOX_LOG), encoding='utf-8').read()[-2000:]}", flush=True)


def main(names):
    # Tools that tests call by name and that come with the Python packages (go) are found behind the machine's own.
    os.environ["PATH"] += os.pathsep + os.path.join(ROOT, ".venv/bin")
    unknown = [n for n in names if n not in SUITES]
    if unknown:
        sys.exit(f"no suite {', '.join(unknown)}; there are: {', '.join(SUITES)}")
    total_passed = total_failed = 0
    rows = []
    if "kube" in (names or SUITES):
        os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
        builder = build_tools_meanwhile()
    for name in names or SUITES:
        for step in SUITES[name]:
            print(f"--- {name}: {step.name}", flush=True)
            if name == "kube":
                wait_for_tools(builder)
            start = time.monotonic()
            try:
                passed, failed = step.run()
            except subprocess.CalledProcessError as error:
                print(error, flush=True)
                passed, failed = 0, 1
            if passed + failed == 0:
                print(f"{step.name}: no test ran, which counts as a failure", flush=True)
                failed = 1
            rows.append((name, step.name, passed, failed, time.monotonic() - start))
            total_passed += passed
            total_failed += failed
    for name, step, passed, failed, seconds in rows:
        print(f"{name:10} {step:24} {passed:5} passed {failed:4} failed {seconds:7.0f} s")
    for step in (step for name in names or SUITES for step in SUITES[name]):
        for test in getattr(step, "unsteady", ()):
            print(f"unsteady: {step.name}: {test} failed, and passed when it was run again")
    print(f"{total_passed} passed, {total_failed} failed", flush=True)
    return 1 if total_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
