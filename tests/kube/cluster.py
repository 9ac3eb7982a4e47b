"""A real control plane for tests: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of the test run.

On loopback with ports that are free, or in a network namespace. Every process is a child that the kernel ends when the test run ends, however that
happens; stop() ends them by process id and waits.
"""
import ctypes
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import toolbox
from api import Api, Refused
from pki import Authority, signing_pair

sys.path.insert(0, str(toolbox.ROOT / "tests/mesh"))
from util import until  # noqa: E402

CLUSTER_SUBNET, SERVICE_SUBNET = "10.244.0.0/16", "10.96.0.0/16"
FIRST_SERVICE, NODE_ADDRESS = "10.96.0.1", "10.250.0.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"
CLONE_NEWNET = 0x40000000


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def enter_network(pid):
    """Moves the calling thread into the network of a process."""
    with open(f"/proc/{pid}/ns/net", "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"the network of process {pid} cannot be entered")


def connector(pid):
    """socket.create_connection in the network of a process: a socket stays where it was made."""
    def connect(address, timeout=None):
        made = []

        def inside():
            try:
                enter_network(pid)
                made.append(socket.create_connection(address, timeout))
            except OSError as error:
                made.append(error)
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]
    return connect


class Program:
    """One process with its log."""

    def __init__(self, name, folder, argv, env=None):
        self.name, self.argv, self.env, self.process = name, [str(a) for a in argv], env, None
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        self.start()

    def start(self):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={**os.environ, **(self.env or {})}, start_new_session=True)

    def log(self, last=3000):
        return self.log_path.read_text(errors="replace")[-last:]

    def running(self):
        """Raises what no wait for a condition catches: waiting longer does not help."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=15):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()


class ControlPlane:
    """`inside`: a Namespace (tests/daemons/netns.py), whose node address then is the server's."""

    def __init__(self, folder, inside=None):
        self.folder, self.inside = pathlib.Path(folder), inside
        self.kk = toolbox.tool("kk")
        self.host = NODE_ADDRESS if inside else "127.0.0.1"
        self.port, self.etcd_port, self.peer_port, *self.other_ports = free_ports(5)
        self.programs = {}
        self._make_credentials()
        connect = connector(inside.holder.pid) if inside else socket.create_connection
        self.api = Api(self.host, self.port, self.ca.certificate, certificate=self.admin, connect=connect)
        self.kubeconfig = self.api.kubeconfig(self.folder / "kubeconfig", self.admin)

    def _make_credentials(self):
        folder = self.folder / "pki"
        folder.mkdir()
        self.ca, self.front = Authority(folder, "ca"), Authority(folder, "front-proxy-ca")
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        addresses = ["127.0.0.1", FIRST_SERVICE, NODE_ADDRESS]
        self.serving = self.ca.issue("apiserver", "/CN=kube-apiserver", "serverAuth", [f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses])
        self.proxying = self.front.issue("front-proxy", "/CN=front-proxy-client")
        self.admin = self.ca.issue("admin", "/O=system:masters/CN=admin")
        self.users = {name: self.ca.issue(name, subject) for name, subject in (
            ("to-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"), ("controllers", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"), ("kubelet", "/O=system:nodes/CN=system:node:node1"))}
        self.signing = signing_pair(folder, "service-accounts")

    def client_config(self, user):
        """A kubeconfig of one of the cluster's own users."""
        path = self.folder / f"{user}.conf"
        return Api(self.host, self.port, self.ca.certificate).kubeconfig(path, self.users[user])

    def run(self, name, *argv, env=None):
        prefix = self.inside.enter() if self.inside else []
        self.programs[name] = Program(name, self.folder, [*prefix, *argv], env)
        return self.programs[name]

    # ---- start

    def start(self):
        self._start_etcd()
        self._start_server()
        self._start_others()
        until(lambda: self.api.exists("ServiceAccount", "default", "default"), 60, "the service account default")
        return self

    def _start_etcd(self):
        client, peer = (f"http://127.0.0.1:{p}" for p in (self.etcd_port, self.peer_port))
        self.run("etcd", self.kk, "etcd", "--name", "one", "--data-dir", self.folder / "etcd", "--listen-client-urls", client,
                 "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}",
                 "--unsafe-no-fsync")

    def _start_server(self):
        certificate, key = self.serving
        options = {
            "etcd-servers": f"http://127.0.0.1:{self.etcd_port}", "bind-address": "0.0.0.0" if self.inside else "127.0.0.1",
            "advertise-address": NODE_ADDRESS, "secure-port": self.port, "endpoint-reconciler-type": "lease" if self.inside else "none",
            "tls-cert-file": certificate, "tls-private-key-file": key, "client-ca-file": self.ca.certificate, "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction", "anonymous-auth": "false", "service-account-issuer": ISSUER,
            "service-account-key-file": self.signing[1], "service-account-signing-key-file": self.signing[0],
            "service-cluster-ip-range": SERVICE_SUBNET, "requestheader-client-ca-file": self.front.certificate,
            "requestheader-allowed-names": "front-proxy-client", "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group", "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": self.proxying[0], "proxy-client-key-file": self.proxying[1],
            "kubelet-client-certificate": self.users["to-kubelet"][0], "kubelet-client-key": self.users["to-kubelet"][1],
            "kubelet-preferred-address-types": "InternalIP", "allow-privileged": "true", "profiling": "false",
            "max-requests-inflight": 800, "max-mutating-requests-inflight": 400}
        self.run("kube-apiserver", self.kk, "kube-apiserver", *(f"--{k}={v}" for k, v in options.items()))
        self.wait_served()

    def wait_served(self):
        def served():
            self.programs["etcd"].running()
            self.programs["kube-apiserver"].running()
            try:
                return self.api.send("GET", "/readyz", accept="*/*") == "ok"
            except Refused:
                return False
        until(served, 120, "the API server ready", every=0.1)

    def _start_others(self):
        for name, user, port, options in (
                ("kube-controller-manager", "controllers", self.other_ports[0], {
                    "use-service-account-credentials": "true", "service-account-private-key-file": self.signing[0],
                    "root-ca-file": self.ca.certificate, "cluster-signing-cert-file": self.ca.certificate, "cluster-signing-key-file": self.ca.key,
                    "allocate-node-cidrs": "true", "cluster-cidr": CLUSTER_SUBNET, "service-cluster-ip-range": SERVICE_SUBNET,
                    "requestheader-client-ca-file": self.front.certificate, "client-ca-file": self.ca.certificate}),
                ("kube-scheduler", "scheduler", self.other_ports[1], {})):
            config = self.client_config(user)
            common = {"kubeconfig": config, "authentication-kubeconfig": config, "authorization-kubeconfig": config, "bind-address": "127.0.0.1",
                      "secure-port": port, "leader-elect": "false", "profiling": "false"}
            self.run(name, self.kk, name, *(f"--{k}={v}" for k, v in {**common, **options}.items()))

    # ---- use

    def kubectl(self, *arguments, stdin=None, ok=True, kubeconfig=None):
        prefix = self.inside.enter() if self.inside else []
        done = subprocess.run([*prefix, self.kk, "kubectl", "--kubeconfig", kubeconfig or self.kubeconfig, *map(str, arguments)], input=stdin,
                              capture_output=True, text=True, timeout=120, check=False)
        assert ok is None or (done.returncode == 0) == ok, f"kubectl {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done.stdout + ("" if ok else done.stderr)

    def namespace(self, name, **labels):
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        until(lambda: self.api.exists("ServiceAccount", "default", name), what=f"the service account of {name}")
        return name

    def restart_server(self, down=None):
        """Stops the API server, calls down(), and starts it again."""
        self.programs["kube-apiserver"].stop()
        self.api.close()
        if down:
            down()
        self.programs["kube-apiserver"].start()
        self.wait_served()

    def compact(self):
        """Drops everything in etcd before now, so that old watches cannot be continued."""
        connection = self.inside.enter() if self.inside else []
        base = f"http://127.0.0.1:{self.etcd_port}/v3/kv"

        def ask(what, body):
            done = subprocess.run([*connection, "curl", "-sf", "-X", "POST", "-d", body, f"{base}/{what}"], capture_output=True, text=True, check=True)
            return done.stdout
        revision = json.loads(ask("range", '{"key":"AA==","range_end":"AA==","keys_only":true,"limit":1}'))["header"]["revision"]
        ask("compaction", json.dumps({"revision": revision, "physical": True}))

    def stop(self):
        self.api.close()
        for name in reversed(list(self.programs)):
            self.programs[name].stop()
