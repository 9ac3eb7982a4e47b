"""Does a real Envoy accept what pilot renders?

The four types of one proxy are wrapped as a static bootstrap: endpoints inside their clusters, routes inside their listeners. Then
`envoy --mode validate` builds everything as it would from ADS, without opening a socket.

    envoy_accept.py RENDERED.json...
"""
import copy
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent.parent


def envoy_path():
    """$FAIRLEAD_ENVOY, or what tools/envoy-path prints, or envoy of the PATH; None: there is none."""
    if os.environ.get("FAIRLEAD_ENVOY"):
        return os.environ["FAIRLEAD_ENVOY"]
    tool = ROOT / "tools/envoy-path"
    if tool.exists():
        found = subprocess.run([tool], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.strip()
    return shutil.which("envoy")


def inline_routes(node, routes, missing):
    """Every {"rds": {"routeConfigName": x}} below node becomes the route configuration itself."""
    if isinstance(node, dict):
        if "rds" in node and "routeConfigName" in node["rds"]:
            name = node.pop("rds")["routeConfigName"]
            if name not in routes:
                missing.append(name)
            node["routeConfig"] = copy.deepcopy(routes.get(name, {"name": name}))
        for value in node.values():
            inline_routes(value, routes, missing)
    elif isinstance(node, list):
        for value in node:
            inline_routes(value, routes, missing)


def inline_endpoints(cluster, assignments, missing):
    if "edsClusterConfig" not in cluster:
        return
    name = cluster.pop("edsClusterConfig").get("serviceName", cluster["name"])
    if name.startswith("outbound_."):  # by server name: rendered only when it is asked for, the same as without
        name = name.replace("_.", "|", 3)
    if name not in assignments:
        missing.append(name)
    cluster["type"] = "STATIC"
    cluster["loadAssignment"] = {**assignments.get(name, {}), "clusterName": name}


def bootstrap(rendered):
    """The bootstrap and the names that were referred to but not there."""
    rendered = copy.deepcopy(rendered)
    missing = []
    routes = {r["name"]: r for r in rendered["rds"]}
    assignments = {e["clusterName"]: e for e in rendered["eds"]}
    for cluster in rendered["cds"]:
        inline_endpoints(cluster, assignments, missing)
    inline_routes(rendered["lds"], routes, missing)
    sds = {"name": "sds-grpc", "type": "STATIC", "connectTimeout": "1s",
           "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
               "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
               "explicitHttpConfig": {"http2ProtocolOptions": {}}}},
           "loadAssignment": {"clusterName": "sds-grpc", "endpoints": [{"lbEndpoints": [
               {"endpoint": {"address": {"pipe": {"path": "./sds.sock"}}}}]}]}}
    # As the agent's bootstrap has it: Envoy's own limit of 100 refuses ordinary expressions.
    return {"node": {"id": "test", "cluster": "test"},
            "layeredRuntime": {"layers": [{"name": "static", "staticLayer": {"re2.max_program_size.error_level": 32768}}]},
            "staticResources": {"listeners": rendered["lds"], "clusters": rendered["cds"] + [sds]}}, missing


@functools.cache
def credentials():
    """A certificate, its key and an empty revocation list of it, as PEM: {"certificateChain": ..., "privateKey": ..., ...}."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "ca.cnf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=3650\n")
        (folder / "index.txt").write_text("")
        for command in ("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 3650 "
                        "-subj /CN=test", "ca -config ca.cnf -gencrl -keyfile key.pem -cert cert.pem -out crl.pem"):
            subprocess.run(["openssl", *command.split()], check=True, capture_output=True, cwd=folder)
        cert, key, crl = ((folder / f"{n}.pem").read_text() for n in ("cert", "key", "crl"))
    return {"certificateChain": cert, "privateKey": key, "trustedCa": cert, "crl": crl}


def inline_files(node):
    """Certificates that a rule names by file are not on this machine: any will do for Envoy to look at the rest."""
    if isinstance(node, dict):
        for key, text in credentials().items():
            if "filename" in node.get(key, {}) and not pathlib.Path(node[key]["filename"]).exists():
                node[key] = {"inlineString": text}
        for value in node.values():
            inline_files(value)
    elif isinstance(node, list):
        for value in node:
            inline_files(value)


def inline_secrets(node, secrets):
    """Secrets that Envoy would ask pilot for become static ones."""
    if isinstance(node, dict):
        if str(node.get("name", "")).startswith("kubernetes://") and "sdsConfig" in node:
            del node["sdsConfig"]
            secrets.add(node["name"])
        for value in node.values():
            inline_secrets(value, secrets)
    elif isinstance(node, list):
        for value in node:
            inline_secrets(value, secrets)


def static_secrets(names, rendered):
    have = {s["name"] for s in rendered["sds"]}
    c = {k: {"inlineString": v} for k, v in credentials().items()}
    return [{"name": n, "validationContext": {"trustedCa": c["trustedCa"]}} if n.endswith("-cacert") else
            {"name": n, "tlsCertificate": {"certificateChain": c["certificateChain"], "privateKey": c["privateKey"]}}
            for n in sorted(names)], sorted(names - have)


def accept(rendered, envoy):
    """None when Envoy accepts it, else its words."""
    config, missing = bootstrap(rendered)
    inline_files(config)
    secrets = set()
    inline_secrets(config, secrets)
    config["staticResources"]["secrets"], absent = static_secrets(secrets, rendered)
    if absent and any("transportSocket" in c for r in rendered["lds"] for c in r.get("filterChains", []) if
                      any(n in json.dumps(c["transportSocket"]) for n in absent) if "transportSocket" in c):
        return f"a listener waits for secrets that are not served: {absent}"
    if missing:
        return f"referred to but not rendered: {missing}"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bootstrap.json"
        path.write_text(json.dumps(config))
        result = subprocess.run([envoy, "-c", path, "--mode", "validate", "-l", "warning"],
                                capture_output=True, text=True, check=False, cwd=folder)
        return None if result.returncode == 0 else (result.stdout + result.stderr)[-3000:]


def main():
    envoy = envoy_path()
    failed = 0
    for name in sys.argv[1:]:
        problem = accept(json.loads(pathlib.Path(name).read_text()), envoy)
        print(f"{name}: {problem or 'accepted'}")
        failed += problem is not None
    return 1 if failed or not envoy else 0


if __name__ == "__main__":
    sys.exit(main())
