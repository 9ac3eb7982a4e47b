"""The bus over tcp with several publishers behind one name: pilot follows one of them, changes when it goes, and no proxy hears of it.

A mount namespace gives pilot a hosts file of its own, so that a name has as many addresses as the test wants.
"""
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "mesh"))
import daemons  # noqa: E402
import util  # noqa: E402
import xds  # noqa: E402
from util import until  # noqa: E402

MOUNTS = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]


def free_pair():
    """Two neighbouring ports that are free on every address of loopback."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("0.0.0.0", 0))
            try:
                two.bind(("0.0.0.0", one.getsockname()[1] + 1))
                return one.getsockname()[1]
            except OSError:
                continue


class Pilot(daemons.Daemon):
    """With a hosts file: the names of the bus and their addresses."""

    def __init__(self, folder, hosts, *options):
        self.hosts = folder / "hosts"
        self.name_is(hosts)
        self.address = f"127.0.0.1:{daemons.free_port()}"
        super().__init__("pilot", folder, "--xds-address", self.address, *options)

    def start(self):
        self.argv = [*MOUNTS, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.hosts, *self.argv]
        super().start()

    def name_is(self, hosts):
        self.hosts.write_text("".join(f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses))

    def link(self):
        return self.admin.page("bus")["galley"]["link"]


@pytest.fixture
def bus(folder):
    """(folder, source, options of every daemon, port)"""
    subprocess.run([util.BUILD / "cli/fairlead", "bus-keys", "--out", folder / "keys"], check=True, capture_output=True)
    return folder, daemons.copy_of_bookinfo(folder), ["--bus-keys", folder / "keys"], free_pair()


@pytest.fixture
def folder():
    import tempfile
    with tempfile.TemporaryDirectory(prefix="fl-") as path:
        yield pathlib.Path(path)


def galley(bus, address, name):
    folder, source, options, port = bus
    return daemons.galley(folder, source, *options, bus=f"tcp://{address}:{port}", instance=name)


def pilot(bus, *addresses):
    folder, _, options, port = bus
    return Pilot(folder, {"bus-galley.test": addresses, "bus-citadel.test": ["127.0.0.9"]}, *options, "--bus",
                 f"tcp://bus-{{role}}.test:{port}")


def add_host(source, name):
    (source / f"{name}.yaml").write_text(f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default}}
spec: {{hosts: [{name}.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}
""")
    return f"outbound|80||{name}.example.com"


def test_rule3_a_publisher_that_goes_is_replaced_and_no_proxy_hears_of_it(bus):
    with galley(bus, "127.0.0.1", "one") as one, galley(bus, "127.0.0.2", "two") as two:
        one.wait_ready(), two.wait_ready()
        with pilot(bus, "127.0.0.1", "127.0.0.2") as p:
            p.wait_ready()
            with xds.Delta(p.address, xds.sidecar()) as proxy:
                until(proxy.complete)
                before, sent = proxy.snapshot(), dict(proxy.responses)
                for survivor, address in ((two, "127.0.0.2"), (one, "127.0.0.1")):
                    at = p.link()["endpoint"]
                    assert p.link()["addresses"] == 2
                    followed = one if "127.0.0.1:" in at else two
                    followed.kill()
                    other = two if followed is one else one
                    until(lambda a=at: p.link()["state"] == "heard" and p.link()["endpoint"] != a, what="the other publisher")
                    until(lambda: p.admin.page("bus")["galley"]["state"] == "live")
                    assert proxy.snapshot() == before and proxy.responses == sent
                    assert p.admin.ready()
                    followed.start()
                    followed.wait_ready()
                    assert other.process.poll() is None
                added = add_host(bus[1], "later")
                until(lambda: added in proxy.snapshot()["cds"], what="a change by the publisher that is followed now")
            assert p.admin.metric("bus_reconnects_total", publisher="galley", reason="lost") == 2


def test_a_publisher_that_has_read_nothing_yet_is_left_for_one_that_has(bus):
    folder, source, options, port = bus
    with socket.socket() as silent:  # a galley that is there, and never gets ready: nothing answers
        silent.bind(("127.0.0.3", port))
        silent.listen()
        with galley(bus, "127.0.0.2", "two") as two:
            two.wait_ready()
            with pilot(bus, "127.0.0.3", "127.0.0.2") as p:
                p.wait_ready()
                assert "127.0.0.2:" in p.link()["endpoint"]


def test_N08_every_galley_counts_the_proxies_of_all_pilots_whomever_they_follow(bus):
    folder, source, options, port = bus
    (folder / "b").mkdir()
    both = {"bus-galley.test": ["127.0.0.1", "127.0.0.2"], "bus-citadel.test": ["127.0.0.9"]}
    with galley(bus, "127.0.0.1", "one") as one, galley(bus, "127.0.0.2", "two") as two:
        one.wait_ready(), two.wait_ready()
        with pilot(bus, "127.0.0.1") as a, pilot((folder / "b", source, options, port), "127.0.0.2") as b:
            a.wait_ready(), b.wait_ready()
            with xds.Delta(a.address, xds.sidecar()) as first, xds.Delta(b.address, xds.sidecar()) as second:
                until(lambda: first.complete() and second.complete())

                def counts(daemon):
                    page = daemon.admin.page("distribution")
                    return page["pilots"], page["proxies"], {o["accepted"] for o in page["objects"] if o["applied"]}
                until(lambda: [counts(g)[:2] for g in (one, two)] == [(1, 1)] * 2, what="each galley has the pilot that follows it")
                a.name_is(both), b.name_is(both)
                until(lambda: [counts(g) for g in (one, two)] == [(2, 2, {2})] * 2, 30, what="each galley has both, with all that they have")
                assert ("127.0.0.1:" in a.link()["endpoint"]) and ("127.0.0.2:" in b.link()["endpoint"]), "and they follow whom they followed"
                # What is new is counted by both, too, and a galley that goes takes nothing with it.
                add_host(source, "later")
                until(lambda: all(any("later" in o["key"] and o["accepted"] == 2 for o in g.admin.page("distribution")["objects"]) for g in (one, two)),
                      what="a change with all proxies")
                two.kill()
                until(lambda: "127.0.0.1:" in b.link()["endpoint"] and b.link()["state"] == "heard", 30, what="the galley that is left")
                assert counts(one) == (2, 2, {2})


class Balancer:
    """One address for several publishers, chosen for each connection: what a ClusterIP does."""

    def __init__(self, address, port, targets):
        self.targets, self.random, self.listeners = targets, random.Random(4711), []
        for p in (port, port + 1):
            listener = socket.create_server((address, p))
            self.listeners.append(listener)
            threading.Thread(target=self.accept, args=(listener, p), daemon=True).start()

    def accept(self, listener, port):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.random.choice(self.targets), port))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        for listener in self.listeners:
            listener.close()


def test_two_publishers_behind_one_balanced_address_settle_on_one(bus):
    folder, source, options, port = bus
    with galley(bus, "127.0.0.1", "one") as one, galley(bus, "127.0.0.2", "two") as two:
        one.wait_ready(), two.wait_ready()
        balancer = Balancer("127.0.0.3", port, ["127.0.0.1", "127.0.0.2"])
        with daemons.pilot(folder, *options, bus=f"tcp://127.0.0.3:{port}") as p:
            p.wait_ready()
            replica = lambda: p.admin.page("bus")["galley"]  # noqa: E731
            added = None
            for name in ("first", "second", "third"):
                added = add_host(source, name)
                with xds.Delta(p.address, xds.sidecar()) as proxy:
                    until(lambda a=added, c=proxy: a in c.snapshot()["cds"], what=name)

            def settled():
                epochs = {d.admin.page("bus")["epoch"] for d in (one, two)}
                r = replica()
                before = r["resyncs"]
                assert r["epoch"] in epochs
                return r["state"] == "live" and r["resync_attempts"] == 0 and replica()["resyncs"] == before
            until(settled, what="both sockets at one publisher")
        balancer.close()
