"""Traffic capture, with real connections between real network namespaces: as root, where the proxy is known by its user id, and as an
ordinary user in a user namespace, where it is known by a socket mark."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from netns import Namespace, connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
AGENT = BUILD / "agent/agent"
PEER = pathlib.Path(__file__).with_name("capture_peer.py")
MARK = 1337
UID = 1337
POD, POD6, OUT, OUT6, VIRTUAL = "10.77.0.1", "fd77::1", "10.77.0.2", "fd77::2", "10.96.0.10"
PROXY_PORTS = 15001, 15006, 15008, 15020, 15021, 15090
PORTS = 22, 80, 8080, *PROXY_PORTS


class World:
    def __init__(self, user):
        self.user = user
        self.host = Namespace(user=user)
        self.pod, self.outside = Namespace(self.host), Namespace(self.host)
        connect(self.pod, self.outside, self.host, [POD + "/24", POD6 + "/64"], [OUT + "/24", OUT6 + "/64"])
        for ns, gateway, gateway6 in (self.pod, OUT, OUT6), (self.outside, POD, POD6):
            ns.run("ip", "route", "add", "default", "via", gateway)
            ns.run("ip", "-6", "route", "add", "default", "via", gateway6)
        self.listeners = [self.listen(self.pod), self.listen(self.outside)]

    def listen(self, ns):
        process = ns.start(sys.executable, PEER, "listen", *PORTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == "listening\n"
        return process

    def capture(self, *options, check=True):
        known_by = ["--proxy-mark", MARK] if self.user else []
        return self.pod.run(AGENT, "capture", *known_by, *options, check=check)

    def call(self, ns, address, port, proxy=False, source=""):
        """(port that accepted, original address, original port, peer) of one connection"""
        as_user = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"] if proxy and not self.user else []
        mark = MARK if proxy and self.user else 0
        done = ns.run(*as_user, sys.executable, PEER, "call", address, port, mark, *([source] if source else []), check=False)
        assert done.returncode == 0, f"to {address}:{port}: {done.stderr}"
        got = json.loads(done.stdout)
        return got["port"], got["address"], got["original"], got["peer"]

    def application(self, address, port):
        return self.call(self.pod, address, port)[:3]

    def proxy(self, address, port, source=""):
        return self.call(self.pod, address, port, proxy=True, source=source)[:3]

    def caller(self, address, port):
        return self.call(self.outside, address, port)[:3]

    def rules(self):
        return self.pod.run("nft", "list", "ruleset")

    def close(self):
        for process in self.listeners:
            process.stdin.close()
            process.stdout.close()
            process.wait(10)
        for ns in self.pod, self.outside, self.host:
            ns.close()


@pytest.fixture(scope="module", params=["root", "user"])
def made(request):
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    w = World(request.param == "user")
    yield w
    w.close()


@pytest.fixture
def world(made):
    yield made
    made.capture("--remove")
    assert made.rules() == ""


def test_A16_everything_is_captured_by_default(world):
    world.capture()
    for pod, out in (POD, OUT), (POD6, OUT6):
        assert world.caller(pod, 8080) == (15006, pod, 8080)
        assert world.caller(pod, 22) == (15006, pod, 22)
        assert world.application(out, 80) == (15001, out, 80)
    # An address that nobody has, as a service's is.
    assert world.application(VIRTUAL, 9080) == (15001, VIRTUAL, 9080)


def test_A16_the_proxys_own_connections_are_left_alone(world):
    world.capture()
    for out in OUT, OUT6:
        assert world.proxy(out, 80) == (80, out, 80)


def test_A16_the_proxys_own_ports_are_left_alone(world):
    world.capture()
    for pod in POD, POD6:
        for port in PROXY_PORTS:
            assert world.caller(pod, port) == (port, pod, port)


def test_A16_loopback(world):
    world.capture()
    for local, pod in ("127.0.0.1", POD), ("::1", POD6):
        # The application calls itself.
        assert world.application(local, 8080) == (8080, local, 8080)
        assert world.application(pod, 8080) == (8080, pod, 8080)
        # The proxy calls the application beside it, and the pod's address when a service chose this very endpoint.
        assert world.proxy(local, 8080) == (8080, local, 8080)
        assert world.proxy(pod, 8080) == (15006, pod, 8080)
        # HBONE to itself is no plain connection to redirect.
        assert world.proxy(pod, 15008) == (15008, pod, 15008)


def test_A16_what_came_in_is_passed_on(world):
    world.capture()
    for source, pod in ("127.0.0.6", POD), ("::6", POD6):
        assert world.call(world.pod, pod, 8080, source=source) == (8080, pod, 8080, source)


def test_A16_inbound_ports(world):
    world.capture("--exclude-inbound-ports", "22")
    assert world.caller(POD, 22) == (22, POD, 22)
    assert world.caller(POD, 8080) == (15006, POD, 8080)
    world.capture("--include-inbound-ports", "8080")
    assert world.caller(POD, 22) == (22, POD, 22)
    assert world.caller(POD6, 8080) == (15006, POD6, 8080)
    world.capture("--include-inbound-ports", "")
    assert world.caller(POD, 8080) == (8080, POD, 8080)


def test_A16_outbound_ports_and_ranges(world):
    world.capture("--exclude-outbound-ports", "22")
    assert world.application(OUT, 22) == (22, OUT, 22)
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    world.capture("--exclude-outbound-ranges", "10.77.0.0/24")
    assert world.application(OUT, 80) == (80, OUT, 80)
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    world.capture("--include-outbound-ranges", "10.96.0.0/12,fd77::/16")
    assert world.application(OUT, 80) == (80, OUT, 80)
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    assert world.application(VIRTUAL, 80) == (15001, VIRTUAL, 80)
    world.capture("--include-outbound-ranges", "", "--include-outbound-ports", "22")
    assert world.application(OUT, 80) == (80, OUT, 80)
    assert world.application(OUT, 22) == (15001, OUT, 22)


def test_A16_interfaces(world):
    world.capture("--exclude-interfaces", "va")
    assert world.caller(POD, 8080) == (8080, POD, 8080)
    assert world.application(OUT, 80) == (80, OUT, 80)


def test_A16_annotations_override_options(world):
    annotations = {
        "traffic.sidecar.istio.io/excludeInboundPorts": "22",
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.96.0.0/12",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "8080",
    }
    world.capture("--exclude-inbound-ports", "80", "--annotations", json.dumps(annotations))
    assert world.caller(POD, 22) == (22, POD, 22)
    assert world.caller(POD, 80) == (15006, POD, 80)
    assert world.application(OUT, 80) == (80, OUT, 80)
    assert world.application(VIRTUAL, 80) == (15001, VIRTUAL, 80)


def test_A16_a_second_run_gives_the_same_table(world):
    world.capture("--exclude-inbound-ports", "22")
    first = world.rules()
    assert "redirect to :15006" in first and "redirect to :15001" in first
    world.capture("--exclude-inbound-ports", "22")
    assert world.rules() == first


def test_A16_another_table_is_not_touched(world):
    world.pod.run("nft", "add", "table", "inet", "somebodys")
    world.capture()
    world.capture("--remove")
    assert world.rules() == "table inet somebodys {\n}\n"
    world.pod.run("nft", "delete", "table", "inet", "somebodys")


def test_A16_removal_undoes_it_and_may_be_repeated(world):
    world.capture()
    world.capture("--remove")
    assert world.rules() == ""
    assert world.caller(POD, 8080) == (8080, POD, 8080)
    assert world.application(OUT, 80) == (80, OUT, 80)
    world.capture("--remove")


def test_A16_dry_run_prints_what_would_be_done(world):
    script = world.capture("--dry-run", "--exclude-inbound-ports", "22")
    assert world.rules() == ""
    world.capture("--exclude-inbound-ports", "22")
    rules = world.rules()
    # What the kernel lists is what was printed, but for white space and the spelling of marks.
    printed = [line.strip() for line in script.replace(f"mark {MARK}", f"mark 0x{MARK:08x}").replace(
        f"mark != {MARK}", f"mark != 0x{MARK:08x}").splitlines()]
    listed = [line.strip() for line in rules.splitlines() if line.strip()]
    assert [line.replace("{ 22 }", "22") for line in printed[2:]] == [line.replace("{ 22 }", "22") for line in listed]


def test_A16_a_bad_setting_changes_nothing(world):
    world.capture()
    before = world.rules()
    done = world.capture("--annotations", '{"traffic.sidecar.istio.io/excludeOutboundPorts":"http"}', check=False)
    assert done.returncode == 1
    assert 'annotation traffic.sidecar.istio.io/excludeOutboundPorts: "http" is not a port 1..65535' in done.stderr
    done = world.capture("--include-outbound-ranges", "10.0.0.0", check=False)
    assert done.returncode == 1 and "--include-outbound-ranges" in done.stderr
    done = world.capture("--no-such-option", "x", check=False)
    assert done.returncode == 2 and "no-such-option" in done.stderr
    assert world.rules() == before


def test_A16_without_the_right_to_it_says_so(world):
    if world.user:
        pytest.skip("an ordinary user without a namespace is the same in both")
    nobody = "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"
    done = world.pod.run(*nobody, AGENT, "capture", check=False)
    assert done.returncode == 1 and "CAP_NET_ADMIN" in done.stderr, done.stderr
    assert world.rules() == ""
