"""Sidecars and hosts by name on Bookinfo: listeners of their own. Most rules are tested in the lab: test_balancing.py, test_outside_world.py."""
from util import until

CALLER = "default/productpage-v1"


def document(kind, name, spec):
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n---\n"


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
