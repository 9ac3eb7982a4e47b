"""Golden files of galley: <case>.in.yaml goes through galley, what comes out must be <case>.want.txt.

`pytest tests/golden/test_galley.py --update` writes the wanted files anew and deletes those whose case is gone.
"""
import os
import pathlib
import re
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
CASES = sorted((HERE / "galley").glob("*/*.in.yaml"))
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
RUNNER = BUILD / "tests/golden/galley_golden"


def run(case):
    result = subprocess.run([RUNNER, case], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def wanted(case):
    return case.with_name(case.name.replace(".in.yaml", ".want.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.parent.name}-{c.name.removesuffix('.in.yaml')}")
def test_G01_G02_golden(case, request):
    got = run(case)
    if request.config.getoption("--update"):
        wanted(case).write_text(got)
    assert got == wanted(case).read_text()


def test_no_wanted_file_without_its_case(request):
    have = {wanted(c) for c in CASES}
    orphans = [p for p in (HERE / "galley").glob("*/*.want.txt") if p not in have]
    if request.config.getoption("--update"):
        for path in orphans:
            path.unlink()
        orphans = []
    assert not orphans


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("accepted")], ids=lambda c: c.parent.name)
def test_G01_accepted_cases_have_no_diagnostic(case):
    first = [line for line in run(case).splitlines() if "[not-applied]" not in line][:1]
    assert not first or not re.search(r": (error|warning): ", first[0]), first


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("rejected")], ids=lambda c: c.parent.name)
def test_G01_every_rejected_object_has_an_error(case):
    """In a file named rejected, every document is there to be refused."""
    text = case.read_text()
    names = re.findall(r"^  name: (\S+)$", text, re.M)
    out = run(case)
    refused = set(re.findall(r": error: \w+ (?:[\w-]*/)?([\w.-]+):", out))
    assert set(names) <= refused, sorted(set(names) - refused)


def test_G01_every_rule_is_shown_by_a_case():
    """Each rule id in the source appears in some wanted file."""
    ids = set()
    for path in (ROOT / "galley").glob("**/*.c"):
        ids |= set(re.findall(r'check_(?:error|warn)\(\s*\w+,\s*"([\w-]+)"', path.read_text()))
        ids |= set(re.findall(r'DIAG_(?:ERROR|WARNING), "([\w-]+)"', path.read_text()))
    shown = set()
    for path in [*(HERE / "galley").glob("*/*.want.txt"), *(HERE / "inject").glob("*.want.yaml")]:
        shown |= set(re.findall(r"\[([\w-]+)\](?: \(|$)", path.read_text(), re.M))
    assert ids, "the pattern finds no rules any more"
    # Two files are needed for a duplicate object: tests/unit/galley/test_pipeline.c.
    assert sorted(ids - shown - {"duplicate-object"}) == []


def test_G11_samples_have_no_diagnostic():
    files = sorted((ROOT / "samples/bookinfo").glob("**/*.yaml"))
    assert len(files) > 5
    result = subprocess.run([RUNNER, *files], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert not re.search(r": (error|warning): ", result.stdout)
    for service in ("productpage", "details", "reviews", "ratings"):
        assert f"\nendpoints default/{service}.default.svc.cluster.local\n" in result.stdout
