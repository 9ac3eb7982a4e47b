"""Rotation of the root: both roots are out before the new one signs, whoever does it (citadel by itself, an operator, several replicas at once)."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from fake_kube import FakeKube, kubeconfig, wait_until
from test_citadel import BUILD, CITADEL, Citadel, csr, openssl

SECRETS = "/api/v1/namespaces/istio-system/secrets"
KEY = (SECRETS, "istio-system/istio-ca-secret")


def rotate(*arguments, check=True):
    done = subprocess.run([CITADEL, "rotate-root", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def verifies(chain, roots, folder):
    leaf, bundle = folder / "leaf.pem", folder / "bundle.pem"
    leaf.write_text(chain[0])
    bundle.write_text(roots)
    return subprocess.run(["openssl", "verify", "-CAfile", bundle, "-untrusted", leaf, leaf], capture_output=True, check=False).returncode == 0


QUICK = ("--root-distribution", "1s", "--max-workload-cert-ttl", "2s", "--probe-interval", "200ms")


def old_root(folder, seconds):
    """A citadel's state folder whose root ends soon; roots that are made later do not."""
    folder.mkdir(exist_ok=True)
    assert Citadel(folder, "--root-ttl", f"{seconds}s").stop() == 0
    return folder


def roots_of(citadel):
    return [r["sha256"] for r in citadel.page("ca")["roots"]]


def issuer_of(citadel):
    return citadel.page("ca")["issuer"][0]["sha256"]


def phase(citadel):
    return citadel.page("ca")["rotation"]["phase"]


@pytest.fixture
def fake(tmp_path):
    server = FakeKube()
    (tmp_path / "config").write_text(kubeconfig(server.url))
    yield server
    server.close()


def test_N15_C02_by_hand_step_by_step(tmp_path):
    c = Citadel(tmp_path)
    where = ("--state-dir", c.state)
    request, token = csr(tmp_path)[0], c.token()
    bundles = [(c.state / "root-cert.pem").read_text()]
    old = issuer_of(c)
    first = c.create(request, token)

    refused = rotate("next", *where, check=False)
    assert refused.returncode == 1 and '"start" begins one' in refused.stderr
    said = rotate("start", *where).stdout
    assert "phase distribute" in said and "sign due at" in said and said.count("root ") == 2
    wait_until(lambda: len(roots_of(c)) == 2)
    assert issuer_of(c) == old and phase(c) == "distribute"
    bundles.append((c.state / "root-cert.pem").read_text())
    second = c.create(request, token)
    assert second[-1] == bundles[1]
    again = rotate("start", *where, check=False)
    assert again.returncode == 1 and 'in phase "distribute"' in again.stderr
    early = rotate("next", *where, check=False)
    assert early.returncode == 1 and "not due before" in early.stderr

    rotate("next", "--now", *where)
    wait_until(lambda: issuer_of(c) != old)
    assert phase(c) == "drain" and len(roots_of(c)) == 2
    third = c.create(request, token)
    assert c.page("ca")["rotation"]["validByEarlierIssuers"] == 2
    assert not (c.state / "next-ca-key.pem").exists()

    rotate("next", "--now", *where)
    wait_until(lambda: len(roots_of(c)) == 1)
    assert phase(c) == "none" and roots_of(c) == [issuer_of(c)]
    last = (c.state / "root-cert.pem").read_text()
    # What each of them signed verifies by the bundle of that time, of the next phase, and the new one's by the bundle before it signed.
    assert verifies(first, bundles[0], tmp_path) and verifies(first, bundles[1], tmp_path) and verifies(second, bundles[1], tmp_path)
    assert verifies(third, bundles[1], tmp_path) and verifies(third, last, tmp_path) and not verifies(first, last, tmp_path)
    assert c.stop() == 0
    again = Citadel(tmp_path)
    assert roots_of(again) == [issuer_of(again)]
    assert again.stop() == 0


def test_N15_a_rotation_that_has_not_signed_can_be_taken_back(tmp_path):
    c = Citadel(tmp_path)
    before = roots_of(c)
    rotate("start", "--state-dir", c.state)
    wait_until(lambda: len(roots_of(c)) == 2)
    rotate("abort", "--state-dir", c.state)
    wait_until(lambda: roots_of(c) == before)
    refused = rotate("abort", "--state-dir", c.state, check=False)
    assert refused.returncode == 1 and 'phase "none"' in refused.stderr
    assert c.stop() == 0


def test_C02_a_root_is_renewed_before_it_ends_and_the_metrics_say_so(tmp_path):
    c = Citadel(old_root(tmp_path, 10), *QUICK)
    old, ends = issuer_of(c), c.metric("citadel_server_root_cert_expiry_timestamp")
    assert 0 < c.metric("citadel_server_root_cert_expiry_seconds") <= 10
    seen = {}

    def done():
        page = c.page("ca")
        seen.setdefault(page["rotation"]["phase"], (page["issuer"][0]["sha256"], len(page["roots"]), time.monotonic()))
        assert c.get("/readyz")[0] == 200
        return page["rotation"]["phase"] == "none" and page["issuer"][0]["sha256"] != old
    wait_until(done, seconds=30)
    assert seen["distribute"][:2] == (old, 2) and seen["drain"][0] != old and seen["drain"][1] == 2
    assert seen["drain"][2] - seen["distribute"][2] >= 0.9
    wait_until(lambda: c.metric("citadel_server_root_cert_expiry_timestamp") > ends)
    assert c.metric('citadel_root_rotation_steps_total{step="sign"}') == 1
    assert c.metric('citadel_root_rotation_phase{phase="none"}') == 1
    assert c.stop() == 0


def test_C02_a_root_is_left_alone_when_it_is_asked_for(tmp_path):
    c = Citadel(tmp_path, "--root-ttl", "3s", "--root-rotation", "manual", "--max-workload-cert-ttl", "1s", "--probe-interval", "200ms")
    before = roots_of(c)
    wait_until(lambda: c.get("/readyz")[0] == 503)  # it has ended, and nothing can be signed
    assert roots_of(c) == before and c.metric("citadel_server_root_cert_expiry_seconds") <= 0
    c.process.send_signal(signal.SIGTERM)
    c.process.wait(10)


def test_N15_replicas_that_share_a_folder_agree(tmp_path):
    one = Citadel(old_root(tmp_path / "a", 12), *QUICK)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/state").symlink_to(one.state)
    two = Citadel(tmp_path / "b", *QUICK)
    old = issuer_of(one)
    assert issuer_of(two) == old
    wait_until(lambda: phase(one) == "none" and phase(two) == "none" and issuer_of(one) != old and issuer_of(two) != old, seconds=30)
    assert roots_of(one) == roots_of(two) == [issuer_of(one)]
    assert one.stop() == 0 and two.stop() == 0


# ---- in a cluster: the Secret


class Keeper:
    """`citadel ca-secret --follow`, as it runs beside each citadel."""

    def __init__(self, folder, name, *options):
        self.out = folder / name
        self.log = open(folder / f"{name}.log", "w+", encoding="utf-8")
        command = [CITADEL, "ca-secret", "--kubeconfig", folder / "config", "--namespace", "istio-system", "--out", self.out, "--follow", "100ms"]
        self.process = subprocess.Popen([*command, *options], stdout=self.log, stderr=self.log)

    def bundle(self):
        path = self.out / "root-cert.pem"
        return path.read_text() if path.exists() else ""

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.log.close()
        return code


def test_N15_of_several_keepers_one_writes_and_all_have_the_same(fake, tmp_path):
    subprocess.run([CITADEL, "ca-secret", "--kubeconfig", tmp_path / "config", "--namespace", "istio-system", "--out", tmp_path / "made",
                    "--root-ttl", "10s"], check=True, capture_output=True)
    first = (tmp_path / "made/root-cert.pem").read_text()
    keepers = [Keeper(tmp_path, f"k{i}", *QUICK[:4]) for i in range(4)]
    wait_until(lambda: all(k.bundle() == first for k in keepers))
    wait_until(lambda: KEY in fake.objects and "rotation.json" in fake.objects[KEY]["data"], seconds=20)
    wait_until(lambda: "rotation.json" not in fake.objects[KEY]["data"], seconds=20)
    wait_until(lambda: len({k.bundle() for k in keepers}) == 1 and keepers[0].bundle().count("BEGIN") == 1 and keepers[0].bundle() != first)
    wait_until(lambda: not any((k.out / "rotation.json").exists() for k in keepers))
    assert [k.stop() for k in keepers] == [0] * 4
    assert len({(k.out / "ca-key.pem").read_bytes() for k in keepers}) == 1
    assert not any((k.out / name).exists() for k in keepers for name in ("next-ca-key.pem", "rotation.json"))
    # start, sign, finish: each was written once, by whoever was first.
    assert [("next-ca-key.pem" in names, "rotation.json" in names) for key, names in fake.puts if key == KEY] == [
        (True, True), (False, True), (False, False)]
    said = "".join((tmp_path / f"k{i}.log").read_text() for i in range(4))
    assert [said.count(f"rotation of the root: {step}") for step in ("start", "sign", "finish")] == [1, 1, 1]


def test_N15_an_operator_rotates_the_root_of_a_cluster(fake, tmp_path):
    where = ("--kubeconfig", tmp_path / "config", "--namespace", "istio-system")
    missing = rotate("status", *where, check=False)
    assert missing.returncode == 1 and "istio-ca-secret" in missing.stderr
    keeper = Keeper(tmp_path, "ca")
    wait_until(lambda: (keeper.out / "root-cert.pem").exists() and (keeper.out / "ca-key.pem").exists())
    (tmp_path / "citadel").mkdir()
    c = Citadel(tmp_path / "citadel", "--ca-dir", keeper.out)
    old = issuer_of(c)
    assert rotate("status", *where).stdout.startswith("phase none, start due at ")
    rotate("start", *where)
    wait_until(lambda: len(roots_of(c)) == 2)
    assert phase(c) == "distribute" and issuer_of(c) == old
    rotate("next", "--now", *where)
    wait_until(lambda: issuer_of(c) != old)
    assert phase(c) == "drain"
    rotate("next", "--now", *where)
    wait_until(lambda: roots_of(c) == [issuer_of(c)])
    assert "next-ca-key.pem" not in fake.objects[KEY]["data"]
    assert c.stop() == 0 and keeper.stop() == 0


def test_N15_a_secret_that_is_deleted_is_not_replaced_by_another_root(fake, tmp_path):
    keeper = Keeper(tmp_path, "ca")
    wait_until(lambda: (keeper.out / "root-cert.pem").exists() and KEY in fake.objects)
    before, saved = keeper.bundle(), fake.objects[KEY]
    made = fake.count("POST ")
    fake.delete(SECRETS, "istio-system", "istio-ca-secret")
    wait_until(lambda: "not found" in (tmp_path / "ca.log").read_text())
    assert keeper.bundle() == before and fake.count("POST ") == made and KEY not in fake.objects
    fake.apply(SECRETS, saved)
    rotate("start", "--kubeconfig", tmp_path / "config", "--namespace", "istio-system")
    wait_until(lambda: keeper.bundle().count("BEGIN") == 2)
    assert keeper.bundle().startswith(before.strip())
    assert keeper.stop() == 0


def test_N15_a_write_that_crosses_another_starts_over(fake, tmp_path):
    where = ("--kubeconfig", tmp_path / "config", "--namespace", "istio-system")
    subprocess.run([CITADEL, "ca-secret", *where, "--out", tmp_path / "ca"], check=True, capture_output=True)
    fake.before_put = lambda: fake.apply(SECRETS, {**fake.objects[KEY], "data": {**fake.objects[KEY]["data"], "note": "bWluZQ=="}})
    rotate("start", *where)
    assert fake.objects[KEY]["data"]["note"] == "bWluZQ==" and "next-ca-key.pem" in fake.objects[KEY]["data"]
    assert fake.count("PUT ") == 2


# ---- plugged in


def ca_files(folder, name):
    """A root with an intermediate."""
    d = folder / name
    d.mkdir()
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *ec, "-keyout", str(d / "root.key"), "-out", str(d / "root.pem"), "-subj", f"/O={name}", "-days", "10")
    openssl("req", "-x509", *ec, "-keyout", str(d / "ca-key.pem"), "-out", str(d / "ca-cert.pem"), "-subj", f"/O={name}/CN=issuer", "-days", "5",
            "-CA", str(d / "root.pem"), "-CAkey", str(d / "root.key"), "-addext", "basicConstraints=critical,CA:TRUE")
    return d


def put(target, issuer, *roots):
    """As the kubelet would: whole files, one after the other."""
    target.mkdir(exist_ok=True)
    files = {"ca-key.pem": (issuer / "ca-key.pem").read_text(), "ca-cert.pem": (issuer / "ca-cert.pem").read_text(),
             "cert-chain.pem": (issuer / "ca-cert.pem").read_text(), "root-cert.pem": "".join((r / "root.pem").read_text() for r in roots)}
    for name, text in files.items():
        (target / ".new").write_text(text)
        os.replace(target / ".new", target / name)


def test_C04_C05_a_plugged_in_ca_changes_by_istios_steps_without_a_restart(tmp_path):
    one, two, target = ca_files(tmp_path, "one"), ca_files(tmp_path, "two"), tmp_path / "cacerts"
    put(target, one, one)
    (tmp_path / "citadel").mkdir()
    c = Citadel(tmp_path / "citadel", "--ca-dir", target, "--root-distribution", "2s")
    old = issuer_of(c)
    put(target, one, one, two)
    wait_until(lambda: len(roots_of(c)) == 2)
    trusted = time.monotonic()
    put(target, two, one, two)
    wait_until(lambda: c.page("ca")["rotation"]["newCaSignsInMs"] > 0)
    assert issuer_of(c) == old
    wait_until(lambda: issuer_of(c) != old)
    assert time.monotonic() - trusted >= 1.9
    put(target, two, two)
    wait_until(lambda: len(roots_of(c)) == 1)
    assert c.metric("citadel_ca_refused_total") == 0
    assert c.stop() == 0


def test_C04_a_new_issuer_with_both_roots_waits_until_everybody_trusts_it(tmp_path):
    one, two, target = ca_files(tmp_path, "one"), ca_files(tmp_path, "two"), tmp_path / "cacerts"
    put(target, one, one)
    (tmp_path / "citadel").mkdir()
    c = Citadel(tmp_path / "citadel", "--ca-dir", target, "--root-distribution", "2s")
    (c.state / "root-cert.pem").write_text((one / "root.pem").read_text())  # for the test's client
    old, request, token = issuer_of(c), csr(tmp_path)[0], c.token()
    put(target, two, one, two)
    wait_until(lambda: len(roots_of(c)) == 2)
    started = time.monotonic()
    assert issuer_of(c) == old
    chain = c.create(request, token)
    assert chain[-1].count("BEGIN") == 2 and verifies([chain[0] + chain[1]], (one / "root.pem").read_text(), tmp_path)
    wait_until(lambda: issuer_of(c) != old)
    assert time.monotonic() - started >= 1.5 and len(roots_of(c)) == 2
    assert c.stop() == 0


def test_C04_a_new_intermediate_of_the_same_root_is_taken_at_once(tmp_path):
    one, target = ca_files(tmp_path, "one"), tmp_path / "cacerts"
    put(target, one, one)
    (tmp_path / "citadel").mkdir()
    c = Citadel(tmp_path / "citadel", "--ca-dir", target, "--root-distribution", "24h")
    old = issuer_of(c)
    again = tmp_path / "again"
    again.mkdir()
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(again / "ca-key.pem"), "-out",
            str(again / "ca-cert.pem"), "-subj", "/O=one/CN=second", "-days", "5", "-CA", str(one / "root.pem"), "-CAkey", str(one / "root.key"),
            "-addext", "basicConstraints=critical,CA:TRUE")
    for _ in range(25):  # one look for all of it
        put(target, again, one)
    wait_until(lambda: issuer_of(c) != old)
    assert len(roots_of(c)) == 1 and c.metric("citadel_ca_refused_total") == 0
    assert 1 <= (tmp_path / "citadel/log").read_text().count("the CA's files changed") <= 5
    (c.state / "root-cert.pem").write_text((one / "root.pem").read_text())  # for the test's client
    chain = c.create(csr(tmp_path)[0], c.token())
    assert verifies([chain[0] + chain[1]], (one / "root.pem").read_text(), tmp_path)
    assert c.stop() == 0


def test_C04_a_root_that_nobody_trusts_yet_is_not_taken(tmp_path):
    one, two, target = ca_files(tmp_path, "one"), ca_files(tmp_path, "two"), tmp_path / "cacerts"
    put(target, one, one)
    (tmp_path / "citadel").mkdir()
    c = Citadel(tmp_path / "citadel", "--ca-dir", target, "--root-distribution", "0")
    old = issuer_of(c)
    put(target, two, two)
    wait_until(lambda: c.page("ca")["rotation"]["refused"] != "")
    assert issuer_of(c) == old and c.metric("citadel_ca_refused_total") >= 1
    assert c.get("/readyz")[0] == 200
    put(target, one, one, two)
    wait_until(lambda: len(roots_of(c)) == 2 and c.page("ca")["rotation"]["refused"] == "")
    put(target, two, one, two)
    wait_until(lambda: issuer_of(c) != old)
    refused = rotate("start", "--state-dir", target, check=False)
    assert refused.returncode == 1 and "not self-signed" in refused.stderr
    assert c.stop() == 0
