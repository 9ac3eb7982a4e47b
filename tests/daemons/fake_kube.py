"""An API server of a few lines, for faults that a real one cannot be asked for: lists in pages, watches, 410 Gone, 429, broken connections.

Only what common/kube uses of the API. The real server is in tests/kube.
"""
import json
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def kubeconfig(url):
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                       "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                       "clusters": [{"name": "k", "cluster": {"server": url}}], "users": [{"name": "u", "user": {"token": "secret"}}]})


class FakeKube:
    def __init__(self):
        self.lock = threading.Condition()
        self.version = 100
        self.objects = {}  # (resource path, "ns/name") -> object
        self.events = []  # (version, resource path, type, object)
        self.oldest = 0  # watches from before this version get 410
        self.known = None  # resource paths that exist; None: all
        self.refusals = []  # (status, message) for the next requests
        self.spoiled = {}  # resource path -> (version, line): watches from before this version get the line and end
        self.epoch = 0  # page tokens of another one are refused
        self.before_page = None  # called once, before a page that is not the first
        self.frozen = False  # requests are taken and not answered
        self.connections = set()
        self.statuses = []  # (time, "ns/name", status) as they were written
        self.requests = []  # "GET /path?query"
        self.jwks = {"keys": []}
        self.issuer = "https://kubernetes.default.svc"
        self.keyless = False  # no key set: 403
        self.review = lambda token, audiences: {"authenticated": False}  # -> status of a TokenReview
        self.listers = set()  # "ns/account" that may list Secrets
        self.access = lambda user, attributes: {"allowed": user.removeprefix("system:serviceaccount:").replace(":", "/") in self.listers}
        self.mute = set()  # paths whose requests get a 503
        self.before_put = None  # called once, before the next PUT looks at what is there
        self.puts = []  # (key, sorted names of the data)
        self.generation = 0  # raised to end all watches
        self.start(0)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def start(self, port):
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        self.frozen = False
        self.end_watches()
        self.server.shutdown()
        self.server.server_close()

    def cut(self):
        """Ends all connections, as a process that is killed does."""
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # ended meanwhile

    def go_away(self):
        self.server.shutdown()
        self.server.server_close()
        self.cut()

    def come_back(self):
        self.start(self.server.server_address[1])

    def freeze(self, frozen=True):
        with self.lock:
            self.frozen = frozen
            self.lock.notify_all()

    def apply(self, path, obj):
        """Makes or replaces an object of a resource, e.g. path "/api/v1/services"."""
        with self.lock:
            key = (path, f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}")
            self.version += 1
            obj = json.loads(json.dumps(obj))
            obj["metadata"]["resourceVersion"] = str(self.version)
            old = self.objects.get(key, {})
            obj["metadata"]["generation"] = old.get("metadata", {}).get("generation", 0) + (old.get("spec") != obj.get("spec") or not old)
            obj["metadata"]["managedFields"] = [{"manager": "test"}]
            self.events.append((self.version, path, "MODIFIED" if key in self.objects else "ADDED", obj))
            self.objects[key] = obj
            self.lock.notify_all()

    def delete(self, path, ns, name, silently=False):
        """silently: as if it happened while nobody could watch."""
        with self.lock:
            obj = self.objects.pop((path, f"{ns}/{name}"))
            self.version += 1
            if not silently:
                self.events.append((self.version, path, "DELETED", obj))
            self.lock.notify_all()

    def end_watches(self):
        with self.lock:
            self.generation += 1
            self.lock.notify_all()

    def expire(self):
        """Everything before now is compacted away: running watches end, and cannot be continued."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.events.clear()
            self.generation += 1
            self.lock.notify_all()

    def refuse(self, status, message, times):
        with self.lock:
            self.refusals += [(status, message)] * times

    def spoil(self, path, line):
        """The past cannot be watched: what is told of it is this line."""
        with self.lock:
            self.version += 1
            self.spoiled[path] = (self.version, line)

    def count(self, text):
        with self.lock:
            return sum(text in r for r in self.requests)

    def _handler(fake):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def setup(self):
                super().setup()
                with fake.lock:
                    fake.connections.add(self.connection)

            def finish(self):
                with fake.lock:
                    fake.connections.discard(self.connection)
                super().finish()

            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def status(self, code, message):
                self.answer(code, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code, "message": message})

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                with fake.lock:
                    fake.requests.append(f"GET {self.path}")
                    fake.lock.wait_for(lambda: not fake.frozen)
                    refusal = fake.refusals.pop(0) if fake.refusals else None
                    known = fake.known is None or url.path in fake.known
                try:
                    if refusal:
                        self.status(*refusal)
                    elif fake.keyless and url.path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
                        self.status(403, "forbidden")
                    elif url.path == "/.well-known/openid-configuration":
                        self.answer(200, {"issuer": fake.issuer, "jwks_uri": fake.url + "/openid/v1/jwks"})
                    elif url.path == "/openid/v1/jwks":
                        self.answer(200, fake.jwks)
                    elif url.path.rsplit("/", 1)[0].endswith(("/secrets", "/leases")):
                        path, name = url.path.rsplit("/", 1)
                        obj = fake.objects.get((path, f"{path.split('/')[-2]}/{name}"))
                        self.answer(200, obj) if obj else self.status(404, "not found")
                    elif "/namespaces/" in url.path and "/pods" in url.path:
                        self.pods(url.path.split("/")[4], *url.path.split("/")[6:], query=query)
                    elif not known:
                        self.status(404, "the server could not find the requested resource")
                    elif query.get("watch"):
                        self.watch(url.path, int(query["resourceVersion"]), self.selected(query))
                    else:
                        self.list(url.path, query)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def do_POST(self):
                url = urllib.parse.urlsplit(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = "%s/%s" % (body.get("metadata", {}).get("namespace", ""), body.get("metadata", {}).get("name"))
                with fake.lock:
                    fake.requests.append(f"POST {self.path}")
                    refusal = fake.refusals.pop(0) if fake.refusals else None
                    exists = (url.path, name) in fake.objects
                if refusal:
                    self.status(*refusal)
                elif url.path in fake.mute:
                    self.status(503, "the server is currently unable to handle the request")
                elif url.path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
                    self.answer(201, {**body, "status": fake.access(body["spec"]["user"], body["spec"]["resourceAttributes"])})
                elif url.path == "/apis/authentication.k8s.io/v1/tokenreviews":
                    self.answer(201, {**body, "status": fake.review(body["spec"]["token"], body["spec"]["audiences"])})
                elif exists:
                    self.status(409, "already exists")
                else:
                    fake.apply(url.path, body)
                    self.answer(201, fake.objects[url.path, name])

            def do_PUT(self):
                path, name = self.path.split("?")[0].rsplit("/", 1)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                first, fake.before_put = fake.before_put, None
                if first:
                    first()
                with fake.lock:
                    fake.requests.append(f"PUT {self.path}")
                    key = (path, f"{body['metadata'].get('namespace', '')}/{name}")
                    held = fake.objects.get(key)
                    fits = held and held["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
                    if fits:
                        fake.puts.append((key, sorted(body.get("data", ()))))
                        fake.apply(path, body)
                        held = fake.objects[key]
                if fits:
                    self.answer(200, held)
                else:
                    self.status(409 if held else 404, "the object has been modified; please apply your changes to the latest version")

            def do_PATCH(self):
                url = urllib.parse.urlsplit(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    fake.requests.append(f"PATCH {self.path}")
                    refusal = fake.refusals.pop(0) if fake.refusals else None
                if refusal:
                    self.status(*refusal)
                    return
                if self.headers["Content-Type"] == "application/json-patch+json":
                    path, name = url.path.rsplit("/", 1)
                    obj = json.loads(json.dumps(fake.objects[path, f"/{name}"]))
                    for operation in body:
                        at = obj
                        *way, last = operation["path"].strip("/").split("/")
                        for part in way:
                            at = at[int(part)] if isinstance(at, list) else at[part]
                        assert operation["op"] == "add"
                        at[last] = operation["value"]
                    fake.apply(path, obj)
                    self.answer(200, obj)
                    return
                assert self.headers["Content-Type"] == "application/apply-patch+yaml" and "fieldManager=" in url.query
                parts = url.path.removesuffix("/status").rsplit("/", 1)[0].split("/")  # /api/v1/namespaces/NS/configmaps
                at = parts.index("namespaces")
                path, name = "/".join(parts[:at] + parts[at + 2:]), f"{body['metadata']['namespace']}/{body['metadata']['name']}"
                before = fake.objects.get((path, name), {})
                if url.path.endswith("/status"):
                    fake.statuses.append((time.monotonic(), name, body["status"]))
                    body = before | {"status": before.get("status", {}) | body["status"]}
                elif "status" in before:
                    body = body | {"status": before["status"]}
                fake.apply(path, body)
                self.answer(200, body)

            def do_DELETE(self):
                parts = urllib.parse.urlsplit(self.path).path.split("/")
                at = parts.index("namespaces")
                with fake.lock:
                    fake.requests.append(f"DELETE {self.path}")
                try:
                    fake.delete("/".join(parts[:at] + parts[at + 2:-1]), parts[at + 1], parts[-1])
                    self.answer(200, {"kind": "Status", "status": "Success"})
                except KeyError:
                    self.status(404, "not found")

            def pods(self, ns, name=None, query=None):
                """One pod, or those of a namespace that the field selector fits."""
                def fits(obj, part):
                    path, _, value = part.partition("=")
                    held = obj
                    for key in path.rstrip("!").split("."):
                        held = held.get(key, {})
                    return (held == value) != path.endswith("!")

                with fake.lock:
                    items = [o for (p, key), o in sorted(fake.objects.items()) if p == "/api/v1/pods" and key.startswith(ns + "/")]
                if name:
                    found = [o for o in items if o["metadata"]["name"] == name]
                    self.answer(200, found[0]) if found else self.status(404, f'pods "{name}" not found')
                    return
                parts = [part for part in query.get("fieldSelector", "").split(",") if part]
                items = [o for o in items if all(fits(o, part) for part in parts)]
                self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items[:int(query.get("limit", 500))]})

            @staticmethod
            def selected(query):
                return dict(part.split("=") for part in query.get("fieldSelector", "").split(",") if part).get("metadata.name")

            def list(self, path, query):
                with fake.lock:
                    name = self.selected(query)
                    items = [o for (p, _), o in sorted(fake.objects.items()) if p == path and name in (None, o["metadata"]["name"])]
                    version = fake.version
                epoch, start = (int(n) for n in query.get("continue", f"{fake.epoch}.0").split("."))
                size = int(query.get("limit", 1000000))
                if start:
                    first, fake.before_page = fake.before_page, None
                    if first:
                        first()
                if epoch != fake.epoch:
                    self.status(400, "continue key is not valid")
                    return
                meta = {"resourceVersion": str(version)}
                if start + size < len(items):
                    meta["continue"] = f"{epoch}.{start + size}"
                self.answer(200, {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items[start:start + size]})

            def chunk(self, event):
                text = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

            def watch(self, path, version, name):
                with fake.lock:
                    generation, oldest = fake.generation, fake.oldest
                    spoiled, line = fake.spoiled.get(path, (0, None))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if version < oldest:
                    line = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
                if version < max(oldest, spoiled):
                    self.chunk(line)
                    self.wfile.write(b"0\r\n\r\n")
                    return
                while True:
                    with fake.lock:
                        fake.lock.wait_for(lambda: fake.generation != generation or any(v > version for v, *_ in fake.events), timeout=30)
                        ready = [e for e in fake.events if e[0] > version]
                        ended = fake.generation != generation
                    for v, p, kind, obj in ready:
                        version = v
                        if p == path and name in (None, obj["metadata"]["name"]):
                            self.chunk({"type": kind, "object": obj})
                    self.chunk({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}})
                    if ended:
                        self.wfile.write(b"0\r\n\r\n")
                        return
        return Handler


def wait_until(condition, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")
