"""Network namespaces for tests: made as root, or as nobody inside a user namespace, where only one user id exists."""
import os
import subprocess


class Namespace:
    """A network namespace, kept alive by a process in it; inside another one's user namespace where that has one."""

    def __init__(self, inside=None, user=False):
        command = ["unshare", "-n"]
        if user:
            nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.getuid() == 0 else []
            command = [*nobody, "unshare", "-Urn"]
        # It says when it is there, and ends with its input.
        command += ["sh", "-c", "echo here; exec cat"]
        self.user = user or bool(inside and inside.user)
        self.holder = subprocess.Popen(
            [*(inside.enter() if inside else []), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "here\n"
        self.run("ip", "link", "set", "lo", "up")

    def enter(self):
        return ["nsenter", "-t", str(self.holder.pid), *(["-U"] if self.user else []), "-n"]

    def run(self, *command, check=True):
        done = subprocess.run([*self.enter(), *map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done if not check else done.stdout

    def start(self, *command, **named):
        return subprocess.Popen([*self.enter(), *map(str, command)], text=True, **named)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(10)


def connect(a, b, host, *ends):
    """A pair of interfaces between two namespaces; host makes them and may enter both. ends: addresses of a, addresses of b."""
    host.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
    for name, ns, addresses in (("va", a, ends[0]), ("vb", b, ends[1])):
        host.run("ip", "link", "set", name, "netns", ns.holder.pid)
        for address in addresses:
            ns.run("ip", "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        ns.run("ip", "link", "set", name, "up")
