"""The file system of an image: programs, the shared libraries that they load, and what the C library wants to find. No shell, no package manager.

Everything but our own programs comes from installed Debian packages, which are listed in the image in the way that scanners read
(/var/lib/dpkg/status.d, as distroless images do).
"""
import os
import pathlib
import re
import shutil
import subprocess

PASSWD = "root:x:0:0:root:/root:/usr/sbin/nologin\nfairlead:x:1338:1338:Fairlead:/var/lib/fairlead:/usr/sbin/nologin\n" \
         "istio-proxy:x:1337:1337:proxy:/etc/istio/proxy:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nfairlead:x:1338:\nistio-proxy:x:1337:\nnogroup:x:65534:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
# Where something may be written at run time; a pod mounts its own volumes there, since the root is read-only.
EMPTY = ("tmp", "proc", "sys", "dev", "run", "var/run", "var/lib/fairlead", "etc/istio/proxy", "var/lib/istio/data")
SYSTEM = ("/etc/ssl/certs/ca-certificates.crt",)


def libraries(program):
    """The files that the dynamic loader maps for a program, the loader itself among them."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    missing = re.findall(r"(\S+) => not found", text)
    assert not missing, f"{program} needs {', '.join(missing)}"
    return re.findall(r"(?:=> )?(/\S+) \(0x", text)


class Root:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.from_packages = set()
        for name in EMPTY:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").chmod(0o1777)
        for name, text in (("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH)):
            (self.folder / name).write_text(text)
        for file in SYSTEM:
            if os.path.exists(file):
                self.system_file(file)

    def place(self, source, target):
        target = self.folder / str(target).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(os.path.realpath(source), target)
        return target

    def system_file(self, path):
        """A file of the machine under the same name; links are followed, so that it is one file."""
        self.from_packages.add(os.path.realpath(path))
        return self.place(path, path)

    def system_folder(self, path):
        self.from_packages.add(os.path.realpath(path))
        shutil.copytree(path, self.folder / path.lstrip("/"), symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "test", "*.a"))

    def needs(self, program):
        for library in libraries(program):
            self.system_file(library)

    def program(self, source, name=None):
        """One of ours: stripped, into /usr/bin, with the libraries it needs."""
        self.needs(source)
        target = self.place(source, f"usr/bin/{name or pathlib.Path(source).name}")
        target.chmod(0o755)
        subprocess.run(["strip", "--strip-unneeded", target], check=True)

    def finish(self):
        """Writes down which packages the system's files are of."""
        found = subprocess.run(["dpkg-query", "-S", *sorted(self.candidates())], capture_output=True, text=True, check=False).stdout
        packages = sorted({name.strip() for line in found.splitlines() for name in line.rpartition(": ")[0].split(",")})
        status = self.folder / "var/lib/dpkg/status.d"
        status.mkdir(parents=True)
        for package in packages:
            text = subprocess.run(["dpkg-query", "-s", package], capture_output=True, text=True, check=True).stdout
            (status / package.split(":")[0]).write_text(text)
        return packages

    def candidates(self):
        """Since /lib became /usr/lib, a package may know its file by either name."""
        for path in self.from_packages:
            yield path
            yield path.removeprefix("/usr")
