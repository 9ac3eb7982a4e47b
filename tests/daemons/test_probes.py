"""The agent asks the application what the kubelet asks it: HTTP, HTTPS, TCP and gRPC probes, hooks, from inside a pod whose traffic is captured."""
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures

import grpc
import pytest

from fake_kube import wait_until
from netns import Namespace
from test_webhook import BUILD, make_certificate


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers), self.client_address[0]))
        if self.path.startswith("/slow"):
            self.server.wake.wait(20)
        code = 503 if self.path.startswith("/bad") else 302 if self.path.startswith("/away") else 200
        self.send_response(code)
        if self.path.startswith("/endless"):
            self.end_headers()
            try:
                while not self.server.wake.wait(0.01):
                    self.wfile.write(b"x" * 1000)
            except OSError:
                return
        body = b"x" * 20000 if self.path == "/large" else b"state of " + self.path.encode()
        if code == 302:
            self.send_header("Location", "http://elsewhere/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.wake = [], threading.Event()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1 by hand: service "" and "good" serve, "bad" does not, others are not known."""

    def __init__(self):
        self.asked = []

    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        def check(request, context):
            name = request[2:].decode() if request else ""
            self.asked.append(name)
            if len(request) > 130:
                name = request[3:].decode()
                self.asked[-1] = name
            if name not in ("", "good", "bad", "g" * 150):
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            return b"\x08\x02" if name == "bad" else b"\x08\x01"
        return grpc.unary_unary_rpc_method_handler(check, lambda b: b, lambda b: b)


class World:
    def __init__(self, folder):
        self.http = serve()
        make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.https = serve(context)
        self.health = Health()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(2))
        self.grpc.add_generic_rpc_handlers((self.health,))
        grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            closed = s.getsockname()[1]
        plain = self.http.server_address[1]

        def get(path, port=plain, **extra):
            return {"httpGet": {"path": path, "port": port, **extra}, "timeoutSeconds": 2}
        self.probers = {
            "/app-health/c/livez": get("/live?a=b c", httpHeaders=[{"name": "Host", "value": "cart.shop"}, {"name": "X-Token", "value": "$1"},
                                                                  {"name": "X-Empty"}]),
            "/app-health/c/readyz": get("/bad"),
            "/app-health/c/startupz": get("large"),
            "/app-health/away/livez": get("/away"),
            "/app-health/agent/livez": get("/agent", httpHeaders=[{"name": "user-agent", "value": "mine"}]),
            "/app-health/slow/livez": {**get("/slow"), "timeoutSeconds": 1},
            "/app-health/endless/livez": {**get("/endless"), "timeoutSeconds": 1},
            "/app-health/tls/livez": get("/tls", self.https.server_address[1], scheme="HTTPS"),
            "/app-health/closed/livez": get("/", closed),
            "/app-health/tcp/livez": {"tcpSocket": {"port": plain}},
            "/app-health/tcp/readyz": {"tcpSocket": {"port": closed}},
            "/app-health/grpc/livez": {"grpc": {"port": grpc_port}},
            "/app-health/grpc/readyz": {"grpc": {"port": grpc_port, "service": "bad"}},
            "/app-health/grpc/startupz": {"grpc": {"port": grpc_port, "service": "nobody"}},
            "/app-health/grpc2/livez": {"grpc": {"port": closed}, "timeoutSeconds": 20},
            "/app-health/grpc2/readyz": {"grpc": {"port": grpc_port, "service": "g" * 150}},
            "/app-lifecycle/c/prestopz": {"httpGet": {"path": "/stop", "port": plain}},
        }
        self.log = folder / "log"
        self.admin = folder / "admin"
        self.agent = subprocess.Popen(
            [BUILD / "agent/agent", "--no-envoy", "--plaintext", "--discovery-address", "127.0.0.1:1", "--pod-ip", "127.0.0.1", "--pod-name", "p",
             "--state-dir", folder / "state", "--status-address", "127.0.0.1:0", "--admin-address", f"unix:{self.admin}"],
            env={**os.environ, "ISTIO_KUBE_APP_PROBERS": json.dumps(self.probers)}, stderr=open(self.log, "w"))
        wait_until(self.port)

    def port(self):
        found = [line for line in self.log.read_text().splitlines() if "status address" in line]
        return found and int(found[-1].split("port=")[1])

    def probe(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port()}{path}", headers={"User-Agent": "kube-probe/1.37"})
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self):
        for server in (self.http, self.https):
            server.wake.set()
            server.shutdown()
            server.server_close()
        self.grpc.stop(None)
        self.agent.terminate()
        return self.agent.wait(20)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("probes"))
    yield w
    assert w.close() == 0


def test_A11_an_http_probe_reaches_the_application_as_the_kubelet_would(world):
    world.http.seen.clear()
    assert world.probe("/app-health/c/livez") == (200, "state of /live?a=b%20c")
    path, headers, caller = world.http.seen[0]
    assert path == "/live?a=b%20c" and headers["Host"] == "cart.shop" and headers["X-Token"] == "$1" and headers["X-Empty"] == ""
    assert headers["User-Agent"] == "kube-probe/1.37" and caller == "127.0.0.6"


def test_A11_a_header_of_the_probe_wins(world):
    world.http.seen.clear()
    assert world.probe("/app-health/agent/livez")[0] == 200
    assert {k.lower(): v for k, v in world.http.seen[0][1].items()}["user-agent"] == "mine"


def test_A11_the_applications_status_is_the_answer(world):
    assert world.probe("/app-health/c/readyz") == (503, "state of /bad")
    assert world.probe("/app-health/away/livez")[0] == 302


def test_A11_a_large_answer_is_cut(world):
    assert world.probe("/app-health/c/startupz") == (200, "x" * 10240)


def test_A11_https_is_not_verified(world):
    assert world.probe("/app-health/tls/livez") == (200, "state of /tls")


def test_A11_tcp(world):
    assert world.probe("/app-health/tcp/livez")[0] == 200
    status, text = world.probe("/app-health/tcp/readyz")
    assert status == 500 and "refused" in text


def test_A11_nobody_listens(world):
    status, text = world.probe("/app-health/closed/livez")
    assert status == 500 and "connect" in text.lower()


def test_A11_grpc(world):
    world.health.asked.clear()
    assert world.probe("/app-health/grpc/livez") == (200, "serving\n")
    assert world.probe("/app-health/grpc/readyz") == (500, "not serving\n")
    status, text = world.probe("/app-health/grpc/startupz")
    assert status == 500 and "unknown service" in text
    assert world.probe("/app-health/grpc2/readyz")[0] == 200
    assert world.health.asked == ["", "bad", "nobody", "g" * 150]


def test_A11_grpc_to_nobody_fails_at_once(world):
    began = time.monotonic()
    status, text = world.probe("/app-health/grpc2/livez")
    assert status == 500 and "refused" in text and time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["slow", "endless"])
def test_A11_time_outs_hold_and_nothing_waits_for_them(world, name):
    began = time.monotonic()
    slow = threading.Thread(target=lambda: results.append(world.probe(f"/app-health/{name}/livez")))
    results = []
    slow.start()
    wait_until(lambda: any(path == f"/{name}" for path, _, _ in world.http.seen))
    assert world.probe("/app-health/tcp/livez")[0] == 200 and not results
    slow.join(20)
    assert results == [(500, "the application did not answer in time\n")] and 0.9 < time.monotonic() - began < 10


def test_A11_hooks(world):
    assert world.probe("/app-lifecycle/c/prestopz") == (200, "state of /stop")


def test_A11_what_is_not_known_is_said(world):
    status, text = world.probe("/app-health/other/livez")
    assert status == 404 and "ISTIO_KUBE_APP_PROBERS" in text


def test_A11_too_many_at_a_time_are_refused(world):
    results = []
    threads = [threading.Thread(target=lambda: results.append(world.probe("/app-health/slow/livez")[0])) for _ in range(80)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert set(results) == {500, 503} and len(results) == 80
    assert world.probe("/app-health/tcp/livez")[0] == 200


def test_A11_probes_are_counted(world):
    text = subprocess.run(["curl", "-s", "--unix-socket", world.admin, "http://x/metrics"], capture_output=True, text=True, check=True).stdout
    assert 'istio_agent_application_probes_total{result="success"}' in text and 'result="failure"' in text


def agent_once(tmp_path, *options, env=None):
    return subprocess.run(
        [BUILD / "agent/agent", "--no-envoy", "--plaintext", "--discovery-address", "127.0.0.1:1", "--pod-ip", "127.0.0.1", "--pod-name", "p",
         "--state-dir", tmp_path / "state", "--status-address", "127.0.0.1:0", "--admin-address", f"unix:{tmp_path}/admin", *options],
        env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=20, check=False)


def test_A11_probes_that_cannot_be_done_end_the_agent_with_the_reason(tmp_path):
    done = agent_once(tmp_path, env={"ISTIO_KUBE_APP_PROBERS": '{"/app-health/c/livez": {"httpGet": {"port": "http"}}}'})
    assert done.returncode == 1 and "ISTIO_KUBE_APP_PROBERS: /app-health/c/livez: httpGet: port" in done.stderr
    done = agent_once(tmp_path, "--app-probers", "{")
    assert done.returncode == 1 and "--app-probers: line 1" in done.stderr
    done = agent_once(tmp_path, "--interception-mode", "EBPF")
    assert done.returncode == 1 and "is not REDIRECT, TPROXY or NONE" in done.stderr


def test_A12_wait_ends_with_readiness_or_its_time(world):
    def wait(path, timeout):
        return subprocess.run([BUILD / "agent/agent", "wait", "--url", f"http://127.0.0.1:{world.port()}{path}", "--timeout", timeout, "--period",
                               "50ms"], capture_output=True, text=True, timeout=30, check=False)
    assert wait("/app-health/tcp/livez", "20s").returncode == 0
    failed = wait("/healthz/ready", "300ms")
    assert failed.returncode == 1 and "not ready after 300 ms: status 503" in failed.stderr
    assert subprocess.run([BUILD / "agent/agent", "wait", "--wrong"], capture_output=True, check=False).returncode == 2


APPLICATION = """
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("10.78.0.1", 8080), H).serve_forever()
"""


def test_A11_A16_probes_pass_the_capture_of_their_own_pod(tmp_path):
    """With nobody at Envoy's ports, whatever capture redirected would be refused. The application listens at the pod's address alone."""
    pod = Namespace(user=os.getuid() != 0)
    running = []
    try:
        pod.run("ip", "link", "add", "eth0", "type", "bridge")
        pod.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth0")
        pod.run("ip", "link", "set", "eth0", "up")
        pod.run(BUILD / "agent/agent", "capture", "--proxy-mark", "1337")
        probers = {"/app-health/c/livez": {"httpGet": {"path": "/", "port": 8080}}, "/app-health/c/readyz": {"tcpSocket": {"port": 8080}}}
        running.append(pod.start(sys.executable, "-c", APPLICATION, stderr=subprocess.DEVNULL))
        running.append(pod.start(
            BUILD / "agent/agent", "--no-envoy", "--plaintext", "--discovery-address", "127.0.0.1:1", "--pod-ip", "10.78.0.1", "--pod-name", "p",
            "--state-dir", tmp_path / "state", "--status-address", "127.0.0.1:15020", "--admin-address", f"unix:{tmp_path}/admin",
            "--app-probers", json.dumps(probers), stderr=subprocess.DEVNULL))

        def status(path):
            return pod.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:15020{path}", check=False).stdout
        wait_until(lambda: status("/app-health/c/livez") == "200")
        assert status("/app-health/c/readyz") == "200"
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        pod.close()
