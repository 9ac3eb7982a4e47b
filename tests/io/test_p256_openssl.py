"""The P-256 seam against the openssl command: what one signs the other verifies, both ways, and both agree on secrets."""

import hashlib
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build" / "gcc")) / "tests" / "io" / "p256_tool"
# SEC 1 key without and with its public part, and SubjectPublicKeyInfo, of P-256: DER up to where the numbers begin.
KEY_HEAD = bytes.fromhex("30310201010420")
KEY_TAIL = bytes.fromhex("a00a06082a8648ce3d030107")
SPKI_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")


def tool(*args):
    done = subprocess.run([TOOL, *args], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else None


def openssl(*args, text=None):
    return subprocess.run(["openssl", *args], input=text, capture_output=True, check=True).stdout


@pytest.fixture
def ours(tmp_path):
    """A key pair of the seam's: hex, and files that openssl reads."""
    key, point = tool("generate")
    (tmp_path / "ours.key").write_bytes(KEY_HEAD + bytes.fromhex(key) + KEY_TAIL)
    (tmp_path / "ours.pub").write_bytes(SPKI_HEAD + bytes.fromhex(point))
    return key, point, tmp_path / "ours.key", tmp_path / "ours.pub"


@pytest.fixture
def theirs(tmp_path):
    """A key pair of openssl's."""
    path, public = tmp_path / "theirs.key", tmp_path / "theirs.pub"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-outform", "DER", "-out", path)
    openssl("ec", "-inform", "DER", "-in", path, "-pubout", "-outform", "DER", "-out", public)
    der = path.read_bytes()
    assert der[5:7] == b"\x04\x20" and public.read_bytes().startswith(SPKI_HEAD)
    return der[7:39].hex(), public.read_bytes()[len(SPKI_HEAD) :].hex(), path, public


def test_openssl_finds_the_same_public_key(ours):
    der = openssl("ec", "-inform", "DER", "-in", ours[2], "-pubout", "-outform", "DER")
    assert der == SPKI_HEAD + bytes.fromhex(ours[1])


@pytest.mark.parametrize("message", [b"", b"a", b"certificate" * 100])
def test_openssl_verifies_what_we_sign(ours, tmp_path, message):
    digest = hashlib.sha256(message)
    (signature,) = tool("sign", ours[0], digest.hexdigest())
    (tmp_path / "sig").write_bytes(bytes.fromhex(signature))
    (tmp_path / "hash").write_bytes(digest.digest())
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", ours[3], "-in", tmp_path / "hash", "-sigfile", tmp_path / "sig"]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    (tmp_path / "hash").write_bytes(hashlib.sha256(message + b"!").digest())
    assert subprocess.run(verify, capture_output=True).returncode != 0


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_we_verify_what_openssl_signs(theirs, tmp_path, digest):
    for i in range(8):  # enough for signatures of several lengths
        message = b"message %d" % i
        signature = openssl("dgst", "-" + digest, "-sign", theirs[2], "-keyform", "DER", text=message).hex()
        want = hashlib.new(digest, message).hexdigest()
        assert tool("verify", theirs[1], want, signature) == ["valid"]
        assert tool("verify", theirs[1], hashlib.new(digest, b"other").hexdigest(), signature) == ["invalid"]
        assert tool("verify", theirs[1], want, signature + "00") == ["invalid"]


def test_both_agree_on_a_secret(ours, theirs):
    one = openssl("pkeyutl", "-derive", "-keyform", "DER", "-inkey", theirs[2], "-peerform", "DER", "-peerkey", ours[3]).hex()
    two = openssl("pkeyutl", "-derive", "-keyform", "DER", "-inkey", ours[2], "-peerform", "DER", "-peerkey", theirs[3]).hex()
    assert tool("agree", ours[0], theirs[1]) == tool("agree", theirs[0], ours[1]) == [one] == [two]


def test_points_off_the_curve_are_refused_by_both(ours, theirs, tmp_path):
    bad = bytearray.fromhex(ours[1])
    bad[-1] ^= 1
    assert tool("agree", theirs[0], bad.hex()) is None
    (tmp_path / "bad").write_bytes(SPKI_HEAD + bad)
    derive = ["openssl", "pkeyutl", "-derive", "-keyform", "DER", "-inkey", theirs[2], "-peerform", "DER", "-peerkey", tmp_path / "bad"]
    assert subprocess.run(derive, capture_output=True).returncode != 0
