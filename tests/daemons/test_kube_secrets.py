"""Secrets that the first of several makes and all others take: the CA of a cluster, and the bus's keys. Against fake_kube.py."""
import os
import pathlib
import subprocess

import pytest

from fake_kube import FakeKube, kubeconfig
from test_citadel import Citadel, csr, openssl

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
SECRETS = "/api/v1/namespaces/istio-system/secrets"


@pytest.fixture
def fake(tmp_path):
    server = FakeKube()
    (tmp_path / "config").write_text(kubeconfig(server.url))
    yield server
    server.close()


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)


def ca_secret(folder, out, *extra):
    return run(BUILD / "citadel/citadel", "ca-secret", "--kubeconfig", folder / "config", "--namespace", "istio-system", "--out", out, *extra)


def bus_keys(folder, *extra):
    return run(BUILD / "cli/fairlead", "bus-keys", "--kubeconfig", folder / "config", "--namespace", "istio-system", *extra)


def test_C01_the_first_replica_makes_the_ca_and_the_others_take_it(fake, tmp_path):
    first, second = ca_secret(tmp_path, tmp_path / "a"), ca_secret(tmp_path, tmp_path / "b")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.startswith("made") and second.stdout.startswith("took")
    for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert "CA:TRUE" in openssl("x509", "-in", str(tmp_path / "a/ca-cert.pem"), "-noout", "-text")


def test_C01_replicas_that_start_together_agree(fake, tmp_path):
    command = [BUILD / "citadel/citadel", "ca-secret", "--kubeconfig", tmp_path / "config", "--namespace", "istio-system", "--out"]
    started = [subprocess.Popen([*command, tmp_path / f"r{i}"], stdout=subprocess.PIPE, text=True) for i in range(6)]
    said = [p.communicate(timeout=60)[0].split()[0] for p in started]
    assert sorted(said) == ["made"] + ["took"] * 5
    assert len({(tmp_path / f"r{i}/ca-key.pem").read_bytes() for i in range(6)}) == 1


def test_C03_citadel_signs_with_what_the_command_left(fake, tmp_path):
    assert ca_secret(tmp_path, tmp_path / "ca").returncode == 0
    (tmp_path / "citadel").mkdir()
    citadel = Citadel(tmp_path / "citadel", "--ca-dir", tmp_path / "ca")
    try:
        (citadel.state / "root-cert.pem").write_bytes((tmp_path / "ca/root-cert.pem").read_bytes())  # for the test's client
        chain = citadel.create(csr(tmp_path)[0], citadel.token())
        assert chain[-1] == (tmp_path / "ca/root-cert.pem").read_text()
    finally:
        assert citadel.stop() == 0


def test_an_api_server_on_its_way_up_is_waited_for(fake, tmp_path):
    fake.refuse(503, "starting", 3)
    assert ca_secret(tmp_path, tmp_path / "a").returncode == 0


def test_what_may_not_be_read_is_an_error_that_names_the_secret(fake, tmp_path):
    fake.refuse(403, "secrets is forbidden: you cannot get it", 1)
    result = ca_secret(tmp_path, tmp_path / "a")
    assert result.returncode == 1
    assert "Secret istio-system/istio-ca-secret" in result.stderr and "cannot get it" in result.stderr


def test_an_api_server_that_stays_away_is_an_error_in_time(fake, tmp_path):
    fake.refuse(503, "for ever", 1000)
    result = ca_secret(tmp_path, tmp_path / "a", "--timeout", "1s")
    assert result.returncode == 1 and "for ever" in result.stderr


def test_the_bus_keys_are_made_once_and_survive_an_upgrade(fake, tmp_path):
    first, second = bus_keys(tmp_path, "--secret", "fairlead-bus"), bus_keys(tmp_path, "--secret", "fairlead-bus", "--out", tmp_path / "keys")
    assert first.returncode == 0 and "made" in first.stdout
    assert second.returncode == 0 and "already" in second.stdout
    held = fake.objects[SECRETS, "istio-system/fairlead-bus"]["data"]
    assert {f"{role}.{kind}" for role in ("galley", "pilot", "citadel", "cli") for kind in ("key", "pub")} <= set(held)
    assert len((tmp_path / "keys/pilot.key").read_text()) == 40


def test_bus_keys_in_a_folder(tmp_path):
    result = run(BUILD / "cli/fairlead", "bus-keys", "--out", tmp_path / "k")
    assert result.returncode == 0
    key = (tmp_path / "k/galley.key").read_text()
    assert run(BUILD / "cli/fairlead", "bus-keys", "--out", tmp_path / "k").returncode == 0
    assert (tmp_path / "k/galley.key").read_text() == key


def test_bus_keys_need_a_place():
    result = run(BUILD / "cli/fairlead", "bus-keys")
    assert result.returncode == 2 and "--out or --secret" in result.stderr
