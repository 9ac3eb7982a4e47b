"""What the Bookinfo services share: an HTTP server that drains, and calls to the next service.

Only the standard library is used, so that a sample runs wherever python3 is. The server speaks
HTTP/1.1 with keep-alive, one thread per connection. A service is a table of routes given to
serve(); a handler takes a Request and returns a Response.

On SIGTERM a service goes on answering, each time with "Connection: close", until nothing has
asked for a short while: whoever still holds the address of a pod that goes away is not refused.
"""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

MAX_BODY_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1024 * 1024
# Longer than a proxy keeps an idle upstream connection (Envoy: one hour), so that the side which
# closes an idle connection is never the one which did not send the next request.
IDLE_SECONDS = 2 * 3600
QUIET_SECONDS = 0.3
DRAIN_SECONDS = 5.0

# A mesh can only join the spans of a request when every service hands these on.
FORWARDED = (
    "x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
    "x-b3-flags", "b3", "traceparent", "tracestate", "baggage", "x-ot-span-context",
    "x-cloud-trace-context", "grpc-trace-bin", "sw8", "x-datadog-trace-id",
    "x-datadog-parent-id", "x-datadog-sampling-priority", "end-user", "user-agent", "cookie",
    "authorization",
)


@dataclass
class Request:
    method: str
    path: str
    query: dict
    headers: dict
    body: bytes
    args: dict = field(default_factory=dict)


@dataclass
class Response:
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict = field(default_factory=dict)


@dataclass
class Answer:
    """What the next service said; data is None when there was no usable answer."""
    status: int
    data: dict | None
    error: str = ""


@dataclass
class Identity:
    service: str
    version: str
    pod: str
    cluster: str


def json_response(value, status=200, headers=None):
    body = json.dumps(value, indent=1).encode() + b"\n"
    return Response(body, status, "application/json", headers or {})


def peer_of(headers):
    """The SPIFFE id of the immediate caller, as the proxy in front of this service wrote it.

    Each proxy on the way appends an element to x-forwarded-client-cert, so the last one counts.
    """
    last = _split(headers.get("x-forwarded-client-cert", ""), ",")[-1]
    for part in _split(last, ";"):
        name, _, value = part.strip().partition("=")
        if name == "URI" and value.strip('"'):
            return value.strip('"')
    return None


def _split(text, separator):
    """Splits at separators that stand outside of quotes; a backslash quotes inside of them."""
    parts, start, quoted, skip = [], 0, False, False
    for at, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\":
            skip = quoted
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return parts + [text[start:]]


def hop(identity, headers):
    """One step of a request's way, for people and tests: who answered, and who asked."""
    return {
        "service": identity.service,
        "version": identity.version,
        "podname": identity.pod,
        "caller": peer_of(headers),
    }


def hops_of(data):
    """The steps that an answer reports; another program's answer may hold anything there."""
    hops = data.get("hops") if data else None
    return [step for step in hops if isinstance(step, dict)] if isinstance(hops, list) else []


def forwarded(headers):
    return {name: headers[name] for name in FORWARDED if name in headers}


class Backend:
    """Another service, found by name; REVIEWS_HOSTNAME and the like override where it is."""

    def __init__(self, name, timeout_ms):
        domain = os.environ.get("SERVICES_DOMAIN", "")
        host = os.environ.get(f"{name.upper()}_HOSTNAME", name)
        self.host = f"{host}.{domain}" if domain else host
        self.port = int(os.environ.get(f"{name.upper()}_SERVICE_PORT", "9080"))
        self.timeout = timeout_ms / 1000

    def get(self, path, headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            body = reply.read(MAX_ANSWER_BYTES)
        except TimeoutError:
            return Answer(504, None, f"{self.host} did not answer in {self.timeout:g} s")
        except OSError as problem:
            return Answer(503, None, f"{self.host}: {problem.strerror or problem}")
        except http.client.HTTPException as problem:
            return Answer(502, None, f"{self.host}: {type(problem).__name__}")
        finally:
            connection.close()
        return _decode(self.host, reply.status, body)


def _decode(host, status, body):
    if status != 200:
        return Answer(status, None, f"{host} answered {status}")
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        return Answer(502, None, f"{host} did not answer with a JSON object")
    return Answer(status, data)


def arguments(service, default_version="v1"):
    """The options that every service has; a service may add its own before it parses."""
    parser = argparse.ArgumentParser(description=f"Bookinfo: {service}")
    parser.add_argument("--port", type=int, default=9080, help="port to listen on (9080)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (all)")
    parser.add_argument("--version", default=os.environ.get("SERVICE_VERSION", default_version),
                        help="version that this instance says it is (SERVICE_VERSION)")
    parser.add_argument("--log-requests", action="store_true", help="one line for each request")
    return parser


def identity_of(service, options):
    pod = os.environ.get("POD_NAME") or socket.gethostname()
    cluster = os.environ.get("CLUSTER_NAME", "Kubernetes")
    return Identity(service, options.version, pod, cluster)


class _Drain:
    """Counts requests under way, and knows when nobody asks any more."""

    def __init__(self):
        self.changed = threading.Condition()
        self.active = 0
        self.last = time.monotonic()
        self.draining = False

    def __enter__(self):
        with self.changed:
            self.active += 1

    def __exit__(self, *_):
        with self.changed:
            self.active -= 1
            self.last = time.monotonic()
            self.changed.notify_all()

    def wait(self):
        with self.changed:
            self.draining = True
            self.last = time.monotonic()
            end = self.last + DRAIN_SECONDS
            while (now := time.monotonic()) < end:
                rest = self.last + QUIET_SECONDS - now
                if self.active == 0 and rest <= 0:
                    return
                self.changed.wait(min(end - now, rest if rest > 0 else DRAIN_SECONDS))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, options, identity, routes):
        self.address_family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        self.identity = identity
        self.routes = [(method, re.compile(pattern), run) for method, pattern, run in routes]
        self.log_requests = options.log_requests
        self.drain = _Drain()
        super().__init__((options.host, options.port), _Handler)

    def server_bind(self):
        # HTTPServer would ask DNS for this host's name, which costs ten seconds where no DNS answers.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        # A peer that goes away in the middle of an answer is no event; anything else is our bug.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """The request cannot be read; args: status, text."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Head and body leave in one segment: two would wait for each other's acknowledgement.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def answer(self):
        with self.server.drain:
            try:
                response = self._dispatch()
            except _Refused as refused:
                self.close_connection = True
                response = json_response({"error": refused.args[1]}, refused.args[0])
            except Exception:  # a bug of ours must not look like a broken network
                traceback.print_exc()
                response = json_response({"error": "internal error"}, 500)
            self._send(response)
            self.wfile.flush()

    def _dispatch(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        request = Request(self.command, url.path, query, headers, self._body())
        method = "GET" if self.command == "HEAD" else self.command
        known = False
        for wanted, pattern, run in self.server.routes:
            match = pattern.fullmatch(url.path)
            if match and wanted in (method, "*"):
                request.args = match.groupdict()
                return run(request)
            known = known or match is not None
        text = "method not allowed" if known else "not found"
        return json_response({"error": text, "path": url.path}, 405 if known else 404)

    def _body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        text = self.headers.get("content-length", "0")
        if not text.isascii() or not text.isdigit():
            raise _Refused(400, "bad content-length")
        if int(text) > MAX_BODY_BYTES:
            raise _Refused(413, "body too large")
        return self.rfile.read(int(text))

    def _chunks(self):
        parts, total = [], 0
        while True:
            text = self.rfile.readline(256).split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", text):
                raise _Refused(400, "bad chunk")
            size = int(text, 16)
            total += size
            if total > MAX_BODY_BYTES:
                raise _Refused(413, "body too large")
            if size == 0:
                break
            parts.append(self.rfile.read(size))
            self.rfile.readline(3)
        while self.rfile.readline(8192).strip():
            pass
        return b"".join(parts)

    def _send(self, response):
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if self.server.drain.draining or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and response.status not in (204, 304):
            self.wfile.write(response.body)

    def version_string(self):
        return "bookinfo"

    def log_request(self, code="-", size="-"):
        if self.server.log_requests:
            super().log_request(code, size)


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)


def _health(server):
    def health(_request):
        state = "draining" if server.drain.draining else "ok"
        body = {"status": state, "service": server.identity.service,
                "version": server.identity.version}
        return json_response(body, 503 if server.drain.draining else 200)
    return health


def _peer(server):
    def peer(request):
        return json_response({**hop(server.identity, request.headers),
                              "headers": request.headers})
    return peer


def serve(options, identity, routes):
    """Serves until SIGTERM or SIGINT, then drains. routes: (method or "*", path regex, handler)."""
    try:
        server = _Server(options, identity, [])
    except OSError as problem:
        sys.exit(f"{identity.service}: {options.host}:{options.port}: {problem}")
    common = [("GET", "/health", _health(server)), ("GET", "/peer", _peer(server))]
    server.routes = [(method, re.compile(path), run) for method, path, run in common + routes]

    def stop():
        server.drain.wait()
        server.shutdown()

    def on_signal(_number, _frame):
        if not server.drain.draining:
            server.drain.draining = True
            threading.Thread(target=stop, daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    print(f"{identity.service} {identity.version} listens on port {server.server_port}",
          flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)
    print(f"{identity.service} {identity.version} stopped", flush=True)
