"""A small Envoy for tests, on grpcio: the wire format of the xDS messages by field number, a delta ADS stream and SDS streams on Unix sockets."""

import pathlib
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "mesh"))
import wire  # noqa: E402

PREFIX = "type.googleapis.com/"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"
VHDS = PREFIX + "envoy.config.route.v3.VirtualHost"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
ADS_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SDS_SERVICE = "/envoy.service.secret.v3.SecretDiscoveryService/"


def message(*numbered):
    """(number, bytes, text or integer), ... -> the packed message."""
    return b"".join(wire.put(number, value) for number, value in numbered)


def fields(data):
    """A packed message -> {number: [value, ...]}, length-delimited values as bytes."""
    out = {}
    for number, value in wire.fields(data):
        out.setdefault(number, []).append(value)
    return out


def text(parsed, number):
    return parsed.get(number, [b""])[0].decode()


def node(node_id, cluster, metadata):
    return message((1, node_id), (2, cluster), (3, wire.struct_of(metadata)))


class Stream:
    """One bidirectional call on a Unix socket (a path) or host:port; responses are collected by a thread."""

    def __init__(self, socket, method):
        target = "unix:%s" % socket if "/" in str(socket) else socket
        self.channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", 1 << 28)])
        self.out, self.responses, self.error = queue.Queue(), [], None
        self.call = self.channel.stream_stream(method)(iter(self.out.get, None))
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for data in self.call:
                self.on_response(data)
        except grpc.RpcError as error:
            self.error = error

    def on_response(self, data):
        self.responses.append(fields(data))

    def close(self):
        self.out.put(None)
        self.call.cancel()
        self.thread.join(10)
        self.channel.close()


class Envoy(Stream):
    """Subscribes as Envoy does and acknowledges what comes, unless refuse names the type, or refuse_if(type, resources) says so.
    `held` and resources are (type ->) {name: (version, bytes)}."""

    def __init__(self, socket, node_bytes, held=None, refuse=(), refuse_if=lambda type_url, got: False):
        self.node, self.held, self.seen, self.refuse, self.refuse_if = node_bytes, held or {}, [], set(refuse), refuse_if
        super().__init__(socket, ADS_METHOD)

    def subscribe(self, type_url, *names):
        versions = [(5, message((1, name), (2, version))) for name, (version, _) in self.held.setdefault(type_url, {}).items()]
        node_field = [(1, self.node)] if self.node else []
        self.node = None
        self.out.put(message(*node_field, (2, type_url), *[(3, name) for name in names], *versions))

    def unsubscribe(self, type_url, *names):
        self.out.put(message((2, type_url), *[(4, name) for name in names]))

    def on_response(self, data):
        r = fields(data)
        type_url, nonce = text(r, 4), text(r, 5)
        got = {}
        for packed in r.get(2, []):
            resource = fields(packed)
            got[text(resource, 3)] = (text(resource, 1), resource[2][0])
        refused = type_url in self.refuse or self.refuse_if(type_url, got)
        self.seen.append({"type": type_url, "nonce": nonce, "names": set(got), "removed": {x.decode() for x in r.get(6, [])}})
        error = [(7, message((1, 3), (2, "refused by the test")))] if refused else []
        if not refused:
            held = self.held.setdefault(type_url, {})
            held.update(got)
            for name in r.get(6, []):
                held.pop(name.decode(), None)
        self.out.put(message((2, type_url), (6, nonce), *error))

    def count(self, type_url):
        return sum(1 for r in self.seen if r["type"] == type_url)


class Pilot:
    """A pilot that says what the test wants: `script(request fields, send)` is called for each request of each stream."""

    def __init__(self, port, script):
        self.script, self.streams, self.context = script, [], None
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        handlers = {"DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self.serve)}
        service = ADS_METHOD.split("/")[1]
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        assert self.server.add_insecure_port("127.0.0.1:%d" % port) == port
        self.server.start()

    def serve(self, requests, context):
        out, seen = queue.Queue(), []
        self.streams.append(seen)
        self.context = context

        def read():
            try:
                for data in requests:
                    r = fields(data)
                    seen.append(r)
                    self.script(r, out.put)
            except Exception:  # noqa: BLE001, grpcio raises a bare Exception when the call is over
                pass
            out.put(None)

        threading.Thread(target=read, daemon=True).start()
        yield from iter(out.get, None)

    def refuse(self, code):
        self.context.abort(code, "refused by the test")

    def close(self):
        self.server.stop(None).wait(10)


def delta_response(type_url, nonce, resources=(), removed=()):
    """resources: (name, version); what they hold does not matter to an agent."""
    packed = [(2, message((1, version), (2, message((1, type_url), (2, name))), (3, name))) for name, version in resources]
    return message(*packed, (4, type_url), (5, nonce), *[(6, name) for name in removed])


def held_by(request):
    """The versions that a request lists."""
    return {text(e, 1): text(e, 2) for e in map(fields, request.get(5, []))}


class Secrets(Stream):
    """A state-of-the-world SDS stream for one name, as pilot's configuration makes Envoy open it."""

    def __init__(self, socket, name, refuse=False):
        self.name, self.secrets, self.refuse = name, [], refuse
        super().__init__(socket, SDS_SERVICE + "StreamSecrets")
        self.out.put(message((2, message((1, "n"))), (3, name), (4, SECRET)))

    def on_response(self, data):
        r = fields(data)
        self.secrets.append([secret(x) for x in r.get(2, [])])
        error = [(6, message((1, 3), (2, "refused by the test")))] if self.refuse else []
        self.out.put(message((1, text(r, 1)), (3, self.name), (4, SECRET), (5, text(r, 5)), *error))


def secret(packed_any):
    any_message = fields(packed_any)
    assert text(any_message, 1) == SECRET
    s = fields(any_message[2][0])
    out = {"name": text(s, 1)}
    if 2 in s:
        certificate = fields(s[2][0])
        out["chain"] = text(fields(certificate[1][0]), 2)
        out["key"] = text(fields(certificate[2][0]), 2)
    if 4 in s:
        out["roots"] = text(fields(fields(s[4][0])[1][0]), 2)
    return out


def until(check, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = check()
        if got:
            return got
        time.sleep(0.01)
    raise AssertionError("not within %s s" % seconds)
