"""Destination rules, Sidecars and service entries on real Envoys: stickiness, hidden hosts, listeners of their own, hosts by name, TLS to outside."""
import contextlib
import json
import subprocess
import sys

from mesh import REVIEWS
from test_traffic import ASK_MANY
from util import until

CALLER = "default/productpage-v1"
REVIEWS_HOST = "reviews.default.svc.cluster.local"


def document(kind, name, spec):
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n---\n"


def answers(mesh, count, *headers):
    out = json.loads(mesh.run_in(CALLER, "python3", ASK_MANY, "reviews", 9080, "/reviews/0", count, *headers, timeout=120))
    assert not out["failures"], out["failures"][:5]
    return out["answers"]


def test_P32_a_header_sticks_to_one_endpoint(mesh):
    mesh.remove(REVIEWS)
    until(lambda: len(answers(mesh, 20)) == 3, 10, "all versions without a rule")
    rule = mesh.dir / "networking/destination-rule-reviews.yaml"
    rule.write_text(rule.read_text().replace("  subsets:", "  trafficPolicy:\n    loadBalancer: {consistentHash: {httpHeaderName: x-user}}\n  subsets:"))
    until(lambda: len(answers(mesh, 40, "x-user:alice")) == 1, 10, "one version for alice")
    of_user = {user: set(answers(mesh, 5, f"x-user:{user}")) for user in map(str, range(12))}
    assert all(len(seen) == 1 for seen in of_user.values()), of_user
    assert len(set.union(*of_user.values())) > 1, "the users are not all on one endpoint"


def test_P62_P64_a_sidecar_hides_a_host(mesh):
    def status(host):
        return mesh.curl(CALLER, f"http://{host}:9080/{host}/0")[0]

    assert status("details") == status("reviews") == 200
    mesh.write("sidecar.yaml", document("Sidecar", "default", f'{{egress: [{{hosts: ["./{REVIEWS_HOST}"]}}], '
                                        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"))
    until(lambda: status("details") == 502, 10, "details is unknown")
    assert status("reviews") == 200
    mesh.remove("sidecar.yaml")
    until(lambda: status("details") == 200, 10, "details is back")


def test_P63_a_port_of_an_ingress_listener_leads_to_the_application(mesh):
    ip = mesh.unit("default/details-v1")["ip"]
    assert mesh.curl(None, f"http://{ip}:9191/details/0")[0] != 200
    mesh.write("sidecar.yaml", document("Sidecar", "details", """{workloadSelector: {labels: {app: details}}, ingress: [
  {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:9080"},
  {port: {number: 9191, protocol: HTTP, name: more}, defaultEndpoint: "127.0.0.1:9080"}]}"""))
    until(lambda: mesh.curl(None, f"http://{ip}:9191/details/0")[0] == 200, 10, "the new port")
    assert mesh.curl(CALLER, "http://details:9080/details/0")[0] == 200


def test_P54_P62_hosts_by_name_at_a_bound_listener(mesh):
    """Envoy looks up the name of each request; *.localhost is the pod itself, where productpage listens."""
    mesh.write("names.yaml", document("ServiceEntry", "names", """{hosts: ["*.localhost"], resolution: DYNAMIC_DNS,
  ports: [{number: 9080, name: http, protocol: HTTP}]}""") + document("Sidecar", "productpage", """{workloadSelector: {labels: {app: productpage}},
  egress: [{port: {number: 9080, protocol: HTTP, name: own}, bind: 127.0.0.9, captureMode: NONE, hosts: ["./*"]}, {hosts: ["./*"]}]}"""))
    until(lambda: mesh.curl(CALLER, "http://127.0.0.9:9080/health", "-H", "Host: any.localhost:9080")[0] not in (0, 502, 503), 15,
          "a name that nobody wrote down")


SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "7"); self.end_headers(); self.wfile.write(b"secret\\n")
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address
server = Server((sys.argv[1], 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def tls_server(mesh, folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
                   check=True, capture_output=True)
    mesh.run_in(None, "ip", "addr", "replace", "10.88.9.12/32", "dev", "fl0")
    command = [*mesh.enter(), sys.executable, "-c", SERVER, "10.88.9.12", str(folder / "cert.pem"), str(folder / "key.pem")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield folder / "cert.pem"
        finally:
            process.terminate()


def test_P39_tls_is_originated_and_the_servers_name_verified(mesh, tmp_path):
    def status():
        return mesh.curl(CALLER, "http://10.88.9.12:80/", "-H", "Host: tls.ext.example")

    with tls_server(mesh, tmp_path, "tls.ext.example") as certificate:
        entry = document("ServiceEntry", "tls", """{hosts: [tls.ext.example], resolution: STATIC, endpoints: [{address: 10.88.9.12}],
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}]}""")
        rule = f"{{host: tls.ext.example, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {certificate}, subjectAltNames: [NAME]}}}}}}"
        mesh.write("tls.yaml", entry + document("DestinationRule", "tls", rule.replace("NAME", "tls.ext.example")))
        until(lambda: status() == (200, "secret\n"), 10, "TLS to the outside")
        mesh.write("tls.yaml", entry + document("DestinationRule", "tls", rule.replace("NAME", "other.ext.example")))
        until(lambda: status()[0] == 503, 10, "another name is refused")
