"""Our .proto files are wire-compatible with the official Envoy, Istio and Google APIs.

A wrong field number or type would not fail to compile: it would be read as another field by Envoy, or not at all.
"""

import copy
import re

import pytest

import descriptors

XDS_ROOTS = ("envoy.config.listener.v3.Listener", "envoy.config.cluster.v3.Cluster",
             "envoy.config.route.v3.RouteConfiguration", "envoy.config.endpoint.v3.ClusterLoadAssignment",
             "envoy.service.discovery.v3.DiscoveryRequest", "envoy.service.discovery.v3.DeltaDiscoveryResponse",
             "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
             "envoy.extensions.transport_sockets.tls.v3.Secret", "istio.v1.auth.IstioCertificateRequest")
ISTIO_KINDS = ("istio.networking.v1alpha3.VirtualService", "istio.networking.v1alpha3.DestinationRule",
               "istio.networking.v1alpha3.Gateway", "istio.networking.v1alpha3.ServiceEntry",
               "istio.networking.v1alpha3.WorkloadEntry", "istio.networking.v1alpha3.WorkloadGroup",
               "istio.networking.v1alpha3.Sidecar", "istio.security.v1beta1.PeerAuthentication",
               "istio.security.v1beta1.RequestAuthentication", "istio.security.v1beta1.AuthorizationPolicy",
               "istio.networking.v1alpha3.EnvoyFilter", "istio.networking.v1beta1.ProxyConfig", "istio.telemetry.v1alpha1.Telemetry",
               "istio.extensions.v1alpha1.WasmPlugin", "istio.extensions.v1alpha1.TrafficExtension",
               "istio.mesh.v1alpha1.MeshConfig", "istio.mesh.v1alpha1.MeshNetworks")


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    return descriptors.build_descdump(tmp_path_factory.mktemp("descdump"))


@pytest.fixture(scope="session")
def official(tool):
    return descriptors.official(tool)


@pytest.fixture(scope="session")
def ours(tool, tmp_path_factory):
    return descriptors.ours(tool, tmp_path_factory.mktemp("ours"))


def test_every_message_field_and_enum_value_is_the_official_one(ours, official):
    problems, messages, fields, enums = descriptors.compare(ours, official)
    assert not problems, "\n".join(problems)
    print(f"{messages} messages, {fields} fields, {enums} enums are as in the official APIs")


def test_the_messages_that_travel_are_all_compared(ours, official):
    for name in XDS_ROOTS + ISTIO_KINDS:
        assert name in ours["messages"], f"{name} is not in our .proto files"
        assert name in official["messages"], f"{name} is not in the official descriptors: add its package to imports.go"
        assert ours["messages"][name]["fields"], f"{name} has no fields"


@pytest.mark.parametrize("kind", ISTIO_KINDS)
def test_every_field_of_an_istio_kind_is_known(ours, official, kind):
    have = {(message, field["name"]) for message, field in descriptors.reachable_fields(ours, kind)}
    want = {(message, field["name"]) for message, field in descriptors.reachable_fields(official, kind)}
    assert len(want) > 0
    assert have == want


def damaged(ours, message, field, **changes):
    copied = copy.deepcopy(ours)
    target = next(f for f in copied["messages"][message]["fields"] if f["name"] == field)
    target.update(changes)
    return copied


DAMAGES = [
    ("envoy.config.route.v3.RouteAction", "timeout", {"number": 9}),
    ("envoy.config.route.v3.RouteAction", "timeout", {"number": 4242}),
    ("envoy.config.route.v3.RouteAction", "timeout", {"name": "time_out"}),
    ("envoy.config.route.v3.RouteAction", "timeout", {"type_name": "google.protobuf.Timestamp"}),
    ("envoy.config.route.v3.RouteAction", "cluster", {"oneof": ""}),
    ("envoy.config.core.v3.SocketAddress", "port_value", {"type": "uint64"}),
    ("envoy.config.core.v3.SocketAddress", "address", {"label": "repeated"}),
    ("istio.networking.v1alpha3.VirtualService", "hosts", {"json_name": "host"}),
    ("istio.networking.v1alpha3.VirtualService", "hosts", {"optional": True}),
]


@pytest.mark.parametrize("message, field, changes", DAMAGES)
def test_a_damaged_field_is_found(ours, official, message, field, changes):
    problems = descriptors.compare(damaged(ours, message, field, **changes), official)[0]
    assert any(problem.startswith(message + ".") for problem in problems), problems


def test_an_unknown_message_or_enum_value_is_found(ours, official):
    renamed = copy.deepcopy(ours)
    renamed["messages"]["envoy.config.route.v3.Rout"] = renamed["messages"].pop("envoy.config.route.v3.Route")
    assert "envoy.config.route.v3.Rout: no such official message" in descriptors.compare(renamed, official)[0]
    swapped = copy.deepcopy(ours)
    swapped["enums"]["envoy.config.core.v3.TrafficDirection"]["values"][1]["number"] = 77
    found = [p for p in descriptors.compare(swapped, official)[0] if p.startswith("envoy.config.core.v3.TrafficDirection")]
    assert len(found) == 2


def test_a_missing_field_of_an_istio_message_is_found(ours, official):
    shortened = copy.deepcopy(ours)
    fields = shortened["messages"]["istio.networking.v1alpha3.HTTPRoute"]["fields"]
    gone = fields.pop()
    problems = descriptors.compare(shortened, official)[0]
    assert problems == [f"istio.networking.v1alpha3.HTTPRoute.{gone['name']}: missing"]


def test_an_empty_comparison_fails(official):
    assert descriptors.compare({"messages": {}, "enums": {}}, official)[0] == ["nothing was compared"]


def test_each_package_has_one_c_prefix_and_each_prefix_one_package():
    prefixes = {}
    for name in descriptors.proto_files():
        text = (descriptors.PROTOS / name).read_text()
        package = re.search(r"^package ([\w.]+);$", text, flags=re.M)[1]
        prefix = re.search(r'^option \(pb_c_file\)\.c_package = "(\w+)";$', text, flags=re.M)[1]
        prefixes.setdefault(package, set()).add(prefix)
    assert all(len(found) == 1 for found in prefixes.values()), prefixes
    flat = [prefix.lower() for found in prefixes.values() for prefix in found]
    assert len(flat) == len(set(flat)), "C names of two packages could collide"


def test_each_proto_file_is_built():
    for folder in {path.parent for path in descriptors.PROTOS.rglob("*.proto")}:
        listed = set(re.findall(r"^\t'(\w+)',$", (folder / "meson.build").read_text(), flags=re.M))
        assert listed == {path.stem for path in folder.glob("*.proto")}


def test_registries_name_messages_that_exist(ours):
    xds = descriptors.registry_rows("xds.def", "XDS")
    assert xds and all(row[2] in ours["messages"] for row in xds), xds
    kinds = descriptors.registry_rows("kinds.def", "KIND")
    assert kinds
    spelled = {re.sub(r"\W", "", name.split(".")[-1]).lower() for name in ours["messages"]}
    for row in kinds:
        assert row[1].lower() in spelled, f"kinds.def: no message {row[1]}"
