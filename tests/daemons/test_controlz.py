"""ControlZ, Istio's introspection port, in each daemon: the requests of `istioctl admin log` and of scripts, what is refused, who may ask."""
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess

import pytest

from xds_client import until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc")).resolve()
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {clusterIP: 10.96.7.1, ports: [{name: http, port: 80}]}\n"
NAMES = ("galley", "pilot", "citadel")


class Daemon:
    def __init__(self, name, folder, *options, ctrlz=("--ctrlz_port", "0"), environment=()):
        self.name, self.log = name, folder / f"{name}.log"
        self.command = [BUILD / name / name, "--admin-address", "127.0.0.1:0", *ctrlz, *map(str, options)]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command, stderr=log, env={**os.environ, **dict(environment)})
        self.admin = int(until(lambda: self.said(r"admin pages .*port=(\d+)")))
        port = self.said(r"ControlZ .*port=(\d+)")
        self.port = int(port) if port else None
        until(lambda: self.get("/readyz", port=self.admin)[0] == 200)

    def said(self, pattern):
        found = re.search(pattern, self.log.read_text())
        return found and found[found.re.groups and 1]

    def ask(self, method, path, body=None, port=None, source="127.0.0.1", accept="*/*"):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10, source_address=(source, 0))
        try:
            connection.request(method, path, body, {"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.getheader("Content-Type")
        finally:
            connection.close()

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def json(self, path, **more):
        status, body, kind = self.get(path, **more)
        assert (status, kind) == (200, "application/json; charset=utf-8"), (path, body)
        return json.loads(body)

    def put(self, path, body=None, **more):
        return self.ask("PUT", path, body if body is None or isinstance(body, str) else json.dumps(body), **more)[:2]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("z")
    (folder / "source").mkdir()
    (folder / "source/web.yaml").write_text(SERVICE)
    bus = ("--bus", f"ipc://{folder}/{{role}}")
    secrets = {"DB_PASSWORD": "hunter2", "UPSTREAM": "https://me:hunter2@db.example/x", "PLAIN": "shown", "EMPTY_TOKEN": ""}
    started = {"galley": Daemon("galley", folder, *bus, "--source", folder / "source", "--ca-token=/run/hidden-1", "--ca-token", "/run/hidden-2",
                                environment=secrets),
               "citadel": Daemon("citadel", folder, *bus, "--state-dir", folder / "ca", "--address", "127.0.0.1:0")}
    started["pilot"] = Daemon("pilot", folder, *bus, "--xds-address", f"unix:{folder}/xds", "--http-address", "127.0.0.1:0")
    yield started
    for d in started.values():
        d.stop()


def scopes(d):
    return {s["name"]: s for s in d.json("/scopej/")}


@pytest.mark.parametrize("name", NAMES)
def test_O10_every_daemon_has_istios_topics(daemons, name):
    d = daemons[name]
    listed = d.json("/scopej/")
    assert [s["name"] for s in listed] == sorted({s["name"] for s in listed}) and {"default", "daemon", "bus"} <= {s["name"] for s in listed}
    assert set(listed[0]) == {"name", "description", "output_level", "stack_trace_level", "log_callers"}
    assert all(re.fullmatch(r"[\w\- ]+", s["name"]) and s["description"] for s in listed), "istioctl lets no other names through"
    assert d.json("/scopej/bus") == scopes(d)["bus"]
    process = d.json("/procj/")
    assert (process["pid"], process["uid"], process["wd"]) == (d.process.pid, os.getuid(), os.getcwd()) and process["threads"] >= 1
    memory = d.json("/memj/")
    assert (0 < memory["HeapAlloc"] <= memory["HeapSys"] or BUILD.name == "asan") and memory["rss_bytes"] > memory["private_bytes"] > 0
    assert d.json("/versionj/")["program"] == name
    assert {s["name"] for s in d.json("/signalj/")} >= {"SIGUSR1"}
    families = {f["name"]: f for f in d.json("/metricj/")}
    assert families["fairlead_build_info"]["metrics"][0]["labels"]["program"] == name and families["fairlead_build_info"]["type"] == "GAUGE"
    assert d.json("/homej")["ProcessName"] == str(d.command[0])
    for topic in ("scope", "mem", "env", "proc", "arg", "version", "metric", "signal", "config", "home"):
        assert d.get(f"/{topic}j")[1] and d.get(f"/{topic}z/")[2] == "text/html; charset=utf-8"
    assert "<h1>Home</h1>" in d.get("/", accept="text/html,*/*")[1] and d.get("/")[2].startswith("text/plain")
    assert "<td>publishers, replicas and recordings<td>" in d.get("/scopez/")[1]
    assert d.get("/debug/options")[0] == d.get("/metrics")[0] == 200, "one server: the other pages are there too"


def test_G16_both_ends_of_the_bus_are_seen(daemons):
    for end in ("galley", "citadel"):
        until(lambda e=end: daemons["pilot"].json("/configj/")[e]["state"] == "live")
    sent = {t["topic"]: t["keys"] for t in daemons["galley"].json("/configj/")["topics"]}
    got = {t["topic"]: t["keys"] for t in daemons["pilot"].json("/configj/")["galley"]["topics"]}
    assert sent["service"] == got["service"] == 1 and got.items() <= sent.items()
    assert daemons["pilot"].json("/configj/")["citadel"]["topics"] == [{"topic": "trust", "keys": 1}]
    assert len(daemons["citadel"].json("/configj/")["subscribers"]) == 1
    assert daemons["galley"].json("/configj/?x=1") and "<th>subscribers<td>" in daemons["galley"].get("/configz/")[1]


def test_O10_a_level_changes_while_it_runs(daemons):
    d = daemons["galley"]
    assert scopes(d)["controlz"]["output_level"] == "info"
    assert d.put("/scopej/controlz", {"name": "controlz", "output_level": "none"}) == (202, "")
    lines = d.log.read_text().count("scope changed")
    assert d.put("/scopej/bus", {"name": "bus", "output_level": "debug", "stack_trace_level": "none", "log_callers": True}) == (202, "")
    assert d.log.read_text().count("scope changed") == lines, "what is off says nothing"
    assert (scopes(d)["bus"]["output_level"], scopes(d)["bus"]["log_callers"]) == ("debug", True)
    # istioctl --level leaves out what it does not change; callers are off then, as in Istio.
    assert d.put("/scopej/controlz", {"name": "controlz", "output_level": "info", "log_callers": True})[0] == 202
    assert d.said(r"scope changed scope=controlz level=info callers=true caller=controlz\.c:\d+")
    assert d.put("/scopej/controlz", {"name": "controlz"})[0] == 202
    assert scopes(d)["controlz"] == {**scopes(d)["controlz"], "output_level": "info", "log_callers": False}
    # What follows the default changes with it; what has a level of its own does not.
    assert d.put("/scopej/default", {"output_level": "warn"})[0] == 202
    assert (scopes(d)["source"]["output_level"], scopes(d)["bus"]["output_level"]) == ("warn", "debug")
    assert json.loads(d.get("/debug/logging", port=d.admin)[1])["default"] == "warn"
    for name in scopes(d):  # istioctl admin log --reset
        assert d.put(f"/scopej/{name}", {"name": name, "output_level": "info", "stack_trace_level": "none"})[0] == 202
    assert {s["output_level"] for s in scopes(d).values()} == {"info"}


@pytest.mark.parametrize("path,body,status,words", [
    ("/scopej/nobody", {"output_level": "info"}, 400, "unknown scope name: nobody"),
    ("/scopej/bus", {"output_level": "loud"}, 400, "bus: output_level: none, error, warn, info and debug exist"),
    ("/scopej/bus", {"output_level": 3}, 400, "bus: output_level"),
    ("/scopej/bus", {"output_level": "warn", "stack_trace_level": "error"}, 400, "bus: stack_trace_level"),
    ("/scopej/bus", {"output_level": "warn", "log_callers": "yes"}, 400, "bus: log_callers: true or false"),
    ("/scopej/bus", "{", 400, "bus: the body is no JSON object"),
    ("/scopej/bus", "[]", 400, "bus: the body is no JSON object"),
    ("/scopej/bus", None, 400, "bus: the body is no JSON object"),
    ("/scopej", {"output_level": "info"}, 405, "method"),
    ("/envj/", {}, 405, "method"),
    ("/memj/else", None, 404, "forcecollection"),
    ("/signalj/SIGKILL", None, 404, "signal"),
    ("/homej/else", None, 404, "exit"),
], ids=str)
def test_O10_what_is_wrong_changes_nothing(daemons, path, body, status, words):
    before = daemons["pilot"].json("/scopej/")
    got = daemons["pilot"].put(path, body)
    assert got[0] == status and words in got[1]
    assert daemons["pilot"].json("/scopej/") == before


def test_O10_pages_that_are_not_there(daemons):
    d = daemons["citadel"]
    assert d.get("/scopej/nobody")[:2] == (400, "unknown scope name: nobody")
    for path in ("/memj/x", "/scopez/bus", "/nothingj/"):
        assert d.get(path)[0] == 404, path


def test_O10_secrets_are_not_shown(daemons):
    d = daemons["galley"]
    shown = {v["name"]: v["value"] for v in d.json("/envj/")}
    assert {name: shown[name] for name in ("DB_PASSWORD", "UPSTREAM", "PLAIN", "EMPTY_TOKEN")} == {
        "DB_PASSWORD": "(not shown)", "UPSTREAM": "(not shown)", "PLAIN": "shown", "EMPTY_TOKEN": ""}
    assert [v["name"] for v in d.json("/envj/")] == sorted(shown)
    arguments = d.json("/argj/")
    assert "--ca-token=(not shown)" in arguments and arguments[arguments.index("--ca-token") + 1] == "(not shown)"
    assert len(arguments) == len(d.command) and arguments[:3] == [str(a) for a in d.command[:3]]
    for path in ("/envz/", "/argz/"):
        page = d.get(path)[1]
        assert "hunter2" not in page and "/run/hidden" not in page and "(not shown)" in page


def test_O10_free_memory_is_given_back_and_state_logged(daemons):
    d = daemons["galley"]
    assert d.put("/memj/forcecollection") == (202, "")
    assert d.put("/signalj/SIGUSR1") == (202, "") and d.ask("POST", "/signalj/SIGUSR1")[0] == 202
    until(lambda: d.said(r"state ready=true state=\"ready.*private_bytes"))
    assert d.put("/signalj/SIGHUP") == (202, "")
    until(lambda: d.said("reloaded"))
    assert d.process.poll() is None


def listening(pid):
    """Addresses (hex) by port that the process listens at, by TCP of either family."""
    inodes = {os.readlink(f)[8:-1] for f in pathlib.Path(f"/proc/{pid}/fd").iterdir() if f.exists() and os.readlink(f).startswith("socket:")}
    rows = [line.split() for n in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/{pid}/net/{n}").read_text().splitlines()[1:]]
    return {int(r[1].split(":")[1], 16): r[1].split(":")[0] for r in rows if r[3] == "0A" and r[9] in inodes}


def test_O10_it_listens_on_this_machine_alone_by_default(daemons):
    for d in daemons.values():
        assert listening(d.process.pid)[d.port] == "0100007F", d.name
        option = {o["name"]: o for o in json.loads(d.get("/debug/options")[1])}["ctrlz-address"]
        assert (option["value"], option["source"]) == ("localhost", "default")


def test_O10_the_admin_address_has_the_pages_for_this_machine_alone(daemons):
    d = daemons["citadel"]
    assert d.json("/scopej/", port=d.admin) == d.json("/scopej/")
    assert d.put("/scopej/bus", {"output_level": "info"}, port=d.admin)[0] == 202
    for method, path in (("GET", "/envj/"), ("GET", "/scopez/"), ("PUT", "/scopej/bus"), ("PUT", "/homej/exit")):
        status, text, _ = d.ask(method, path, port=d.admin, source="127.0.0.2")
        assert status == 403 and "--ctrlz_address" in text
    assert d.get("/metrics", port=d.admin, source="127.0.0.2")[0] == 200
    assert d.get("/envj/", source="127.0.0.2")[0] == 200, "its own port is for whoever reaches it"


def test_O14_pilot_has_its_pages_under_istiods_port_too(daemons):
    d = daemons["pilot"]
    port = int(d.said(r"daemon  pages address=127\.0\.0\.1:0 port=(\d+)"))
    assert d.get("/ready", port=port)[:2] == d.get("/readyz", port=d.admin)[:2] and d.get("/ready", port=port)[0] == 200
    assert json.loads(d.get("/debug/syncz", port=port)[1]) == [] and d.get("/metrics", port=port)[0] == 200
    assert d.get("/scopej/", port=port)[0] == 404, "ControlZ is where its option says"
    done = subprocess.run([*d.command[:1], "--admin-address", "127.0.0.1:0", "--http-address", "x"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "--http-address: address" in done.stderr


def citadel(folder, **more):
    return Daemon("citadel", folder, "--bus", "none", "--state-dir", folder / "ca", "--address", "127.0.0.1:0", **more)


def test_O10_without_a_free_port_a_daemon_goes_on(tmp_path):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9876))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        d = citadel(tmp_path, ctrlz=())
        assert d.port is None and d.said(r"controlz  no port of its own; the same pages are on the admin address problem=.*127\.0\.0\.1:9876")
        assert scopes_of_admin(d)
        d.stop()
        # One that was asked for must be there.
        done = subprocess.run([*d.command, "--ctrlz_port=9876"], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1 and "--ctrlz_address, --ctrlz_port: cannot listen on 127.0.0.1:9876" in done.stderr


def scopes_of_admin(d):
    return d.json("/scopej/", port=d.admin)


def test_O10_its_address_is_chosen_or_switched_off_and_it_can_end_the_process(tmp_path):
    d = citadel(tmp_path, ctrlz=("--ctrlz_address", "*", "--ctrlz_port", "0"))
    assert set(listening(d.process.pid)[d.port]) == {"0"}
    assert d.put("/homej/exit") == (202, "") and d.process.wait(20) == 0
    d = citadel(tmp_path, ctrlz=("--ctrlz-address=off",))
    assert d.port is None and not d.said("controlz") and scopes_of_admin(d)
    d.stop()
    done = subprocess.run([*d.command, "--ctrlz_address=nowhere"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "--ctrlz_address, --ctrlz_port: " in done.stderr and "is not an IP address" in done.stderr
