"""How far configuration is distributed: proxies that accept, are slow or refuse, counted by pilot, told by galley, waited for by `fairlead wait`."""
import json
import os
import pathlib
import subprocess

import pytest

import xds_client
from xds_client import CDS, LDS, RDS, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc")).resolve()
KEY = "VirtualService/default/web"

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.7.1, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: default}
spec: {hosts: [a.out.example, b.out.example], ports: [{number: 81, name: http, protocol: HTTP}], resolution: DNS}
"""


def rule(timeout, name="web"):
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default}}
spec: {{hosts: [{name}], http: [{{timeout: {timeout}, route: [{{destination: {{host: web}}}}]}}]}}
"""


class Proxy(xds_client.Envoy):
    """Leaves unanswered what is of a type in `slow` until it is let go."""

    def __init__(self, socket, name, refuse=(), slow=()):
        self.slow, self.waiting = set(slow), []
        node = xds_client.node(f"sidecar~10.0.0.1~{name}.default~default.svc.cluster.local", "c", {"NAMESPACE": "default"})
        super().__init__(socket, node, refuse=refuse)
        self.subscribe(CDS)
        self.subscribe(LDS)
        self.subscribe(RDS, "80")

    def on_response(self, data):
        if xds_client.text(xds_client.fields(data), 4) in self.slow:
            self.waiting.append(data)
        else:
            super().on_response(data)

    def let_go(self):
        self.slow = set()
        while self.waiting:
            super().on_response(self.waiting.pop(0))


class Mesh:
    def __init__(self, folder):
        self.folder, self.source, self.proxies = folder, folder / "source", []
        self.source.mkdir()
        self.xds, self.admin = folder / "xds", folder / "galley.admin"
        self.write("service", SERVICE)
        self.write("web", rule("1s"))
        bus = f"ipc://{folder}/{{role}}"
        self.galley = self.start("galley", "--source", self.source, "--bus", bus, "--admin-address", f"unix:{self.admin}")
        self.pilot = self.start("pilot", "--bus", bus, "--xds-address", f"unix:{self.xds}", "--admin-address", f"unix:{folder}/pilot.admin")

    def start(self, name, *options):
        with open(self.folder / f"{name}.log", "a", encoding="utf-8") as log:
            return subprocess.Popen([BUILD / name / name, *map(str, options)], stderr=log)

    def write(self, name, text):
        (self.folder / name).write_text(text)
        os.rename(self.folder / name, self.source / f"{name}.yaml")

    def proxy(self, name, **more):
        until(self.xds.exists)
        self.proxies.append(Proxy(self.xds, name, **more))
        return self.proxies[-1]

    def page(self, key=KEY, name="distribution"):
        result = subprocess.run(["curl", "-s", "--max-time", "5", "--unix-socket", self.admin, f"http://x/debug/{name}?object={key}"],
                                capture_output=True, text=True, check=False)
        return json.loads(result.stdout or "{}")

    def counts(self, key=KEY):
        """(accepted, rejected, proxies) of an object."""
        page = self.page(key)
        o = (page.get("objects") or [{}])[0]
        return o.get("accepted"), o.get("rejected"), page.get("proxies")

    def wait(self, *words, timeout="20s"):
        return subprocess.run([BUILD / "cli/fairlead", "wait", *words, "--galley", f"unix:{self.admin}", "--timeout", timeout],
                              capture_output=True, text=True, check=False, timeout=60)

    def stop(self):
        for p in self.proxies:
            p.close()
        for process in (self.pilot, self.galley):
            process.terminate()
        assert [p.wait(20) for p in (self.pilot, self.galley)] == [0, 0]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    m = Mesh(tmp_path_factory.mktemp("d"))
    yield m
    m.stop()


@pytest.fixture(autouse=True)
def alone(mesh):
    """Each test has its own proxies."""
    yield
    for p in mesh.proxies:
        p.close()
    mesh.proxies.clear()
    until(lambda: mesh.page().get("proxies") == 0)


def test_N08_waits_until_every_proxy_has_accepted(mesh):
    mesh.proxy("p1")
    slow = mesh.proxy("p2")
    until(lambda: mesh.counts() == (2, 0, 2))
    assert mesh.wait("virtualservice/web").returncode == 0
    slow.slow = {RDS}
    mesh.write("web", rule("2s"))
    late = mesh.wait("VirtualService/web.default", timeout="1s")
    assert late.returncode == 1 and "timed out on VirtualService/default/web: 1 of 2 proxies have accepted it" in late.stderr
    assert mesh.wait("vs", "web", "--threshold", "0.5").returncode == 0
    # What else is there it has accepted all the time.
    assert mesh.counts("ServiceEntry/default/out") == (2, 0, 2)
    slow.let_go()
    done = mesh.wait("vs/web")
    assert done.returncode == 0 and done.stdout == "VirtualService/default/web: 2 of 2 proxies have accepted it\n"


def test_N08_what_was_written_before_the_command_is_what_it_waits_for(mesh):
    p = mesh.proxy("p1")
    until(lambda: mesh.counts() == (1, 0, 1))
    for i in range(5):
        held = p.count(RDS)
        mesh.write("web", rule(f"{10 + i}s"))
        assert mesh.wait("vs/web").returncode == 0
        assert p.count(RDS) > held, "it was accepted before it was sent"


def test_N08_changes_that_never_end_do_not_hide_that_proxies_follow(mesh):
    slow = mesh.proxy("p1", slow=())
    until(lambda: mesh.counts() == (1, 0, 1))
    slow.slow = {RDS}
    mesh.write("web", rule("21s"))
    until(lambda: slow.waiting)
    mesh.write("web", rule("22s"))
    until(lambda: mesh.counts() == (0, 0, 1))
    assert mesh.counts("ServiceEntry/default/out") == (1, 0, 1)
    slow.let_go()
    until(lambda: mesh.counts() == (1, 0, 1))


def test_N01_a_refusal_is_counted_with_the_words_of_the_proxy(mesh):
    mesh.proxy("p1")
    bad = mesh.proxy("p2")
    until(lambda: mesh.counts() == (2, 0, 2))
    bad.refuse = {RDS}
    mesh.write("web", rule("3s"))
    until(lambda: mesh.counts()[0] == 1)
    refused = mesh.wait("vs/web", timeout="1s")
    assert refused.returncode == 1 and "1 of 2 proxies" in refused.stderr and "refused by the test" in refused.stderr
    bad.refuse = set()
    mesh.write("web", rule("4s"))
    until(lambda: mesh.counts() == (2, 0, 2))


def test_N01_an_object_that_a_proxy_refuses_by_itself_is_isolated_and_named(mesh):
    class Picky(Proxy):
        """Refuses routes that time out after 66 s, as an Envoy would that knows what it does not like."""

        def on_response(self, data):
            r = xds_client.fields(data)
            self.refuse = {RDS} if xds_client.text(r, 4) == RDS and xds_client.message((1, 66)) in data else set()
            super().on_response(data)

    until(mesh.xds.exists)
    mesh.proxies.append(Picky(mesh.xds, "picky"))
    mesh.proxy("p2")
    until(lambda: mesh.counts() == (2, 0, 2))
    mesh.write("web", rule("66s"))
    until(lambda: mesh.counts() == (1, 1, 2))
    assert mesh.page()["objects"][0]["error"] == "refused by the test"
    result = mesh.wait("vs/web", timeout="500ms")
    assert result.returncode == 1 and "1 of 2 proxies have accepted it, 1 reject it: refused by the test" in result.stderr
    mesh.write("web", rule("5s"))
    until(lambda: mesh.counts() == (2, 0, 2))


def test_N01_status_lists_what_not_every_proxy_has(mesh):
    mesh.proxy("p1")
    slow = mesh.proxy("p2")
    until(lambda: mesh.counts() == (2, 0, 2))
    slow.slow = {RDS}
    mesh.write("web", rule("7s"))
    until(lambda: mesh.counts() == (1, 0, 2))
    words = [BUILD / "cli/fairlead", "status", "--galley", f"unix:{mesh.admin}", "--pilot", f"unix:{mesh.folder}/pilot.admin",
             "--citadel", f"unix:{mesh.folder}/none"]
    text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    assert "distribution: 2 proxies; 1 objects that not all of them have accepted" in text
    assert [line.split()[:4] for line in text.splitlines() if line.startswith(KEY)] == [[KEY, "1", "of", "2"]]
    value = json.loads(subprocess.run([*words, "-o", "json"], capture_output=True, text=True, check=False).stdout)
    assert [o["key"] for o in value["distribution"]["objects"]] == [KEY]


def test_N08_proxies_that_connect_are_told_apart_and_awaited(mesh):
    mesh.proxy("p1")
    until(lambda: mesh.counts() == (1, 0, 1))
    new = mesh.proxy("p2", slow={CDS, LDS})
    until(lambda: mesh.page()["connecting"] == 1)
    assert mesh.counts() == (1, 0, 1)
    result = mesh.wait("vs/web", timeout="500ms")
    assert result.returncode == 1 and "1 have not accepted their first configuration" in result.stderr
    new.let_go()
    assert mesh.wait("vs/web").returncode == 0
    assert mesh.counts() == (2, 0, 2)


def test_N08_an_object_that_galley_does_not_accept_is_not_distributed(mesh):
    mesh.proxy("p1")
    until(lambda: mesh.counts() == (1, 0, 1))
    mesh.write("web", rule("-1s"))
    result = mesh.wait("vs/web", timeout="300ms")
    assert result.returncode == 1 and "its newest version is not accepted by galley" in result.stderr
    mesh.write("web", rule("6s"))
    assert mesh.wait("vs/web").returncode == 0


def test_N08_waits_until_an_object_is_gone(mesh):
    mesh.write("other", rule("1s", "other"))
    until(lambda: mesh.page("VirtualService/default/other").get("objects"))
    result = mesh.wait("vs/other", "--for=delete", timeout="300ms")
    assert result.returncode == 1 and "it is still there" in result.stderr
    (mesh.source / "other.yaml").unlink()
    assert mesh.wait("vs/other", "--for=delete").returncode == 0
    unknown = mesh.wait("vs/other", timeout="300ms")
    assert unknown.returncode == 1 and "galley does not know it" in unknown.stderr


@pytest.mark.parametrize("words, text", [
    (["web"], "KIND/NAME[.NAMESPACE]"), (["pods/web"], "no kind of configuration"), (["vs/"], "the name is missing"),
    (["vs/web", "--for=fun"], "neither distribution nor delete"), (["vs/web", "--threshold", "2"], "--threshold"),
])
def test_N08_wrong_words_are_refused(mesh, words, text):
    result = mesh.wait(*words)
    assert result.returncode == 2 and text in result.stderr


def test_N08_the_numbers_survive_a_galley_that_starts_again(mesh):
    mesh.proxy("p1")
    until(lambda: mesh.counts() == (1, 0, 1))
    mesh.galley.terminate()
    assert mesh.galley.wait(20) == 0
    mesh.galley = mesh.start("galley", "--source", mesh.source, "--bus", f"ipc://{mesh.folder}/{{role}}", "--admin-address", f"unix:{mesh.admin}")
    until(lambda: mesh.page().get("pilots") == 1, seconds=30)
    assert mesh.wait("vs/web").returncode == 0
    assert mesh.counts() == (1, 0, 1)
