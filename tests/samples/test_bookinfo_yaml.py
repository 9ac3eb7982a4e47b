"""The YAML of Bookinfo agrees with itself: what refers to something refers to what is there."""

import collections
import ipaddress
import re

import pytest
import yaml
from bookinfo_apps import SAMPLES

DIR = SAMPLES / "bookinfo"
STEPS = SAMPLES / "bookinfo-steps"
BROKEN = "reviews-broken.yaml"
BAD = "reviews-one-bad.yaml"


def load(path):
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def everything():
    return [item for path in sorted(DIR.rglob("*.yaml")) for item in load(path)]


def of_kind(kind, items=None):
    return [item for item in items or everything() if item["kind"] == kind]


def key(item):
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def selected(service):
    wanted = service["spec"]["selector"].items()
    return [pod for pod in of_kind("Pod")
            if pod["metadata"]["namespace"] == service["metadata"]["namespace"]
            and wanted <= pod["metadata"]["labels"].items()]


def test_no_object_is_there_twice():
    keys = collections.Counter(map(key, everything()))
    assert [name for name, count in keys.items() if count > 1] == []


def test_addresses_are_unique_and_in_their_networks():
    pods = [pod["status"]["podIP"] for pod in of_kind("Pod")]
    services = [service["spec"]["clusterIP"] for service in of_kind("Service")]
    assert len(set(pods + services)) == len(pods) + len(services)
    assert all(ipaddress.ip_address(ip) in ipaddress.ip_network("10.88.1.0/24") for ip in pods)
    assert all(ipaddress.ip_address(ip) in ipaddress.ip_network("10.96.1.0/24") for ip in services)


def test_every_pod_runs_a_file_that_is_there_under_its_own_account():
    accounts = {key(item)[1:] for item in of_kind("ServiceAccount")}
    for pod in of_kind("Pod"):
        name, spec = pod["metadata"]["name"], pod["spec"]
        assert (pod["metadata"]["namespace"], spec["serviceAccountName"]) in accounts
        command = spec["containers"][0].get("command")
        if pod["metadata"].get("annotations", {}).get("inject.istio.io/templates") == "gateway":
            assert command is None
            continue
        assert command[0] == "python3" and (DIR / command[1]).is_file()
        assert command[2:] == ["--version", pod["metadata"]["labels"]["version"]]
        assert {"name": "POD_NAME", "value": name} in spec["containers"][0]["env"]


def test_every_service_selects_pods_that_listen_on_its_port():
    for service in of_kind("Service"):
        pods = selected(service)
        assert pods, service["metadata"]["name"]
        for pod, port in ((pod, port) for pod in pods for port in service["spec"]["ports"]):
            ports = {item["containerPort"] for item in pod["spec"]["containers"][0]["ports"]}
            assert port["targetPort"] in ports


def test_routes_lead_to_services_and_subsets():
    services = {item["metadata"]["name"] for item in of_kind("Service")}
    subsets = {(rule["spec"]["host"], subset["name"])
               for rule in of_kind("DestinationRule") for subset in rule["spec"]["subsets"]}
    for virtual in of_kind("VirtualService"):
        for to in (way["destination"] for http in virtual["spec"]["http"] for way in http["route"]):
            assert to["host"] in services
            assert "subset" not in to or (to["host"], to["subset"]) in subsets


@pytest.mark.parametrize("path", sorted(STEPS.glob("*.yaml")), ids=lambda path: path.name)
def test_step_replaces_what_its_comment_says(path):
    text = path.read_text(encoding="utf-8")
    if path.name == BROKEN:
        with pytest.raises(yaml.YAMLError):
            load(path)
        return
    target = re.search(r"^#.*\bCopy (over|to) (\S+\.yaml)\.$", text, re.MULTILINE)
    assert target, "says where to copy it"
    old = DIR / target[2]
    assert old.is_file() == (target[1] == "over")
    keys = set(map(key, load(path)))
    elsewhere = {key(item) for other in DIR.rglob("*.yaml") if other != old for item in load(other)}
    assert not keys & elsewhere
    if target[1] == "over":
        assert set(map(key, load(old))) <= keys


def test_the_bad_step_differs_from_a_good_one_by_the_field_only():
    good = [item for item in load(STEPS / BAD) if "wieght" not in str(item)]
    bad = [item for item in load(STEPS / BAD) if "wieght" in str(item)]
    assert [key(item)[2] for item in good] == ["details", "ratings"]
    assert [key(item)[2] for item in bad] == ["reviews"]
