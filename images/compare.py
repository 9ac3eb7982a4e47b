#!/usr/bin/env python3
"""Builds images/Containerfile with buildah and compares its images with those of images.py: files, owners, modes, user, entrypoint, environment.

    images/compare.py --build build/gcc --envoy "$(tools/envoy-path)" --folder DIR [--ca FILE...] [NAME...]

For a release, as root, on Debian with `apt-get install buildah debootstrap` (a quarter of an hour, 10 GB): neither needs an engine, a registry or a
kernel that lets a container nest. The base image is made by debootstrap, with --ca in its trust store where a proxy ends TLS. DIR keeps what was
made for the next run; remove it afterwards.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import images

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = "docker.io/library/debian:bookworm"  # what the Containerfile begins with
TYPES = {0o040000: tarfile.DIRTYPE, 0o100000: tarfile.REGTYPE, 0o120000: tarfile.SYMTYPE}


class Buildah:
    """Everything in one folder; chroot isolation and plain copies for layers work wherever root does."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.command = ["buildah", "--root", self.folder / "store", "--runroot", self.folder / "run", "--storage-driver", "vfs"]

    def __call__(self, *arguments, quiet=True):
        done = subprocess.run([*self.command, *arguments], stdout=subprocess.PIPE if quiet else None, text=True, check=True)
        return (done.stdout or "").strip()

    def build(self, file, context, tag, *options):
        self("build", "--isolation", "chroot", "--pull=never", "--layers", "-f", file, "-t", tag, *options, context, quiet=False)

    def exists(self, reference):
        return subprocess.run([*self.command, "inspect", "--type", "image", reference], capture_output=True, check=False).returncode == 0

    def make_base(self, authorities):
        root, file = self.folder / "base", self.folder / "Base"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=True)
        trusted = root / "usr/local/share/ca-certificates"
        trusted.mkdir(parents=True)
        for authority in authorities:
            shutil.copy(authority, trusted)
        file.write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
        self.build(file, root, BASE)
        shutil.rmtree(root)

    def content(self, reference):
        """(configuration, files) of an image."""
        config = json.loads(self("inspect", "--type", "image", reference))["OCIv1"]["config"]
        container = self("from", "--pull-never", reference)
        try:
            top = pathlib.Path(self("mount", container))
            return config, {str(path.relative_to(top)): described(path) for path in top.rglob("*")}
        finally:
            self("rm", container)


def described(path):
    s = path.lstat()
    return TYPES[s.st_mode & 0o170000], s.st_mode & 0o7777, s.st_uid, s.st_gid, os.readlink(path) if path.is_symlink() else ""


def made_without_engine(name, build, envoy):
    with tempfile.TemporaryDirectory() as folder:
        images.make_image(name, build, envoy, "h", "1", folder)
        with tarfile.open(f"{folder}/{name}.tar") as archive:
            manifest = json.load(archive.extractfile("manifest.json"))[0]
            config = json.load(archive.extractfile(manifest["Config"]))["config"]
            with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
                return config, {m.name: (m.type, m.mode, m.uid, m.gid, m.linkname) for m in layer.getmembers()}


def differences(by_file, by_script):
    """Lines; buildah's label of its own version and a working directory of / mean nothing."""
    (theirs, their_files), (ours, our_files) = by_file, by_script
    meaningless = {"WorkingDir": "/"}
    theirs = {k: v for k, v in theirs.items() if meaningless.get(k) != v and set(v) != {"io.buildah.version"}}
    ours = {k: v for k, v in ours.items() if meaningless.get(k) != v}
    for key in sorted(set(theirs) | set(ours)):
        if theirs.get(key) != ours.get(key):
            yield f"{key}: {theirs.get(key)} of the Containerfile, {ours.get(key)} of images.py"
    for file in sorted(set(their_files) | set(our_files)):
        if their_files.get(file) != our_files.get(file):
            yield f"/{file}: {their_files.get(file)} of the Containerfile, {our_files.get(file)} of images.py"


def main():
    parser = argparse.ArgumentParser(description="Builds images/Containerfile with buildah and compares its images with those of images.py.")
    parser.add_argument("--build", default="build/gcc", help="where the programs were built, for images.py")
    parser.add_argument("--envoy", required=True, help="Envoy's program (tools/envoy-path)")
    parser.add_argument("--folder", required=True, help="where everything is kept")
    parser.add_argument("--ca", nargs="*", default=[], help="certificates that the base image trusts besides (.crt)")
    parser.add_argument("names", nargs="*", default=list(images.IMAGES), metavar="NAME", help=", ".join(images.IMAGES))
    args = parser.parse_args()
    missing = [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]
    if missing or os.getuid() != 0:
        parser.error(f"not installed: {', '.join(missing)}" if missing else "only root may make a root file system")
    pathlib.Path(args.folder).mkdir(parents=True, exist_ok=True)
    buildah, failed = Buildah(args.folder), False
    if not buildah.exists(BASE):
        buildah.make_base(args.ca)
    for name in args.names:
        tag = f"localhost/fairlead-{name}:compared"
        buildah.build(ROOT / "images/Containerfile", ROOT, tag, "--target", name)
        found = list(differences(buildah.content(tag), made_without_engine(name, args.build, args.envoy)))
        print("\n".join(f"{name}: {line}" for line in found) or f"{name}: the same", flush=True)
        failed = failed or bool(found)
    sys.exit(failed)


if __name__ == "__main__":
    main()
