"""Many services and pods without a machine for them: kwok plays nodes and kubelets, the cluster's own controllers make EndpointSlices of the pods."""
import pathlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import toolbox
from api import Api
from cluster import until

NAMESPACE, WRITERS = "fleet", 6
STAGES = ("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml", "pod/fast/pod-ready.yaml",
          "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml")


def stage_files():
    """kwok's own stages, which come with its module."""
    folder = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"], cwd=toolbox.MODULE, capture_output=True, text=True,
                            check=True).stdout.strip()
    return [pathlib.Path(folder) / "kustomize/stage" / name for name in STAGES]


def node_of(index):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"fake-{index}", "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": {
        "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": f"z{index % 3}", "type": "kwok"}},
        "status": {"allocatable": {"cpu": "1000", "memory": "1000Gi", "pods": "10000"}, "capacity": {"cpu": "1000", "memory": "1000Gi", "pods": "10000"}}}


def pod_of(service, index, nodes):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"s{service:04}-{index}", "namespace": NAMESPACE, "labels": {"app": f"s{service:04}"}},
            "spec": {"nodeName": f"fake-{(service + index) % nodes}", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}],
                     "terminationGracePeriodSeconds": 0}}


def service_of(service):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{service:04}", "namespace": NAMESPACE},
            "spec": {"selector": {"app": f"s{service:04}"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}


class Fleet:
    """`services` services with `each` pods; make() returns when the pods run and every service has its slices."""

    def __init__(self, plane, services=1000, each=5, nodes=10):
        self.plane, self.services, self.each, self.nodes = plane, services, each, nodes

    def start_kwok(self):
        configs = [argument for path in stage_files() for argument in ("--config", path)]
        self.plane.run("kwok", toolbox.tool("kwok"), "--kubeconfig", self.plane.kubeconfig, "--manage-nodes-with-label-selector", "type=kwok",
                       "--node-lease-duration-seconds", 120, *configs)

    def create(self, objects):
        """By several connections at once."""
        def work(part):
            api = Api(self.plane.host, self.plane.port, self.plane.ca.certificate, certificate=self.plane.admin, connect=self.plane.api.connect)
            for obj in part:
                api.create(obj)
            api.close()
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(work, [objects[i::WRITERS] for i in range(WRITERS)]))

    def running(self):
        pods = self.plane.api.list("Pod", NAMESPACE, fieldSelector="status.phase=Running", resourceVersion=0)
        return len(pods)

    def make(self):
        self.plane.namespace(NAMESPACE)
        self.start_kwok()
        self.create([node_of(i) for i in range(self.nodes)])
        self.create([pod_of(s, i, self.nodes) for s in range(self.services) for i in range(self.each)])
        until(lambda: self.running() == self.services * self.each, 240, "all pods running", every=1)
        self.create([service_of(s) for s in range(self.services)])
        until(lambda: len(self.plane.api.list("EndpointSlice", NAMESPACE, "discovery.k8s.io/v1", resourceVersion=0)) >= self.services, 240,
              "an EndpointSlice for each service", every=1)
