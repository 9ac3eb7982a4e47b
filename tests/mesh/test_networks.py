"""Two networks without a route between them but by an east-west gateway (P88)."""
import contextlib

from lab import CALLER, CLIENT, INGRESS, INGRESS_IP, assert_share, rules

HOST = "p88.mesh.local"
NEAR = {CLIENT: "10.88.2.4", CALLER: "10.88.2.5"}
FAR = {"default/echo-v1": "10.88.2.11", "default/echo-v2": "10.88.2.12", "default/echo-v3": "10.88.2.13"}
GATEWAY = f"outbound_.80_._.{HOST}"


def entry(name, address, account="echo"):
    account = f"\n  serviceAccount: {account}" if account else ""
    return f"WorkloadEntry {name}\n  address: {address}\n  labels: {{app: p88}}{account}\n---\n"


def blocks(addresses):
    return ", ".join(f"{{fromCidr: {a}/32}}" for a in addresses)


RULES = f"""
MeshNetworks default
  networks:
    near: {{endpoints: [{blocks(NEAR.values())}]}}
    far: {{endpoints: [{blocks([INGRESS_IP, *FAR.values()])}]}}
---
Service istio-system/east-west topology.istio.io/network=far
  selector: {{istio: ingressgateway}}
  externalIPs: [{INGRESS_IP}]
  ports: [{{name: tls, port: 15443}}]
---
Gateway istio-system/cross-network
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 15443, name: tls, protocol: TLS}}, tls: {{mode: AUTO_PASSTHROUGH}}, hosts: ["*.local"]}}]
---
ServiceEntry p88
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
  subjectAltNames: ["spiffe://cluster.local/ns/other/sa/caller"]
  workloadSelector: {{labels: {{app: p88}}}}
---
DestinationRule p88
  host: {HOST}
  trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}, connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}
"""


@contextlib.contextmanager
def apart(lab):
    """No packet goes from a pod of one network to a pod of the other."""
    routes = [(pod, address) for here, there in ((NEAR, FAR), (FAR, NEAR)) for pod in here for address in there.values()]
    done = []
    try:
        for pod, address in routes:
            lab.run_in(pod, "ip", "route", "add", "unreachable", address)
            done.append((pod, address))
        yield
    finally:
        for pod, address in done:
            lab.run_in(pod, "ip", "route", "del", "unreachable", address)


def answers(lab, count=90):
    """How many came from "near", v1, v2 ...; none fails."""
    return {version or "near": n for version, n in lab.versions(HOST, count=count).items()}


def weights(lab):
    """{address: weight} as the client's Envoy has them."""
    status, text = lab.curl(CLIENT, "http://127.0.0.1:15000/clusters")
    assert status == 200
    lines = [line.split("::") for line in text.splitlines() if line.startswith(f"outbound|80||{HOST}::")]
    return {parts[1]: int(parts[3]) for parts in lines if len(parts) == 4 and parts[2] == "weight"}


@rules(RULES)
def test_P88_endpoints_of_another_network_are_reached_by_its_gateway(lab):
    near, v1, v2 = entry("near", NEAR[CALLER], "caller"), entry("far-1", FAR["default/echo-v1"]), entry("far-2", FAR["default/echo-v2"])
    plain = entry("far-3", FAR["default/echo-v3"], account="")
    with apart(lab), lab.change(near, name="near"), lab.change(v2, plain, name="far-2"):
        assert lab.ask("x", to=FAR["default/echo-v1"], port=8080).status in (0, 503), "there is a way past the gateway"
        with lab.change(v1, name="far-1"):
            assert weights(lab) == {f"{NEAR[CALLER]}:8080": 1, f"{INGRESS_IP}:15443": 2}
            seen = answers(lab)
            assert set(seen) == {"near", "v1", "v2"}, seen
            for version in seen:
                assert_share(seen[version], 90, 1 / 3)
            got = next(a for a in lab.ask_many(HOST, count=20) if a.version == "v1")
            assert "ns/default/sa/client" in got.said["headers"]["x-forwarded-client-cert"], "the gateway did not end the mutual TLS"
            assert int(lab.envoy_stats(INGRESS, f"{GATEWAY}.upstream_cx_total").popitem()[1]) > 0
        assert weights(lab) == {f"{NEAR[CALLER]}:8080": 1, f"{INGRESS_IP}:15443": 1}
        seen = answers(lab)
        assert set(seen) == {"near", "v2"}, seen
        assert_share(seen["v2"], 90, 1 / 2)
    with apart(lab), lab.change(v1, name="far"):
        assert weights(lab) == {f"{INGRESS_IP}:15443": 1}
        assert set(answers(lab, 10)) == {"v1"}
        # The last one behind the gateway goes: what is near serves.
        with lab.change(near, name="near"):
            lab.put("far", "")
            lab.settle()
            assert weights(lab) == {f"{NEAR[CALLER]}:8080": 1}
            assert set(answers(lab, 10)) == {"near"}
