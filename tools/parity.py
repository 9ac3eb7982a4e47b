"""Writes docs/PARITY.md from the feature rows (tools/features.tsv) and the tests that carry a row's id in their names.

A test proves a row when its name holds the id: `def test_P04_...` or `test_x_P04_...` in Python, `P04_...(void **` in C, a golden case
file or folder named `P04-...`. `tools/parity.py --check` fails when docs/PARITY.md is not what would be written, or when a test names a
row that does not exist.
"""
import os
import re
import subprocess
import sys
from collections import defaultdict

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "docs/PARITY.md")
ID = re.compile(r"(?<![A-Za-z0-9])([PCSGATOXNI]\d{2,3})(?=[_\-.]|$)")


def features():
    rows = []
    for line in open(os.path.join(ROOT, "tools/features.tsv"), encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            rows.append(line.rstrip("\n").split("\t"))
    return rows


def test_names():
    """(id, where) of every test that names a row."""
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "tests"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for path in sorted(filter(None, files)):
        full = os.path.join(ROOT, path)
        if path.endswith(".py"):
            names = re.findall(r"^\s*(?:async )?def (test_\w+)", open(full, encoding="utf-8").read(), re.M)
        elif path.endswith(".c"):
            names = re.findall(r"^static void (\w+)\(void \*\*", open(full, encoding="utf-8").read(), re.M)
        elif ".in." in os.path.basename(path):
            names = [os.path.basename(path).split(".in.")[0]]
        else:
            continue
        for name in names:
            for feature in ID.findall(name.replace("test_", "", 1).replace("_", "-") + "-"):
                yield feature, f"{path}: {name}"


def render():
    proofs = defaultdict(list)
    for feature, where in test_names():
        proofs[feature].append(where)
    rows = features()
    unknown = sorted(set(proofs) - {r[0] for r in rows})
    lines = ["# Feature parity", "",
             "Made by tools/parity.py from tools/features.tsv and the names of the tests. A row without a test is not claimed.", "",
             f"{sum(1 for r in rows if proofs.get(r[0]))} of {len(rows)} rows have at least one test.", ""]
    area = None
    for feature, where, text in rows:
        if where != area:
            area = where
            lines += ["", f"## {area}", "", "| row | capability | tests |", "|---|---|---|"]
        tests = "<br>".join(f"`{t}`" for t in proofs.get(feature, [])[:6])
        more = len(proofs.get(feature, [])) - 6
        lines.append(f"| {feature} | {text.replace('|', chr(92) + '|')} | {tests + (f' and {more} more' if more > 0 else '') or 'none yet'} |")
    return "\n".join(lines) + "\n", unknown


def main():
    text, unknown = render()
    if unknown:
        print("tests name rows that do not exist: " + ", ".join(unknown))
        return 1
    if "--check" in sys.argv:
        current = open(OUT, encoding="utf-8").read() if os.path.exists(OUT) else ""
        if current != text:
            print("docs/PARITY.md is not current: run tools/parity.py")
            return 1
        return 0
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    open(OUT, "w", encoding="utf-8").write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
