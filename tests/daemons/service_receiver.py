"""What Envoy sends to services of its own, received: access log entries, statistics over gRPC and to a statsd; a line of JSON each on standard output.

python3 service_receiver.py ADDRESS [CERTIFICATE KEY]: logs on 9300, with TLS when there is a certificate, statistics on 9301, statsd on 9302.
"""
import json
import socket
import sys
import threading
from concurrent import futures

import grpc

from xds_client import fields, text

LOGS = ("envoy.service.accesslog.v3.AccessLogService", "StreamAccessLogs")
METRICS = ("envoy.service.metrics.v3.MetricsService", "StreamMetrics")
KINDS = {2: "http", 3: "tcp"}
LOCK = threading.Lock()


def say(**what):
    with LOCK:
        print(json.dumps(what), flush=True)


def first(parsed, number):
    return fields(parsed.get(number, [b""])[0])


def entry_of(kind, data):
    entry = fields(data)
    common, request, response = first(entry, 1), first(entry, 3), first(entry, 4)
    states = {text(s, 1): fields(fields(s[2][0]).get(2, [b""])[0]).get(1, [b""])[0].decode() for s in map(fields, common.get(21, []))}
    out = {"kind": kind, "cluster": text(common, 15), "states": states}
    if kind == "http":
        out.update(path=text(request, 5), code=first(response, 1).get(1, [0])[0])
    else:
        sizes = first(entry, 2)
        out.update(received=sizes.get(1, [0])[0], sent=sizes.get(2, [0])[0])
    return out


def logs(messages, _context):
    name = ""
    for data in messages:
        parsed = fields(data)
        name = text(first(parsed, 1), 2) or name  # once per stream
        for number, kind in KINDS.items():
            for entries in parsed.get(number, []):
                for entry in fields(entries).get(1, []):
                    say(log=name, **entry_of(kind, entry))
    return b""


def metrics(messages, _context):
    for data in messages:
        say(metrics=[text(fields(family), 1) for family in fields(data).get(2, [])])
    return b""


def serve(address, method, function, credentials=None):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    handlers = {method[1]: grpc.stream_unary_rpc_method_handler(function)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(method[0], handlers),))
    assert server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server


def credentials_from(certificate, key):
    with open(certificate, "rb") as c, open(key, "rb") as k:
        return grpc.ssl_server_credentials([(k.read(), c.read())])


def main(address, *certificate_and_key):
    credentials = credentials_from(*certificate_and_key) if certificate_and_key else None
    servers = [serve(address + ":9300", LOGS, logs, credentials), serve(address + ":9301", METRICS, metrics)]
    statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    statsd.bind((address, 9302))
    say(ready=len(servers))
    while True:
        say(statsd=statsd.recv(65536).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
