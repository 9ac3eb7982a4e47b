"""Golden files of the analysis: what `fairlead analyze --verdicts <case>.in.yaml` says must be <case>.want.txt.

`pytest tests/golden/test_analyze.py --update` writes the wanted files anew and deletes those whose case is gone.
"""
import json
import os
import pathlib
import re
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
FOLDER = HERE / "analyze"
CASES = sorted(FOLDER.glob("*.in.yaml"))
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
CODES = dict(re.findall(r"^ANALYSIS\((IST\d+), (\w+),", (ROOT / "galley/analyze/codes.def").read_text(), re.M))


def analyze(case, *options):
    result = subprocess.run([BUILD / "cli/fairlead", "analyze", *options, case.name], cwd=case.parent, capture_output=True, text=True,
                            check=False)
    assert result.returncode in (0, 1), result.stderr[-2000:]
    return result


def wanted(case):
    return case.with_name(case.name.replace(".in.yaml", ".want.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name.removesuffix(".in.yaml"))
def test_golden(case, request):
    got = analyze(case, "--verdicts").stdout
    if request.config.getoption("--update"):
        wanted(case).write_text(got)
    assert got == wanted(case).read_text()


def test_no_wanted_file_without_its_case(request):
    have = {wanted(c) for c in CASES}
    orphans = [p for p in FOLDER.glob("*.want.*") if p not in have]
    if request.config.getoption("--update"):
        for path in orphans:
            path.unlink()
        orphans = []
    assert not orphans


@pytest.mark.parametrize("code", sorted(CODES))
def test_each_code_has_a_case_that_shows_it(code):
    messages = json.loads(analyze(FOLDER / f"{code}.in.yaml", "-o", "json").stdout)["messages"]
    own = [m for m in messages if m["rule"] == code]
    assert own and {m["severity"].upper() for m in own} == {CODES[code]}
    assert all(m["object"] and m["file"] and m["line"] and m["text"] for m in own)


def test_the_exit_code_says_whether_there_is_an_error():
    assert analyze(FOLDER / "IST0101.in.yaml").returncode == 1
    assert analyze(FOLDER / "IST0133.in.yaml").returncode == 0


def test_N05_every_rule_has_a_verdict():
    for case in CASES:
        got = json.loads(analyze(case, "-o", "json").stdout)["verdicts"]
        rules = [(v["object"], v["rule"]) for v in got]
        assert len(rules) == len(set(rules))
        for v in got:
            assert v["verdict"] in ("live", "shadowed", "never matches")
            assert bool(v["winner"]) == (v["verdict"] == "shadowed"), v
            assert bool(v["why"]) == (v["verdict"] != "live"), v


def test_what_is_found_in_the_samples_is_true():
    """Bookinfo has no ratings-v2, and its gateway's Service maps port 80 to the 8080 that the Gateway names."""
    folder = ROOT / "samples/bookinfo"
    assert len(list(folder.rglob("*.yaml"))) > 5
    result = subprocess.run([BUILD / "cli/fairlead", "analyze", "-o", "json", folder], capture_output=True, text=True, check=False)
    messages = json.loads(result.stdout)["messages"]
    assert sorted((m["rule"], m["object"]) for m in messages) == [
        ("IST0162", "Gateway default/bookinfo-gateway"), ("IST0173", "DestinationRule default/ratings")]
