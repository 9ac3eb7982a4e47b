"""A real Envoy refuses one object of many that change at once: the others reach it, and everybody is told which one it was."""
import json
import subprocess

import daemons
import util
import xds
from util import until

# A command that galley takes (it does not read CEL expressions) and Envoy does not.
BAD = "%CEL(1 +)%"


class Envoy:
    """Without captured traffic: it opens no port but its pages."""

    def __init__(self, folder, address):
        host, port = address.rsplit(":", 1)
        self.admin = util.Admin(f"{folder}/envoy.admin")
        config = {
            "node": {"id": "sidecar~10.88.1.11~productpage-v1.default~default.svc.cluster.local", "cluster": "productpage.default",
                     "metadata": {"NAMESPACE": "default", "INTERCEPTION_MODE": "NONE", "LABELS": {"app": "productpage"}}},
            "admin": {"address": {"pipe": {"path": f"{folder}/envoy.admin"}}},
            "layered_runtime": {"layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": 32768}}]},
            "dynamic_resources": {"lds_config": {"ads": {}, "resource_api_version": "V3"}, "cds_config": {"ads": {}, "resource_api_version": "V3"},
                                  "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                                                 "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}},
            "static_resources": {"clusters": [{
                "name": "xds", "type": "STATIC", "connect_timeout": "5s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                    "socket_address": {"address": host, "port_value": int(port)}}}}]}]}}]}}
        path = f"{folder}/envoy.json"
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        program = subprocess.run([util.ROOT / "tools/envoy-path"], capture_output=True, text=True, check=True).stdout.strip()
        self.log = open(f"{folder}/envoy.log", "w", encoding="utf-8")
        self.process = subprocess.Popen([program, "-c", path, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"],
                                        stdout=self.log, stderr=self.log)

    def timeouts(self):
        """{host: timeout of its first route} of what Envoy has accepted."""
        status, text = self.admin.ask("/config_dump?resource=dynamic_route_configs")
        assert status == 200
        found = {}
        for config in json.loads(text).get("configs", []):
            for host in config["route_config"].get("virtual_hosts", []):
                action = host["routes"][0].get("route", {})
                found[host["name"].split(".")[0]] = action.get("timeout")
        return found

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def rules(name, seconds, header="fine"):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "default"},
            "spec": {"hosts": [name], "http": [{"timeout": f"{seconds}s", "headers": {"request": {"set": {"x-a": header}}},
                                                "route": [{"destination": {"host": name}}]}]}}


def plaintext(source):
    """Without mutual TLS clusters need no certificates, which only an agent could bring."""
    with open(f"{source}/mesh.yaml", "w", encoding="utf-8") as f:
        f.write("apiVersion: fairlead.dev/v1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {enableAutoMtls: false}\n")


def write(source, *objects):
    """All in one file, so that they are one change."""
    temporary = f"{source}/.rules.tmp"
    with open(temporary, "w", encoding="utf-8") as f:
        f.write("\n---\n".join(json.dumps(o) for o in objects))
    subprocess.run(["mv", temporary, f"{source}/rules.yaml"], check=True)


def test_N01_N02_a_real_envoy_refuses_one_object_and_gets_the_others(folder):
    source = daemons.copy_of_bookinfo(folder)
    plaintext(source)
    write(source, rules("details", 1), rules("ratings", 1), rules("productpage", 1))
    with daemons.galley(folder, source) as galley, daemons.pilot(folder) as pilot:
        galley.wait_ready()
        pilot.wait_ready()
        with Envoy(folder, pilot.address) as envoy, xds.Delta(pilot.address, xds.sidecar()) as other:
            def has(**want):
                def check():
                    got = envoy.timeouts()
                    return all(got.get(name) == seconds for name, seconds in want.items())
                until(check, what=f"{want} at Envoy")
            has(details="1s", ratings="1s", productpage="1s")
            write(source, rules("details", 2), rules("ratings", 2, BAD), rules("productpage", 2))
            has(details="2s", ratings="1s", productpage="2s")
            until(lambda: pilot.admin.metric("pilot_xds_isolated_objects_total") == 1, what="the object isolated")
            until(lambda: BAD.encode() in other.snapshot()["rds"]["9080"], what="the other client has the version that Envoy refused")
            def reported():
                said = [r["annotations"] for r in galley.admin.page("status").values() if r["kind"] == "ProxyRejection"]
                return [r for r in said if r["isolated"] == "true" and r["objects"] == "VirtualService default/ratings"]
            assert "Not able to parse expression" in until(reported, what="the refusal at galley")[0]["error"]
            isolated = [x for p in pilot.admin.page("syncz") for x in p["isolated"]]
            assert [x["object"] for x in isolated] == ["VirtualService default/ratings"] and "rules.yaml" in isolated[0]["origin"]
            # Another change reaches Envoy at once, and the good version of the object too.
            write(source, rules("details", 3), rules("ratings", 2, BAD), rules("productpage", 2))
            has(details="3s", ratings="1s", productpage="2s")
            write(source, rules("details", 3), rules("ratings", 4), rules("productpage", 2))
            has(details="3s", ratings="4s", productpage="2s")
            assert not [x for p in pilot.admin.page("syncz") for x in p["isolated"]]
            until(lambda: galley.admin.page("status") == {}, what="nothing refused any more")
