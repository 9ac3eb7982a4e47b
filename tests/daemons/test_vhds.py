"""Virtual hosts as resources of their own, on a real Envoy: routing is the same, a change sends one host, and nothing fails meanwhile."""
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from xds_client import CDS, LDS, RDS, VHDS, Envoy, node

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
ENVOY = subprocess.run([ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()
HOSTS = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(check, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.headers["host"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def host(i):
    return f"h-{i}.vhds.example"


class Mesh:
    """galley, pilot, a backend and an Envoy that asks for virtual hosts as resources."""

    def __init__(self, folder):
        self.folder, self.source = folder, folder / "source"
        self.source.mkdir()
        self.port, self.xds, self.admin, self.pilot_admin = (free_port() for _ in range(4))
        self.backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=self.backend.serve_forever, daemon=True).start()
        for i in range(HOSTS):
            self.service(i)
        self.rule("one")
        self.processes = []
        self.start("galley", BUILD / "galley/galley", "--source", self.source, "--bus", f"ipc://{folder}/{{role}}",
                   "--admin-address", "127.0.0.1:0")
        self.start("pilot", BUILD / "pilot/pilot", "--bus", f"ipc://{folder}/{{role}}", "--xds-address", f"127.0.0.1:{self.xds}",
                   "--admin-address", f"127.0.0.1:{self.pilot_admin}")
        self.bootstrap()
        self.start("envoy", ENVOY, "-c", folder / "bootstrap.json", "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning")

    def start(self, name, *command):
        with open(self.folder / f"{name}.log", "w", encoding="utf-8") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def write(self, name, text):
        (self.folder / name).write_text(text)
        os.rename(self.folder / name, self.source / name)

    def service(self, i):
        self.write(f"h-{i}.yaml", f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: h-{i}, namespace: default}}
spec:
  hosts: [{host(i)}]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: {self.port}, name: http, protocol: HTTP, targetPort: {self.backend.server_address[1]}}}]
  endpoints: [{{address: 127.0.0.1}}]
""")

    def rule(self, revision):
        self.write("rule.yaml", f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rule, namespace: default}}
spec:
  hosts: [{host(0)}]
  http:
  - headers: {{response: {{set: {{x-rev: {revision}}}}}}}
    route: [{{destination: {{host: {host(0)}}}}}]
""")

    def bootstrap(self):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.xds}}
        (self.folder / "bootstrap.json").write_text(json.dumps({
            "node": {"id": "sidecar~127.0.0.1~probe.default~default.svc.cluster.local", "cluster": "probe",
                     "metadata": {"NAMESPACE": "default", "INTERCEPTION_MODE": "NONE", "FAIRLEAD_VHDS": "true"}},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
            "dynamic_resources": {
                "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}]},
                "cds_config": {"ads": {}, "resource_api_version": "V3"}, "lds_config": {"ads": {}, "resource_api_version": "V3"}},
            "static_resources": {"clusters": [{
                "name": "pilot", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "pilot", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}]}}))

    def call(self, name):
        """(status, headers, body); status 0: no connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"host": name})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        except OSError:
            return 0, {}, ""
        finally:
            connection.close()

    def metric(self, start):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.pilot_admin}/metrics", timeout=5) as answer:
                return sum(float(line.rsplit(" ", 1)[1]) for line in answer.read().decode().splitlines() if line.startswith(start))
        except urllib.error.URLError:
            return 0.0

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(20)
        self.backend.shutdown()
        self.backend.server_close()


@pytest.fixture
def mesh(tmp_path):
    m = Mesh(tmp_path)
    try:
        until(lambda: m.call(host(0))[0] == 200)
        yield m
    finally:
        m.stop()


class Traffic:
    """Requests to hosts that are not changed, all the time."""

    def __init__(self, mesh):
        self.mesh, self.done, self.bad, self.ended = mesh, 0, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended:
            name = host(1 + self.done % (HOSTS - 2))
            status, _, body = self.mesh.call(name)
            self.done += 1
            if status != 200 or body != name:
                self.bad.append((name, status, body))

    def stop(self):
        self.ended = True
        self.thread.join()
        assert self.done > 50 and not self.bad, self.bad[:5]


def test_hosts_come_as_resources_and_no_request_fails_while_they_change(mesh):
    pushes = 'pilot_xds_pushes{type="rds"}'
    for i in range(HOSTS):
        status, _, body = mesh.call(host(i))
        assert (status, body) == (200, host(i))
        assert mesh.call(f"{host(i).upper()}:{mesh.port}")[0] == 200
    traffic = Traffic(mesh)
    routes, hosts = mesh.metric(pushes), mesh.metric('pilot_xds_pushes{type="vhds"}')
    for revision in ("two", "three", "four", "five", "six"):
        mesh.rule(revision)
        until(lambda: mesh.call(host(0))[1].get("x-rev") == revision)
    assert mesh.metric(pushes) == routes  # no RouteConfiguration was sent for them
    assert mesh.metric('pilot_xds_pushes{type="vhds"}') >= hosts + 5
    (mesh.source / f"h-{HOSTS - 1}.yaml").unlink()
    until(lambda: mesh.call(host(HOSTS - 1))[0] != 200)
    mesh.service(HOSTS - 1)
    until(lambda: mesh.call(host(HOSTS - 1))[0] == 200)
    mesh.service(HOSTS)
    until(lambda: mesh.call(host(HOSTS))[0] == 200)
    traffic.stop()
    assert mesh.metric("pilot_total_xds_rejects") == 0


def test_a_proxy_that_comes_back_is_sent_nothing_again_and_routes_the_same(mesh):
    traffic = Traffic(mesh)
    mesh.processes[1].terminate()
    mesh.processes[1].wait(20)
    mesh.start("pilot2", BUILD / "pilot/pilot", "--bus", f"ipc://{mesh.folder}/{{role}}", "--xds-address", f"127.0.0.1:{mesh.xds}",
               "--admin-address", f"127.0.0.1:{mesh.pilot_admin}")
    until(lambda: mesh.metric('pilot_xds_delta_resumed{type="vhds"}') >= HOSTS)
    mesh.rule("after")
    until(lambda: mesh.call(host(0))[1].get("x-rev") == "after")
    for i in range(HOSTS):
        assert mesh.call(host(i))[0] == 200
    traffic.stop()
    assert mesh.metric("pilot_total_xds_rejects") == 0


# ---- what a server must do, seen by a client that can be made to refuse

METADATA = {"NAMESPACE": "default", "INTERCEPTION_MODE": "NONE", "FAIRLEAD_VHDS": "true"}


def client(mesh, **options):
    return Envoy(f"127.0.0.1:{mesh.xds}", node("sidecar~127.0.0.1~client.default~default.svc.cluster.local", "client", METADATA), **options)


def whole(c, *routes):
    """Asks as Envoy does: one subscription without names, and nothing for RouteConfigurations that come later."""
    for type_url in (CDS, LDS):
        c.subscribe(type_url)
        until(lambda: c.held.get(type_url))
    c.subscribe(RDS, *routes)
    c.subscribe(VHDS)
    until(lambda: set(c.held.get(RDS, ())) == set(routes))
    for route in routes:
        until(lambda: len(hosts_of(c, route)) >= HOSTS)


def hosts_of(c, route):
    return {name for name in c.held.get(VHDS, ()) if name.rpartition("/")[0] == route}


def sent(c, type_url, since=0):
    return [r for r in c.seen[since:] if r["type"] == type_url]


@pytest.fixture
def route(mesh):
    return str(mesh.port)


def test_hosts_follow_their_route_configuration_each_time_it_is_asked_for(mesh, route):
    c = client(mesh)
    whole(c, route)
    order = [r["type"] for r in c.seen if r["type"] in (RDS, VHDS)]
    assert order[0] == RDS
    everything = hosts_of(c, route)
    c.unsubscribe(RDS, route)
    since = len(c.seen)
    c.held[RDS] = {}
    c.subscribe(RDS, route)
    until(lambda: set().union(*(r["names"] for r in sent(c, VHDS, since))) >= everything)
    assert [r["type"] for r in c.seen[since:] if r["type"] in (RDS, VHDS)][0] == RDS
    c.close()


def test_a_response_has_hosts_of_one_route_configuration(mesh, route):
    other = free_port()
    for i in range(HOSTS):
        text = (mesh.source / f"h-{i}.yaml").read_text()
        mesh.write(f"other-{i}.yaml", text.replace(f"name: h-{i},", f"name: other-{i},").replace(f"[{host(i)}]", f"[other-{host(i)}]")
                   .replace(f"number: {mesh.port}", f"number: {other}"))
    c = client(mesh)
    whole(c, route)
    c.subscribe(RDS, str(other))
    until(lambda: len(hosts_of(c, str(other))) >= HOSTS)
    for response in sent(c, VHDS):
        assert len({name.rpartition("/")[0] for name in response["names"] | response["removed"]}) == 1
    c.close()


def test_hosts_are_trusted_on_a_new_stream_only_with_their_route_configuration(mesh, route):
    first = client(mesh)
    whole(first, route)
    held = {t: dict(r) for t, r in first.held.items()}
    first.close()
    again = client(mesh, held={t: dict(r) for t, r in held.items()})
    whole(again, route)
    mesh.rule("marker")  # comes after anything that would be sent again
    until(lambda: b"marker" in b"".join(data for _, data in again.held[VHDS].values()))
    assert [len(r["names"]) for r in sent(again, VHDS)] == [1]
    assert not sent(again, RDS)
    again.close()
    without = client(mesh, held={VHDS: dict(held[VHDS])})
    without.subscribe(RDS, route)
    without.subscribe(VHDS)
    until(lambda: set().union(*(r["names"] for r in sent(without, VHDS))) >= set(held[VHDS]))
    without.close()


def test_a_host_that_is_refused_holds_back_no_other(mesh, route):
    c = client(mesh, refuse_if=lambda type_url, got: type_url == VHDS and any(b"refused-revision" in data for _, data in got.values()))
    whole(c, route)
    mesh.rule("refused-revision")
    mesh.service(HOSTS)
    until(lambda: any(host(HOSTS) in name or host(HOSTS).encode() in data for name, (_, data) in c.held[VHDS].items()))
    assert mesh.metric("pilot_total_xds_rejects") >= 1
    mesh.rule("mended")
    until(lambda: any(b"mended" in data for _, data in c.held[VHDS].values()))
    assert not any(b"refused-revision" in data for _, data in c.held[VHDS].values())
    c.close()
