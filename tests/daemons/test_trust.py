"""The mesh's trust bundle: roots of citadel and of MeshConfig.caCertificates, told by pilot (PCDS) to real agents and to a client of the test's,
and by the agents to Envoy, played by grpcio. Nothing is restarted for it.

Needs the built daemons: FAIRLEAD_BUILD names the build folder (default: build/gcc)."""
import base64
import http.server
import json
import os
import ssl
import subprocess
import threading

import pytest

import test_agent
import xds_client as xds
from test_agent import BUILD, Envoy, openssl, sds, start_agent, until
from xds_client import CDS

PCDS = xds.PREFIX + "istio.mesh.v1alpha1.ProxyConfig"
NODE = xds.node("sidecar~10.0.0.1~client.default~default.svc.cluster.local", "c", {"NAMESPACE": "default"})


def root(folder, name):
    """A CA of another mesh: its certificate."""
    key, pem = folder / f"{name}.key", folder / f"{name}.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-out", str(pem),
            "-subj", f"/O={name}", "-days", "10", "-addext", "keyUsage=critical,keyCertSign")
    return pem.read_text()


def vouched(folder, name, bundle):
    """A workload's certificate of that mesh verifies by the bundle."""
    files = [str(folder / f) for f in ("workload.key", "workload.pem", "bundle.pem")]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", files[0], "-out", files[1], "-subj", "/",
            "-days", "1", "-addext", "subjectAltName=critical,URI:spiffe://two.example/ns/x/sa/y", "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", str(folder / f"{name}.pem"), "-CAkey", str(folder / f"{name}.key"))
    (folder / "bundle.pem").write_text(bundle)
    return subprocess.run(["openssl", "verify", "-CAfile", files[2], files[1]], capture_output=True, check=False).returncode == 0


def mesh_config(pem=None, **more):
    lines = ["apiVersion: fairlead.dev/v1", "kind: MeshConfig", "metadata: {name: default}", "spec:", "  trustDomain: cluster.local"]
    lines += [f"  {key}: {value}" for key, value in more.items()]
    if pem:
        lines += ["  caCertificates:", "  - trustDomains: [two.example]", "    pem: |", *[f"      {line}" for line in pem.splitlines()]]
    return "\n".join(lines) + "\n"


class Mesh(test_agent.Mesh):
    """The three daemons on a bus, with a folder of configuration."""

    pilot_options = ()

    def __init__(self, folder, prefix=()):
        self.bus, self.source = f"ipc://{folder}/{{role}}", folder / "source"
        self.source.mkdir()
        super().__init__(folder, prefix)
        self.write(mesh_config())
        self.galley = self.add("galley", "--source", self.source, "--bus", self.bus)
        self.start_pilot()

    def add(self, name, *options):
        if name == "citadel":
            options = [self.bus if option == "none" else option for option in options]
        return super().add(name, *options)

    def start_pilot(self):
        self.pilot = self.add(
            "pilot", "--bus", self.bus, "--xds-address", f"127.0.0.1:{self.xds}", "--xds-tls-address", f"127.0.0.1:{self.tls}",
            "--ca-token", self.pilot_token, "--ca-address", f"127.0.0.1:{self.ca}", "--ca-roots", self.roots,
            "--ca-name", "spiffe://cluster.local/ns/istio-system/sa/citadel", *self.pilot_options)
        until(self.pilot.ready, 20)

    def write(self, text):
        (self.folder / "new").write_text(text)
        os.rename(self.folder / "new", self.source / "mesh.yaml")


@pytest.fixture
def mesh(monkeypatch):
    monkeypatch.setattr(test_agent, "Mesh", Mesh)
    with test_agent.a_mesh() as m:
        yield m


def told(packed):
    """caCertificatesPem of a ProxyConfig in an Any."""
    any_message = xds.fields(packed)
    assert xds.text(any_message, 1) == PCDS
    return [pem.decode() for pem in xds.fields(any_message.get(2, [b""])[0]).get(34, [])]


class Client(Envoy):
    """An agent's subscription."""

    def __init__(self, mesh):
        super().__init__(f"127.0.0.1:{mesh.xds}", NODE)
        self.subscribe(CDS)
        self.subscribe(PCDS)

    def roots(self):
        held = self.held[PCDS]
        assert set(held) <= {"default"}
        return told(held["default"][1]) if held else None


def test_C05_roots_of_the_mesh_config_reach_all_agents_without_a_restart(mesh):
    two = root(mesh.folder, "two")
    agent = start_agent(mesh)
    envoy = test_agent.ads(mesh)
    envoy.subscribe(CDS)
    client = Client(mesh)
    own, roots = sds(mesh, "default"), sds(mesh, "ROOTCA")

    def bundle():
        return roots.secrets[-1][0]["roots"] if roots.secrets else ""

    until(lambda: client.roots() and bundle())
    first = mesh.roots.read_text()
    assert client.roots() == [first] and bundle() == first and not vouched(mesh.folder, "two", bundle())
    pids = [d.process.pid for d in mesh.daemons]

    mesh.write(mesh_config(two))
    until(lambda: len(client.roots()) == 2 and bundle().count("BEGIN") == 2)
    assert set(client.roots()) == {first, two} and client.roots() == sorted(client.roots())
    assert bundle() == first + two and vouched(mesh.folder, "two", bundle())
    assert len(own.secrets) == 1 and PCDS not in envoy.held  # the key does not go again; Envoy hears nothing of it but SDS
    assert mesh.pilot.metric('pilot_xds_pushes{type="pcds"}') >= 4

    # Another setting of the mesh, and a root that cannot be read: nothing to tell.
    sent = client.count(PCDS)
    clusters = client.count(CDS)
    mesh.write(mesh_config(two, connectTimeout="3s"))
    until(lambda: client.count(CDS) > clusters)
    mesh.write(mesh_config(two.replace("MII", "MIJ", 1)))
    until(lambda: "caCertificates[0].pem" in mesh.galley.log())
    assert client.count(PCDS) == sent and bundle() == first + two

    # A new root of citadel's own is told before any certificate is renewed, by the same way.
    test_agent.rotate(mesh, "start")
    until(lambda: len(client.roots()) == 3 and bundle().count("BEGIN") == 3)
    assert len(own.secrets) == 1

    mesh.write(mesh_config())
    until(lambda: len(client.roots()) == 2 and two not in bundle())
    assert first in bundle() and not vouched(mesh.folder, "two", bundle())
    assert [d.process.pid for d in mesh.daemons if d.process.poll() is None] == pids
    assert agent.metric('istio_agent_num_outgoing_requests{request_type="csr"}') == 1
    for stream in (own, roots, envoy, client):
        stream.close()


def test_C05_state_of_the_world_for_istios_agent(mesh):
    """As Istio's agent asks with PROXY_CONFIG_XDS_AGENT: after Envoy's first request, without the node."""
    two = root(mesh.folder, "two")
    stream = xds.Stream(f"127.0.0.1:{mesh.xds}", xds.ADS_METHOD.replace("Delta", "Stream"))
    stream.out.put(xds.message((2, NODE), (4, CDS)))
    stream.out.put(xds.message((4, PCDS)))

    def answers():
        return [r for r in stream.responses if xds.text(r, 4) == PCDS]

    until(answers)
    assert [told(x) for x in answers()[0][2]] == [[mesh.roots.read_text()]]
    stream.out.put(xds.message((1, xds.text(answers()[0], 1)), (4, PCDS), (5, xds.text(answers()[0], 5))))
    mesh.write(mesh_config(two))
    until(lambda: len(answers()) == 2)
    assert [set(told(x)) for x in answers()[1][2]] == [{mesh.roots.read_text(), two}]
    stream.close()


def test_C05_another_pilot_sends_nothing_again_and_without_one_nobody_is_forgotten(mesh):
    two = root(mesh.folder, "two")
    mesh.write(mesh_config(two))
    agent = start_agent(mesh)
    envoy, roots = test_agent.ads(mesh), sds(mesh, "ROOTCA")
    envoy.subscribe(CDS)
    until(lambda: roots.secrets and two in roots.secrets[-1][0]["roots"])
    envoy.close()
    roots.close()
    mesh.pilot.kill()
    # A stream to another pilot: what the agent holds is not sent again.
    def watches():
        return [proxy["cluster_status"]["pcds"] for proxy in mesh.pilot.page("syncz")]

    mesh.start_pilot()
    envoy = test_agent.ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: [w for w in watches() if w["resources"] == 1], 40)  # the agent waits longer and longer
    assert watches()[0]["pushes"] == 0
    envoy.close()
    mesh.pilot.kill()
    agent.kill()
    agent.start()
    until(lambda: agent.page("ads"))
    roots = sds(mesh, "ROOTCA")
    assert until(lambda: roots.secrets)[0][0]["roots"] == mesh.roots.read_text() + two
    roots.close()


def test_C05_roots_that_cannot_be_read_are_refused_to_pilot():
    with test_agent.a_mesh() as mesh:
        good, seen = root(mesh.folder, "two"), []

        def script(request, send):
            if xds.text(request, 2) != PCDS:
                return
            seen.append(request)
            answers = {1: ["garbage"], 2: [good]}.get(len(seen))
            if answers:
                config = xds.message((1, PCDS), (2, xds.message(*[(34, pem) for pem in answers])))
                send(xds.message((2, xds.message((1, "1"), (2, config), (3, "default"))), (4, PCDS), (5, f"n{len(seen)}")))

        pilot, agent = test_agent.fake_pilot(mesh, script)
        envoy, roots = test_agent.ads(mesh), sds(mesh, "ROOTCA")
        envoy.subscribe(CDS)
        until(lambda: len(seen) == 3)
        assert xds.text(seen[1], 6) == "n1" and "caCertificatesPem[0]" in xds.text(xds.fields(seen[1][7][0]), 2)
        assert xds.text(seen[2], 6) == "n2" and 7 not in seen[2]
        until(lambda: roots.secrets and good in roots.secrets[-1][0]["roots"])
        assert agent.metric('istio_agent_xds_rejects{type="ProxyConfig"}') == 1
        envoy.close()
        roots.close()
        pilot.close()


# ---- SPIFFE bundle endpoints


class Endpoint:
    """An HTTPS server with a SPIFFE bundle; `answer` is what it says."""

    def __init__(self, folder):
        key, pem = folder / "endpoint.key", folder / "endpoint.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-out", str(pem), "-subj", "/CN=e",
                "-days", "1", "-addext", "subjectAltName=IP:127.0.0.1")
        self.roots, self.answer, self.asked = pem, (404, b"not here"), []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                endpoint.asked.append(self.path)
                status, body = endpoint.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"127.0.0.1:{self.server.server_address[1]}/bundle"

    def serves(self, *roots):
        keys = [{"use": "x509-svid", "kty": "EC", "x5c": [base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()]} for pem in roots]
        self.answer = (200, json.dumps({"keys": [*keys, {"use": "jwt-svid", "kid": "k"}], "spiffe_sequence": 1}).encode())

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint(tmp_path):
    e = Endpoint(tmp_path)
    yield e
    e.close()


def test_C05_roots_of_a_spiffe_bundle_endpoint_are_fetched_again_and_stay_while_it_is_away(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(Mesh, "pilot_options", ("--bundle-roots", endpoint.roots, "--bundle-refresh", "100ms"))
    monkeypatch.setattr(test_agent, "Mesh", Mesh)
    with test_agent.a_mesh() as mesh:
        two, three = root(mesh.folder, "two"), root(mesh.folder, "three")
        own = mesh.roots.read_text()
        endpoint.serves(two)
        config = mesh_config() + f"  caCertificates: [{{spiffeBundleUrl: '{endpoint.url}', trustDomains: [two.example]}}]\n"
        mesh.write(config)
        client = Client(mesh)
        until(lambda: set(client.roots() or ()) == {own, two})
        assert endpoint.asked[0] == "/bundle"
        # Again and again, without a word to anybody while nothing changes.
        sent, asked = client.count(PCDS), len(endpoint.asked)
        until(lambda: len(endpoint.asked) > asked + 3)
        assert client.count(PCDS) == sent
        endpoint.serves(two, three)
        until(lambda: set(client.roots()) == {own, two, three})
        # It is away, or talks nonsense: nobody is forgotten, neither now nor by the next pilot.
        def page():
            return mesh.pilot.page("bundles")[0]
        endpoint.answer = (503, b"")
        until(lambda: page()["error"] == "HTTP 503")
        endpoint.answer = (200, b'{"keys": []}')
        until(lambda: "x509-svid" in page()["error"], 20)
        assert page()["roots"] == 2 and page()["failures"] >= 2 and set(client.roots()) == {own, two, three}
        assert mesh.pilot.metric('pilot_trust_bundle_fetches_total{result="failed"}') >= 2 and "not fetched" in mesh.pilot.log()
        client.close()
        assert mesh.pilot.stop() == 0
        mesh.daemons.remove(mesh.pilot)
        mesh.start_pilot()
        client = Client(mesh)
        until(lambda: client.roots())
        assert [set(told(x[1])) for x in [client.held[PCDS]["default"]]] == [{own, two, three}]
        assert client.count(PCDS) == 1
        # The URL goes, and what it gave.
        mesh.write(mesh_config())
        until(lambda: client.roots() == [own])
        assert not list((mesh.folder / "pilot").glob("spiffe-bundle-*"))
        client.close()


def test_C05_an_endpoint_that_the_systems_roots_do_not_verify_is_not_believed(endpoint, mesh):
    endpoint.serves(root(mesh.folder, "two"))
    mesh.write(mesh_config() + f"  caCertificates: [{{spiffeBundleUrl: 'https://{endpoint.url}'}}]\n")
    client = Client(mesh)
    until(lambda: client.roots() and mesh.pilot.page("bundles") and mesh.pilot.page("bundles")[0]["failures"])
    assert client.roots() == [mesh.roots.read_text()] and not endpoint.asked
    assert "certificate" in mesh.pilot.page("bundles")[0]["error"].lower()
    client.close()
