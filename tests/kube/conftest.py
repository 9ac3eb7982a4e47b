"""What the tests on a real API server share: one control plane on loopback, the charts' objects in it, and galley beside it under its own account.

test_api_*.py need no root and no node. test_node_*.py run pods (node.py) and are skipped, with the reason, where the machine cannot.
"""
import fcntl
import http.client
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import yaml

import guide
import node as node_module
import toolbox
from cluster import ControlPlane
from pki import Authority

for folder in ("daemons", "golden", "mesh"):
    sys.path.insert(0, str(toolbox.ROOT / "tests" / folder))
import daemons  # noqa: E402
import util  # noqa: E402
from load import Load  # noqa: E402
from util import until  # noqa: E402

signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended cleans up as after Ctrl-C

CHARTS = toolbox.ROOT / "charts"
SYSTEM = "istio-system"


def short_folder():
    """Unix sockets are made in it, whose names may not be long."""
    return pathlib.Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))


@pytest.fixture
def folder():
    path = short_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def plane():
    path = short_folder()
    plane = ControlPlane(path)
    try:
        plane.start()
        plane.namespace(SYSTEM)
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(path, ignore_errors=True)


def rendered(chart, values=None, release="fairlead", ns=SYSTEM):
    command = [toolbox.tool("helm"), "template", release, CHARTS / chart, "-n", ns, "-f", "-"]
    text = subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, check=True).stdout
    return [o for o in yaml.load_all(text, yaml.CSafeLoader) if o]


@pytest.fixture(scope="session")
def definitions(plane):
    """The definitions are installed; returns them by name."""
    made = {o["metadata"]["name"]: o for o in rendered("base")}
    for definition in made.values():
        plane.api.create(definition, strict=True)

    def served():
        plane.api.resources.clear()
        established = [any(c["type"] == "Established" and c["status"] == "True" for c in d.get("status", {}).get("conditions") or [])
                       for d in plane.api.list("CustomResourceDefinition", version="apiextensions.k8s.io/v1")]
        return len(established) == len(made) and all(established)
    until(served, what="the definitions established")
    return made


@pytest.fixture(scope="session")
def control_plane_objects():
    return rendered("fairlead")


def make_accounts(plane, objects, ns=SYSTEM):
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ConfigMap")
    plane.api.apply(*(o for o in objects if o["kind"] in kinds and "helm.sh/hook" not in o["metadata"].get("annotations", {})))

    def config_of(account, where):
        return plane.api.with_token(plane.api.token_of(ns, account)).kubeconfig(where / f"{account}.kubeconfig")
    return config_of


@pytest.fixture(scope="session")
def accounts(plane, control_plane_objects):
    """The accounts of the three daemons, with what the chart allows them."""
    return make_accounts(plane, control_plane_objects)


class Galley:
    """galley from the build, with the cluster as its source and its webhooks called by the API server."""

    def __init__(self, folder, config, *options, configurations=(f"mutating/fairlead-sidecar-injector-{SYSTEM}", f"validating/fairlead-validator-{SYSTEM}")):
        authority = Authority(folder, "webhook-ca")
        certs = folder / "certs"
        certs.mkdir()
        certificate, key = authority.issue("galley", "/CN=galley", "serverAuth", ["IP:127.0.0.1"])
        for source, name in ((certificate, "tls.crt"), (key, "tls.key"), (authority.certificate, "ca.crt")):
            shutil.copy(source, certs / name)
        self.daemon = daemons.galley(
            folder, "kubernetes", "--kubeconfig", config, "--webhook-address", "127.0.0.1:0", "--webhook-cert-dir", certs,
            "--inject-image", "fairlead/proxy:1", *(f"--webhook-configuration={c}" for c in configurations), *options)
        self.admin = self.daemon.admin
        until(self.port, what="the webhooks' port")

    def port(self):
        found = [line for line in self.daemon.log().splitlines() if "serving webhooks" in line]
        return int(found[-1].split("port=")[1]) if found else 0

    def start_again(self):
        """At the port that it had, which the webhook configurations name."""
        port = self.port()
        self.daemon.argv = [f"127.0.0.1:{port}" if a == "127.0.0.1:0" else a for a in self.daemon.argv]
        self.daemon.start()

    def in_force(self, key):
        return any(o["key"] == key and o["in_force"] for o in self.admin.page("objects") or [])


def called_here(configuration, port):
    """A webhook configuration that calls 127.0.0.1 instead of a Service, which needs a node."""
    changed = json.loads(json.dumps(configuration))
    for webhook in changed["webhooks"]:
        path = webhook["clientConfig"].pop("service")["path"]
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}"}
    return changed


@pytest.fixture(scope="session")
def galley(plane, definitions, accounts, control_plane_objects):
    path = short_folder()
    made = Galley(path, accounts("galley", path), "--access-age", "1s", "--revision", "default")
    with made.daemon:
        made.daemon.wait_ready()
        hooks = [called_here(o, made.port()) for o in control_plane_objects if o["kind"].endswith("WebhookConfiguration")]
        plane.api.apply(*hooks)
        until(lambda: all(c["current"] for c in made.admin.page("webhook")["configurations"]), what="the CA bundles set")
        until(lambda: hooks_are_called(plane), what="the webhooks called")
        yield made
    shutil.rmtree(path)


def hooks_are_called(plane):
    """The API server takes a moment to notice a configuration: this object has a fault that only galley finds."""
    faulty = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "probe", "namespace": "default"},
              "spec": {"servers": [{"port": {"number": 80, "name": "http", "protocol": "GOPHER"}, "hosts": ["*"]}]}}
    try:
        plane.api.create(faulty, dry_run=True)
    except Exception as refused:  # pylint: disable=broad-except
        return "GOPHER" in str(refused)
    return False


# ---- the node

class NodeLoad(Load):
    """A client inside the node's network that forgives nothing (tests/mesh/load.py)."""

    def __init__(self, node, address, path="/productpage", **named):
        super().__init__(address, path, **named)
        self.node = node

    def _main(self):
        self.node.enter()
        super()._main()


class Mesh:
    """A node with the control plane, a gateway and Bookinfo on it, as docs/INSTALL.md installs them."""

    def __init__(self, node, shell):
        self.node, self.api, self.shell = node, node.api, shell
        self.gateway = None

    def install(self):
        for title, blocks in guide.sections("docs/INSTALL.md"):
            start = time.monotonic()
            for block in blocks:
                self.shell.run(block)
            print(f"{title}: {time.monotonic() - start:.1f} s")
        self.gateway = self.api.get("Service", "istio-ingressgateway", SYSTEM)["spec"]["clusterIP"]

    def load(self, **named):
        return NodeLoad(self.node, f"{self.gateway}:80", **named)

    def fetch(self, address, port, path, headers=None):
        """(status, body) of one request from the node."""
        connection = http.client.HTTPConnection(address, port, timeout=15)
        connection.sock = self.node.api.connect((address, port), 15)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def pods(self, ns, selector):
        """Those that run and are not on their way out."""
        return [p for p in self.api.list("Pod", ns, labelSelector=selector)
                if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]

    def daemons(self, name):
        return self.pods(SYSTEM, f"app.kubernetes.io/name={name}")

    def page(self, pod, port, name):
        status, body = self.fetch(pod["status"]["podIP"], port, f"/debug/{name}")
        assert status == 200, body
        return json.loads(body)

    def metrics(self, pod, port, path="/metrics"):
        return util.parse_metrics(self.fetch(pod["status"]["podIP"], port, path)[1])

    def envoy(self, pod, path):
        """A page of a pod's Envoy, which serves it on the pod's loopback only."""
        return json.loads(self.inside(pod, "-f", f"http://127.0.0.1:15000{path}"))

    def inside(self, pod, *curl):
        """What curl says inside of the pod's network, where `kubectl port-forward` leads."""
        uid = pod["metadata"]["uid"]
        for cgroup in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if f"pod{uid}" in cgroup.read_text():
                    done = subprocess.run(["nsenter", "-t", cgroup.parent.name, "-n", "curl", "-s", "--max-time", "10", *curl],
                                          capture_output=True, text=True, check=True)
                    return done.stdout
            except FileNotFoundError:
                continue
        raise AssertionError(f"no process of pod {pod['metadata']['name']}")

    def reviews(self, headers=None):
        """Which version of reviews answered the page."""
        status, body = self.fetch(self.gateway, 80, "/productpage", headers)
        assert status == 200, body[:300]
        return re.search(r"reviews-(v\d)", body).group(1)


@pytest.fixture(scope="session")
def node():
    reason = node_module.why_not()
    if reason:
        pytest.skip(f"no node on this machine: {reason}")
    turn = open(pathlib.Path(tempfile.gettempdir()) / "fairlead-node.lock", "w", encoding="utf-8")
    fcntl.flock(turn, fcntl.LOCK_EX)  # two kubelets of one machine end each other's containers
    path = short_folder()
    made = None
    try:
        made = node_module.Node(path)
        made.start()
        made.import_fairlead(daemons.util.BUILD, subprocess.run([toolbox.ROOT / "tools/envoy-path"], capture_output=True, text=True,
                                                                check=True).stdout.strip(), "0.1.0")
        made.import_python("docker.io/fairlead/bookinfo:0.1.0", toolbox.ROOT / "samples/bookinfo/src")
        yield made
    finally:
        if made:
            made.stop()
        shutil.rmtree(path, ignore_errors=True)
        turn.close()


@pytest.fixture(scope="session")
def mesh(node):
    folder = short_folder()
    made = Mesh(node, guide.Shell(node, folder))
    made.install()
    yield made
    shutil.rmtree(folder)
