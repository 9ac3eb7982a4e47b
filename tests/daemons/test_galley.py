"""The galley process: alone with a directory, a recording and its debug pages. No other daemon runs."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
GALLEY = BUILD / "galley/galley"
STEPS = ROOT / "samples/bookinfo-steps"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Galley:
    def __init__(self, folder):
        self.source = folder / "source"
        shutil.copytree(ROOT / "samples/bookinfo", self.source)
        self.port = free_port()
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            [GALLEY, "--source", self.source, "--bus", f"ipc://{folder}/{{role}}", "--admin-address", f"127.0.0.1:{self.port}"],
            stderr=self.log)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def page(self, name):
        return json.loads(self.get(f"/debug/{name}"))

    def metric(self, name):
        for line in self.get("/metrics").splitlines():
            if line.startswith(name + " ") or line.startswith(name + "{"):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def until(self, condition, seconds=10):
        """Waits for a condition and says how long it took."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            try:
                if condition():
                    return time.monotonic() - start
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, "galley ended"
            time.sleep(0.005)
        self.log.seek(0)
        raise AssertionError(f"not within {seconds} s:\n{self.log.read()[-4000:]}")

    def object(self, key):
        return next((o for o in self.page("objects") if o["key"] == key), None)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def galley(tmp_path):
    g = Galley(tmp_path)
    g.until(lambda: "ok" in g.get("/readyz") or g.metric("galley_objects") > 0)
    yield g
    if g.process.poll() is None:
        assert g.stop() == 0
    g.log.close()


REVIEWS = "VirtualService/default/reviews"
FILE = "networking/virtual-service-reviews.yaml"


def test_G14_edit_is_in_force_soon(galley):
    before = galley.object(REVIEWS)["in_force"]
    shutil.copy(STEPS / "reviews-90-10.yaml", galley.source / FILE)
    took = galley.until(lambda: galley.object(REVIEWS)["in_force"] != before)
    print(f"edit to publication: {took * 1000:.0f} ms")
    assert took < 1


def test_G14_G11_bad_object_is_named_and_the_good_ones_apply(galley):
    before = galley.object(REVIEWS)["in_force"]
    shutil.copy(STEPS / "reviews-one-bad.yaml", galley.source / FILE)
    galley.until(lambda: galley.object("VirtualService/default/details"))
    assert [q["key"] for q in galley.page("quarantine")] == [REVIEWS]
    assert galley.object(REVIEWS)["in_force"] == before
    (error,) = [d for d in galley.page("diagnostics") if d["severity"] == "error"]
    assert error["path"] == "spec.http[0].route[0].wieght"
    assert error["file"].endswith(FILE)
    assert (galley.source / FILE).read_text().splitlines()[error["line"] - 1].strip().startswith("wieght")
    assert galley.metric('galley_validation_failed{resource="VirtualService",reason="unknown-field"}') == 1


@pytest.mark.parametrize("name, known", [("localhost", True), ("gateway.invalid", False)])
def test_P88_names_of_gateways_are_looked_up(galley, name, known):
    file = galley.source / "networks.yaml"
    file.write_text(f"""
apiVersion: fairlead.dev/v1
kind: MeshNetworks
metadata: {{name: default}}
spec: {{networks: {{far: {{gateways: [{{address: {name}, port: 15443}}]}}}}}}
""")
    galley.until(lambda: galley.page("gateway_names").get(name, "is asked for") != "is asked for")
    assert (galley.page("gateway_names")[name] == "is known") == known
    addresses = lambda: [g.get("address", "") for g in galley.page("networks")[0]["gateways"]]  # noqa: E731
    galley.until(lambda: "127.0.0.1" in addresses() if known else addresses() == [""])
    assert {g["host"] for g in galley.page("networks")[0]["gateways"]} == {name}
    file.unlink()
    galley.until(lambda: galley.page("gateway_names") == {} and galley.page("networks") == [])


def test_N05_a_running_galley_says_which_rules_are_shadowed_and_by_whom(galley):
    (galley.source / "zz-second.yaml").write_text("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: zz-second, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
""")
    def second():
        return next((v for v in galley.page("verdicts") if v["object"] == "default/zz-second"), None)
    galley.until(second)
    assert (second()["verdict"], second()["winner"]) == ("shadowed", "VirtualService default/reviews")
    assert {v["verdict"] for v in galley.page("verdicts") if v["object"] == "default/reviews"} == {"live"}
    conflicts = {m["object"] for m in galley.page("analysis") if m["rule"] == "IST0109"}
    assert conflicts == {"VirtualService default/reviews", "VirtualService default/zz-second"}


def test_file_that_does_not_parse_changes_nothing(galley):
    published = galley.metric("galley_published_total")
    shutil.copy(STEPS / "reviews-broken.yaml", galley.source / FILE)
    galley.until(lambda: galley.page("quarantine"))
    assert galley.page("quarantine")[0]["reason"] == "file-syntax"
    assert galley.metric("galley_published_total") == published
    shutil.copy(STEPS / "reviews-v3.yaml", galley.source / FILE)
    galley.until(lambda: not galley.page("quarantine"))


def test_removed_file_removes_its_objects(galley):
    (galley.source / FILE).unlink()
    galley.until(lambda: galley.object(REVIEWS) is None)


def test_comment_publishes_nothing(galley):
    published, scans = galley.metric("galley_published_total"), galley.metric("galley_scan_seconds_count")
    path = galley.source / FILE
    path.write_text("# moved by a line\n" + path.read_text())
    galley.until(lambda: galley.metric("galley_scan_seconds_count") > scans)
    assert galley.metric("galley_published_total") == published


def test_record_once_runs_alone(tmp_path):
    out = tmp_path / "recording"
    result = subprocess.run(
        [GALLEY, "--source", ROOT / "samples/bookinfo", "--record", out, "--once", "--admin-address", f"127.0.0.1:{free_port()}"],
        capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    content = out.read_bytes()
    for service in ("productpage", "details", "reviews", "ratings"):
        assert f"default/{service}.default.svc.cluster.local".encode() in content


def test_wrong_source_is_refused(tmp_path):
    result = subprocess.run([GALLEY, "--source", tmp_path / "nothing", "--admin-address", f"127.0.0.1:{free_port()}"],
                            capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "does not exist" in result.stderr
