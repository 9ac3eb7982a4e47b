"""A real node: containerd, kubelet, kube-proxy and CoreDNS in a network namespace with a control plane of its own; images without a registry.

Everything is made in that namespace and one folder; stop() ends the containers, unmounts what they had, and removes what kubelet and containerd leave
behind outside of the folder. Facts of such machines: runc may not lower oom scores (restrict_oom_score_adj); containers' networks are namespaces that
containerd makes in /run/netns.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import toolbox
from cluster import CLUSTER_SUBNET, NODE_ADDRESS, SERVICE_SUBNET, ControlPlane, enter_network, until

sys.path.insert(0, str(toolbox.ROOT / "tests/daemons"))
sys.path.insert(0, str(toolbox.ROOT / "images"))
import images  # noqa: E402
from netns import Namespace  # noqa: E402
from root import Root  # noqa: E402

DNS_ADDRESS, PODS = "10.96.0.10", "10.244.0.0/24"
PAUSE = "docker.io/local/pause:1"
PROGRAMS = ("containerd", "runc", "ctr", "ip", "nft", "conntrack", "ipset", "nsenter")
LEFT_BEHIND = ("/var/log/containers",)


def why_not():
    """Why this machine cannot run a node; empty when it can."""
    if os.getuid() != 0:
        return "a node needs root"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or not os.path.isdir("/usr/lib/cni"):
        return f"not installed: {', '.join(missing) or 'the network plugins in /usr/lib/cni'}"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        return "no network namespace may be made"
    if not os.path.exists("/dev/kmsg"):
        return "there is no /dev/kmsg, which kubelet reads"
    if not any(os.access(p, os.W_OK) for p in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cgroup.subtree_control")):
        return "no control groups may be made"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("lower", "upper", "work", "at"):
            os.mkdir(f"{folder}/{name}")
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        if subprocess.run(["mount", "-t", "overlay", "-o", options, "none", f"{folder}/at"], capture_output=True, check=False).returncode:
            return "no overlay may be mounted"
        subprocess.run(["umount", f"{folder}/at"], check=True)
    return ""


CONTAINERD = """version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""

COREFILE = """.:53 {{
  bind {address}
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5
}}
"""


def network_plugins(folder):
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "dataDir": f"{folder}/cni-addresses", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}}]}


def kubelet_settings(folder, authority):
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": False, "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/", "enforceNodeAllocatable": [], "failSwapOn": False, "address": NODE_ADDRESS,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "Webhook"}, "clusterDNS": [DNS_ADDRESS], "clusterDomain": "cluster.local", "resolvConf": f"{folder}/resolv.conf",
        "podLogsDir": f"{folder}/pod-logs", "volumePluginDir": f"{folder}/volume-plugins", "serverTLSBootstrap": False, "staticPodPath": "",
        # Nothing is evicted or collected because of how full the machine's disk is.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "syncFrequency": "10s", "fileCheckFrequency": "20s",
        "allowedUnsafeSysctls": ["net.ipv4.ip_unprivileged_port_start"], "maxPods": 110}


def proxy_settings(kubeconfig):
    return {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "bindAddress": NODE_ADDRESS, "mode": "nftables",
            "clusterCIDR": CLUSTER_SUBNET, "hostnameOverride": "node1", "clientConnection": {"kubeconfig": str(kubeconfig)},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "metricsBindAddress": "127.0.0.1:10249", "healthzBindAddress": "127.0.0.1:10256"}


class Node(ControlPlane):
    """A control plane with one node, node1."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.networks_before = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
        self.left_before = {path for path in LEFT_BEHIND if os.path.exists(path)}
        self.image_folder = self.folder / "images"
        namespace = Namespace()
        for command in (["ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", "lo"], ["ip", "address", "add", f"{DNS_ADDRESS}/32", "dev", "lo"],
                        ["ip", "route", "add", SERVICE_SUBNET, "dev", "lo", "src", NODE_ADDRESS], ["sysctl", "-qw", "net.ipv4.ip_forward=1"]):
            namespace.run(*command)
        super().__init__(folder, namespace)

    def start(self):
        super().start()
        self._start_containerd()
        self._import_pause()
        self._start_kubelet()
        self._start_dns()
        until(self._ready, 90, "the node ready")
        return self

    def _start_containerd(self):
        (self.folder / "cni").mkdir()
        (self.folder / "cni/10-pods.conflist").write_text(json.dumps(network_plugins(self.folder)))
        (self.folder / "containerd.toml").write_text(CONTAINERD.format(folder=self.folder, pause=PAUSE))
        self.run("containerd", "containerd", "-c", self.folder / "containerd.toml")
        until(lambda: self.programs["containerd"].running() and self.ctr("version", ok=None) is not None, 30, "containerd serving")

    def _start_kubelet(self):
        (self.folder / "resolv.conf").touch()
        for name, content in (("kubelet", kubelet_settings(self.folder, self.ca.certificate)), ("proxy", proxy_settings(self.kubeconfig))):
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        self.run("kubelet", self.kk, "kubelet", "--config", self.folder / "kubelet.json", "--kubeconfig", self.client_config("kubelet"), "--root-dir",
                 self.folder / "kubelet", "--cert-dir", self.folder / "kubelet-pki", "--hostname-override", "node1", "--node-ip", NODE_ADDRESS)
        self.run("kube-proxy", self.kk, "kube-proxy", "--config", self.folder / "proxy.json")

    def _start_dns(self):
        """CoreDNS as a process on the node's loopback: its address is where kubelet sends pods."""
        (self.folder / "Corefile").write_text(COREFILE.format(address=DNS_ADDRESS, kubeconfig=self.kubeconfig))
        self.run("coredns", toolbox.tool("coredns"), "-conf", self.folder / "Corefile")

    def _ready(self):
        for name in ("containerd", "kubelet", "kube-proxy", "coredns"):
            self.programs[name].running()
        node = self.api.exists("Node", "node1")
        return node and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))

    # ---- images

    def ctr(self, *arguments, ok=True):
        done = subprocess.run(["ctr", "-a", self.folder / "containerd.sock", "-n", "k8s.io", *map(str, arguments)], capture_output=True, text=True,
                              timeout=120, check=False)
        assert ok is not True or done.returncode == 0, f"ctr {arguments}: {done.stderr}"
        return done.stdout if done.returncode == 0 else None

    def import_image(self, path):
        self.ctr("images", "import", path)
        path.unlink()

    def _import_pause(self):
        """The container that holds a pod's network: busybox, asleep."""
        self.image_folder.mkdir()
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy("/bin/busybox", f"{folder}/busybox")
            images.archive(folder, PAUSE, self.image_folder / "pause.tar", ["/busybox", "sleep", "2147483647"], "65534:65534")
        self.import_image(self.image_folder / "pause.tar")

    def import_fairlead(self, build, envoy, tag, hub="docker.io/fairlead"):
        for name in images.IMAGES:
            images.make_image(name, build, envoy, hub, tag, self.image_folder)
            self.import_image(self.image_folder / f"{name}.tar")

    def import_python(self, reference, source):
        """An image with python3 and a folder of programs, for applications."""
        with tempfile.TemporaryDirectory() as folder:
            root = Root(folder)
            version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            interpreter = os.path.realpath("/usr/bin/python3")
            root.needs(interpreter)
            root.place(interpreter, "/usr/bin/python3")
            root.system_folder(f"/usr/lib/{version}")
            for extension in pathlib.Path(f"/usr/lib/{version}/lib-dynload").glob("*.so"):
                root.needs(extension)
            shutil.copytree(source, pathlib.Path(folder) / "app", ignore=shutil.ignore_patterns("__pycache__"))
            images.archive(folder, reference, self.image_folder / "app.tar", ["/usr/bin/python3"], "1000:1000", ["PYTHONDONTWRITEBYTECODE=1"])
        self.import_image(self.image_folder / "app.tar")

    # ---- use

    def enter(self):
        """Moves the calling thread into the node's network."""
        enter_network(self.inside.holder.pid)

    # ---- end

    def stop(self):
        for name in ("kube-proxy", "coredns", "kubelet"):
            if name in self.programs:
                self.programs[name].stop()
        if "containerd" in self.programs:
            self._end_containers()
            self.programs["containerd"].stop()
        super().stop()
        self._clean()
        self.inside.close()

    def _end_containers(self):
        for task in (self.ctr("tasks", "ls", "-q", ok=None) or "").split():
            self.ctr("tasks", "kill", "-s", "9", task, ok=None)
        for task in (self.ctr("containers", "ls", "-q", ok=None) or "").split():
            self.ctr("tasks", "delete", "-f", task, ok=None)
            self.ctr("containers", "delete", task, ok=None)

    def _clean(self):
        mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        for name in set(os.listdir("/run/netns") if os.path.isdir("/run/netns") else []) - self.networks_before:
            if name.startswith("cni-"):
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        for top in pathlib.Path("/sys/fs/cgroup").glob("**/kubepods"):
            for place, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(place)
                except OSError:
                    continue
        for path in LEFT_BEHIND:
            if path not in self.left_before:
                shutil.rmtree(path, ignore_errors=True)
