"""Random edits of a configuration directory: what people and deployments do to Services, Pods and routing, in any order.

Files hold JSON, which is YAML. The same seed gives the same edits.
"""
import json
import random

SUBSETS = ["v1", "v2", "v3", "canary"]


class Edits:
    def __init__(self, folder, seed):
        self.folder, self.random = folder, random.Random(seed)
        self.services, self.pods, self.subsets = {}, {}, {}
        self.done = []
        self.verbs = [self.service, self.service_gone, self.pod, self.pod, self.pod_gone, self.pod_ready, self.route, self.route, self.route,
                      self.route_gone, self.subset, self.subset, self.subset_gone, self.external, self.external_gone, self.strictness,
                      self.mesh, self.broken]

    def step(self):
        verb = self.random.choice(self.verbs)
        verb()
        self.done.append(verb.__name__)

    def write(self, name, *objects):
        """In place, as an editor does; galley must cope with what it reads meanwhile."""
        text = "\n---\n".join(json.dumps(o, indent=1) for o in objects)
        (self.folder / f"edit-{name}.yaml").write_text(text + "\n")

    def remove(self, name):
        (self.folder / f"edit-{name}.yaml").unlink(missing_ok=True)

    def some(self):
        return f"shop{self.random.randrange(6)}"

    def host(self):
        return self.random.choice(sorted(self.services) + ["reviews", "ratings", "details"])

    @staticmethod
    def of(kind, name, spec, version="networking.istio.io/v1", **metadata):
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default", **metadata}, "spec": spec}

    # ---- services and pods

    def service(self):
        name, number = self.some(), self.random.randrange(250)
        ports = [{"name": self.random.choice(["http", "http-web", "tcp", "grpc", "web", "https"]), "port": self.random.choice([80, 9080, 9090]),
                  "targetPort": 9080}]
        if self.random.random() < 0.3:
            ports.append({"name": "tcp-more", "port": 7000, "targetPort": 7000})
        self.services[name] = number
        self.write(f"service-{name}", self.of("Service", name, {"clusterIP": f"10.96.7.{hash_byte(name)}", "selector": {"app": name},
                                                              "ports": ports}, "v1"))

    def service_gone(self):
        name = self.some()
        self.services.pop(name, None)
        self.remove(f"service-{name}")

    def pod(self, ready=None):
        app = self.some()
        number = self.random.randrange(4)
        name = f"{app}-{number}"
        self.pods[name] = (app, number)
        self.write_pod(name, self.random.choice(SUBSETS), "True")

    def write_pod(self, name, version, ready):
        app, number = self.pods[name]
        labels = {"app": app, "version": version}
        if self.random.random() < 0.7:
            labels["security.istio.io/tlsMode"] = "istio"
        pod = self.of("Pod", name, {"serviceAccountName": f"bookinfo-{app}", "containers": [{"name": "c", "ports": [{"containerPort": 9080}]}]},
                      "v1", labels=labels)
        pod["status"] = {"phase": "Running", "podIP": f"10.88.7.{hash_byte(app) // 4 * 4 + number + 1}",
                         "conditions": [{"type": "Ready", "status": ready}]}
        self.write(f"pod-{name}", pod)

    def pod_gone(self):
        if self.pods:
            name = self.random.choice(sorted(self.pods))
            del self.pods[name]
            self.remove(f"pod-{name}")

    def pod_ready(self):
        if self.pods:
            self.write_pod(self.random.choice(sorted(self.pods)), self.random.choice(SUBSETS), self.random.choice(["True", "False"]))

    # ---- routing

    def destinations(self, host):
        names = self.random.sample(SUBSETS + [None], self.random.randrange(1, 4))
        found = []
        for subset in names:
            destination = {"host": host}
            if subset:
                destination["subset"] = subset
            found.append({"destination": destination})
        if len(found) > 1:
            weights = [100 // len(found)] * len(found)
            weights[0] += 100 - sum(weights)
            for one, weight in zip(found, weights):
                one["weight"] = weight
        return found

    def route(self):
        host = self.host()
        rules = []
        for index in range(self.random.randrange(3)):
            match = {"headers": {"end-user": {"exact": self.random.choice(["jason", "ann"])}}} if index else {
                "uri": {"prefix": self.random.choice(["/a", "/b", "/reviews"])}}
            rules.append({"match": [match], "route": self.destinations(host), "name": f"rule-{index}"})
        last = {"route": self.destinations(host)}
        if self.random.random() < 0.5:
            last["timeout"] = self.random.choice(["1s", "2s", "250ms"])
        if self.random.random() < 0.3:
            last["retries"] = {"attempts": self.random.randrange(4), "retryOn": "5xx"}
        if self.random.random() < 0.3:
            last["headers"] = {"response": {"set": {"x-edit": str(len(self.done))}}}
        self.write(f"route-{host}", self.of("VirtualService", f"edit-{host}", {"hosts": [host], "http": rules + [last]}))

    def route_gone(self):
        self.remove(f"route-{self.host()}")

    def subset(self):
        host = self.host()
        names = self.random.sample(SUBSETS, self.random.randrange(1, 4))
        spec = {"host": host, "subsets": [{"name": n, "labels": {"version": n}} for n in names]}
        if self.random.random() < 0.5:
            spec["trafficPolicy"] = {"loadBalancer": {"simple": self.random.choice(["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST"])},
                                     "connectionPool": {"http": {"http1MaxPendingRequests": self.random.choice([10, 100])}}}
        self.write(f"rule-{host}", self.of("DestinationRule", f"edit-{host}", spec))

    def subset_gone(self):
        self.remove(f"rule-{self.host()}")

    def external(self):
        name = self.random.choice(["one", "two", "three"])
        spec = {"hosts": [f"{name}.example.com"], "location": "MESH_EXTERNAL", "resolution": self.random.choice(["STATIC", "DNS", "NONE"]),
                "ports": [{"number": self.random.choice([80, 8080]), "name": "http", "protocol": "HTTP"}]}
        if spec["resolution"] == "STATIC":
            spec["endpoints"] = [{"address": f"10.88.9.{self.random.randrange(1, 9)}"}]
        self.write(f"external-{name}", self.of("ServiceEntry", name, spec))

    def external_gone(self):
        self.remove(f"external-{self.random.choice(['one', 'two', 'three'])}")

    # ---- policy, mesh, mistakes

    def strictness(self):
        self.write("peer", self.of("PeerAuthentication", "default", {"mtls": {"mode": self.random.choice(["STRICT", "PERMISSIVE", "DISABLE"])}},
                                   "security.istio.io/v1"))

    def mesh(self):
        text = (self.folder / "mesh.yaml").read_text()
        have = "ALLOW_ANY" if "ALLOW_ANY" in text else "REGISTRY_ONLY"
        (self.folder / "mesh.yaml").write_text(text.replace(have, self.random.choice(["ALLOW_ANY", "REGISTRY_ONLY"])))

    def broken(self):
        """A mistake in one object: the last good version stays, or none."""
        host = self.host()
        self.write(f"route-{host}", self.of("VirtualService", f"edit-{host}", {"hosts": [host], "http": [{"rout": []}]}))

    def marker(self, number):
        """An edit that every proxy sees; what was edited before is in force where it has arrived."""
        self.write("marker", self.of("ServiceEntry", "marker", {
            "hosts": [f"marker-{number}.example.com"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
            "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": "10.88.9.77"}]}))
        return f"outbound|9080||marker-{number}.example.com"


def hash_byte(name):
    return sum(name.encode()) * 7 % 240 + 1
