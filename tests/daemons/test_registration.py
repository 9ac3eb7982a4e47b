"""Workloads outside Kubernetes that register themselves: agent, pilot, galley and citadel together; grpcio plays Envoy. With files as the source,
and with an API server (fake_kube.py)."""
import contextlib
import http.server
import json
import pathlib
import shutil
import subprocess
import tempfile
import threading

import pytest

import xds_client as xds
from fake_kube import FakeKube, kubeconfig
from test_agent import BUILD, Daemon, free_port
from xds_client import CDS, Envoy, until

IP = "127.0.0.5"
ENTRY = f"billing-{IP}"
GROUPS = "/apis/networking.istio.io/v1/workloadgroups"
ENTRIES = "/apis/networking.istio.io/v1/workloadentries"
SERVICE_ENTRIES = "/apis/networking.istio.io/v1/serviceentries"

GROUP = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": {"name": "billing", "namespace": "vms", "uid": "u-1"},
         "spec": {"metadata": {"labels": {"app": "billing"}, "annotations": {"owner": "us"}},
                  "template": {"serviceAccount": "billing", "ports": {"http": 8080}, "network": "n1"}}}
SERVICE = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "billing", "namespace": "vms"},
           "spec": {"hosts": ["billing.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC",
                    "location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": "billing"}}}}


class Application:
    """Answers its readiness probe as the test wants."""

    def __init__(self):
        self.ready = False
        test = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if test.ready else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer((IP, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Files:
    def __init__(self, folder):
        self.folder = folder / "source"
        self.folder.mkdir()
        self.options = ["--source", self.folder]

    def put(self, obj):
        (self.folder / f"{obj['kind']}.json").write_text(json.dumps(obj))

    def drop(self, obj):
        (self.folder / f"{obj['kind']}.json").unlink()

    def close(self):
        pass


class Cluster:
    PATHS = {"WorkloadGroup": GROUPS, "ServiceEntry": SERVICE_ENTRIES}

    def __init__(self, folder):
        self.fake = FakeKube()
        (folder / "kubeconfig").write_text(kubeconfig(self.fake.url))
        self.options = ["--source", "kubernetes", "--kubeconfig", folder / "kubeconfig"]

    def put(self, obj):
        self.fake.apply(self.PATHS[obj["kind"]], obj)

    def drop(self, obj):
        self.fake.delete(self.PATHS[obj["kind"]], obj["metadata"]["namespace"], obj["metadata"]["name"])

    def close(self):
        self.fake.close()


class Mesh:
    def __init__(self, source_of, group=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="reg-"))
        self.application, self.source = Application(), source_of(self.folder)
        self.daemons, self.envoy = [], None
        self.xds, self.ca = free_port(), free_port()
        self.source.put(SERVICE)
        if group:
            self.source.put(GROUP)
        self.galley = self.add("galley", *self.source.options)
        self.citadel = self.add("citadel", "--address", f"127.0.0.1:{self.ca}")
        until(lambda: self.citadel.ready() and self.galley.ready())
        roots = self.folder / "citadel/root-cert.pem"
        self.pilot = self.add(
            "pilot", "--xds-address", "127.0.0.1:0", "--xds-tls-address", f"127.0.0.1:{self.xds}", "--workload-grace", "1s",
            "--ca-token", self.token("istio-system", "istiod"), "--ca-address", f"127.0.0.1:{self.ca}", "--ca-roots", roots,
            "--ca-name", "spiffe://cluster.local/ns/istio-system/sa/citadel")
        until(lambda: "TLS is open" in self.pilot.log())
        probe = {"httpGet": {"port": self.application.port, "path": "/ready"}}
        self.agent_options = [
            "--no-envoy", "--pod-name", "vm-1", "--pod-namespace", "vms", "--pod-ip", IP, "--service-account", "billing", "--workload", "billing",
            "--labels", '{"version":"v2"}', "--locality", "r/z", "--ca-roots", roots, "--token-file", self.token("vms", "billing"),
            "--status-address", f"127.0.0.1:{free_port()}", "--discovery-address", f"127.0.0.1:{self.xds}"]
        self.probe(probe)

    def add(self, name, *options, prefix=()):
        self.daemons.append(Daemon(self.folder, name, "--bus", f"ipc://{self.folder}/{{role}}", *options, prefix=prefix))
        return self.daemons[-1]

    def token(self, namespace, account):
        path = self.folder / f"token-{namespace}"
        path.write_text(subprocess.run(
            [BUILD / "citadel/citadel", "token", "--state-dir", self.folder / "citadel", "--namespace", namespace, "--service-account",
             account], capture_output=True, text=True, check=True).stdout)
        return path

    def probe(self, handler):
        self.proxy_config = ["--proxy-config", json.dumps({"readinessProbe": {"periodSeconds": 1, **handler}})]

    def start_workload(self):
        self.agent = self.add("agent", *self.agent_options, *self.proxy_config, prefix=("env", "ISTIO_META_AUTO_REGISTER_GROUP=billing"))
        until((self.folder / "agent/envoy-rev.json").exists)
        node = json.loads((self.folder / "agent/envoy-rev.json").read_text())["node"]
        packed = xds.node(node["id"], node["cluster"], {k: v for k, v in node["metadata"].items() if isinstance(v, (str, dict))})
        locality = xds.message((1, "r"), (2, "z"))
        until((self.folder / "agent/xds.sock").exists)
        self.envoy = Envoy(self.folder / "agent/xds.sock", packed + xds.message((4, locality)))
        self.envoy.subscribe(CDS)

    def end_workload(self):
        self.envoy.close()
        self.envoy = None
        self.agent.stop()

    def entry(self):
        """The WorkloadEntry, as galley knows it."""
        found = [r for r in self.galley.page("registered") or [] if r["entry"] == f"vms/{ENTRY}"]
        return found[0]["document"] if found else None

    def condition(self):
        conditions = ((self.entry() or {}).get("status") or {}).get("conditions", [])
        return conditions[0]["status"] if conditions else None

    def endpoints(self):
        """{address: health} behind the service."""
        services = self.galley.page("services") or []
        found = [s for s in services if s["service"]["hostname"] == "billing.example"]
        endpoints = found[0].get("endpoints", {}).get("endpoints", []) if found else []
        return {e["address"]: e.get("health", "HEALTHY") for e in endpoints}

    def stop(self):
        if self.envoy:
            self.envoy.close()
        codes = {d.name: d.stop() for d in reversed(self.daemons)}
        self.application.close()
        self.source.close()
        assert set(codes.values()) == {0}, codes
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def a_mesh(*arguments, **named):
    m = Mesh(*arguments, **named)
    try:
        yield m
    finally:
        m.stop()


@pytest.mark.parametrize("source", [Files, Cluster])
def test_P61_a_workload_registers_is_probed_and_goes_after_its_grace(source):
    with a_mesh(source) as m:
        m.start_workload()
        entry = until(m.entry)
        metadata, spec = entry["metadata"], entry["spec"]
        assert (metadata["name"], metadata["namespace"]) == (ENTRY, "vms")
        assert metadata["labels"] == {"app": "billing", "version": "v2"}
        annotations = metadata["annotations"]
        assert (annotations["istio.io/autoRegistrationGroup"], annotations["owner"]) == ("billing", "us")
        assert annotations["proxy.istio.io/health-checks-enabled"] == "true" and "istio.io/connectedAt" in annotations
        assert metadata["ownerReferences"][0]["uid"] == "u-1"
        assert spec == {"address": IP, "ports": {"http": 8080}, "labels": {"app": "billing", "version": "v2"}, "network": "n1",
                        "locality": "r/z", "serviceAccount": "billing"}
        # The probe fails: the endpoint is known, and not used.
        until(lambda: m.condition() == "False")
        assert until(m.endpoints) == {IP: "UNHEALTHY"}
        assert "status 503" in m.entry()["status"]["conditions"][0]["message"]
        m.application.ready = True
        until(lambda: m.endpoints() == {IP: "HEALTHY"})
        assert m.condition() == "True" and m.agent.page("health")["state"] == "healthy"
        m.application.ready = False
        until(lambda: m.endpoints() == {IP: "UNHEALTHY"})
        m.end_workload()
        until(lambda: "istio.io/disconnectedAt" in ((m.entry() or {}).get("metadata") or {}).get("annotations", {}) or m.entry() is None)
        until(lambda: m.entry() is None and m.endpoints() == {})
        if source is Cluster:
            assert (ENTRIES, f"vms/{ENTRY}") not in m.source.fake.objects


def test_P61_the_group_may_come_later_and_go():
    with a_mesh(Files, group=False) as m:
        flag = m.folder / "ready"
        m.probe({"exec": {"command": ["test", "-f", str(flag)]}})
        m.start_workload()
        problem = until(lambda: [r["problem"] for r in m.galley.page("registered") or [] if r["problem"]])
        assert problem == ["there is no WorkloadGroup vms/billing"] and m.entry() is None
        m.source.put(GROUP)
        until(lambda: m.endpoints() == {IP: "UNHEALTHY"})
        assert "the command ended with status 1" in until(m.entry)["status"]["conditions"][0]["message"]
        flag.touch()
        until(lambda: m.endpoints() == {IP: "HEALTHY"})
        wrong = json.loads(json.dumps(GROUP))
        wrong["spec"]["template"]["serviceAccount"] = "other"
        m.source.put(wrong)
        until(lambda: m.endpoints() == {})
        assert "is for service account other, not billing" in m.galley.log()
        del wrong["spec"]["template"]["serviceAccount"]
        m.source.put(wrong)  # a group that names none takes any
        until(lambda: m.endpoints() == {IP: "HEALTHY"})
        m.source.drop(GROUP)
        until(lambda: m.endpoints() == {})


def test_P61_registered_workloads_outlive_a_restart_of_galley_and_of_pilot():
    with a_mesh(Files) as m:
        m.probe({"tcpSocket": {"port": m.application.port}})
        m.start_workload()
        until(lambda: m.endpoints() == {IP: "HEALTHY"})
        registered = m.folder / "galley/registered.json"
        until(lambda: registered.exists() and "True" in registered.read_text())
        m.pilot.kill()  # nobody vouches for it at the moment
        m.galley.kill()
        m.galley.start()
        until(m.galley.ready)
        assert until(m.endpoints) == {IP: "HEALTHY"}
        m.pilot.start()
        until(lambda: (m.galley.page("registered") or [{}])[0].get("pilots") == 1, 20)
        assert m.endpoints() == {IP: "HEALTHY"}


def test_P61_without_a_certificate_nobody_registers():
    with a_mesh(Files) as m:
        port = free_port()
        plain = m.add("pilot", "--xds-address", f"127.0.0.1:{port}", "--xds-tls-address", "127.0.0.1:0", "--instance", "plain", "--state-dir",
                      m.folder / "plain", "--admin-address", f"unix:{m.folder}/plain.admin")
        plain.admin = m.folder / "plain.admin"
        until(plain.ready)
        m.agent_options += ["--plaintext", "--discovery-address", f"127.0.0.1:{port}", "--ca-address", f"127.0.0.1:{m.ca}"]
        m.start_workload()
        until(lambda: "must come over TLS" in m.agent.log())
        assert m.entry() is None and m.endpoints() == {}


def test_P61_A15_the_agents_environment_is_made_from_the_group(tmp_path):
    group = json.loads(json.dumps(GROUP))
    group["spec"]["probe"] = {"periodSeconds": 5, "exec": {"command": ["sh", "-c", "echo 'it''s'"]}}
    (tmp_path / "group.json").write_text(json.dumps(group))
    (tmp_path / "mesh.yaml").write_text("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\n"
                                        "spec: {defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}}\n")
    command = [BUILD / "cli/fairlead", "workload-env", "--namespace", "vms", "--discovery-address", "pilot:15012", tmp_path]
    text = subprocess.run([*command, "--group", "billing"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "env").write_text(text)
    out = subprocess.run(["sh", "-c", f"set -a; . {tmp_path}/env; env -0"], capture_output=True, text=True, check=True).stdout
    env = dict(line.split("=", 1) for line in out.split("\0") if line)
    config = json.loads(env["PROXY_CONFIG"])
    assert config["readinessProbe"]["exec"]["command"] == ["sh", "-c", "echo 'it''s'"] and config["readinessProbe"]["periodSeconds"] == 5
    assert config["gatewayTopology"] == {"numTrustedProxies": 1}
    assert (env["ISTIO_META_AUTO_REGISTER_GROUP"], env["FAIRLEAD_AGENT_SERVICE_ACCOUNT"], env["FAIRLEAD_AGENT_NETWORK"]) == (
        "billing", "billing", "n1")
    assert json.loads(env["FAIRLEAD_AGENT_LABELS"]) == {"app": "billing"}
    known = subprocess.run([BUILD / "agent/agent", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"--{k[len('FAIRLEAD_AGENT_'):].lower().replace('_', '-')}" in known for k in env if k.startswith("FAIRLEAD_AGENT_"))
    gone = subprocess.run([*command, "--group", "nobody"], capture_output=True, text=True, check=False)
    assert (gone.returncode, gone.stderr) == (1, "fairlead workload-env: there is no WorkloadGroup vms/nobody\n")
