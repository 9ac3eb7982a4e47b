"""A mesh for tests of traffic: clients, three versions of a server, servers outside of the mesh, two gateways, started once for all tests.

Every pod runs pods/peer.py, so that every pod can send, answer and tell what it got. Tests talk to it on a Unix socket: a request costs no process.
A test says its configuration in `@rules(...)`, for hosts of its own; what all tests of a module say is applied together, before the first.
"""
import collections
import contextlib
import json
import math
import pathlib
import re
import socket
import subprocess
import textwrap
import time
from dataclasses import dataclass

import pytest
import util
from mesh import ENVOY_ADMIN, Mesh

CLIENT, CALLER, OUTSIDE = "default/client", "other/caller", "outside/out-1"
INGRESS, EGRESS = "istio-system/istio-ingressgateway", "istio-system/egress"
ECHO = "10.96.2.1"
INGRESS_IP, EGRESS_IP = "10.88.2.2", "10.88.2.3"
SIX, SIX6 = "six/echo-6", "fd88::2:6"  # a pod without an address of IPv4
CLEAR, CLEAR_IP, CLEAR6 = "clear/clear", "10.88.2.7", "fd88::2:7"  # a pod that sees who calls: with TPROXY
CLIENT6, INGRESS6, OUT6 = "fd88::2:4", "fd88::2:2", "fd88::3:1"
OUT = {"out-1": "10.88.3.1", "out-2": "10.88.3.2", "out-3": "10.88.3.3"}
HTTP, MORE, HTTPS, TCP, TLS, FIRST = 8080, 8081, 8443, 9000, 9443, 9001
CHANCE = 1e-6  # of a good mesh failing a test by bad luck
SLACK = 6000 if util.SANITIZED else 3000  # milliseconds that a busy machine may add
EARLY = 10  # milliseconds by which Envoy's clock, which ticks once in each turn of its loop, may be late
ENOUGH = 45  # balanced calls, of which each of three endpoints gets one: 3 * (2/3)^45 is below CHANCE

GROUPS = {"Gateway": "networking.istio.io/v1", "VirtualService": "networking.istio.io/v1", "DestinationRule": "networking.istio.io/v1",
          "ServiceEntry": "networking.istio.io/v1", "WorkloadEntry": "networking.istio.io/v1", "Sidecar": "networking.istio.io/v1",
          "PeerAuthentication": "security.istio.io/v1", "MeshConfig": "fairlead.dev/v1", "MeshNetworks": "fairlead.dev/v1", "Service": "v1", "ProxyConfig": "networking.istio.io/v1beta1"}
HEADING = re.compile(r"(\w+) (?:([\w-]+)/)?([\w.-]+)((?: [\w./-]+=\S+)*)")
rules = pytest.mark.rules


def documents(text):
    """Objects in full, from "Kind namespace/name label=value" (namespace: default) with the indented spec below; lines of --- between objects.
    What has an apiVersion is left as it is."""
    found = []
    for part in re.split(r"^\s*---\s*$", textwrap.dedent(text).strip("\n"), flags=re.M):
        head, _, spec = part.strip("\n").partition("\n")
        if not head:
            continue
        if head.startswith("apiVersion:"):
            found.append(part + "\n")
            continue
        match = HEADING.fullmatch(head.strip())
        assert match, f"no heading: {head!r}"
        kind, namespace, name, labels = match.groups()
        labels = ", ".join(f'{k}: "{v}"' for k, v in (word.split("=", 1) for word in labels.split()))
        found.append(f"apiVersion: {GROUPS[kind]}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace or 'default'}, "
                     f"labels: {{{labels}}}}}\nspec:\n{textwrap.indent(textwrap.dedent(spec), '  ')}\n")
    return "---\n".join(found)


def pod(path, ip, *more_ips, app, version="", proxy=True, gateway=False, options="", labels="", env="", more=""):
    namespace, name = path.split("/")
    annotations = 'sidecar.istio.io/statsInclusionPrefixes: "vhost.,http.outbound,cluster.outbound,cluster.out_,cluster.in_"' + (", inject.istio.io/templates: gateway" if gateway else "") + more
    mode = "" if gateway else "security.istio.io/tlsMode: istio, " if proxy else 'sidecar.istio.io/inject: "false", '
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {app}, version: "{version}", {mode}{labels}}}
  annotations: {{{annotations}}}
spec:
  serviceAccountName: {app}
  containers:
  - command: [python3, -B, peer.py, --version, "{version}", {", ".join(f'"{o}"' for o in options.split())}]
    env: [{{name: POD_NAME, value: {name}}}{env}]
    ports: [{"" if gateway else f"{{containerPort: {HTTP}}}"}]
status: {{phase: Running, podIP: "{ip}", podIPs: [{", ".join(f'{{ip: "{i}"}}' for i in (ip, *more_ips))}], conditions: [{{type: Ready, status: "True"}}]}}
"""


# In force when pods start, for all modules.
PROXY_CONFIGS = """
ProxyConfig other/gold
  selector: {matchLabels: {tier: gold}}
  concurrency: 2
---
ProxyConfig other/all
  concurrency: 3
  environmentVariables: {ISTIO_META_SAID_BY: namespace}
---
ProxyConfig istio-system/all
  environmentVariables: {ISTIO_META_SAID_BY: root, ISTIO_META_OF_ALL: "yes"}
"""
SERVERS = f"--http {HTTP} {MORE} --tcp {TCP} --https {HTTPS} --tls {TLS}"
PODS = [
    pod(CLIENT, "10.88.2.4", CLIENT6, app="client", options=f"--http {HTTP}", labels="topology.istio.io/locality: r1.z1.s1"),
    pod(CALLER, "10.88.2.5", app="caller", options=f"--http {HTTP}", labels="tier: gold"),
    pod(SIX, SIX6, app="six", version="six", options=f"--http {HTTP} --tcp {TCP}"),
    pod(CLEAR, CLEAR_IP, CLEAR6, app="clear", version="clear", options=f"--http {HTTP} {MORE} --tcp {TCP}",
        more=f', sidecar.istio.io/interceptionMode: {"TPROXY" if util.has_tproxy() else "REDIRECT"}, traffic.sidecar.istio.io/excludeInboundPorts: "{MORE}"'),
    # Of networks it sees its own alone: nothing that came from another goes back there.
    pod(INGRESS, INGRESS_IP, INGRESS6, app="istio-ingressgateway", gateway=True, labels="istio: ingressgateway",
        env=", {name: ISTIO_META_REQUESTED_NETWORK_VIEW, value: far}"),
    pod(EGRESS, EGRESS_IP, app="egress", gateway=True, labels="istio: egressgateway"),
    *(pod(f"default/echo-{v}", f"10.88.2.1{v[1]}", app="echo", version=v, proxy=v != "v3", options=f"{SERVERS} --unix --first {FIRST}") for v in ("v1", "v2", "v3")),
    *(pod(f"outside/{name}", ip, *((OUT6,) if name == "out-1" else ()), app="out", version=name, proxy=False, options=f"{SERVERS} --http {HTTP} {MORE} 80 --https {HTTPS} 443")
      for name, ip in OUT.items()),
]
# All hosts of the tests live on the ports of these services; a VirtualService may have a host that is no service.
SERVICES = f"""
Service echo
  clusterIP: {ECHO}
  selector: {{app: echo}}
  ports: [{{name: http, port: 80, targetPort: {HTTP}}}, {{name: http-more, port: 81, targetPort: {MORE}}}, {{name: tcp, port: 9000}}]
---
DestinationRule echo
  host: echo
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}, {{name: v3, labels: {{version: v3}}}}]
---
Gateway gates
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: ["*.secure.test"]
    tls: {{mode: SIMPLE, serverCertificate: CERTS/server.pem, privateKey: CERTS/server.key}}
---
Gateway way-out
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
Service istio-system/egress
  clusterIP: 10.96.2.3
  selector: {{istio: egressgateway}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: https, port: 443, targetPort: 8443}}, {{name: tls, port: 444, targetPort: 8444}}]
---
Service istio-system/ingress
  clusterIP: 10.96.2.2
  selector: {{istio: ingressgateway}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: https, port: 443, targetPort: 8443}}, {{name: tcp, port: 9000, targetPort: 9000}}]
"""


def service(name, number, selector="{app: echo}", ports="", labels=""):
    """A service of its own for a test: 10.96.3.NUMBER, HTTP on 80 and TCP on 9000."""
    ports = ports or f"[{{name: http, port: 80, targetPort: {HTTP}}}, {{name: tcp, port: {TCP}}}]"
    return f"Service {name} {labels}\n  clusterIP: 10.96.3.{number}\n  selector: {selector}\n  ports: {ports}\n---\n"


class Certificates:
    """One authority, and certificates of it, as files in a folder that pods can read."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                     "-days", "2", "-subj", "/CN=lab CA")
        self.ca = folder / "ca.pem"

    def openssl(self, *argv):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, cwd=self.folder)

    def issue(self, name, *names, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """(certificate, key) for DNS names."""
        self.openssl("req", "-newkey", *key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                     "-subj", f"/CN={name}", "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names or [name]))
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                     "-copy_extensions", "copy", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def revoke(self, name):
        """Writes crl.pem, in which one certificate is."""
        (self.folder / "index").write_text("")
        (self.folder / "ca.conf").write_text("[ca]\ndefault_ca = lab\n[lab]\ndatabase = index\ndefault_md = sha256\ndefault_crl_days = 2\n")
        own = ("ca", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key")
        self.openssl(*own, "-revoke", f"{name}.pem")
        self.openssl(*own, "-gencrl", "-out", "crl.pem")


@dataclass
class Answer:
    status: int
    headers: dict
    text: str
    error: str
    ms: float
    tls: dict
    every: list  # headers with their repetitions

    @property
    def said(self):
        """What the server says that it received."""
        assert self.text, f"no body: {self}"
        return json.loads(self.text)

    @property
    def version(self):
        return self.headers.get("x-version") or (json.loads(self.text)["version"] if self.text.startswith("{") else "")


def answer(raw):
    return Answer(raw["status"], dict(raw["headers"]), raw["body"], raw["error"], raw["ms"], raw.get("tls"), raw["headers"])


class Lab(Mesh):
    """The requests and the configuration of tests."""

    def __init__(self):
        super().__init__(source=util.ROOT / "tests/mesh/pods", prepare=self.prepare, quick=True)
        self.module, self.refused, self.settled = None, None, 0.0

    def prepare(self, folder):
        self.certificates = Certificates(folder / "certs")
        self.certificates.issue("server", "*.ext.example", "*.secure.test", "*.wild.example", "tls.echo.example")
        self.certificates.issue("visitor", "visitor.example")
        self.certificates.issue("gone", "gone.example")
        self.certificates.revoke("gone")
        self.certificates.issue("rsa", "*.secure.test", key=["rsa:2048"])
        (folder / "pods.yaml").write_text("---\n".join(PODS) + "---\n" + documents(PROXY_CONFIGS + "---" + SERVICES.replace("CERTS", str(folder / "certs"))))
        (folder / "rules").mkdir()

    def start(self):
        super().start()
        # An unknown host on a service's address is passed through to where nobody is. Here that fails at once and not after a timeout.
        for pod_name in (CLIENT, CALLER):
            self.run_in(pod_name, "ip", "rule", "add", "fwmark", 1338, "to", "10.96.0.0/16", "unreachable")
        return self

    # ---- traffic

    def tell(self, path, order, timeout=60):
        """An order to the program of a pod, and what it replies."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(str(self.folder / "c" / path.split("/")[1]))
            s.sendall(json.dumps(order).encode() + b"\n")
            with s.makefile("rb") as stream:
                reply = json.loads(stream.readline() or '{"problem": "no answer"}')
        assert not (isinstance(reply, dict) and "problem" in reply), (path, reply)
        return reply

    def ask_many(self, host, path="/", count=1, *, pod=CLIENT, to=ECHO, port=80, headers=None, **order):
        """Answers to requests that were sent as if by an application in a pod. More of an order: parallel, method, body, close, tls, timeout."""
        headers = headers.items() if isinstance(headers, dict) else headers or ()
        return [answer(raw) for raw in self.tell(pod, {"do": "ask", "address": to, "port": port, "host": host, "path": path, "count": count,
                                                       "headers": [[k.replace("_", "-"), str(v)] for k, v in headers], **order})]

    def ask(self, host, path="/", **order):
        return self.ask_many(host, path, **order)[0]

    def version(self, host, path="/", **order):
        """The version that answered; what went wrong when it was not 200."""
        got = self.ask(host, path, **order)
        return got.version if got.status == 200 else f"{got.status} {got.error or got.text[:60]}"

    def versions(self, host, path="/", count=1, **order):
        """How many of the answers each version gave."""
        got = self.ask_many(host, path, count, **order)
        return collections.Counter(a.version if a.status == 200 else f"{a.status} {a.error or a.text[:60]}" for a in got)

    def talk(self, to, port, line="hello", count=1, pod=CLIENT, **order):
        """Over TCP: each connection sends a line and takes one. More of an order: hold (seconds before it ends), parallel, tls."""
        return [answer(raw) for raw in self.tell(pod, {"do": "talk", "address": to, "port": port, "line": line, "count": count, **order})]

    def taken(self, path, key, forget=True):
        """{"requests": [...], "most": N} that came to a pod with a key."""
        return self.tell(path, {"do": "taken", "key": key, "forget": forget})

    def came(self, key, paths=("default/echo-v1", "default/echo-v2", "default/echo-v3")):
        """How many requests with a key each server got."""
        return {p.rpartition("-")[2]: len(self.taken(p, key)["requests"]) for p in paths}

    def names(self, path, names=None):
        """Sets names of the resolver in a pod: {name: [addresses]}; returns how often each name was asked for."""
        return self.tell(path, {"do": "names", "names": names or {}})

    def routes(self, path, name):
        """The virtual hosts of a route configuration, as the Envoy of a pod has it."""
        dump = json.loads(self.curl(path, f"http://127.0.0.1:{ENVOY_ADMIN}/config_dump?resource=dynamic_route_configs")[1])
        return next(r["route_config"]["virtual_hosts"] for r in dump["configs"] if r["route_config"]["name"] == name)

    def openssl(self, address, name, *options, text=""):
        """(whether the handshake went well and was verified, what openssl and the server said), as a client on the node."""
        argv = ["openssl", "s_client", "-connect", address, "-servername", name, "-CAfile", self.certificates.ca, "-verify_return_error", "-brief",
                "-ign_eof", *options]
        done = subprocess.run([*self.enter(), *map(str, argv)], input=text, capture_output=True, text=True, timeout=20, check=False)
        return done.returncode == 0, done.stdout + done.stderr

    # ---- configuration

    def use(self, module, items):
        """Everything that the tests of a module say, and nothing of another module. The module's NAMES are what resolvers know, its MESH stands in
        the mesh config instead of what others have."""
        if self.module == module:
            return
        assert self.refused != module, "its configuration did not come into force for an earlier test"
        self.refused = module
        for path in (self.dir / "rules").glob("*.yaml"):
            path.unlink()
        own = getattr(module, "MESH", None)
        self.write("mesh.yaml", documents(own) if own else self.original[pathlib.Path("mesh.yaml")].decode())
        # A name that cannot be looked up is looked up again after a minute, so names come before what needs them.
        for pod_name in (CLIENT, INGRESS, EGRESS):
            self.names(pod_name, getattr(module, "NAMES", {}))
        for item in items:
            mark = item.get_closest_marker("rules")
            if item.module == module and mark:
                self.put(f"{module.__name__}-{item.originalname}", *mark.args)
        self.settle()
        problems = [d for d in self.admin("galley").page("diagnostics") if d["severity"] == "error"]
        assert not problems, problems
        self.module, self.refused, self.settled = module, None, time.monotonic()

    def put(self, name, *texts):
        """Writes objects; CERTS in them is the folder of the certificates."""
        text = "---\n".join(documents(t.replace("CERTS", str(self.certificates.folder))) for t in texts)
        (self.dir / "rules" / f"{name}.yaml").write_text(text)

    @contextlib.contextmanager
    def change(self, *texts, name="change"):
        """Configuration for the time of a block; in force when the block begins, and gone afterwards."""
        try:
            self.put(name, *texts)
            self.settle()
            yield
        finally:
            (self.dir / "rules" / f"{name}.yaml").unlink()
            self.settle()


def assert_share(seen, total, share):
    """`seen` of `total` is a share that a fair mesh leaves once in 1/CHANCE runs at most (exact, both sides together)."""
    assert seen_by_luck(seen, total, share) >= CHANCE, f"{seen} of {total} ({100 * seen / total:.1f} %), not {100 * share:.1f} %"


def seen_by_luck(seen, total, share):
    def chance(k):
        return math.exp(math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) + k * math.log(share) + (total - k) * math.log1p(-share))
    return 2 * min(sum(chance(k) for k in range(seen + 1)), sum(chance(k) for k in range(seen, total + 1)))
