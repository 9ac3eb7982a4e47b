"""The documents are true: their examples run, their links lead somewhere, and the tables that repeat something of the code agree with it.

A fenced block whose language is `sh` is an example: all of a page's blocks run in order, in one shell that stops at the first error,
from the root of the checkout, with $DIR an empty folder.
"""
import os
import pathlib
import re
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
PAGES = sorted(p for p in subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True,
                                         check=True).stdout.split("\n") if p)
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks(page, language):
    return [body for info, body in FENCE.findall((ROOT / page).read_text()) if info.strip() == language]


def test_there_are_examples():
    assert sum(len(blocks(p, "sh")) for p in PAGES) >= 5


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "sh")])
def test_examples_run(page, tmp_path):
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks(page, "sh"))
    script = script.replace("build/gcc/", f"{BUILD}/")
    shell = subprocess.Popen(["bash", "-c", script], cwd=ROOT, env=dict(os.environ, DIR=str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, start_new_session=True)
    try:
        said = shell.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGTERM)
        said = "not done after 120 s\n" + shell.communicate()[0]
    assert shell.returncode == 0, said[-6000:]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def mentioned_paths(text):
    """Paths of the tree that a page names in code spans: those that begin with a folder of ours and are no pattern."""
    for span in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"(agent|citadel|cli|common|docs|galley|pilot|protos|samples|tests|tools)/[\w./-]*[\w/]", span):
            yield span


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("docs/") or "/" not in p])
def test_files_that_are_named_exist(page):
    for path in mentioned_paths(FENCE.sub("", (ROOT / page).read_text())):
        assert (ROOT / path).exists() or list(ROOT.glob(path.rstrip("/") + "*")), f"{page}: {path}"


def test_every_default_address_stands_in_the_ports_page():
    ports = (ROOT / "docs/PORTS.md").read_text()
    for daemon in ("galley", "pilot", "citadel", "agent"):
        text = subprocess.run([BUILD / daemon / daemon, "--help"], capture_output=True, text=True, check=True).stdout
        found = re.findall(r"--([\w-]*address)=\S+.*\(default ((?:[\d.]+|\*):\d+)\)", text)
        assert found, daemon
        for option, address in found:
            assert f"`{address}`" in ports, f"{daemon} --{option}: {address}"


def test_every_library_stands_in_the_architecture_page():
    page = (ROOT / "docs/ARCHITECTURE.md").read_text().lower()
    names = {"libprotobuf-c": "protobuf-c", "yaml-0.1": "libyaml"}
    for name in re.findall(r"dependency\('([^']+)'\)", (ROOT / "meson.build").read_text()):
        if name != "threads":
            assert names.get(name, name).removeprefix("lib") in page, name
