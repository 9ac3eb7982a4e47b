"""Writes a mesh as files: N services with endpoints, VirtualServices and DestinationRules, the same bytes for the same arguments.

    gen_mesh.py OUT N [--namespaces 10] [--endpoints K] [--scope 20] [--gateway-routes M] [--changes 100]

OUT/mesh/       what a control plane reads: se/NAMESPACE/ (a ServiceEntry each, half of them with WorkloadEntries), vs/, dr/, and with --scope
                sidecar/ (one Sidecar per service that sees so many others), with --gateway-routes gateway/
OUT/clients     a line per sidecar: name namespace ip app version
OUT/changes/    templates for the load client: eds-J.yaml holds @ADDR@ where the address of an endpoint of service J stands, vs.yaml holds
                @REV@ where a header value stands. OUT/changes.list has a line per template: kind, template, file of the mesh that it replaces.

Of ten services seven listen on 80, two on 8080, one on 9080; one in ten has a TCP port, too. One in five has a VirtualService (a header match,
else 90:10 by subset) and a DestinationRule with two subsets. Service i has 2 + i % 4 endpoints unless --endpoints says how many in all.
"""
import argparse
import os
import shutil


def http_port(i):
    return (80, 80, 80, 80, 80, 80, 80, 8080, 8080, 9080)[i % 10]


def names(i, namespaces):
    name, ns = f"svc-{i:04d}", f"ns-{i % namespaces}"
    return name, ns, f"{name}.{ns}.bench.local"


def address(i, k):
    return f"10.{100 + k}.{i // 250}.{i % 250 + 1}"


def labels(name, k):
    return {"app": name, "version": "v1" if k % 2 == 0 else "v2", "security.istio.io/tlsMode": "istio"}


def block(items, indent):
    return "".join(f"{' ' * indent}{key}: {value}\n" for key, value in items.items())


def workload(i, name, k, ip, indent):
    pad = " " * indent
    return (f"{pad}address: {ip}\n{pad}serviceAccount: {name}\n{pad}locality: region1/zone{i % 3}\n{pad}labels:\n"
            + block(labels(name, k), indent + 2))


def header(kind, name, ns, group="networking.istio.io/v1"):
    return f"apiVersion: {group}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {ns}\nspec:\n"


def service(i, namespaces, addresses):
    name, ns, host = names(i, namespaces)
    ports = [(http_port(i), "http", "HTTP")] + ([(9000, "tcp", "TCP")] if i % 10 == 3 else [])
    text = header("ServiceEntry", name, ns) + f"  hosts:\n  - {host}\n  addresses:\n  - 10.96.{i // 250}.{i % 250 + 1}\n"
    text += "  location: MESH_INTERNAL\n  resolution: STATIC\n  ports:\n"
    for number, port, protocol in ports:
        text += f"  - number: {number}\n    name: {port}\n    protocol: {protocol}\n    targetPort: {9000 if number == 9000 else 8080}\n"
    if i % 2:
        text += f"  workloadSelector:\n    labels:\n      app: {name}\n"
        for k, ip in enumerate(addresses):
            text += "---\n" + header("WorkloadEntry", f"{name}-{k}", ns) + workload(i, name, k, ip, 2)
        return text
    text += "  endpoints:\n"
    for k, ip in enumerate(addresses):
        text += "  -" + workload(i, name, k, ip, 4)[3:]
    return text


def virtual_service(i, namespaces, revision):
    name, ns, host = names(i, namespaces)
    route = "    - destination:\n        host: {0}\n        subset: {1}\n{2}"
    return (header("VirtualService", name, ns) + f"  hosts:\n  - {host}\n  http:\n"
            + f"  - name: canary\n    match:\n    - headers:\n        x-canary:\n          exact: {revision}\n    route:\n"
            + route.format(host, "v2", "")
            + "  - name: default\n    timeout: 5s\n    retries:\n      attempts: 3\n      perTryTimeout: 2s\n      retryOn: 5xx,connect-failure\n"
            + "    route:\n" + route.format(host, "v1", "      weight: 90\n") + route.format(host, "v2", "      weight: 10\n"))


def destination_rule(i, namespaces):
    name, ns, host = names(i, namespaces)
    return (header("DestinationRule", name, ns) + f"  host: {host}\n  trafficPolicy:\n    connectionPool:\n      tcp:\n        maxConnections: 100\n"
            + "      http:\n        http2MaxRequests: 1000\n        maxRequestsPerConnection: 10\n    outlierDetection:\n"
            + "      consecutive5xxErrors: 7\n      interval: 5m\n      baseEjectionTime: 15m\n  subsets:\n"
            + "".join(f"  - name: {v}\n    labels:\n      version: {v}\n" for v in ("v1", "v2")))


def sidecar(i, n, namespaces, scope):
    name, ns, _ = names(i, namespaces)
    hosts = (names((i + j * 37) % n, namespaces) for j in range(scope))
    return (header("Sidecar", name, ns) + f"  workloadSelector:\n    labels:\n      app: {name}\n  egress:\n  - hosts:\n"
            + "".join(f"    - {other_ns}/{host}\n" for _, other_ns, host in hosts))


def gateway():
    return (header("Gateway", "edge", "istio-system") + "  selector:\n    istio: ingressgateway\n  servers:\n  - port:\n      number: 80\n"
            "      name: http\n      protocol: HTTP\n    hosts:\n    - '*'\n")


def gateway_rule(v, routes, n, namespaces, revision):
    """A VirtualService of the gateway with so many routes."""
    text = (header("VirtualService", f"edge-{v:04d}", "istio-system")
            + f"  hosts:\n  - edge-{v:04d}.bench.example\n  gateways:\n  - istio-system/edge\n  http:\n")
    for r in range(routes):
        text += (f"  - match:\n    - uri:\n        prefix: /r{r}\n      headers:\n        x-revision:\n          exact: {revision}\n    route:\n"
                 f"    - destination:\n        host: {names((v * 10 + r) % n, namespaces)[2]}\n")
    return text


def peer_authentication(ns, mode):
    return header("PeerAuthentication", "default", ns, "security.istio.io/v1") + f"  mtls:\n    mode: {mode}\n"


def write(folder, name, text):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def addresses_of(i, n, endpoints):
    count = 2 + i % 4 if not endpoints else endpoints // n + (i < endpoints % n)
    return [f"10.{100 + k % 100}.{i // 250}.{i % 250 + 1}" if k < 100 else f"10.{100 + k % 100}.{128 + i // 250}.{i % 250 + 1}"
            for k in range(count)]


def changes(out, mesh, n, namespaces, endpoints, count, gateway_routes):
    """Templates of services spread over the mesh; those with a VirtualService are among them."""
    lines = []
    for j in range(min(count, n)):
        i = j * n // min(count, n)
        name, ns, _ = names(i, namespaces)
        write(f"{out}/changes", f"eds-{j}.yaml", service(i, namespaces, addresses_of(i, n, endpoints)[:-1] + ["@ADDR@"]))
        lines.append(f"eds {out}/changes/eds-{j}.yaml {mesh}/se/{ns}/{name}.yaml")
    write(f"{out}/changes", "vs.yaml", virtual_service(0, namespaces, "@REV@"))
    lines.append(f"vs {out}/changes/vs.yaml {mesh}/vs/{names(0, namespaces)[0]}.yaml")
    if gateway_routes:
        write(f"{out}/changes", "gateway.yaml", gateway_rule(0, 10, n, namespaces, "@REV@"))
        lines.append(f"gateway {out}/changes/gateway.yaml {mesh}/gateway/edge-0000.yaml")
    write(f"{out}/changes", "pa.yaml", peer_authentication("ns-0", "STRICT"))
    lines.append(f"pa {out}/changes/pa.yaml {mesh}/pa.yaml")
    write(out, "changes.list", "\n".join(lines) + "\n")


def generate(out, n, namespaces=10, endpoints=0, scope=0, gateway_routes=0, n_changes=100):
    """Returns how many objects there are, by kind."""
    mesh = os.path.join(out, "mesh")
    shutil.rmtree(mesh, ignore_errors=True)
    clients, total = [], 0
    for i in range(n):
        name, ns, _ = names(i, namespaces)
        addresses = addresses_of(i, n, endpoints)
        total += len(addresses)
        clients += [f"{name}-{k} {ns} {ip} {name} {labels(name, k)['version']}" for k, ip in enumerate(addresses[:1])]
        write(f"{mesh}/se/{ns}", f"{name}.yaml", service(i, namespaces, addresses))
        if i % 5 == 0:
            write(f"{mesh}/vs", f"{name}.yaml", virtual_service(i, namespaces, "rev-0"))
            write(f"{mesh}/dr", f"{name}.yaml", destination_rule(i, namespaces))
        if scope:
            write(f"{mesh}/sidecar", f"{name}.yaml", sidecar(i, n, namespaces, scope))
    if gateway_routes:
        write(f"{mesh}/gateway", "edge.yaml", gateway())
    for v in range((gateway_routes + 9) // 10):
        write(f"{mesh}/gateway", f"edge-{v:04d}.yaml", gateway_rule(v, min(10, gateway_routes - v * 10), n, namespaces, "rev-0"))
    write(out, "clients", "\n".join(clients) + "\n")
    changes(out, mesh, n, namespaces, endpoints, n_changes, gateway_routes)
    rules = (n + 4) // 5
    return {"services": n, "endpoints": total, "virtual services": rules, "destination rules": rules}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("n", type=int)
    for option, value in (("namespaces", 10), ("endpoints", 0), ("scope", 0), ("gateway-routes", 0), ("changes", 100)):
        parser.add_argument(f"--{option}", type=int, default=value)
    a = parser.parse_args()
    print(generate(os.path.abspath(a.out), a.n, a.namespaces, a.endpoints, a.scope, a.gateway_routes, a.changes))


if __name__ == "__main__":
    main()
