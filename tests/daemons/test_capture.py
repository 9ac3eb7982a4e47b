"""Traffic capture, with real connections between real network namespaces: as root, where the proxy is known by its user id, and as an
ordinary user in a user namespace, where it is known by a socket mark."""
import json
import os
import sys

import pytest

from netns import Namespace
from capture_world import AGENT, MARK, OUT, OUT6, PEER, POD, POD6, PROXY_PORTS, VIRTUAL, World


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
    # As Istio has it: exclusions count where all ports are captured.
    world.capture("--include-inbound-ports", "22,8080", "--exclude-inbound-ports", "22")
    assert world.caller(POD, 22) == (15006, POD, 22)


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


def test_A16_owners_of_outbound_connections(world):
    """In the user namespace there is one group, whose id is 0 there."""
    world.capture("--exclude-outbound-groups", "0")
    assert world.application(OUT, 80) == (80, OUT, 80)
    world.capture("--exclude-outbound-groups", "4711")
    assert world.application(OUT, 80) == (15001, OUT, 80)
    world.capture("--include-outbound-groups", "4711,0")
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    world.capture("--include-outbound-groups", "root")
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    world.capture("--include-outbound-groups", "4711")
    assert world.application(OUT6, 80) == (80, OUT6, 80)


def test_A16_the_proxy_is_known_by_its_group_and_by_one_of_its_users(world):
    if world.user:
        pytest.skip("one user id is mapped: a mark stands for it")
    world.capture("--proxy-uid", "4711,1337")
    assert world.proxy(OUT, 80) == (80, OUT, 80)
    world.capture("--proxy-uid", "4711")  # the test's proxy has group 1337
    assert world.proxy(OUT, 80) == (80, OUT, 80)
    assert world.proxy(POD, 8080) == (15006, POD, 8080)
    world.capture("--proxy-uid", "4711", "--proxy-gid", "4711")
    assert world.proxy(OUT, 80) == (15001, OUT, 80)


def test_A16_the_loopback_when_it_is_asked_for(world):
    world.capture("--include-outbound-ranges", "127.1.0.0/16")
    assert world.application("127.1.0.1", 8080) == (15001, "127.1.0.1", 8080)
    assert world.application("127.0.0.1", 8080) == (8080, "127.0.0.1", 8080)
    world.capture("--include-outbound-ranges", "127.1.0.0/16", "--loopback-range", "127.0.0.0/8")
    assert world.application("127.1.0.1", 8080) == (8080, "127.1.0.1", 8080)


def test_A16_what_comes_from_a_virtual_interface_is_outbound(world):
    """The pod's only interface stands for that of a machine behind it."""
    world.capture("--virtual-interfaces", "va")
    for pod in POD, POD6:
        assert world.caller(pod, 8080) == (15001, pod, 8080)
    world.capture("--virtual-interfaces", "va", "--include-outbound-ranges", "10.96.0.0/12")
    assert world.caller(POD, 8080) == (8080, POD, 8080), "to no captured range, and no inbound traffic either"
    world.capture("--annotations", json.dumps({"istio.io/reroute-virtual-interfaces": "va", "traffic.sidecar.istio.io/kubevirtInterfaces": "net1"}))
    assert world.caller(POD, 8080) == (15001, POD, 8080) and "net1" not in world.rules()


def test_A16_invalid_packets_are_dropped_when_asked_for(world):
    def astray():
        return world.outside.run(sys.executable, PEER, "astray", OUT, POD, 9).strip()
    world.capture()
    assert astray() == "reset"
    for mode in "REDIRECT", "TPROXY":
        world.capture("--interception-mode", mode, "--drop-invalid")
        assert astray() == "silence"
    world.capture("--drop-invalid")
    assert world.caller(POD, 8080) == (15006, POD, 8080)


def test_A16_validation_finds_out_whether_capture_is_there(world):
    """As the container istio-validation: rules that somebody else made, tried as the proxy's user."""
    if world.user:
        pytest.skip("the validation calls as the proxy's user, which there is none of")
    pod = Namespace(world.host)
    check = "setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups", AGENT, "capture", "--skip-rule-apply", "--run-validation", "--probe-timeout"
    try:
        for address in "10.78.0.1/24", "fd78::1/64":  # the pod's family decides which rules are tried
            done = pod.run(*check, "300ms", check=False)
            assert done.returncode == 126 and "traffic capture is not set up" in done.stderr, done
            pod.run("ip", "link", "add", "eth0", "type", "bridge")
            pod.run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
            pod.run("ip", "link", "set", "eth0", "up")
            pod.run(AGENT, "capture")
            assert pod.run(*check, "10s") == ""
            if ":" in address:
                pod.run("nft", "insert", "rule", "inet", "fairlead_capture", "outbound", "meta", "nfproto", "ipv6", "return")
                assert pod.run(*check, "300ms", check=False).returncode == 126
            pod.run(AGENT, "capture", "--remove")
            pod.run("ip", "link", "del", "eth0")
    finally:
        pod.close()


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
    assert printed[2:] == listed


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
