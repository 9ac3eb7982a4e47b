"""Checks who includes whom: the architecture's layers, as a table. `tools/layers.py` prints each violation and exits 1 when there is one."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Folder -> folders of this project that its files may include (itself always). Generated headers (protos) are named by "protos".
MAY = {
    "common/base": set(),
    "common/pb": {"common/base", "protos"},
    "common/mesh": {"common/base", "common/pb", "protos"},
    "common/re": {"common/base"},
    "common/p256": {"common/base"},
    "common/gcm": {"common/base"},
    "common/pki": {"common/base", "common/p256"},
    "common/io": {"common/base"},
    "common/bus": {"common/base", "common/io", "common/pb", "common/mesh", "protos"},
    "common/daemon": {"common/base", "common/io", "common/pb"},
    "common/identity": {"common/base", "common/io", "common/pb", "common/pki", "protos"},
    "common/kube": {"common/base", "common/io", "common/pb"},
    "galley": {"common", "protos"},
    "pilot": {"common", "protos"},
    "citadel": {"common", "protos"},
    "agent": {"common", "protos"},
    "cli": {"common", "protos"},
    # Inside the daemons: what is pure stays pure, and the order model < translate < features holds.
    "galley/kinds": {"common/base", "common/pb", "common/mesh", "common/pki", "common/re", "protos", "galley/checks", "galley/kind.h", "galley/kinds.h"},
    "galley/analyze": {"common/base", "common/pb", "common/mesh", "protos", "galley/checks", "galley/object.h",
                       "galley/discovery/discovery.h"},
    "galley/checks": {"common/base", "common/pb", "common/mesh", "common/re", "protos"},
    "pilot/model": {"common/base", "common/pb", "common/mesh", "common/bus", "protos"},
    "pilot/translate": {"common/base", "common/pb", "common/mesh", "protos", "pilot/model", "pilot/features", "pilot/xds/types.h"},
    "pilot/features": {"common/base", "common/pb", "common/mesh", "protos", "pilot/model", "pilot/translate"},
}
# The command line validates with galley's library, renders with pilot's and runs the machine-local mesh: it may use their public headers.
EXTRA = {"cli": {"galley/galley.h", "galley/webhook/inject.h", "pilot/pilot.h", "citadel/citadel.h", "agent/agent.h"}}
PURE = ("galley/kinds", "galley/checks", "galley/analyze", "pilot/translate", "pilot/features")
IMPURE_HEADERS = {"common/base/clock.h", "common/base/log.h", "common/base/metric.h"}
GENERATED = re.compile(r"^(wkt|xds|cfg|bus|ca|kube)/.*\.pb-c\.h$|^protos/")


def folder_of(path):
    """The most specific row that a path belongs to."""
    best = ""
    for row in MAY:
        if (path == row or path.startswith(row + "/")) and len(row) > len(best):
            best = row
    return best


def allowed(source, target):
    row = folder_of(source)
    if target.startswith(row + "/"):
        return True
    names = MAY[row] | EXTRA.get(row, set())
    if GENERATED.match(target):
        return "protos" in names
    return any(target == n or target.startswith(n + "/") for n in names)


def violations():
    files = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.cc"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for path in files:
        if not folder_of(path):
            continue
        for number, line in enumerate(open(os.path.join(ROOT, path), encoding="utf-8"), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            target = m.group(1)
            if not allowed(path, target):
                found.append(f"{path}:{number}: {folder_of(path)} may not include {target}")
            if path.startswith(PURE) and target in IMPURE_HEADERS:
                found.append(f"{path}:{number}: {folder_of(path)} is pure and may not include {target}")
    return found


if __name__ == "__main__":
    problems = violations()
    print("\n".join(problems) if problems else "layers: fine")
    sys.exit(1 if problems else 0)
