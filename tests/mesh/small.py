"""A mesh of two pods for tests that start many meshes: the ingress gateway and the echo service, a route between them."""
import util

GATEWAY_PARTS = ("istio-ingressgateway", "kind: Namespace")
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo-in
  namespace: default
spec:
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
  - route:
    - destination:
        host: echo
"""
# A new connection for every few requests, so that handshakes go on all the time.
FEW_REQUESTS = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
  namespace: default
spec:
  host: echo
  trafficPolicy:
    connectionPool:
      http:
        maxRequestsPerConnection: 5
"""
ECHO_ID = "spiffe://cluster.local/ns/default/sa/echo"


def small(folder):
    """Turns a copy of samples/bookinfo into the small mesh."""
    documents = (folder / "bookinfo.yaml").read_text().split("\n---\n")
    kept = [d for d in documents if any(part in d for part in GATEWAY_PARTS)]
    (folder / "bookinfo.yaml").write_text("\n---\n".join(kept))
    for path in (folder / "networking").glob("*.yaml"):
        if path.name != "gateway.yaml":
            path.unlink()
    (folder / "networking/echo.yaml").write_text(ROUTE)
    (folder / "echo.yaml").write_text((util.STEPS / "echo.yaml").read_text())


def small_with_handshakes(folder):
    small(folder)
    (folder / "networking/echo.yaml").write_text(ROUTE + FEW_REQUESTS)
