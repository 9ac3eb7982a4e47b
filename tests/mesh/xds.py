"""Two xDS clients over gRPC that behave as Envoy does: all clusters and listeners, then the endpoints and routes that these name.

`state` is what the client would have in force: {type: {name: bytes}}, with types "cds", "eds", "lds", "rds". One client speaks state of the
world, the other delta; both acknowledge all that they are sent.
"""
import queue
import threading
import time

import grpc
import wire

SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
URL = {
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "eds": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "rds": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
TYPE = {url: name for name, url in URL.items()}
NEXT = {"cds": "eds", "lds": "rds"}
EDS_CLUSTER = 3
HCM = b"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def name_of(resource):
    """The name is field 1 in all four types."""
    return wire.get(resource, 1).decode()


def endpoints_wanted(clusters):
    return {name for name, data in clusters.items() if wire.get(data, 2, 0) == EDS_CLUSTER}


def routes_wanted(listeners):
    found = set()
    for listener in listeners.values():
        for chain in wire.every(listener, 3) + wire.every(listener, 25):
            for network_filter in wire.every(chain, 3):
                config = wire.get(network_filter, 4)
                rds = wire.get(wire.get(config, 2), 3) if wire.get(config, 1) == HCM else b""
                if rds:
                    found.add(wire.get(rds, 2).decode())
    return found


WANTED = {"cds": endpoints_wanted, "lds": routes_wanted}


def node(kind, ip, name, namespace, labels, account, **metadata):
    """(id, metadata) as agents send them."""
    meta = {"NAME": name, "NAMESPACE": namespace, "LABELS": labels, "SERVICE_ACCOUNT": account, "CLUSTER_ID": "Kubernetes",
            "INSTANCE_IPS": ip, "WORKLOAD_NAME": name, "ISTIO_VERSION": "1.31.0", "MESH_ID": "cluster.local", **metadata}
    return {"id": f"{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local", "cluster": f"{name}.{namespace}", "metadata": meta}


def sidecar(name="productpage-v1", ip="10.88.1.11", app="productpage"):
    return node("sidecar", ip, name, "default", {"app": app, "version": "v1"}, f"bookinfo-{app}")


def gateway():
    labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    return node("router", "10.88.1.2", "istio-ingressgateway", "istio-system", labels, "istio-ingressgateway-service-account")


def encode_node(value):
    return wire.put(1, value["id"]) + wire.put(2, value["cluster"]) + wire.put(3, wire.struct_of(value["metadata"]))


class Client:
    def __init__(self, address, who, method, credentials=None):
        self.node = encode_node(who)
        self.state = {name: {} for name in URL}
        self.names = {"eds": set(), "rds": set()}
        self.responses = {name: 0 for name in URL}
        self.lock = threading.Lock()
        self.error = None
        self.outgoing = queue.SimpleQueue()
        options = [("grpc.max_receive_message_length", 64 << 20)]
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, options + [("grpc.ssl_target_name_override", "istiod.istio-system.svc")])
        else:
            self.channel = grpc.insecure_channel(address, options)
        call = self.channel.stream_stream(SERVICE + method, request_serializer=None, response_deserializer=None)
        self.call = call(iter(self.outgoing.get, None))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.start()

    def _run(self):
        try:
            for message in self.call:
                with self.lock:
                    self.receive(message)
        except grpc.RpcError as error:
            self.error = error

    def send(self, message):
        self.outgoing.put(self.node + message if self.node else message)
        self.node = b""  # once per stream

    def snapshot(self):
        assert self.error is None, self.error
        with self.lock:
            return {name: dict(resources) for name, resources in self.state.items()}

    def complete(self):
        """Whether everything that clusters and listeners name has come."""
        have = self.snapshot()
        return bool(have["lds"]) and all(self.names[kind] <= have[kind].keys() for kind in NEXT.values())

    def close(self):
        self.call.cancel()
        self.outgoing.put(None)
        self.channel.close()
        self.thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.close()

    def failure(self, seconds=10):
        """The status with which the server ended the stream."""
        end = time.monotonic() + seconds
        while self.error is None and time.monotonic() < end:
            time.sleep(0.01)
        assert self.error is not None, "the stream is still open"
        return self.error.code(), self.error.details()


class StateOfTheWorld(Client):
    def __init__(self, address, who, credentials=None):
        self.version, self.nonce = {}, {}
        super().__init__(address, who, "StreamAggregatedResources", credentials)

    def start(self):
        self.node = wire.put(2, self.node)
        for name in NEXT:
            self.send(wire.put(4, URL[name]))

    def request(self, name):
        self.send(wire.put(1, self.version.get(name)) + b"".join(wire.put(3, n) for n in sorted(self.names.get(name, ())))
                  + wire.put(4, URL[name]) + wire.put(5, self.nonce.get(name)))

    def receive(self, message):
        name = TYPE[wire.get(message, 4).decode()]
        resources = [wire.get(any_, 2) for any_ in wire.every(message, 2)]
        self.responses[name] += 1
        self.version[name], self.nonce[name] = wire.get(message, 1), wire.get(message, 5)
        found = {name_of(r): r for r in resources}
        if name in NEXT:
            self.state[name] = found  # what is not in it is gone
        else:
            self.state[name].update({n: r for n, r in found.items() if n in self.names[name]})
        self.request(name)
        if name in NEXT:
            below = NEXT[name]
            wanted = WANTED[name](self.state[name])
            if wanted != self.names[below]:
                self.names[below] = wanted
                self.state[below] = {n: r for n, r in self.state[below].items() if n in wanted}
                self.request(below)


class Delta(Client):
    def __init__(self, address, who, credentials=None):
        super().__init__(address, who, "DeltaAggregatedResources", credentials)

    def start(self):
        self.node = wire.put(1, self.node)
        for name in NEXT:
            self.send(wire.put(2, URL[name]))

    def receive(self, message):
        name = TYPE[wire.get(message, 4).decode()]
        self.responses[name] += 1
        for resource in wire.every(message, 2):
            self.state[name][wire.get(resource, 3).decode()] = wire.get(wire.get(resource, 2), 2)
        for gone in wire.every(message, 6):
            self.state[name].pop(gone.decode(), None)
        self.send(wire.put(2, URL[name]) + wire.put(6, wire.get(message, 5)))
        if name in NEXT:
            self.subscribe(NEXT[name], WANTED[name](self.state[name]))

    def subscribe(self, name, wanted):
        more, less = wanted - self.names[name], self.names[name] - wanted
        self.names[name] = wanted
        for n in less:
            self.state[name].pop(n, None)
        if more or less:
            self.send(wire.put(2, URL[name]) + b"".join(wire.put(3, n) for n in sorted(more)) + b"".join(wire.put(4, n) for n in sorted(less)))
