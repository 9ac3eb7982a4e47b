"""Builds the programs of a Kubernetes cluster from Go modules (kk/), once: they stay in build/tools.

`python3 tests/kube/toolbox.py [NAME...]` builds what is missing and says how long it takes. Everything cold is about 1,000 seconds of processor time
and 5 GB of Go's caches; with warm caches it is seconds. A program's file name holds a hash of what it is built from, so a change builds anew.
"""
import fcntl
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "tests/kube/kk"
TOOLS = ROOT / "build/tools"


def version_of(module):
    return re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(), re.M).group(1)


def linker_flags(name):
    """What a release build tells its programs about themselves. Without it helm believes in a cluster older than any that we support."""
    kubernetes = version_of("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    values = {"kk": [(f"{package}.{key}", value) for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
                     for key, value in (("gitVersion", kubernetes), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean"),
                                        ("gitCommit", "go-module"))],
              "helm": [("helm.sh/helm/v3/internal/version.version", version_of("helm.sh/helm/v3"))]
              + [(f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}", value) for package in ("chartutil", "lint/rules")
                 for part, value in (("Major", major), ("Minor", minor))]}
    return " ".join(["-s -w", *(f"-X {key}={value}" for key, value in values.get(name, []))])


PACKAGES = {"helm": "helm.sh/helm/v3/cmd/helm", "kk": ".", "coredns": "./coredns", "kwok": "sigs.k8s.io/kwok/cmd/kwok"}


def path_of(name):
    content = hashlib.sha256(linker_flags(name).encode())
    for file in ("go.mod", "go.sum", "main.go" if name == "kk" else "", "coredns/main.go" if name == "coredns" else ""):
        if file:
            content.update((MODULE / file).read_bytes())
    return TOOLS / f"{name}-{content.hexdigest()[:12]}"


def build(name, path):
    start = time.monotonic()
    print(f"building {name} from its Go module: minutes the first time, seconds with Go's caches", file=sys.stderr, flush=True)
    for old in TOOLS.glob(f"{name}-*"):
        old.unlink()
    subprocess.run(["go", "build", "-trimpath", "-ldflags", linker_flags(name), "-o", f"{path}.new", PACKAGES[name]], cwd=MODULE,
                   env=dict(os.environ, CGO_ENABLED="0"), check=True)
    os.rename(f"{path}.new", path)
    print(f"built {name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def tool(name):
    """The program's path; waits for another process that is building it."""
    path = path_of(name)
    if not path.exists():
        TOOLS.mkdir(parents=True, exist_ok=True)
        with open(TOOLS / f"{name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                build(name, path)
    return path


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PACKAGES:
        tool(wanted)
