"""The images that images/images.py makes without an engine: what is in them, that their programs start with nothing else, and that the Containerfile agrees."""
import json
import os
import re
import subprocess
import tarfile

import pytest

import toolbox
from conftest import daemons
from node import images

CONTAINERFILE = (toolbox.ROOT / "images/Containerfile").read_text()


def envoy():
    return subprocess.run([toolbox.ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", params=sorted(images.IMAGES))
def image(request, tmp_path_factory):
    """(name, manifest, configuration, the root's members by name, a folder with the root)"""
    folder = tmp_path_factory.mktemp("image")
    images.make_image(request.param, daemons.util.BUILD, envoy(), "registry.example/fairlead", "1", folder)
    with tarfile.open(folder / f"{request.param}.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(manifest["Config"]))
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            members = {m.name: m for m in layer.getmembers()}
            layer.extractall(folder / "root")
    (folder / "root").chmod(0o755)
    folder.chmod(0o755)
    return request.param, manifest, config, members, folder / "root"


def test_an_image_runs_one_program_as_nobody_special(image):
    name, manifest, config, members, _ = image
    assert manifest["RepoTags"] == [f"registry.example/fairlead/fairlead-{name}:1"]
    program, = config["config"]["Entrypoint"]
    assert program.removeprefix("/") in members and members[program.removeprefix("/")].mode == 0o755
    assert re.fullmatch(r"13(37|38):13(37|38)", config["config"]["User"])


def test_no_shell_no_package_manager_and_nothing_for_root(image):
    members = image[3]
    programs = {n.split("/")[-1] for n, m in members.items() if m.isfile() and m.mode & 0o111 and "/bin/" in n}
    assert programs == {p for p, _ in images.IMAGES[image[0]]["programs"]} | ({"envoy"} if image[0] == "proxy" else set())
    assert not [n for n, m in members.items() if m.mode & 0o6000], "no program may take another user's rights"
    assert all(m.uid == m.gid == m.mtime == 0 for m in members.values())


def test_it_says_which_packages_it_is_made_of(image):
    found = {n.split("/")[-1] for n in image[3] if n.startswith("var/lib/dpkg/status.d/")}
    assert {"libc6", "libjansson4"} <= found


def test_the_containerfile_makes_the_same(image):
    name, _, config, _, _ = image
    stage = re.search(rf"^FROM scratch AS {name}\n(.*?)(?=^FROM|\Z)", CONTAINERFILE, re.M | re.S).group(1)
    assert f"COPY --from=build /root-of/{name} /" in stage
    assert f"USER {config['config']['User']}\n" in stage
    assert json.loads(re.search(r"ENTRYPOINT (.*)", stage).group(1)) == config["config"]["Entrypoint"]
    assert set(re.findall(r"^FROM scratch AS (\w+)", CONTAINERFILE, re.M)) == set(images.IMAGES)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change its root")
def test_the_programs_start_with_nothing_else(image):
    name, root = image[0], image[4]
    for program in [p for p, _ in images.IMAGES[name]["programs"]] + (["envoy"] if name == "proxy" else []):
        done = subprocess.run(["chroot", "--userspec=1338:1338", root, f"/usr/bin/{program}", "--version"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr), done.stderr


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        images.make_image("citadel", daemons.util.BUILD, None, "h", "1", tmp_path / folder)
    assert (tmp_path / "a/citadel.tar").read_bytes() == (tmp_path / "b/citadel.tar").read_bytes()


@pytest.mark.parametrize("arguments,told", [
    (["--out", "/tmp/x", "nothing"], "no image nothing"), (["--root", "/tmp/x"], "--root DIR with one NAME"), (["galley"], "--out DIR"),
    (["--out", "/tmp/x", "proxy"], "needs --envoy"),
])
def test_wrong_usage_is_said(arguments, told):
    done = subprocess.run([toolbox.ROOT / "images/images.py", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and told in done.stderr
