"""Checks sizes: functions up to 60 lines, files up to 600, headers up to 120; tables and .def files are exempt.

Files that are over a limit today stand in tools/limits.allowed with their size; they may only shrink (a ratchet). `--update` rewrites
that file, but only downwards.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ALLOWED = os.path.join(ROOT, "tools/limits.allowed")
FUNCTION, FILE, HEADER = 60, 600, 120


def functions(lines):
    """(name, first line, length) of each function: a body that opens with '{' in column 0 after a line that is not a declaration of data."""
    start = name = None
    previous = ""
    for number, line in enumerate(lines, 1):
        if line.startswith("{") and "(" in previous_block(lines, number):
            start, name = number, previous_block(lines, number)
        elif line.startswith("}") and start:
            yield name, start, number - start + 1
            start = None
        previous = line
    del previous


def previous_block(lines, number):
    """The text between the last blank or closing line and the '{' at `number`."""
    text = []
    for line in reversed(lines[:number - 1]):
        if not line.strip() or line.startswith(("}", "#", "/*", " *")):
            break
        text.append(line.strip())
    return " ".join(reversed(text))


def measure():
    found = {}
    files = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.cc"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in files:
        lines = open(os.path.join(ROOT, path), encoding="utf-8").read().split("\n")
        limit = HEADER if path.endswith(".h") else FILE
        if len(lines) - 1 > limit:
            found[path] = len(lines) - 1
        for name, _, length in functions(lines):
            if length > FUNCTION:
                short = re.sub(r"\(.*", "", name).split()[-1].lstrip("*") if "(" in name else name
                found[f"{path}:{short}"] = length
    return found


def read_allowed():
    if not os.path.exists(ALLOWED):
        return {}
    return {k: int(v) for k, v in (line.split() for line in open(ALLOWED) if line.strip() and not line.startswith("#"))}


def main():
    now, allowed = measure(), read_allowed()
    if "--update" in sys.argv:
        with open(ALLOWED, "w") as out:
            out.write("# What is over a limit, and by how much it may be; entries only shrink (tools/limits.py --update).\n")
            for key in sorted(now):
                out.write(f"{key} {min(now[key], allowed.get(key, now[key]))}\n")
        return 0
    problems = [f"{key}: {size} lines, allowed {allowed.get(key, 'none over the limit')}" for key, size in sorted(now.items())
                if size > allowed.get(key, 0)]
    print("\n".join(problems) if problems else "limits: fine")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
