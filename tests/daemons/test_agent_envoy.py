"""The agent and its Envoy, a real one: readiness, metrics, restart, drain. One pod with its application in a network namespace of its own,
galley, pilot and citadel beside it on loopback, and a caller outside."""
import functools
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import xds_client
from netns import Namespace, connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
ENVOY = subprocess.run([ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()
POD, OUT = "10.77.0.1", "10.77.0.2"
DRAIN_S = 2

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIP: 10.96.1.1
  selector: {app: cart}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: cart-1
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: cart, controller: true}]
  labels: {app: cart, version: v1, security.istio.io/tlsMode: istio, topology.istio.io/locality: r.z1}
spec:
  serviceAccountName: cart
  containers: [{name: cart, ports: [{containerPort: 8080}]}]
status: {phase: Running, podIP: 10.77.0.1, conditions: [{type: Ready, status: "True"}]}
"""

ZONES = """
apiVersion: v1
kind: Pod
metadata: {name: cart-2, namespace: shop, labels: {app: cart, version: v1, topology.istio.io/locality: r.z2}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: cart, controller: true}]}
spec: {containers: [{name: cart, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.77.0.9, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: zoned, namespace: shop}
spec:
  hosts: [zoned.example]
  addresses: [10.96.1.9]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.77.0.2, locality: r/z1, ports: {http: 9001}}
  - {address: 10.77.0.2, locality: r/z2, ports: {http: 9002}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: zoned, namespace: shop}
spec:
  host: zoned.example
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, zoneAwareLbSetting: {enabled: %s, minClusterSize: 1}}}
"""

ZONE_SERVERS = """
import http.server, threading
def serve(port, name):
    class H(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(name.encode())
        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("10.77.0.2", port), H)
    threading.Thread(target=server.serve_forever).start()
serve(9001, "z1")
serve(9002, "z2")
print("up", flush=True)
"""

PROBERS = {"/app-health/cart/livez": {"httpGet": {"path": "/", "port": 8080}}}
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""

APPLICATION = """
import http.server, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = ""
    def do_GET(self):
        if self.path.startswith("/mode/"):
            H.mode = self.path[6:]
        if self.path.startswith("/slow"):
            time.sleep(float(self.path[6:]))
        body = b"# TYPE carts gauge\\ncarts 7" if self.path == "/stats" else b"hello"
        if self.path == "/more":
            body = b"# TYPE wheels gauge\\nwheels 4\\n"
        if self.path == "/stats" and H.mode == "openmetrics":
            body = b'# TYPE carts counter\\ncarts_total 7 # {trace_id="a"} 1\\n# EOF\\n'
        if self.path == "/stats" and H.mode == "neither":
            body = b"carts of the shop: 7"
        if self.path == "/stats" and H.mode == "large":
            body = b"carts 7\\n" * (5 << 20)
        if self.path == "/stats" and H.mode == "slow":
            time.sleep(2)
        self.send_response(200)
        self.send_header("content-type", "application/openmetrics-text; version=1.0.0" if H.mode in ("openmetrics", "neither") else "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), H).serve_forever()
"""


until = functools.partial(xds_client.until, seconds=20)


class Mesh:
    def __init__(self, folder):
        self.folder = folder
        self.host = Namespace(user=os.getuid() != 0)
        self.pod, self.outside = Namespace(self.host), Namespace(self.host)
        connect(self.pod, self.outside, self.host, [POD + "/24"], [OUT + "/24"])
        self.pod.run("ip", "route", "add", "10.96.0.0/16", "via", OUT)  # of services; captured before it gets there
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "mesh.yaml").write_text(MESH)
        self.processes = {}
        self.start("application", sys.executable, "-c", APPLICATION)
        self.daemon("galley", "--source", self.source)
        self.daemon("citadel", "--address", "127.0.0.1:8060")
        until(lambda: (folder / "citadel/root-cert.pem").exists())
        token = self.pod.run(BUILD / "citadel/citadel", "token", "--state-dir", folder / "citadel", "--namespace", "shop",
                             "--service-account", "cart")
        (folder / "token").write_text(token.strip())
        self.pod.run(BUILD / "agent/agent", "capture", "--proxy-mark", 1337)

    def start(self, name, *command):
        log = open(self.folder / (name + ".log"), "a+")
        self.processes[name] = self.pod.start(*command, stdout=log, stderr=log)
        log.close()

    def daemon(self, name, *options, environment=()):
        self.start(name, "env", "ISTIO_META_ENABLE_SELF_DISCOVERY=true", *environment, BUILD / name / name, "--bus", f"ipc://{self.folder}/bus-{{role}}", "--state-dir", self.folder / name,
                   "--admin-address", f"unix:{self.folder}/{name}.admin", *options)

    def start_pilot(self):
        self.daemon("pilot", "--xds-address", "127.0.0.1:15010", "--xds-tls-address", "127.0.0.1:0")

    def start_agent(self, *options, environment=()):
        annotations = {"prometheus.istio.io/scrape-targets": "8080:/stats,8080:/more"}
        self.daemon(
            "agent", "--pod-name", "cart-1", "--pod-namespace", "shop", "--pod-ip", POD, "--service-account", "cart", "--workload",
            "cart", "--labels", '{"app":"cart","version":"v1","topology.istio.io/locality":"r.z1"}', "--annotations", json.dumps(annotations), "--plaintext",
            "--discovery-address", "127.0.0.1:15010", "--ca-address", "127.0.0.1:8060", "--ca-roots",
            self.folder / "citadel/root-cert.pem", "--app-probers", json.dumps(PROBERS), "--token-file", self.folder / "token", "--envoy", ENVOY, "--concurrency", "1",
            "--proxy-mark", "1337", *(options or ("--drain-duration", f"{DRAIN_S}s")), environment=environment)

    def log(self, name):
        return (self.folder / (name + ".log")).read_text()

    def get(self, url, *options, ns=None):
        """(status, body); status 0: no answer"""
        done = (ns or self.pod).run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", *options, url, check=False)
        body, status = done.stdout.rsplit("\n", 1)
        return int(status), body

    def ready(self, port=15020):
        return self.get(f"http://{POD}:{port}/healthz/ready", ns=self.outside)

    def is_ready(self):
        return self.ready()[0] == 200

    def metrics(self, port=15020):
        return self.get(f"http://{POD}:{port}/stats/prometheus", ns=self.outside)[1]

    def call(self, path="/"):
        return self.get(f"http://{POD}:8080{path}", ns=self.outside)

    def envoy(self):
        return json.loads(self.get("http://agent/debug/envoy", "--unix-socket", self.folder / "agent.admin")[1])

    def end(self, name, signo=signal.SIGTERM):
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signo)
        return process.wait(20)

    def close(self):
        # The agent first and by SIGTERM, so that its Envoy ends with it.
        for name in sorted(self.processes):
            self.end(name, signal.SIGKILL if name == "application" else signal.SIGTERM)
        for ns in self.pod, self.outside, self.host:
            ns.close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    m = Mesh(tmp_path_factory.mktemp("m"))
    yield m
    m.close()


@pytest.fixture
def running(mesh):
    """Whatever the test before has ended is started again."""
    if "pilot" not in mesh.processes:
        mesh.start_pilot()
    if "agent" not in mesh.processes:
        mesh.start_agent()
    until(mesh.is_ready)
    return mesh


def series(text, name, **labels):
    """Sum over the series of a metric that have these labels."""
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()))


def only_inside(running):
    """METRICS_LOCALHOST_ACCESS_ONLY: A10 of the pod that it is given to."""
    for page in ("/stats/prometheus", "/stats/envoy"):
        assert running.get(f"http://{POD}:15020{page}", ns=running.outside) == (403, "only from 127.0.0.1 or ::1\n")
        assert running.get(f"http://127.0.0.1:15020{page}")[0] == 200
    assert running.get(f"http://{POD}:15090/stats/prometheus", ns=running.outside)[0] == 200, "Envoy's port, as in Istio"
    assert running.ready()[0] == 200


def test_A12_ready_with_the_first_configuration(mesh):
    mesh.start_agent()
    until(lambda: "no configuration yet: clusters accepted 0" in mesh.ready()[1])
    assert mesh.ready()[0] == 503
    mesh.start_pilot()
    until(mesh.is_ready)
    assert mesh.ready(15021) == (200, "ready\n")
    assert mesh.call() == (200, "hello")


def test_A01_envoy_takes_the_bootstrap(running):
    bootstrap = running.folder / "agent/envoy-rev.json"
    assert oct(bootstrap.stat().st_mode & 0o777) == "0o600"
    done = subprocess.run([ENVOY, "--mode", "validate", "-c", bootstrap], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout + done.stderr
    assert running.envoy()["starts"] == 1


@pytest.mark.parametrize("options", [
    ["--type", "router"],
    ["--proxy-mark", "4000000000", "--exit-on-zero-connections", "--locality", "a/b/c"],
    ["--annotations", json.dumps({
        "sidecar.istio.io/statsInclusionRegexps": "http.*", "sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound,listener"})],
    ["--status-address", "127.0.0.1:16000", "--envoy-admin-port", "16001", "--concurrency", "0"],
])
def test_A01_envoy_takes_every_bootstrap(options, tmp_path):
    with Owner(Namespace(user=os.getuid() != 0)) as ns:
        agent = ns.start(
            BUILD / "agent/agent", "--no-envoy", "--state-dir", tmp_path, "--bus", "none", "--pod-name", "a", "--pod-ip", "10.0.0.1",
            "--plaintext", "--discovery-address", "127.0.0.1:1", "--ca-roots", "/dev/null", *options, stderr=subprocess.PIPE)
        bootstrap = tmp_path / "envoy-rev.json"
        until(lambda: bootstrap.exists() or agent.poll() is not None)
        agent.terminate()
        assert agent.wait(10) == 0, agent.stderr.read()
        agent.stderr.close()
    done = subprocess.run([ENVOY, "--mode", "validate", "-c", bootstrap], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Owner:
    def __init__(self, ns):
        self.ns = ns

    def __enter__(self):
        return self.ns

    def __exit__(self, *_):
        self.ns.close()


def test_T01_standard_metrics(running):
    for _ in range(3):
        assert running.call() == (200, "hello")
    labels = {"reporter": "destination", "destination_service": "cart.shop.svc.cluster.local", "response_code": "200",
              "destination_workload": "cart", "destination_app": "cart", "destination_version": "v1",
              "destination_workload_namespace": "shop", "connection_security_policy": "none"}
    until(lambda: series(running.metrics(), "istio_requests_total", **labels) >= 3)
    until(lambda: series(running.metrics(), "istio_request_duration_milliseconds_count", **labels) >= 3)
    text = running.metrics()
    assert "# TYPE istio_requests_total counter" in text
    assert "envoy_istio_" not in text
    own = running.metrics(15090)
    assert series(own, "istio_requests_total", **labels) >= 3
    assert "istio_agent_" not in own


def test_P34_traffic_stays_in_the_callers_zone(running):
    """Callers and servers are spread alike over two zones, so each zone can serve its own."""
    def zones():
        return {running.get("http://10.96.1.9/", "-m", "1")[1] for _ in range(12)}

    servers = running.outside.start(sys.executable, "-c", ZONE_SERVERS, stdout=subprocess.PIPE)
    zoned = running.source / "zoned.yaml"
    try:
        assert servers.stdout.readline() == "up\n"
        zoned.write_text(ZONES % "false")
        until(lambda: zones() == {"z1", "z2"})
        zoned.write_text(ZONES % "true")
        until(lambda: zones() == {"z1"})
        siblings = running.get("http://127.0.0.1:15000/clusters?format=json")[1]
        hosts = next(c["host_statuses"] for c in json.loads(siblings)["cluster_statuses"] if c["name"] == "local_cluster")
        assert sorted(h["locality"]["zone"] for h in hosts) == ["z1", "z2"]
    finally:
        zoned.unlink(missing_ok=True)
        servers.kill()
        servers.wait()
        servers.stdout.close()


def test_P64_P86_http_on_a_port_that_nobody_knows_goes_by_its_host(running):
    """The address leads nowhere. Services, which have listeners of their own, are reached as before."""
    def by_host(url, *options):
        return running.get(url, "-m", "2", *options)[1]

    servers = running.outside.start(sys.executable, "-c", ZONE_SERVERS, stdout=subprocess.PIPE)
    config = running.source / "zoned.yaml"
    try:
        assert servers.stdout.readline() == "up\n"
        config.write_text(ZONES % "false" + """---
apiVersion: fairlead.dev/v1
kind: MeshConfig
metadata: {name: default}
spec: {outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}
""")
        until(lambda: by_host("http://10.96.9.9:12345/", "-H", f"Host: {OUT}:9002") == "z2")
        assert by_host("http://10.96.1.9/") in ("z1", "z2")
        assert by_host(f"http://{OUT}:9001/") == "z1"
    finally:
        config.unlink(missing_ok=True)
        servers.kill()
        servers.wait()
        servers.stdout.close()


def test_A11_with_strict_mutual_tls_probes_reach_the_application_by_the_agent(running):
    """The kubelet has no certificate of the mesh: at the application's port it is refused like anybody."""
    def probe():
        return running.get(f"http://{POD}:15020/app-health/cart/livez", ns=running.outside)
    strict = running.source / "strict.yaml"
    strict.write_text(STRICT)
    try:
        until(lambda: running.call()[0] == 0)
        assert probe() == (200, "hello")
        running.end("application", signal.SIGKILL)
        assert probe()[0] == 500
        running.start("application", sys.executable, "-c", APPLICATION)
        until(lambda: probe() == (200, "hello"))
    finally:
        strict.unlink()
    until(lambda: running.call() == (200, "hello"))


def test_O14_the_data_planes_ports_are_istios(running):
    bound = {}
    for line in running.pod.run("ss", "-Hltn").splitlines():
        address, port = line.split()[3].rsplit(":", 1)
        bound.setdefault(int(port), set()).add(address)
    open_to_all = {"0.0.0.0", "*", "[::]"}
    assert bound[15000] == {"127.0.0.1"}
    assert all(bound[port] and bound[port] <= open_to_all for port in (15001, 15006, 15020, 15021, 15090)), bound
    help_text = subprocess.run([BUILD / "agent/agent", "--help"], capture_output=True, text=True, check=True).stdout
    assert "(default 127.0.0.1:15004)" in help_text and "(default *:15020)" in help_text


def test_A10_metrics_of_envoy_application_and_agent_together(running):
    text = running.metrics()
    assert "envoy_server_state{} 0" in text
    assert "\ncarts 7\n" in text and "\nwheels 4\n" in text
    assert "\nistio_agent_process_resident_memory_bytes " in text and "\nprocess_" not in text
    assert "\nistio_agent_envoy_running 1\n" in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_A10_metrics_come_in_gzip_and_as_prometheus_asks(running):
    url = "http://127.0.0.1:15020/stats/prometheus"
    head, _ = running.pod.run("curl", "-s", "-D", "-", "-o", running.folder / "packed", "-H", "Accept-Encoding: gzip", url), None
    assert "content-encoding: gzip" in head.lower() and "content-type: text/plain; version=0.0.4" in head.lower()
    packed = (running.folder / "packed").read_bytes()
    text = gzip.decompress(packed).decode()
    assert "\ncarts 7\n" in text and len(packed) < len(text) / 3
    # What Prometheus adds to the query is Envoy's.
    few = running.get(url + "?filter=server.state")[1]
    assert "envoy_server_state{} 0" in few and "envoy_server_uptime" not in few and "envoy_server_uptime" in text and "\nwheels 4\n" in few


def test_A10_openmetrics_of_the_application_become_text(running):
    assert running.call("/mode/openmetrics")[0] == 200
    text = running.metrics()
    assert "\n# TYPE carts_total counter\ncarts_total 7\n" in text and "# EOF" not in text and "trace_id" not in text
    assert running.call("/mode/ordinary")[0] == 200


@pytest.mark.parametrize("mode", ["large", "neither"])
def test_A10_application_metrics_that_cannot_be_merged_are_left_out(running, mode):
    before = series(running.metrics(), "istio_agent_scrape_failures_total", type="application")
    assert running.call("/mode/" + mode)[0] == 200
    text = running.metrics()
    assert "carts" not in text and "envoy_server_state{} 0" in text
    assert series(text, "istio_agent_scrape_failures_total", type="application") == before + 1
    assert running.call("/mode/ordinary")[0] == 200
    assert "\ncarts 7\n" in running.metrics()


def test_A10_scrapes_at_a_time_are_limited(running):
    assert running.call("/mode/slow")[0] == 200
    url = f"http://{POD}:15020/stats/prometheus"
    under_way = [running.outside.start("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, stdout=subprocess.PIPE) for _ in range(5)]
    codes = sorted(p.communicate()[0] for p in under_way)
    assert codes == ["200"] * 4 + ["503"]
    assert running.call("/mode/ordinary")[0] == 200
    assert "\ncarts 7\n" in running.metrics()


def test_A10_a_part_that_does_not_answer_is_left_out_and_counted(running):
    before = series(running.metrics(), "istio_agent_scrape_failures_total", type="application")
    running.end("application", signal.SIGKILL)
    text = running.metrics()
    assert "carts" not in text and "envoy_server_state{} 0" in text
    assert series(text, "istio_agent_scrape_failures_total", type="application") == before + 2  # of two places
    running.start("application", sys.executable, "-c", APPLICATION)
    until(lambda: "\ncarts 7\n" in running.metrics())


def test_A01_few_statistics_are_kept(running):
    names = running.get("http://127.0.0.1:15000/stats")[1].splitlines()
    assert len(names) < 1000
    assert not [n for n in names if n.startswith(("http.", "tcp.", "cluster.inbound", "cluster.outbound", "listener."))]


def test_A01_envoy_is_started_again(running):
    first = running.envoy()
    os.kill(first["pid"], signal.SIGKILL)
    second = until(lambda: running.envoy().get("pid") not in (None, first["pid"]) and running.envoy())
    assert second["starts"] == first["starts"] + 1
    assert second["last_exit"] == {"status": -1, "signal": 9}
    assert "Envoy ended unasked and is started again" in running.log("agent")
    until(running.is_ready)
    assert running.call() == (200, "hello")
    assert series(running.metrics(), "istio_agent_envoy_exits_total", reason="signal") >= 1


@pytest.mark.parametrize("option, value, why", [
    ("--envoy", "/nowhere/envoy", "--envoy /nowhere/envoy: No such file or directory"),
    ("--envoy-log-level", "loud,misc:error", '--envoy-log-level: "loud" is not trace, debug'),
    ("--bootstrap-override", "/nowhere/b.json", "--bootstrap-override: open /nowhere/b.json: No such file"),
    ("--status-address", "127.0.0.1", "status port: --status-address: "),
    ("--annotations", '{"prometheus.io/scrape":"true","prometheus.io/port":"http"}', 'annotation prometheus.io/port: "http" is not 1..65535'),
    ("--annotations", '{"prometheus.io/scrape":"true","prometheus.io/scheme":"ftp"}', 'annotation prometheus.io/scheme: "ftp" is neither'),
])
def test_A01_what_is_wrong_is_said_at_the_start(running, tmp_path, option, value, why):
    done = running.pod.run(
        BUILD / "agent/agent", "--state-dir", tmp_path, "--pod-name", "a", "--pod-ip", POD, "--plaintext", "--discovery-address",
        "127.0.0.1:1", "--ca-roots", "/dev/null", *([] if option == "--status-address" else ["--status-address", "127.0.0.1:0"]), "--bus", "none", "--envoy", ENVOY,
        "--admin-address", "127.0.0.1:0", option, value, check=False)
    assert done.returncode == 1
    assert why in done.stderr.replace('\\"', '"')


def test_I03_A10_the_users_bootstrap_is_merged_over_the_agents_and_metrics_may_stay_inside(running):
    running.end("agent")
    override = running.folder / "custom_bootstrap.json"
    override.write_text('{"stats_flush_interval": "77s", "node": {"metadata": {"MINE": "yes"}}}')
    running.start_agent("--drain-duration", "100ms", "--bootstrap-override", override, environment=["METRICS_LOCALHOST_ACCESS_ONLY=true"])
    until(running.is_ready)
    only_inside(running)
    bootstrap = json.loads(running.get("http://127.0.0.1:15000/config_dump?resource=&mask=bootstrap")[1])["configs"][0]["bootstrap"]
    assert bootstrap["stats_flush_interval"] == "77s" and bootstrap["node"]["metadata"]["MINE"] == "yes"
    assert bootstrap["node"]["metadata"]["LABELS"]["app"] == "cart" and running.call() == (200, "hello")
    running.end("agent")


def test_A10_only_the_pod_itself_may_end_the_agent(running):
    status, text = running.get(f"http://{POD}:15020/quitquitquit", "-X", "POST", ns=running.outside)
    assert (status, text) == (403, "only from 127.0.0.1 or ::1\n")
    # The address from which the sidecar passes on what came from outside is not the pod itself.
    url = "http://127.0.0.1:15020/quitquitquit"
    assert running.get(url, "-X", "POST", "--interface", "127.0.0.6")[0] == 403
    assert running.get(url)[0] == 405
    assert running.is_ready()
    assert running.get(url, "-X", "POST") == (200, "ending\n")
    assert running.processes.pop("agent").wait(20) == 0


def test_A10_A13_drain_on_request_ends_nothing_and_is_not_repeated(running):
    url = "http://127.0.0.1:15020/drain"
    assert running.get(f"http://{POD}:15020/drain", "-X", "POST", ns=running.outside) == (403, "only from 127.0.0.1 or ::1\n")
    assert running.get(url)[0] == 405
    pid = running.envoy()["pid"]
    done = running.pod.run(BUILD / "agent/agent", "drain", check=False)  # the preStop hook of a native sidecar
    assert (done.returncode, done.stderr) == (0, "")
    done = running.pod.run(BUILD / "agent/agent", "drain", "--url", "http://127.0.0.1:15020/other", check=False)
    assert done.returncode == 1 and "agent drain: http://127.0.0.1:15020/other: status 404" in done.stderr
    done = running.pod.run(BUILD / "agent/agent", "drain", "--url", "http://127.0.0.1:1/drain", check=False)
    assert done.returncode == 1 and "no answer" in done.stderr
    until(lambda: running.get("http://127.0.0.1:15000/stats?filter=drain")[1].count("total_listeners_draining") and
          "asked to drain by /drain" in running.log("agent"))
    assert running.get(url, "-X", "POST") == (200, "draining\n")
    assert running.envoy()["pid"] == pid
    assert running.log("agent").count("draining Envoy, which goes on") == 1
    agent = running.processes.pop("agent")
    start = time.monotonic()
    agent.terminate()
    assert agent.wait(20) == 0
    assert time.monotonic() - start < DRAIN_S  # nobody is waited for a second time
    assert "Envoy has been drained already" in running.log("agent")


def test_A13_drain_serves_until_the_end(running):
    envoy = running.envoy()["pid"]
    slow = running.outside.start("curl", "-s", "-m", "10", f"http://{POD}:8080/slow/1", stdout=subprocess.PIPE)
    agent = running.processes.pop("agent")
    start = time.monotonic()
    agent.terminate()
    status, text = until(lambda: (got := running.ready())[0] != 200 and got)
    assert (status, text) == (503, "not ready: draining\n")
    while time.monotonic() < start + DRAIN_S / 2:
        assert running.call() == (200, "hello")
    assert slow.communicate()[0] == "hello"
    assert agent.wait(20) == 0
    assert DRAIN_S <= time.monotonic() - start < DRAIN_S + 5
    assert not pathlib.Path(f"/proc/{envoy}").exists()
    assert "Envoy ended" in running.log("agent") and "is killed" not in running.log("agent")


def test_A13_the_last_connection_may_end_the_drain(running):
    running.end("agent")
    running.start_agent("--drain-duration", "100ms", "--exit-on-zero-connections")
    until(running.is_ready)
    slow = running.outside.start("curl", "-s", "-m", "10", f"http://{POD}:8080/slow/3", stdout=subprocess.PIPE)
    connections = "http://127.0.0.1:15000/stats?filter=0.0.0.0_15006.downstream_cx_active$"
    until(lambda: " 1" in running.get(connections)[1])
    start = time.monotonic()
    assert running.end("agent") == 0
    took = time.monotonic() - start
    assert slow.communicate()[0] == "hello"
    # Longer than the drain, and than the time after which Envoy takes no new connections; no longer than the request.
    assert 2 < took < 6


def ignores(pid, signo):
    """Whether a process ignores a signal, as the kernel tells."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return mask >> (signo - 1) & 1


class Impostor:
    """An agent whose Envoy is a script."""

    def __init__(self, folder, script, *options):
        program = folder / "envoy"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        self.folder = folder
        self.ns = Namespace(user=os.getuid() != 0)
        self.log = open(folder / "log", "w+")
        self.agent = self.ns.start(
            BUILD / "agent/agent", "--state-dir", folder, "--bus", "none", "--pod-name", "a", "--pod-ip", "10.0.0.1", "--plaintext",
            "--discovery-address", "127.0.0.1:1", "--ca-roots", "/dev/null", "--envoy", program, "--admin-address",
            f"unix:{folder}/admin", *options, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait(10)
        self.log.close()
        self.ns.close()

    def envoy(self):
        done = self.ns.run("curl", "-s", "--unix-socket", self.folder / "admin", "http://agent/debug/envoy", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def text(self):
        return (self.folder / "log").read_text()


def test_A01_pauses_between_starts_grow(tmp_path):
    with Impostor(tmp_path, "exit 3\n") as i:
        pauses = []

        def seen():
            page = i.envoy()
            if page.get("state") == "waiting to restart" and page["restart_pause_ms"] not in pauses[-1:]:
                assert page["last_exit"] == {"status": 3, "signal": 0}
                pauses.append(page["restart_pause_ms"])
            return len(pauses) >= 3

        until(seen)
        # Each is the double of the one before, give or take a fifth each.
        assert all(1.2 < b / a < 3.1 for a, b in zip(pauses, pauses[1:])), pauses
        # A stop does not wait for the next start.
        i.agent.terminate()
        start = time.monotonic()
        assert i.agent.wait(10) == 0
        assert time.monotonic() - start < 1


def test_A13_an_envoy_that_does_not_end_is_killed(tmp_path):
    with Impostor(tmp_path, "trap '' TERM\nwhile :; do sleep 1; done\n", "--drain-duration", "0s") as i:
        page = until(lambda: (got := i.envoy()).get("state") == "running" and got)
        # Not before the script has set its trap.
        until(lambda: ignores(page["pid"], signal.SIGTERM))
        i.agent.terminate()
        assert i.agent.wait(20) == 0
        assert not pathlib.Path(f"/proc/{page['pid']}").exists()
        assert "Envoy does not end and is killed after_ms=5000" in i.text()
        assert "Envoy ended status=-1 signal=9" in i.text()
