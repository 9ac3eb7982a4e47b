"""Scenario 7: certificates that live for 30 seconds, and everything that is refused."""
import base64
import json
import pathlib
import re
import subprocess
import sys
import time

import pytest
import util
import xds
from mesh import NODE, Mesh
from small import ECHO_ID, small_with_handshakes
from util import until

TTL = 30
LOAD_SECONDS = 40
IN_NODE = pathlib.Path(__file__).with_name("in_node.py")
ECHO = ("10.88.1.20", 9080)


def openssl(*args, text=None):
    return subprocess.run(["openssl", *map(str, args)], input=text, capture_output=True, text=True, check=True).stdout


class Client:
    """Somebody with a key, outside of every pod, and what the control plane and the proxies say to him."""

    def __init__(self, mesh, folder):
        self.mesh, self.folder = mesh, pathlib.Path(folder)
        self.roots = mesh.state / "citadel/root-cert.pem"

    def token(self, *options, account="echo"):
        command = [util.BUILD / "citadel/citadel", "token", "--state-dir", self.mesh.state / "citadel", "--namespace", "default",
                   "--service-account", account, *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def ask(self, verb, **what):
        return json.loads(self.mesh.run_in(None, sys.executable, IN_NODE, verb, json.dumps({k: v if isinstance(v, (dict, int)) else str(v)
                                                                                             for k, v in what.items()})))

    def sign(self, token, san=ECHO_ID, address=f"{NODE}:8060", name="localhost"):
        self.key = self.folder / "key.pem"
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key, "-subj", "/",
                      "-addext", f"subjectAltName=URI:{san}")
        return self.ask("sign", address=address, roots=self.roots, token=token, csr=csr, seconds=3600, name=name)

    def foreign(self):
        """A certificate with echo's identity from a CA that is nobody's."""
        ca, key, cert = (self.folder / n for n in ("ca.pem", "foreign.key", "foreign.pem"))
        ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *ec, "-keyout", self.folder / "ca.key", "-out", ca, "-subj", "/O=cluster.local", "-days", "1")
        openssl("req", "-x509", *ec, "-keyout", key, "-out", cert, "-subj", "/", "-days", "1", "-CA", ca, "-CAkey", self.folder / "ca.key",
                "-addext", f"subjectAltName=critical,URI:{ECHO_ID}")
        return key, cert

    def get(self, key, cert):
        """What echo answers to a request over mutual TLS as a proxy would make it."""
        request = "GET /hello HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"
        command = ["openssl", "s_client", "-quiet", "-alpn", "istio", "-connect", f"{ECHO[0]}:{ECHO[1]}", "-key", key, "-cert", cert]
        result = subprocess.run([*self.mesh.enter(), *map(str, command)], input=request, capture_output=True, text=True, timeout=20, check=False)
        return result.stdout, result.stderr


def serial(mesh):
    """The serial number of the certificate that echo's proxy shows to a new connection."""
    command = ["openssl", "s_client", "-alpn", "istio", "-connect", f"{ECHO[0]}:{ECHO[1]}"]
    shown = subprocess.run([*mesh.enter(), *command], input="", capture_output=True, text=True, timeout=20, check=False).stdout
    pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.S)
    text = openssl("x509", "-noout", "-serial", "-startdate", "-enddate", text=pem[0])
    return text.split("\n")[0]


@pytest.mark.scenario(7)
def test_scenario_7_A03_C08_short_certificates_rotate_under_load_and_cost_no_request(figures):
    with Mesh(prepare=small_with_handshakes, options=["--cert-ttl", f"{TTL}s"], quick=True) as mesh:
        seen = {serial(mesh)}
        with mesh.load("/hello", rate=40, enough=300) as load:
            start = time.monotonic()
            while time.monotonic() - start < LOAD_SECONDS:
                load.more(40)
                seen.add(serial(mesh))
        total = load.assert_clean()
        # Each is renewed at half of its 30 s, so the first has expired when the third is seen.
        assert len(seen) >= 3, seen
        clusters = mesh.curl("istio-system/istio-ingressgateway", "http://127.0.0.1:15000/clusters")[1]
        handshakes = int(re.search(r"^outbound\|9080\|\|echo\..*::cx_total::(\d+)$", clusters, re.M)[1])
        assert handshakes >= total / 10, (handshakes, total)  # so a good part of the requests began with a handshake
        figures.add(f"certificates of {TTL} s, {LOAD_SECONDS} s of load", f"{len(seen)} seen, {total} requests, 0 failed, {handshakes} handshakes")


@pytest.mark.scenario(7)
def test_scenario_7_C10_C08_what_is_not_trusted_is_refused(tmp_path):
    with Mesh(prepare=small_with_handshakes, quick=True) as mesh:
        client = Client(mesh, tmp_path)
        good = client.sign(client.token())
        chain = tmp_path / "chain.pem"
        chain.write_text("".join(good["chain"]))
        key = tmp_path / "good.key"
        client.key.rename(key)
        answer, _ = client.get(key, chain)
        assert "200 OK" in answer and f'"peer": "{ECHO_ID}"' in answer, answer

        answer, why = client.get(*client.foreign())
        assert answer == "" and "unknown ca" in why, (answer, why)
        # citadel itself, and pilot which relays to it, refuse an expired token and an identity that is not the caller's.
        for address, name in ((f"{NODE}:8060", "localhost"), (f"{NODE}:15012", "istiod.istio-system.svc")):
            short = client.token("--ttl", "1s")
            expired = until(lambda a=address, n=name, t=short: r if "code" in (r := client.sign(t, address=a, name=n)) else None, 10, "the token expires")
            assert expired["code"] == "UNAUTHENTICATED" and "expired" in expired["details"], expired
            other = client.sign(client.token(), "spiffe://cluster.local/ns/istio-system/sa/echo", address, name)
            assert other["code"] == "PERMISSION_DENIED", other
        # pilot gives a namespace's configuration only to who has an identity there.
        me = xds.node("sidecar", "10.88.1.20", "echo-v1", "default", {"app": "echo"}, "echo")
        stranger = xds.node("sidecar", "10.88.1.20", "echo-v1", "istio-system", {"app": "echo"}, "echo")
        files = {"address": f"{NODE}:15012", "roots": client.roots, "key": key, "chain": chain}
        assert client.ask("watch", node=me, **files)["clusters"] > 0
        refused = client.ask("watch", node=stranger, **files)
        assert refused.get("code") in ("PERMISSION_DENIED", "UNAUTHENTICATED"), refused
        assert mesh.admin("pilot").metric("pilot_xds_identity_mismatch") >= 1


def secrets(mesh, pod):
    """What a proxy has in force: the roots that it trusts, and the key id of who issued its own certificate."""
    dump = json.loads(mesh.curl(pod, "http://127.0.0.1:15000/config_dump?resource=dynamic_active_secrets")[1])
    held = {s["name"]: s["secret"] for s in dump["configs"]}
    roots = base64.b64decode(held["ROOTCA"]["validation_context"]["trusted_ca"]["inline_bytes"]).decode()
    chain = base64.b64decode(held["default"]["tls_certificate"]["certificate_chain"]["inline_bytes"]).decode()
    return roots.count("BEGIN CERTIFICATE"), openssl("x509", "-noout", "-ext", "authorityKeyIdentifier", text=chain)


@pytest.mark.scenario(7)
def test_scenario_7_N15_C05_the_root_is_rotated_under_load_and_costs_no_request(figures):
    with Mesh(prepare=small_with_handshakes, options=["--cert-ttl", f"{TTL}s"], quick=True) as mesh:
        def rotate(*arguments):
            command = [util.BUILD / "citadel/citadel", "rotate-root", *arguments, "--state-dir", mesh.state / "citadel"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        pods = [u["name"] for u in mesh.units() if "/" in u["name"]]
        issuers = {secrets(mesh, pod)[1] for pod in pods}
        assert len(pods) >= 2 and len(issuers) == 1
        with mesh.load("/hello", rate=40, enough=400) as load:
            load.more(80)
            rotate("start")
            started = time.monotonic()
            until(lambda: all(secrets(mesh, pod)[0] == 2 for pod in pods), 10, "both roots at all proxies")
            distributed = time.monotonic() - started
            assert {secrets(mesh, pod)[1] for pod in pods} <= issuers
            load.more(80)
            rotate("next", "--now")
            # The first to renew show certificates by the new root to those that have not renewed, and the other way round.
            until(lambda: all(secrets(mesh, pod)[1] not in issuers for pod in pods), TTL, "certificates by the new root at all proxies")
            load.more(200)
        total = load.assert_clean()
        assert "phase drain" in rotate("status")
        figures.add("the root rotated under load", f"both roots everywhere after {distributed:.1f} s, {total} requests, 0 failed")
