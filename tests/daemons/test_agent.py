"""A real agent without Envoy, with a real citadel and pilot; grpcio plays Envoy. What it gets over SDS and ADS, and what is left without pilot.

Needs the built daemons: FAIRLEAD_BUILD names the build folder (default: build/gcc)."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import grpc
import pytest

import xds_client as xds
from netns import Namespace
from xds_client import CDS, EDS, LDS, RDS, Envoy, Pilot, Secrets, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
ID = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, capture_output=True, text=True, check=True).stdout


class Daemon:
    def __init__(self, folder, name, *options, prefix=()):
        self.name, self.folder = name, folder
        self.admin = folder / (name + ".admin")
        self.options = [*prefix, BUILD / name / name, "--admin-address", f"unix:{self.admin}", "--state-dir", folder / name, *options]
        self.process = None
        self.start()

    def start(self):
        with open(self.folder / (self.name + ".log"), "a") as log:
            self.process = subprocess.Popen(self.options, stderr=log)

    def log(self):
        return (self.folder / (self.name + ".log")).read_text()

    def get(self, path):
        """(status, text); status 0 while nobody answers."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            try:
                s.connect(str(self.admin))
                s.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
                data = b"".join(iter(lambda: s.recv(65536), b""))
            except OSError:
                assert self.process.poll() is None, self.log()
                return 0, ""
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def page(self, name):
        status, body = self.get("/debug/" + name)
        return json.loads(body) if status == 200 else {}

    def metric(self, start):
        return sum(float(line.split()[-1]) for line in self.get("/metrics")[1].splitlines() if line.startswith(start))

    def ready(self):
        return self.get("/readyz")[0] == 200

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class Mesh:
    """Citadel and pilot on a recording of Bookinfo, and agents on demand."""

    def __init__(self, folder, prefix=()):
        self.folder, self.prefix = folder, prefix
        self.daemons = []
        self.xds, self.tls, self.ca = free_port(), free_port(), free_port()
        self.recording = folder / "recording"
        command = [BUILD / "galley/galley", "--source", ROOT / "samples/bookinfo", "--record", self.recording, "--once"]
        subprocess.run([*command, "--admin-address", f"unix:{folder}/galley.admin"], check=True, capture_output=True, timeout=60)
        self.citadel = self.add("citadel", "--address", f"127.0.0.1:{self.ca}", "--bus", "none")
        until(self.citadel.ready)
        self.roots = folder / "citadel" / "root-cert.pem"
        self.pilot_token = self.token("istio-system", "istiod")
        self.pilot = None

    def add(self, name, *options):
        self.daemons.append(Daemon(self.folder, name, *options, prefix=self.prefix))
        return self.daemons[-1]

    def token(self, namespace, account):
        command = [BUILD / "citadel/citadel", "token", "--state-dir", self.folder / "citadel"]
        command += ["--namespace", namespace, "--service-account", account]
        path = self.folder / f"token-{namespace}-{account}"
        path.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return path

    def start_pilot(self):
        self.pilot = self.add(
            "pilot", "--replay", self.recording, "--xds-address", f"127.0.0.1:{self.xds}", "--xds-tls-address", f"127.0.0.1:{self.tls}",
            "--ca-token", self.pilot_token, "--ca-address", f"127.0.0.1:{self.ca}", "--ca-roots", self.roots,
            "--ca-name", "spiffe://cluster.local/ns/istio-system/sa/citadel")
        until(self.pilot.ready)
        until(lambda: "TLS is open" in self.pilot.log())

    def stop(self):
        codes = {}
        for daemon in reversed(self.daemons):
            killed = daemon.process.poll() == -signal.SIGKILL
            codes[daemon.name] = 0 if killed else daemon.stop()
        return codes


@contextlib.contextmanager
def a_mesh(prefix=()):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="agent-test-"))  # short: a Unix socket's path has 107 bytes
    m = Mesh(folder, prefix)
    try:
        yield m
    finally:
        codes = m.stop()
    assert set(codes.values()) == {0}, codes
    shutil.rmtree(folder)


@pytest.fixture
def mesh():
    with a_mesh() as m:
        yield m


def start_agent(mesh, *options, envoy="--no-envoy"):
    agent = mesh.add(
        "agent", envoy, "--pod-name", "productpage-v1-1", "--pod-namespace", "default", "--pod-ip", "10.88.1.11",
        "--service-account", "bookinfo-productpage", "--workload", "productpage-v1", "--labels", '{"app":"productpage","version":"v1"}',
        "--ca-roots", mesh.roots, "--token-file", mesh.token("default", "bookinfo-productpage"),
        "--status-address", f"127.0.0.1:{free_port()}", "--discovery-address", f"127.0.0.1:{mesh.tls}", *options)
    until(lambda: agent.page("ads"))
    return agent


def bootstrap_node(mesh):
    """The node as the agent's bootstrap has it, packed."""
    n = json.loads((mesh.folder / "agent/envoy-rev.json").read_text())["node"]
    metadata = {k: v for k, v in n["metadata"].items() if isinstance(v, str)}
    metadata["LABELS"] = n["metadata"]["LABELS"]
    return xds.node(n["id"], n["cluster"], metadata)


def ads(mesh, **named):
    until((mesh.folder / "agent/envoy-rev.json").exists)
    return Envoy(mesh.folder / "agent/xds.sock", bootstrap_node(mesh), **named)


def sds(mesh, name, **named):
    return Secrets(mesh.folder / "agent/sds.sock", name, **named)


def whole(envoy):
    """Everything that a starting Envoy asks for, in its order."""
    envoy.subscribe(CDS)
    until(lambda: envoy.held.get(CDS))
    names = [name for name in envoy.held[CDS] if name.startswith("outbound|9080||")]
    assert names
    envoy.subscribe(EDS, *names)
    until(lambda: set(envoy.held.get(EDS, ())) == set(names))
    envoy.subscribe(LDS)
    until(lambda: envoy.held.get(LDS))
    envoy.subscribe(RDS, "9080")
    until(lambda: envoy.held.get(RDS))
    return {t: dict(r) for t, r in envoy.held.items()}


def settled(mesh, agent):
    """The agent has seen every acknowledgement and written what was accepted."""
    cache = mesh.folder / "agent/last-good.xds"
    until(lambda: all(t["unanswered"] == 0 for t in agent.page("ads")["types"]))
    until(lambda: cache.exists() and agent.metric("istio_agent_xds_last_good_writes") > 0)
    until(lambda: not agent.page("ads")["unsaved"])
    return cache


def leaf(chain):
    return openssl("x509", "-noout", "-text", data=chain)


def test_A02_certificate_over_sds_by_pilots_address(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    own, roots = sds(mesh, "default"), sds(mesh, "ROOTCA")
    (certificate,), (trusted,) = until(lambda: own.secrets)[0], until(lambda: roots.secrets)[0]
    assert (certificate["name"], trusted["name"]) == ("default", "ROOTCA")
    assert "URI:" + ID in leaf(certificate["chain"])
    assert "PRIVATE KEY" in certificate["key"]
    assert trusted["roots"].strip() == mesh.roots.read_text().strip()
    assert agent.metric('istio_agent_num_outgoing_requests{request_type="csr"}') == 1
    assert 86000 < agent.metric('istio_agent_cert_expiry_seconds{resource_name="default"}') <= 86400
    page = until(lambda: [s for s in agent.page("sds")["streams"] if s["acknowledged"]])
    assert all(s["refused"] == "" for s in page)
    own.close()
    roots.close()


def test_A02_A03_request_waits_for_the_first_certificate_and_renewals_are_pushed(mesh):
    agent = start_agent(mesh, "--ca-address", f"127.0.0.1:{free_port()}")
    stream = sds(mesh, "default")
    until(lambda: agent.metric("istio_agent_num_failed_outgoing_requests") or "no certificate" in agent.log())
    until(lambda: agent.page("sds")["streams"] and agent.page("sds")["streams"][0]["waits"])
    assert not stream.secrets and not agent.ready()
    stream.close()
    assert agent.stop() == 0
    mesh.start_pilot()
    agent = start_agent(mesh, "--ca-address", f"127.0.0.1:{mesh.ca}", "--cert-ttl", "3s")
    stream = sds(mesh, "default")
    until(lambda: len(stream.secrets) >= 3, 15)
    serials = {openssl("x509", "-noout", "-serial", data=s["chain"]) for (s,) in stream.secrets}
    keys = {s["key"] for (s,) in stream.secrets}
    assert len(serials) == len(keys) == len(stream.secrets)
    assert agent.ready()
    stream.close()


def test_C09_the_key_is_the_kind_that_istios_variables_name(mesh):
    for variables, options, wanted in (
            (("ECC_SIGNATURE_ALGORITHM=ECDSA", "ECC_CURVE=P384"), (), "384 bit"),
            (("WORKLOAD_RSA_KEY_SIZE=2048",), (), "2048 bit, 2 primes"),
            (("WORKLOAD_RSA_KEY_SIZE=4096",), ("--key-type", "p256"), "256 bit")):
        mesh.prefix = ("env", *variables)
        agent = start_agent(mesh, "--ca-address", f"127.0.0.1:{mesh.ca}", *options)
        own = sds(mesh, "default")
        (certificate,) = until(lambda s=own: s.secrets)[0]
        assert wanted in openssl("pkey", "-noout", "-text", data=certificate["key"]), variables
        assert openssl("pkey", "-pubout", data=certificate["key"]) == openssl("x509", "-noout", "-pubkey", data=certificate["chain"])
        own.close()
        assert agent.stop() == 0
        shutil.rmtree(mesh.folder / "agent")  # or it would go on with the certificate that it has
    mesh.prefix = ("env", "ECC_SIGNATURE_ALGORITHM=ED25519")
    refused = mesh.add("agent", *agent.options[agent.options.index("--no-envoy"):-2])  # without --key-type
    assert refused.process.wait(20) == 1 and 'ECC_SIGNATURE_ALGORITHM: \\"ED25519\\" is not ECDSA' in refused.log()
    mesh.daemons.remove(refused)


def rotate(mesh, *arguments):
    command = [BUILD / "citadel/citadel", "rotate-root", *arguments, "--state-dir", mesh.folder / "citadel"]
    subprocess.run(command, check=True, capture_output=True)


def test_N15_A03_a_new_root_is_trusted_at_once_and_an_old_one_until_the_ca_says_otherwise(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    own, roots = sds(mesh, "default"), sds(mesh, "ROOTCA")

    def bundle():
        return roots.secrets[-1][0]["roots"] if roots.secrets else ""

    until(lambda: bundle().count("BEGIN") == 1 and own.secrets)
    first = bundle()
    chain = own.secrets[-1][0]["chain"]
    rotate(mesh, "start")
    until(lambda: bundle().count("BEGIN") == 2)
    assert bundle().startswith(first.strip()) and own.secrets[-1][0]["chain"] == chain  # without a new certificate
    both = bundle()
    rotate(mesh, "next", "--now")
    until(lambda: mesh.citadel.page("ca")["rotation"]["phase"] == "drain")
    rotate(mesh, "next", "--now")
    until(lambda: len(mesh.citadel.page("ca")["roots"]) == 1)
    # The file vouches no more for the certificate that is in use; trust is not taken away by it.
    assert agent.metric('istio_agent_num_outgoing_requests{request_type="csr"}') == 1
    assert bundle() == both
    own.close()
    roots.close()


def test_A02_other_names_fetch_delta_and_refusals(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    other = sds(mesh, "anything")
    assert "URI:" + ID in leaf(until(lambda: other.secrets)[0][0]["chain"])
    other.close()
    foreign = sds(mesh, "kubernetes://credential")
    error = until(lambda: foreign.error)
    assert error.code() == grpc.StatusCode.NOT_FOUND and "kubernetes://credential" in error.details()
    foreign.close()
    path = "unix:%s" % (mesh.folder / "agent/sds.sock")
    with grpc.insecure_channel(path) as channel:
        fetch = channel.unary_unary(xds.SDS_SERVICE + "FetchSecrets")
        answer = xds.fields(fetch(xds.message((3, "default"), (3, "ROOTCA"), (4, xds.SECRET)), timeout=10))
        assert [xds.secret(x)["name"] for x in answer[2]] == ["default", "ROOTCA"]
        with pytest.raises(grpc.RpcError) as wrong:
            fetch(xds.message((3, "default"), (4, CDS)), timeout=10)
        assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        delta = channel.stream_stream(xds.SDS_SERVICE + "DeltaSecrets")(iter([xds.message((2, xds.SECRET), (3, "ROOTCA"))]), timeout=10)
        resource = xds.fields(xds.fields(next(delta))[2][0])
        assert xds.text(resource, 3) == "ROOTCA" and "roots" in xds.secret(resource[2][0])
    refused = sds(mesh, "default", refuse=True)
    until(lambda: [s for s in agent.page("sds")["streams"] if s["refused"] == "refused by the test"])
    assert len(refused.secrets) == 1
    refused.close()


def test_A07_pilots_resources_arrive_by_mutual_tls(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh)
    held = whole(envoy)
    assert "virtualOutbound" in held[LDS] and "outbound|9080||reviews.default.svc.cluster.local" in held[CDS]
    until(lambda: agent.metric("istio_agent_xds_proxy_requests") >= 8)
    assert agent.metric("istio_agent_xds_proxy_responses") == len(envoy.seen) == 4
    assert agent.metric("istio_agent_xds_last_good_answers") == 0
    assert "10.88.1.11" in json.dumps(mesh.pilot.page("syncz")) or "productpage-v1-1" in mesh.pilot.log()
    envoy.close()


def test_A07_refusal_reaches_pilot_and_is_not_kept(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh, refuse=[LDS])
    envoy.subscribe(CDS)
    until(lambda: envoy.held.get(CDS))
    envoy.subscribe(LDS)
    until(lambda: mesh.pilot.metric('pilot_total_xds_rejects{type="lds"}') >= 1)
    assert "refused by the test" in mesh.pilot.log()
    settled(mesh, agent)
    # Pilot looks for the object at fault by sending less; a proxy that refuses everything ends that soon.
    assert mesh.pilot.metric('pilot_total_xds_rejects{type="lds"}') < 10
    kept = {t["type"]: t["lastGood"] for t in agent.page("ads")["types"]}
    assert kept[LDS] == 0 and kept[CDS] == len(envoy.held[CDS])
    envoy.close()


def test_A19_N14_last_good_without_pilot_and_resume_without_resends(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh)
    held = whole(envoy)
    settled(mesh, agent)
    mesh.pilot.kill()
    until(lambda: not agent.page("ads")["connected"])
    envoy.close()

    # Envoy restarts while pilot is away.
    start = time.monotonic()
    again = ads(mesh)
    assert whole(again) == held
    assert time.monotonic() - start < 4
    assert all(r["nonce"].startswith("agent-") for r in again.seen)
    assert agent.page("ads")["servedFrom"] == "last-good"
    until(lambda: all(t["unanswered"] == 0 for t in agent.page("ads")["types"]))

    # Pilot is back and sends nothing that Envoy holds.
    mesh.start_pilot()
    until(lambda: mesh.pilot.metric("pilot_xds_delta_resumed") >= sum(len(r) for r in held.values()), 20)
    seen = len(again.seen)
    again.subscribe(RDS, "9081-does-not-exist")  # an answer to this comes after anything that would be sent again
    until(lambda: len(again.seen) > seen)
    assert [r["removed"] for r in again.seen[seen:]] == [{"9081-does-not-exist"}]
    assert mesh.pilot.metric("pilot_xds_pushes") == 1
    assert agent.page("ads")["servedFrom"] == "pilot"
    again.close()


def test_A19_N14_agent_and_envoy_start_without_pilot(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh)
    held = whole(envoy)
    settled(mesh, agent)
    envoy.close()
    assert agent.stop() == 0
    mesh.pilot.kill()
    mesh.citadel.kill()
    agent = start_agent(mesh)
    until(agent.ready)
    secrets = sds(mesh, "default")
    assert "URI:" + ID in leaf(until(lambda: secrets.secrets)[0][0]["chain"])
    again = ads(mesh)
    assert whole(again) == held
    again.close()
    secrets.close()


def test_A19_N14_changed_cache_is_refused_and_pilot_serves(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh)
    whole(envoy)
    cache = settled(mesh, agent)
    envoy.close()
    assert cache.stat().st_mode & 0o777 == 0o600
    assert agent.stop() == 0
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(data)
    agent = start_agent(mesh)
    assert "checksum is wrong" in agent.log()
    again = ads(mesh)
    whole(again)
    assert not any(r["nonce"].startswith("agent-") for r in again.seen)
    again.close()


def test_A19_N14_pod_that_starts_without_pilot_comes_up_with_it(mesh):
    agent = start_agent(mesh, "--ca-address", f"127.0.0.1:{mesh.ca}")
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: "there is no last good configuration" in agent.log())
    assert not envoy.seen
    mesh.start_pilot()
    until(lambda: envoy.held.get(CDS), 20)
    assert not envoy.seen[0]["nonce"].startswith("agent-")
    envoy.close()


def test_A19_N14_an_envoy_that_stays_is_not_told_twice_when_its_agent_restarts(mesh):
    mesh.start_pilot()
    agent = start_agent(mesh)
    envoy = ads(mesh)
    whole(envoy)
    settled(mesh, agent)
    agent.kill()
    envoy.close()
    start_agent(mesh)

    def pushes():  # the roots (PCDS) are the new agent's own question
        return mesh.pilot.metric("pilot_xds_pushes") - mesh.pilot.metric('pilot_xds_pushes{type="pcds"}')

    before = pushes()
    again = ads(mesh, held=envoy.held)
    again.subscribe(CDS)
    again.subscribe(EDS, *envoy.held[EDS])
    until(lambda: mesh.pilot.metric("pilot_xds_delta_resumed") >= len(envoy.held[CDS]) + len(envoy.held[EDS]))
    again.subscribe(RDS, "not-there")
    until(lambda: again.count(RDS))
    assert [r["type"] for r in again.seen] == [RDS]
    assert pushes() == before + 1
    again.close()


def script_of(resources, silent=()):
    """Answers first requests with what `resources` has of the type, as (name, version) pairs, and nothing else."""

    def script(request, send):
        type_url = xds.text(request, 2)
        if 6 not in request and type_url in resources and type_url not in silent:
            send(xds.delta_response(type_url, "p1", resources[type_url]))

    return script


def fake_pilot(mesh, script):
    """An agent that uses it, without TLS."""
    pilot = Pilot(mesh.xds, script)
    address = f"127.0.0.1:{mesh.xds}"
    return pilot, start_agent(mesh, "--plaintext", "--discovery-address", address, "--ca-address", f"127.0.0.1:{mesh.ca}")


def test_A19_N14_pilot_that_is_connected_but_silent_counts_as_away(mesh):
    clusters = {CDS: [("a", "1"), ("b", "1")]}
    pilot, agent = fake_pilot(mesh, script_of(clusters))
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: len(envoy.held.get(CDS, ())) == 2)
    settled(mesh, agent)
    envoy.close()
    pilot.script = script_of(clusters, silent=[CDS])
    streams = len(pilot.streams)
    start = time.monotonic()
    again = ads(mesh)
    again.subscribe(CDS)
    until(lambda: len(again.held.get(CDS, ())) == 2)
    assert 1.5 < time.monotonic() - start < 6
    # Pilot's next stream hears what Envoy holds by now.
    until(lambda: len(pilot.streams) == streams + 2 and pilot.streams[-1])
    assert xds.held_by(pilot.streams[-2][0]) == {}
    assert xds.held_by(pilot.streams[-1][0]) == {"a": "1", "b": "1"}
    assert 1 in pilot.streams[-1][0], "the node is in the first request of each stream"
    again.close()
    pilot.close()


def test_A07_refused_stream_is_tried_again_later_and_later(mesh):
    times = []

    def refuse(request, send):
        times.append(time.monotonic())
        pilot.context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    pilot, agent = fake_pilot(mesh, refuse)
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: len(times) >= 5, 20)
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert gaps[3] > 2 * gaps[0], gaps
    assert "PERMISSION_DENIED" in agent.page("ads")["lastError"] and "not you" in agent.page("ads")["lastError"]
    assert not envoy.seen and envoy.error is None
    envoy.close()
    pilot.close()


def test_A07_garbage_from_pilot_costs_its_stream_only(mesh):
    good = script_of({CDS: [("a", "1")]})

    def script(request, send):
        if len(pilot.streams) == 1:
            send(b"\xff\xff\xff")
        else:
            good(request, send)

    pilot, agent = fake_pilot(mesh, script)
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: envoy.held.get(CDS))
    assert "stream to pilot given up" in agent.log()
    assert envoy.count(CDS) == 1 and envoy.error is None
    envoy.close()
    pilot.close()


@pytest.mark.parametrize("request_bytes,words", [(b"\xff\xff\xff", ""), (xds.message((2, CDS)), "must carry the node")])
def test_A07_requests_that_are_wrong_are_refused(mesh, request_bytes, words):
    agent = start_agent(mesh)
    stream = xds.Stream(mesh.folder / "agent/xds.sock", xds.ADS_METHOD)
    stream.out.put(request_bytes)
    error = until(lambda: stream.error)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and words in error.details()
    until(lambda: not agent.page("ads")["envoyStream"])
    stream.close()


def test_A19_cache_that_cannot_be_written_is_told_and_envoy_is_served(mesh):
    (mesh.folder / "agent/last-good.xds/in-the-way").mkdir(parents=True)
    pilot, agent = fake_pilot(mesh, script_of({CDS: [("a", "1")]}))
    assert "last good configuration not used" in agent.log()
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: envoy.held.get(CDS))
    until(lambda: agent.metric('istio_agent_xds_last_good_writes{result="error"}') == 1)
    assert "last good configuration not written" in agent.log() and agent.page("ads")["unsaved"]
    envoy.close()
    pilot.close()


def test_A07_new_stream_of_envoy_replaces_the_old(mesh):
    pilot, agent = fake_pilot(mesh, script_of({CDS: [("a", "1")]}))
    old = ads(mesh)
    old.subscribe(CDS)
    until(lambda: old.held.get(CDS))
    new = ads(mesh)
    new.subscribe(CDS)
    until(lambda: new.held.get(CDS))
    error = until(lambda: old.error)
    assert error.code() == grpc.StatusCode.UNAVAILABLE and "newer stream" in error.details()
    assert len(pilot.streams) == 2
    old.close()
    new.close()
    pilot.close()


def test_A07_slow_envoy_holds_pilot_back(mesh):
    """Responses wait in pilot, not in the agent, while Envoy does not read."""
    body = "x" * (1 << 20)

    def flood(request, send):
        for i in range(64 if 6 not in request else 0):
            send(xds.delta_response(CDS, f"n{i}", [(f"{i}-{body}", "1")]))

    pilot, agent = fake_pilot(mesh, flood)
    until((mesh.folder / "agent/envoy-rev.json").exists)
    gate = threading.Event()

    class Slow(Envoy):
        def read(self):
            gate.wait(30)
            super().read()

    envoy = Slow(mesh.folder / "agent/xds.sock", bootstrap_node(mesh))
    envoy.subscribe(CDS)
    until(lambda: agent.metric("istio_agent_xds_proxy_responses") >= 2)
    stalled = None
    while stalled != (stalled := agent.metric("istio_agent_xds_proxy_responses")):
        end = time.monotonic() + 0.5
        until(lambda: time.monotonic() > end)
    assert stalled < 40, "the agent took everything"
    gate.set()
    until(lambda: len(envoy.held.get(CDS, ())) == 64, 30)
    until(lambda: [t["unanswered"] for t in agent.page("ads")["types"]] == [0])
    envoy.close()
    pilot.close()


def test_A07_P96_state_of_the_world_passes_through(mesh):
    stream = None
    agent = start_agent(mesh)
    method = xds.ADS_METHOD.replace("Delta", "Stream")
    until((mesh.folder / "agent/envoy-rev.json").exists)
    stream = xds.Stream(mesh.folder / "agent/xds.sock", method)
    assert until(lambda: stream.error).code() == grpc.StatusCode.UNAVAILABLE
    stream.close()
    mesh.start_pilot()
    until(lambda: agent.page("ads")["connected"], 20)
    stream = xds.Stream(mesh.folder / "agent/xds.sock", method)
    stream.out.put(xds.message((2, bootstrap_node(mesh)), (4, CDS)))
    response = until(lambda: stream.responses)[0]
    assert xds.text(response, 4) == CDS and len(response[2]) > 10
    stream.out.put(xds.message((1, xds.text(response, 1)), (4, CDS), (5, xds.text(response, 5))))
    mesh.pilot.kill()
    assert until(lambda: stream.error).code() == grpc.StatusCode.UNAVAILABLE
    stream.close()


def curl(ns, *options):
    done = subprocess.run([*ns.enter(), "curl", "-s", "-m", "5", *map(str, options)], capture_output=True, text=True, check=False)
    return done.stdout


def test_A03_A19_real_envoy_rotates_and_restarts_without_pilot():
    envoy_path = subprocess.run([ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()
    ns = Namespace(user=os.getuid() != 0)
    with a_mesh(ns.enter()) as mesh:
        mesh.start_pilot()
        agent = start_agent(mesh, "--envoy", envoy_path, "--cert-ttl", "6s", "--concurrency", "1", "--drain-duration", "100ms",
                            envoy="--log-level=info")

        def serials():
            found = json.loads(curl(ns, "http://127.0.0.1:15000/certs") or "{}").get("certificates", [])
            return {c["serial_number"] for chain in found for c in chain.get("cert_chain", [])}

        def ready():
            return agent.get("/healthz/ready")[0] == 200

        until(ready, 20)
        first = until(serials)
        until(lambda: serials() and not serials() & first, 20)
        settled(mesh, agent)
        dump = "http://127.0.0.1:15000/config_dump?resource=dynamic_listeners"
        names = lambda: {x["name"] for x in json.loads(curl(ns, dump) or "{}").get("configs", [])}
        listeners = until(names)
        mesh.pilot.kill()
        os.kill(agent.page("envoy")["pid"], signal.SIGKILL)
        until(lambda: agent.page("envoy").get("starts") == 2)
        until(ready, 20)
        assert names() == listeners
        assert agent.metric("istio_agent_xds_last_good_answers") >= 3
        mesh.start_pilot()
        until(lambda: agent.page("ads")["pilotStream"], 20)
        until(lambda: mesh.pilot.metric("pilot_xds_delta_resumed") > 0)
        assert mesh.pilot.metric("pilot_xds_pushes") == 0
        assert agent.metric("istio_agent_xds_rejects") == 0
    ns.close()


def test_A07_plaintext_needs_no_certificate_for_ads(mesh):
    mesh.start_pilot()
    start_agent(mesh, "--plaintext", "--discovery-address", f"127.0.0.1:{mesh.xds}", "--ca-address", f"127.0.0.1:{free_port()}")
    envoy = ads(mesh)
    envoy.subscribe(CDS)
    until(lambda: envoy.held.get(CDS))
    envoy.close()


@pytest.mark.parametrize(
    "options,words",
    [
        (["--type", "waypoint"], "neither sidecar nor router"),
        (["--pod-ip", ""], "--pod-ip is needed"),
        (["--labels", "[]"], "--labels: a JSON object is expected"),
    ],
)
def test_wrong_options_are_refused(mesh, options, words):
    command = [BUILD / "agent/agent", "--no-envoy", "--state-dir", mesh.folder / "a", "--admin-address", f"unix:{mesh.folder}/a.admin"]
    command += ["--pod-name", "p", "--pod-ip", "10.0.0.1", "--discovery-address", "127.0.0.1:1", "--status-address", "127.0.0.1:0", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1 and words in result.stderr
