"""The project's own checks, run as tests: layers, sizes, parity page, formatting; and that the checks can fail."""
import importlib.util
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(ROOT, "tools", f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layers_hold():
    assert load("layers").violations() == []


def test_layers_finds_a_wrong_include():
    layers = load("layers")
    assert not layers.allowed("pilot/translate/cds.c", "common/io/grpc.h")
    assert not layers.allowed("galley/main.c", "pilot/pilot.h")
    assert layers.allowed("pilot/translate/cds.c", "xds/cluster.pb-c.h")


def test_sizes_hold():
    result = subprocess.run([sys.executable, "tools/limits.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_sizes_measure_a_long_function():
    limits = load("limits")
    body = ["static int f(int a)", "{"] + ["\ta++;"] * 80 + ["}"]
    assert [(length > limits.FUNCTION) for _, _, length in limits.functions(body)] == [True]


def test_parity_page_is_current():
    result = subprocess.run([sys.executable, "tools/parity.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_formatting_is_what_clang_format_says():
    files = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    result = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]


def test_no_words_of_unfinished_work_or_machine_paths():
    result = subprocess.run(["git", "grep", "-nIE", r"\b(TODO|FIXME|XXX)\b|/work/|/opt/env0|/tmp/fl", "--", ":!tests/tools/test_tools.py", ":!tools/limits.py"],
                            cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout == ""


UNSTEADY = """
import pathlib
HERE = pathlib.Path(__file__).parent

def test_good():
    pass

def test_bad():
    assert False

def test_now_and_then():
    (HERE / "count").open("a").write("x")
    assert len((HERE / "count").read_text()) > 1
"""


def suite(folder, text, **options):
    """A suite of one file, which is run."""
    runner = load("run_tests")
    runner.built.add("gcc")
    folder.mkdir()
    (folder / "test_it.py").write_text(text)
    found = runner.Pytest(str(folder), **options)
    return found, found.run()


def test_what_fails_once_under_load_is_run_again_and_named(tmp_path):
    live, counts = suite(tmp_path / "live", UNSTEADY, live=True)
    assert counts == (2, 1) and [name.rpartition(".")[2] for name in live.unsteady] == ["test_now_and_then"]
    other, counts = suite(tmp_path / "other", UNSTEADY)
    assert counts == (1, 2) and not other.unsteady, "only where processes are live"
    many, counts = suite(tmp_path / "many", UNSTEADY + "".join(f"\ndef test_bad_{n}():\n    assert False\n" for n in range(3)), live=True)
    assert counts == (1, 5) and not many.unsteady, "many failures are no accident"
