"""Services that Envoy calls by itself because its ProxyConfig names them: a real Envoy beside an application, and the services outside of the pod."""
import json
import pathlib
import subprocess
import sys

import pytest

from test_agent_envoy import DRAIN_S, OUT, Mesh, series, until

HERE = pathlib.Path(__file__).parent
MESH_CONFIG = """
apiVersion: fairlead.dev/v1
kind: MeshConfig
metadata: {name: default}
spec: {enableEnvoyAccessLogService: true}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: shop}
spec:
  hosts: [plain.example]
  addresses: [10.96.1.8]
  ports: [{number: 9400, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.77.0.2}]
"""
ECHO = """
import socket
s = socket.create_server(("10.77.0.2", 9400))
print("up", flush=True)
while True:
    c = s.accept()[0]
    c.sendall(c.recv(100).upper())
    c.close()
"""
TALK = "import socket; s = socket.create_connection(('10.96.1.8', 9400)); s.sendall(b'hello'); print(s.recv(100).decode())"


class Services:
    def __init__(self, mesh):
        folder = mesh.folder
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "logs.key", "-out",
                        folder / "logs.pem", "-days", "2", "-subj", "/CN=logs", "-addext", "subjectAltName=DNS:logs.example"], check=True, capture_output=True)
        self.said, self.output = folder / "services.log", open(folder / "services.log", "w")
        self.receiver = mesh.outside.start(sys.executable, "-B", HERE / "service_receiver.py", OUT, folder / "logs.pem", folder / "logs.key", stdout=self.output)
        self.echo = mesh.outside.start(sys.executable, "-c", ECHO, stdout=subprocess.PIPE)
        assert self.echo.stdout.readline() == "up\n"
        until(self.lines)

    def lines(self, key="ready", **has):
        whole = self.said.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if key in line and has.items() <= line.items()]

    def close(self):
        for process in self.receiver, self.echo:
            process.kill()
            process.wait()
        self.echo.stdout.close()
        self.output.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    mesh = Mesh(tmp_path_factory.mktemp("m"))
    (mesh.source / "services.yaml").write_text(MESH_CONFIG)
    mesh.services = Services(mesh)
    tls = {"mode": "SIMPLE", "caCertificates": str(mesh.folder / "logs.pem"), "subjectAltNames": ["logs.example"], "sni": "logs.example"}
    config = {"envoyAccessLogService": {"address": f"{OUT}:9300", "tlsSettings": tls, "tcpKeepalive": {"time": "77s"}},
              "envoyMetricsService": {"address": f"{OUT}:9301"}, "statsdUdpAddress": f"{OUT}:9302", "fileFlushInterval": "2s", "fileFlushMinSizeKb": 5}
    mesh.start_pilot()
    mesh.start_agent("--drain-duration", f"{DRAIN_S}s", "--proxy-config", json.dumps(config))
    try:
        until(mesh.is_ready)
        yield mesh
    finally:
        mesh.services.close()
        mesh.close()


def test_P120_a_request_is_in_the_access_log_service(running):
    assert running.call("/seen") == (200, "hello")
    found = until(lambda: running.services.lines("log", kind="http", path="/seen"))
    assert len(found) == 1 and found[0]["log"] == "http_envoy_accesslog" and found[0]["code"] == 200
    assert found[0]["cluster"] == "inbound|8080||"


def test_P120_a_connection_is_in_the_access_log_service(running):
    assert running.pod.run(sys.executable, "-c", TALK) == "HELLO\n"
    cluster = "outbound|9400||plain.example"
    found = until(lambda: running.services.lines("log", kind="tcp", cluster=cluster))
    assert len(found) == 1 and found[0]["log"] == "tcp_envoy_accesslog"
    assert (found[0]["received"], found[0]["sent"]) == (5, 5)


def test_P120_the_service_is_kept_alive_as_said(running):
    until(lambda: "timer:(keepalive,1min1" in running.pod.run("ss", "-tnoH", "dst", OUT, "dport", "=", "9300"))


def test_P124_statistics_go_to_the_metrics_service_and_to_statsd(running):
    running.call()
    until(lambda: any("server.live" in line["metrics"] for line in running.services.lines("metrics")))
    until(lambda: any("envoy.server.live:1|g" in line["statsd"] for line in running.services.lines("statsd")))
    assert series(running.metrics(), "istio_requests_total", reporter="destination") > 0, "scraped as well"


def test_P124_log_files_are_written_as_said(running):
    arguments = pathlib.Path(f"/proc/{running.envoy()['pid']}/cmdline").read_text().split("\0")
    pairs = dict(zip(arguments, arguments[1:]))
    assert pairs["--file-flush-interval-msec"] == "2000" and pairs["--file-flush-min-size-kb"] == "5"
