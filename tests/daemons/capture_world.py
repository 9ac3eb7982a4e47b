"""Network namespaces of a pod and of the outside, with a listener at every port in both, for tests of traffic capture."""
import json
import os
import pathlib
import subprocess
import sys

from netns import Namespace, connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
AGENT = BUILD / "agent/agent"
PEER = pathlib.Path(__file__).with_name("capture_peer.py")
MARK = 1338  # of the proxy's sockets, where it has no user of its own
UID = 1337
TPROXY_MARK = 1337
POD, POD6, OUT, OUT6, VIRTUAL = "10.77.0.1", "fd77::1", "10.77.0.2", "fd77::2", "10.96.0.10"
PROXY_PORTS = 15001, 15006, 15008, 15020, 15021, 15090
PORTS = 22, 80, 8080, *PROXY_PORTS


class World:
    """user: made as nobody in a user namespace. transparent: the proxy's port is served as with TPROXY."""

    def __init__(self, user, transparent=False):
        self.user = user
        self.host = Namespace(user=user)
        self.pod, self.outside = Namespace(self.host), Namespace(self.host)
        connect(self.pod, self.outside, self.host, [POD + "/24", POD6 + "/64"], [OUT + "/24", OUT6 + "/64"])
        for ns, gateway, gateway6 in (self.pod, OUT, OUT6), (self.outside, POD, POD6):
            ns.run("ip", "route", "add", "default", "via", gateway)
            ns.run("ip", "-6", "route", "add", "default", "via", gateway6)
        self.listeners = []
        self.listen(self.outside, "listen", *PORTS)
        self.listen(self.pod, "listen", *(port for port in PORTS if not (transparent and port == 15006)))
        if transparent:
            # As in Kubernetes: the superuser, in a group of the proxy's own.
            as_group = [] if user else ["setpriv", "--regid", UID, "--clear-groups"]
            self.listen(self.pod, "forward", 15006, TPROXY_MARK, run=as_group)

    def listen(self, ns, *arguments, run=()):
        process = ns.start(*map(str, (*run, sys.executable, PEER, *arguments)), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == "listening\n"
        self.listeners.append(process)

    def capture(self, *options, check=True):
        known_by = ["--proxy-mark", MARK] if self.user else []
        return self.pod.run(AGENT, "capture", *known_by, *options, check=check)

    def ask(self, ns, address, port, proxy=False, source="", mark=0):
        """What the one who accepted a connection says, and whom it passed."""
        as_user = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"] if proxy and not self.user else []
        mark = mark or (MARK if proxy and self.user else 0)
        done = ns.run(*as_user, sys.executable, PEER, "call", address, port, mark, *([source] if source else []), check=False)
        assert done.returncode == 0, f"to {address}:{port}: {done.stderr}"
        return json.loads(done.stdout)

    def call(self, ns, address, port, **named):
        """(port that accepted, original address, original port, peer) of one connection"""
        got = self.ask(ns, address, port, **named)
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
