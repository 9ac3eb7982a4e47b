"""Traffic capture with TPROXY: the application sees who calls, and its answers find the way back through the proxy, which is here one of Python."""
import os

import pytest

from capture_world import AGENT, OUT, OUT6, POD, POD6, PROXY_PORTS, TPROXY_MARK, VIRTUAL, World

TPROXY = "--interception-mode", "TPROXY"
FAMILIES = (POD, OUT), (POD6, OUT6)


@pytest.fixture(scope="module", params=["root", "user"])
def made(request):
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    w = World(request.param == "user", transparent=True)
    w.pod.run("nft", "add", "table", "inet", "kernel")
    w.pod.run("nft", "add", "chain", "inet", "kernel", "c", "{ type filter hook prerouting priority mangle; }")
    can = w.pod.run("nft", "add", "rule", "inet", "kernel", "c", "meta", "l4proto", "tcp", "tproxy", "to", ":1", check=False)
    w.pod.run("nft", "delete", "table", "inet", "kernel")
    if can.returncode:
        w.close()
        pytest.skip(f"this kernel has no tproxy for nftables: {can.stderr.strip()}")
    yield w
    w.close()


@pytest.fixture
def world(made):
    yield made
    made.capture("--remove")
    assert made.rules() == "" and routes(made) == ""


def routes(world):
    return "".join(line + "\n" for family in ("-4", "-6") for what in (["rule"], ["route", "show", "table", "133"])
                   for line in world.pod.run("ip", family, *what, check=False).stdout.splitlines() if "133" in line or "local default" in line)


def passed(world, ns, address, port, **named):
    """(port of the application, address and port that were called, the client as the application sees it, whether the proxy was passed)"""
    got = world.ask(ns, address, port, **named)
    return got["port"], got["address"], got["original"], got["peer"], got.get("via") == 15006


def test_A16_tproxy_the_application_sees_who_calls(world):
    """The proxy calls from the client's own port, where it can."""
    world.capture(*TPROXY)
    for pod, out in FAMILIES:
        for port in 8080, 22, 8080:
            assert passed(world, world.outside, pod, port) == (port, pod, port, out, True)


def test_A16_tproxy_when_the_kernel_answers_with_cookies(world):
    """The connection is then made by its third packet, which is no new connection any more."""
    world.capture(*TPROXY)
    world.pod.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    try:
        for pod, out in FAMILIES:
            assert passed(world, world.outside, pod, 8080) == (8080, pod, 8080, out, True)
    finally:
        world.pod.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=1")


def test_A16_tproxy_the_proxys_own_ports_are_left_alone(world):
    world.capture(*TPROXY)
    for pod, out in FAMILIES:
        for port in PROXY_PORTS:
            if port != 15006:
                assert passed(world, world.outside, pod, port) == (port, pod, port, out, False)


def test_A16_tproxy_inbound_ports_and_interfaces(world):
    world.capture(*TPROXY, "--exclude-inbound-ports", "22")
    assert passed(world, world.outside, POD, 22) == (22, POD, 22, OUT, False)
    assert passed(world, world.outside, POD, 8080) == (8080, POD, 8080, OUT, True)
    world.capture(*TPROXY, "--include-inbound-ports", "8080")
    assert passed(world, world.outside, POD6, 22) == (22, POD6, 22, OUT6, False)
    assert passed(world, world.outside, POD6, 8080) == (8080, POD6, 8080, OUT6, True)
    world.capture(*TPROXY, "--include-inbound-ports", "")
    assert passed(world, world.outside, POD, 8080) == (8080, POD, 8080, OUT, False)
    world.capture(*TPROXY, "--exclude-interfaces", "va")
    assert passed(world, world.outside, POD, 8080) == (8080, POD, 8080, OUT, False)
    assert world.application(OUT, 80) == (80, OUT, 80)


def test_A16_tproxy_outbound_is_redirected(world):
    """Its proxy's port is not transparent here: it tells the original address by itself."""
    world.capture(*TPROXY, "--exclude-outbound-ports", "22")
    assert world.application(OUT, 80) == (15001, OUT, 80)
    assert world.application(OUT6, 80) == (15001, OUT6, 80)
    assert world.application(VIRTUAL, 9080) == (15001, VIRTUAL, 9080)
    assert world.application(OUT, 22) == (22, OUT, 22)
    for out in OUT, OUT6:
        assert world.proxy(out, 80) == (80, out, 80)


def test_A16_tproxy_loopback(world):
    world.capture(*TPROXY)
    for local, pod, known in ("127.0.0.1", POD, "127.0.0.6"), ("::1", POD6, "::6"):
        # The application calls itself.
        assert passed(world, world.pod, local, 8080) == (8080, local, 8080, local, False)
        assert passed(world, world.pod, pod, 8080) == (8080, pod, 8080, pod, False)
        # The proxy calls the application beside it, and the pod's address when a service chose this very endpoint.
        assert passed(world, world.pod, local, 8080, proxy=True) == (8080, local, 8080, local, False)
        assert passed(world, world.pod, pod, 8080, proxy=True) == (8080, pod, 8080, pod, True)
        assert passed(world, world.pod, pod, 8080, proxy=True, source=known) == (8080, pod, 8080, known, False)
        assert world.proxy(pod, 15008) == (15008, pod, 15008)


def test_A16_tproxy_an_application_on_the_loopback_only(world):
    """It cannot answer a foreign address, so the client's is not passed on."""
    world.capture(*TPROXY)
    for local, out, known in ("127.0.0.1", OUT, "127.0.0.6"), ("::1", OUT6, "::6"):
        assert passed(world, world.pod, local, 8080, source=out, mark=TPROXY_MARK) == (8080, local, 8080, known, False)


def test_A16_tproxy_a_second_run_gives_the_same_and_another_mode_takes_the_routes_away(world):
    world.capture(*TPROXY)
    first = world.rules(), routes(world)
    assert "tproxy to :15006" in first[0]
    assert first[1].count("fwmark 0x539 lookup 133") == 2 and first[1].count("local default dev lo") == 2
    world.capture(*TPROXY)
    assert (world.rules(), routes(world)) == first
    world.capture()
    assert "tproxy" not in world.rules() and "redirect to :15006" in world.rules() and routes(world) == ""
    world.capture(*TPROXY)
    assert (world.rules(), routes(world)) == first
    world.capture("--interception-mode", "NONE")
    assert world.rules() == "" and routes(world) == ""


def test_A16_tproxy_dry_run_prints_rules_and_routes(world):
    printed = world.capture(*TPROXY, "--dry-run")
    assert world.rules() == "" and routes(world) == ""
    world.capture(*TPROXY)
    script = [line.strip() for line in printed.replace("1337", "0x00000539").replace("1338", "0x0000053a").splitlines() if not line.startswith("#")]
    listed = [line.strip() for line in world.rules().replace(" 1337", " 0x00000539").splitlines() if line.strip()]
    assert script[2:] == listed
    world.capture("--remove")
    for line in printed.splitlines():
        if line.startswith("# "):
            world.pod.run(*line[2:].split())
    assert routes(world).count("\n") == 4, "the printed commands are what is done"


def test_A16_tproxy_annotation_and_what_is_refused(world):
    world.capture("--annotations", '{"sidecar.istio.io/interceptionMode": "TPROXY"}')
    before = world.rules(), routes(world)
    assert "tproxy" in before[0]
    for options, told in ((("--annotations", '{"sidecar.istio.io/interceptionMode": "tproxy"}'), 'annotation sidecar.istio.io/interceptionMode: "tproxy" is not REDIRECT, TPROXY or NONE'),
                          (("--interception-mode", "EBPF"), '--interception-mode: "EBPF" is not'),
                          ((*TPROXY, "--proxy-mark", TPROXY_MARK), "--proxy-mark: 1337 is TPROXY's own mark")):
        done = world.capture(*options, check=False)
        assert done.returncode == 1 and told in done.stderr, done.stderr
    assert (world.rules(), routes(world)) == before


def test_A16_tproxy_without_the_right_to_it_says_so(world):
    if world.user:
        pytest.skip("an ordinary user without a namespace is the same in both")
    nobody = "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"
    done = world.pod.run(*nobody, AGENT, "capture", *TPROXY, check=False)
    assert done.returncode == 1 and "CAP_NET_ADMIN" in done.stderr, done.stderr
    assert world.rules() == "" and routes(world) == ""
