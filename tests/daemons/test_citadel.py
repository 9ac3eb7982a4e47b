"""Citadel alone, by a client written with grpcio: certificates by token and by certificate, and every refusal.

Needs the built daemon: FAIRLEAD_BUILD names the build folder (default: build)."""

import base64
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/mesh"))
import wire  # noqa: E402

BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
CITADEL = BUILD / "citadel" / "citadel"
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
ME = "spiffe://cluster.local/ns/shop/sa/cart"


def encode(csr, seconds, metadata=None):
    return wire.put(1, csr) + (wire.put(3, seconds) if seconds else b"") + (wire.put(4, wire.struct_of(metadata)) if metadata else b"")


def decode(data):
    return [certificate.decode() for certificate in wire.every(data, 1)]


def openssl(*args, text=None):
    return subprocess.run(["openssl", *args], input=text, capture_output=True, text=True, check=True).stdout


def until(check, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = check()
        if got:
            return got
        time.sleep(0.02)
    raise AssertionError("not within %s s" % seconds)


class Citadel:
    def __init__(self, folder, *options):
        self.folder, self.state = folder, folder / "state"
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            [CITADEL, "--state-dir", self.state, "--bus", "none", "--address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", *options],
            stderr=self.log,
        )
        until(lambda: self.process.poll() is not None or self.port("signing") and self.port("admin pages") and self.get("/readyz")[0] == 200)

    def lines(self):
        return (self.folder / "log").read_text().splitlines()

    def port(self, message):
        found = [line for line in self.lines() if message + " address" in line]
        return found and int(found[-1].split("port=")[1])

    def get(self, path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port("admin pages"), path)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def page(self, name):
        return json.loads(self.get("/debug/" + name)[1])

    def metric(self, start):
        return sum(float(line.split()[-1]) for line in self.get("/metrics")[1].splitlines() if line.startswith(start))

    def token(self, *options):
        command = [CITADEL, "token", "--state-dir", self.state, "--namespace", "shop", "--service-account", "cart", *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def create(self, csr, token=None, seconds=3600, cert=None, headers=(), metadata=None):
        roots = (self.state / "root-cert.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(roots, *(cert or (None, None)))
        sent = list(headers) + ([("authorization", "Bearer " + token)] if token else [])
        with grpc.secure_channel("localhost:%d" % self.port("signing"), credentials) as channel:
            call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
            return decode(call(encode(csr, seconds, metadata), metadata=sent, timeout=10))

    def refusal(self, *args, **named):
        with pytest.raises(grpc.RpcError) as error:
            self.create(*args, **named)
        return error.value.code(), error.value.details()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.log.close()
        return code


@pytest.fixture(scope="module")
def citadel(tmp_path_factory):
    c = Citadel(tmp_path_factory.mktemp("citadel"), "--probe-interval", "200ms", "--max-workload-cert-ttl", "48h")
    yield c
    assert c.stop() == 0


def csr(folder, san="URI:" + ME, key=("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), extra=()):
    names = ["-addext", "subjectAltName=" + san] if san else []
    path = folder / "key.pem"
    text = openssl("req", "-new", "-newkey", *key, "-nodes", "-keyout", str(path), "-subj", "/", *names, *extra)
    return text, path.read_bytes()


def test_C01_root_is_made_once_and_kept_private(citadel):
    assert (citadel.state / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    root = openssl("x509", "-in", str(citadel.state / "root-cert.pem"), "-noout", "-text")
    assert "CA:TRUE" in root and "prime256v1" in root


def test_C07_certificate_by_token_names_only_the_caller(citadel, tmp_path):
    text, _ = csr(tmp_path)
    chain = citadel.create(text, citadel.token())
    leaf = openssl("x509", "-noout", "-text", text=chain[0])
    assert "URI:" + ME in leaf and "DNS:" not in leaf and "CA:FALSE" in leaf
    assert chain[-1] == (citadel.state / "root-cert.pem").read_text()
    (tmp_path / "leaf.pem").write_text(chain[0])
    openssl("verify", "-CAfile", str(citadel.state / "root-cert.pem"), str(tmp_path / "leaf.pem"))
    last = citadel.page("issuances")["issuances"][0]
    assert (last["id"], last["authenticator"]) == (ME, "jwt")


def test_C07_renewal_by_the_current_certificate(citadel, tmp_path):
    text, key = csr(tmp_path)
    chain = citadel.create(text, citadel.token())
    again = citadel.create(csr(tmp_path, san=None)[0], cert=(key, chain[0].encode()))
    assert "URI:" + ME in openssl("x509", "-noout", "-text", text=again[0])
    assert citadel.page("issuances")["issuances"][0]["authenticator"] == "client-certificate"


@pytest.mark.parametrize("asked,lives", [(30, 30), (0, 86400), (10**9, 48 * 3600)])
def test_C08_lifetime_is_as_asked_or_capped(citadel, tmp_path, asked, lives):
    chain = citadel.create(csr(tmp_path)[0], citadel.token(), seconds=asked)
    end = openssl("x509", "-noout", "-enddate", text=chain[0]).split("=")[1].strip()
    left = time.mktime(time.strptime(end, "%b %d %H:%M:%S %Y %Z")) - time.timezone - time.time()
    assert lives - 15 < left <= lives + 1


@pytest.mark.parametrize(
    "named,status,words",
    [
        ({"san": "URI:spiffe://cluster.local/ns/other/sa/x"}, grpc.StatusCode.PERMISSION_DENIED, "the caller is"),
        ({"san": "DNS:istiod.istio-system.svc"}, grpc.StatusCode.PERMISSION_DENIED, "DNS name"),
        ({"san": "email:a@b.c"}, grpc.StatusCode.PERMISSION_DENIED, "email"),
        ({"extra": ("-addext", "basicConstraints=CA:TRUE")}, grpc.StatusCode.INVALID_ARGUMENT, "CA certificate"),
        ({"key": ("rsa:1024",)}, grpc.StatusCode.INVALID_ARGUMENT, "too weak"),
        ({"key": ("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1")}, grpc.StatusCode.INVALID_ARGUMENT, "too weak"),
    ],
)
def test_C08_csrs_that_break_policy_are_refused(citadel, tmp_path, named, status, words):
    code, text = citadel.refusal(csr(tmp_path, **named)[0], citadel.token())
    assert code == status and words in text


@pytest.mark.parametrize("key,named", [
    (("rsa:2048",), "2048 bit"), (("rsa:4096",), "4096 bit"), (("ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"), "secp384r1"),
    (("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), "prime256v1")], ids=["rsa2048", "rsa4096", "p384", "p256"])
def test_C09_a_key_of_each_kind_gets_a_certificate_for_both_ends(citadel, tmp_path, key, named):
    text, private = csr(tmp_path, key=key)
    leaf = citadel.create(text, citadel.token())[0]
    shown = openssl("x509", "-noout", "-text", text=leaf)
    assert named in shown and "Digital Signature" in shown
    assert "TLS Web Server Authentication" in shown and "TLS Web Client Authentication" in shown
    assert openssl("x509", "-noout", "-pubkey", text=leaf) == openssl("pkey", "-pubout", text=private.decode())


@pytest.mark.parametrize("kind,named", [("rsa2048", "2048 bit"), ("p384", "secp384r1")])
def test_C01_C09_a_root_of_another_kind_signs(tmp_path, kind, named):
    c = Citadel(tmp_path, "--root-key", kind)
    assert named in openssl("x509", "-noout", "-text", "-in", str(c.state / "root-cert.pem"))
    (tmp_path / "leaf.pem").write_text(c.create(csr(tmp_path)[0], c.token())[0])
    openssl("verify", "-CAfile", str(c.state / "root-cert.pem"), str(tmp_path / "leaf.pem"))
    assert c.stop() == 0
    done = subprocess.run([CITADEL, "--state-dir", tmp_path / "other", "--bus", "none", "--admin-address", "127.0.0.1:0", "--root-key", "dsa"],
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "--root-key: key" in done.stderr and "is none of p256, p384" in done.stderr


def test_C08_malformed_csr_is_refused_and_counted(citadel):
    before = citadel.metric("citadel_server_csr_parsing_err_count")
    assert citadel.refusal("no csr", citadel.token())[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert citadel.metric("citadel_server_csr_parsing_err_count") == before + 1


def der_of(pem):
    return base64.b64decode("".join(pem.strip().splitlines()[1:-1]))


def break_proof(text):
    """The same request with one bit of its signature turned."""
    der = bytearray(der_of(text))
    der[-1] ^= 1
    return "-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der)).decode() + "-----END CERTIFICATE REQUEST-----\n"


def test_C08_csr_without_proof_of_possession_is_refused(citadel, tmp_path):
    before = citadel.metric('citadel_server_csr_sign_err_count{error="CSR_ERROR"}')
    code, text = citadel.refusal(break_proof(csr(tmp_path)[0]), citadel.token())
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "signature does not verify" in text
    assert citadel.metric('citadel_server_csr_sign_err_count{error="CSR_ERROR"}') == before + 1


def test_C08_many_at_once_get_each_the_certificate_of_its_own_key(citadel, tmp_path):
    """Two callers, several keys, some without proof, more than the signer answers in one go: no answer goes to another call."""
    roots = (citadel.state / "root-cert.pem").read_bytes()
    callers = {name: citadel.token("--service-account", name) for name in ("cart", "web")}
    requests = [(name, csr(tmp_path, san="URI:spiffe://cluster.local/ns/shop/sa/" + name)[0]) for name in callers for _ in range(4)]
    keys = {text: der_of(openssl("req", "-pubkey", "-noout", text=text)) for _, text in requests}
    calls = []
    with grpc.secure_channel("localhost:%d" % citadel.port("signing"), grpc.ssl_channel_credentials(roots)) as channel:
        call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        for i in range(120):
            name, text = requests[i * 5 % len(requests)]
            sent = break_proof(text) if i % 7 == 3 else text
            metadata = [("authorization", "Bearer " + callers[name])]
            calls.append((name, text, sent == text, call.future(encode(sent, 3600), metadata=metadata, timeout=20)))
        good = 0
        for name, text, proven, future in calls:
            if not proven:
                assert future.code() == grpc.StatusCode.INVALID_ARGUMENT
                continue
            leaf = der_of(decode(future.result())[0])
            assert keys[text] in leaf
            assert b"spiffe://cluster.local/ns/shop/sa/" + name.encode() in leaf
            good += 1
    assert good == sum(proven for _, _, proven, _ in calls) == 103


def test_C10_callers_without_good_credentials_are_refused_and_counted(citadel, tmp_path):
    text, _ = csr(tmp_path)
    before = citadel.metric("citadel_server_authentication_failure_count")
    foreign = subprocess.run([CITADEL, "token", "--state-dir", tmp_path / "other"], capture_output=True, text=True, check=True)
    good = citadel.token()
    unsigned = "eyJhbGciOiJub25lIn0." + good.split(".")[1] + "."
    short = citadel.token("--ttl", "1s")
    tokens = [(None, "no credentials"), (foreign.stdout.strip(), "jwt"), (unsigned, "none"), (good[:-8] + "AAAAAAAA", "signature"),
              (citadel.token("--audience", "other"), "audience")]
    for token, words in tokens:
        code, details = citadel.refusal(text, token)
        assert code == grpc.StatusCode.UNAUTHENTICATED and words in details
    time_of_expiry = time.time() + 1.1
    until(lambda: time.time() > time_of_expiry)
    assert "expired" in citadel.refusal(text, short)[1]
    assert citadel.metric("citadel_server_authentication_failure_count") == before + len(tokens) + 1


def test_C10_xfcc_counts_only_from_a_trusted_forwarder(citadel, tmp_path):
    text, key = csr(tmp_path)
    header = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/cart")]
    assert "no trusted forwarder" in citadel.refusal(text, headers=header)[1]
    plane = ["--namespace", "istio-system", "--service-account", "istiod"]
    command = [CITADEL, "token", "--state-dir", citadel.state, *plane]
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    pilot_csr, pilot_key = csr(tmp_path, san="DNS:istiod.istio-system.svc")
    pilot = citadel.create(pilot_csr, token)
    assert "DNS:istiod.istio-system.svc" in openssl("x509", "-noout", "-text", text=pilot[0])
    relayed = citadel.create(text, headers=header, cert=(pilot_key, pilot[0].encode()))
    assert "URI:" + ME in openssl("x509", "-noout", "-text", text=relayed[0])
    # Who relays and passes on nothing good must not get the forwarder's own identity.
    code, _ = citadel.refusal(csr(tmp_path, san=None)[0], "bad", cert=(pilot_key, pilot[0].encode()))
    assert code == grpc.StatusCode.UNAUTHENTICATED


def test_C23_the_key_is_in_a_signer_without_network_or_files(citadel):
    pid = citadel.page("ca")["signerPid"]
    status = pathlib.Path("/proc/%d/status" % pid).read_text()
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    secret = (citadel.state / "ca-key.pem").read_text().splitlines()[1].encode()
    found = 0
    citadel.process.send_signal(signal.SIGSTOP)  # so that nothing is unmapped while it is read
    try:
        until(lambda: "\nState:\tT" in pathlib.Path("/proc/%d/status" % citadel.process.pid).read_text())
        with open("/proc/%d/mem" % citadel.process.pid, "rb", 0) as memory:
            for line in pathlib.Path("/proc/%d/maps" % citadel.process.pid).read_text().splitlines():
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                if line.split()[1].startswith("rw") and end - start < 1 << 28:
                    memory.seek(start)
                    found += memory.read(end - start).count(secret)
    finally:
        citadel.process.send_signal(signal.SIGCONT)
    assert found == 0


def test_C30_a_dead_signer_is_replaced(citadel, tmp_path):
    before = citadel.page("ca")["signerPid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: citadel.page("ca")["signerPid"] not in (0, before) and citadel.page("ca")["signerUp"])
    until(lambda: citadel.get("/readyz")[0] == 200)
    assert citadel.create(csr(tmp_path)[0], citadel.token())


def test_C22_metrics_have_istios_names(citadel, tmp_path):
    def counts():
        return [citadel.metric("citadel_server_" + name + "_count") for name in ("csr", "success_cert_issuance", "csr_parsing_err", "authentication_failure")]

    before = counts()
    citadel.create(csr(tmp_path)[0], citadel.token())
    assert [now - then for now, then in zip(counts(), before)] == [1, 1, 0, 0]
    citadel.refusal("no request", citadel.token())
    citadel.refusal(csr(tmp_path)[0], "no token")
    assert [now - then for now, then in zip(counts(), before)] == [3, 1, 1, 1]
    text = citadel.get("/metrics")[1]
    assert all(f"# TYPE citadel_server_{name}_count counter" in text for name in ("id_extraction_err", "csr_sign_err"))
    root = openssl("x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(citadel.state / "root-cert.pem"))
    ends = datetime.datetime.fromisoformat(root.strip().removeprefix("notAfter=").replace("Z", "+00:00")).timestamp()
    for kind in ("root_cert", "cert_chain"):
        assert abs(citadel.metric(f"citadel_server_{kind}_expiry_timestamp") - ends) < 1
        assert abs(citadel.metric(f"citadel_server_{kind}_expiry_seconds") - (ends - time.time())) < 30


def test_C01_restart_keeps_the_root(tmp_path):
    first = Citadel(tmp_path)
    root = first.page("ca")["roots"][0]["sha256"]
    assert first.stop() == 0
    second = Citadel(tmp_path)
    assert second.page("ca")["roots"][0]["sha256"] == root
    assert second.stop() == 0


def plug_in(folder):
    folder.mkdir()
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *ec, "-keyout", str(folder / "root.key"), "-out", str(folder / "root-cert.pem"), "-subj", "/O=Corp/CN=root", "-days", "9")
    request = openssl("req", "-new", *ec, "-keyout", str(folder / "ca-key.pem"), "-subj", "/O=Corp/CN=mesh")
    (folder / "ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=hash\n")
    args = ["-CA", str(folder / "root-cert.pem"), "-CAkey", str(folder / "root.key"), "-CAcreateserial", "-days", "9", "-extfile", str(folder / "ext")]
    issuer = openssl("x509", "-req", *args, text=request)
    (folder / "ca-cert.pem").write_text(issuer)
    (folder / "cert-chain.pem").write_text(issuer + (folder / "root-cert.pem").read_text())


def test_C03_plugged_in_ca_signs_with_its_intermediate(tmp_path):
    plug_in(tmp_path / "ca")
    c = Citadel(tmp_path, "--ca-dir", tmp_path / "ca")
    root = (tmp_path / "ca" / "root-cert.pem").read_text()
    (c.state / "root-cert.pem").write_text(root)
    chain = c.create(csr(tmp_path)[0], c.token())
    assert len(chain) == 3 and chain[2] == root
    (tmp_path / "leaf.pem").write_text(chain[0])
    (tmp_path / "middle.pem").write_text(chain[1])
    openssl("verify", "-CAfile", str(tmp_path / "ca" / "root-cert.pem"), "-untrusted", str(tmp_path / "middle.pem"), str(tmp_path / "leaf.pem"))
    assert c.stop() == 0


def test_C03_the_files_of_cert_manager_are_a_ca(tmp_path):
    plug_in(tmp_path / "ca")
    (tmp_path / "tls").mkdir()
    for theirs, name in (("ca-cert.pem", "tls.crt"), ("ca-key.pem", "tls.key"), ("root-cert.pem", "ca.crt")):
        (tmp_path / "tls" / name).write_bytes((tmp_path / "ca" / theirs).read_bytes())
    c = Citadel(tmp_path, "--ca-dir", tmp_path / "tls")
    root = (tmp_path / "tls/ca.crt").read_text()
    (c.state / "root-cert.pem").write_text(root)
    chain = c.create(csr(tmp_path)[0], c.token())
    assert chain[-1] == root and c.page("ca")["roots"][0]["subject"] == "O=Corp, CN=root"
    assert c.stop() == 0


def test_C03_plugged_in_ca_whose_key_does_not_fit_is_refused(tmp_path):
    plug_in(tmp_path / "ca")
    (tmp_path / "ca" / "ca-key.pem").write_bytes((tmp_path / "ca" / "root.key").read_bytes())
    c = Citadel(tmp_path, "--ca-dir", tmp_path / "ca")
    assert c.process.wait(10) == 1
    assert any("does not belong" in line for line in c.lines())
