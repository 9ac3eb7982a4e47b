"""Golden files of pilot: base.yaml and <case>.in.yaml go through galley and pilot for one proxy. <case>.want.<type>.json holds the
resources that differ from what base.yaml alone gives (base/plain and gateway/plain hold those), and the names of those that are gone.

`pytest tests/golden/test_pilot.py --update` writes the wanted files anew and deletes those whose case is gone.
Cases of the folder gateway are seen by gateway.node.json, all others by sidecar.node.json, or by <case>.node.json.
"""
import functools
import json
import os
import pathlib
import subprocess

import pytest

import envoy_accept

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
FOLDER = HERE / "pilot"
CASES = sorted(FOLDER.glob("*/*.in.yaml"))
TYPES = ("cds", "eds", "lds", "rds")
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
RUNNER = BUILD / "tests/golden/pilot_golden"


def stem(case):
    return case.name.removesuffix(".in.yaml")


def node_of(case):
    own = case.with_name(stem(case) + ".node.json")
    kind = "gateway" if case.parent.name == "gateway" else "sidecar"
    return own if own.exists() else FOLDER / f"{kind}.node.json"


def render(node, *files):
    result = subprocess.run([RUNNER, node, *files], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)


def name_of(resource):
    return resource.get("clusterName") or resource["name"]


@functools.cache
def plain(node):
    return render(node, FOLDER / "base.yaml")


def difference(case, kind, got):
    """Resources that are new or other than without the case, then the names that are gone."""
    if stem(case) == "plain":
        return got
    before = {name_of(r): r for r in plain(node_of(case))[kind]}
    gone = sorted(set(before) - {name_of(r) for r in got})
    return [r for r in got if before.get(name_of(r)) != r] + ([{"gone": gone}] if gone else [])


def wanted(case, kind):
    return case.with_name(f"{stem(case)}.want.{kind}.json")


def case_id(case):
    return f"{case.parent.name}-{stem(case)}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_P01_P24_golden(case, request):
    got = render(node_of(case), FOLDER / "base.yaml", case)
    for kind in TYPES:
        text = json.dumps(difference(case, kind, got[kind]), indent=1) + "\n"
        if request.config.getoption("--update"):
            wanted(case, kind).write_text(text)
        assert text == wanted(case, kind).read_text(), kind


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_real_envoy_accepts_it(case):
    envoy = envoy_accept.envoy_path()
    assert envoy, "no Envoy: set FAIRLEAD_ENVOY"
    assert envoy_accept.accept(render(node_of(case), FOLDER / "base.yaml", case), envoy) is None


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_no_case_is_refused_by_galley(case):
    out = subprocess.run([BUILD / "tests/golden/galley_golden", FOLDER / "base.yaml", case], capture_output=True, text=True,
                         check=True).stdout
    assert ": error: " not in out


@pytest.mark.parametrize("node", ["sidecar", "gateway"])
def test_a_real_envoy_accepts_the_samples(node):
    files = sorted((ROOT / "samples/bookinfo").glob("**/*.yaml"))
    assert len(files) > 5
    rendered = render(FOLDER / f"{node}.node.json", *files)
    assert envoy_accept.accept(rendered, envoy_accept.envoy_path()) is None


def test_no_wanted_file_without_its_case(request):
    have = {wanted(c, k) for c in CASES for k in TYPES}
    orphans = [p for p in FOLDER.glob("*/*.want.*") if p not in have]
    if request.config.getoption("--update"):
        for path in orphans:
            path.unlink()
        orphans = []
    assert not orphans
