#!/usr/bin/env python3
"""Makes the images of Fairlead without a container engine and without a registry.

    images/images.py --build build/gcc --envoy "$(tools/envoy-path)" --hub docker.io/fairlead --tag 0.1.0 --out DIR [NAME...]

writes DIR/<NAME>.tar, which `docker load`, `podman load` and `ctr images import` take. `--root DIR NAME` only makes the file system, for the
Containerfile, whose images are the same. The same input gives the same bytes.
"""
import argparse
import hashlib
import io
import json
import os
import pathlib
import platform
import tarfile
import tempfile

from root import Root

# name -> what is in it: (program, its place in the build folder), the first one is what the image runs; and as whom.
IMAGES = {
    "galley": {"programs": [("galley", "galley/galley"), ("fairlead", "cli/fairlead")], "user": "1338:1338"},
    "pilot": {"programs": [("pilot", "pilot/pilot")], "user": "1338:1338"},
    "citadel": {"programs": [("citadel", "citadel/citadel")], "user": "1338:1338"},
    "proxy": {"programs": [("agent", "agent/agent")], "envoy": True, "user": "1337:1337"},
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def make_root(name, folder, build, envoy):
    root = Root(folder)
    for program, place in IMAGES[name]["programs"]:
        root.program(pathlib.Path(build) / place, program)
    if IMAGES[name].get("envoy"):
        root.program(envoy, "envoy")
    return root.finish()


def layer_of(folder):
    """The folder as one tar: sorted, owned by root, without times."""
    def plain(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(pathlib.Path(folder).iterdir()):
            tar.add(path, arcname=path.name, filter=plain)
    return out.getvalue()


def archive(folder, reference, target, entrypoint, user, environment=()):
    """A `docker save` archive of one layer."""
    layer = layer_of(folder)
    digest = hashlib.sha256(layer).hexdigest()
    config = {"architecture": ARCHITECTURES[platform.machine()], "os": "linux",
              "config": {"Entrypoint": list(entrypoint), "User": user, "Env": ["PATH=/usr/bin", *environment], "WorkingDir": "/"},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}, "history": [{"created_by": "images/images.py"}]}
    text = json.dumps(config, sort_keys=True).encode()
    name = hashlib.sha256(text).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(f"{target}.new", "w") as tar:
        for member, content in ((name, text), (f"{digest}/layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    os.rename(f"{target}.new", target)


def make_image(name, build, envoy, hub, tag, out):
    with tempfile.TemporaryDirectory() as folder:
        make_root(name, folder, build, envoy)
        archive(folder, f"{hub}/fairlead-{name}:{tag}", pathlib.Path(out) / f"{name}.tar", [f"/usr/bin/{IMAGES[name]['programs'][0][0]}"],
                IMAGES[name]["user"])


def main():
    parser = argparse.ArgumentParser(description="Makes Fairlead's images without a container engine.")
    parser.add_argument("--build", default="build/gcc", help="where the programs were built")
    parser.add_argument("--envoy", help="Envoy's program, for the image proxy (tools/envoy-path)")
    parser.add_argument("--hub", default="docker.io/fairlead")
    parser.add_argument("--tag", default="0.1.0")
    parser.add_argument("--out", help="folder for the archives")
    parser.add_argument("--root", help="make only the file system of one image, in this folder")
    parser.add_argument("names", nargs="*", default=list(IMAGES), metavar="NAME", help=", ".join(IMAGES))
    args = parser.parse_args()
    unknown = set(args.names) - set(IMAGES)
    if unknown or bool(args.root) == bool(args.out) or (args.root and len(args.names) != 1):
        parser.error(f"no image {', '.join(unknown)}" if unknown else "--out DIR, or --root DIR with one NAME")
    if "proxy" in args.names and not args.envoy:
        parser.error("the image proxy needs --envoy")
    if args.root:
        make_root(args.names[0], args.root, args.build, args.envoy)
        return
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    for name in args.names:
        make_image(name, args.build, args.envoy, args.hub, args.tag, args.out)
        print(pathlib.Path(args.out) / f"{name}.tar")


if __name__ == "__main__":
    main()
