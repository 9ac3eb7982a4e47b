"""The CustomResourceDefinitions that galley makes against those of the official API module: groups, versions, names, columns, fields, types."""
import json
import os
import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
DESCDUMP = ROOT / "tests/protos/descdump"


def official():
    subprocess.run(["go", "mod", "download", "istio.io/api"], cwd=DESCDUMP, check=True, capture_output=True)
    folder = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api"], cwd=DESCDUMP, check=True, capture_output=True, text=True).stdout.strip()
    text = (pathlib.Path(folder) / "kubernetes/customresourcedefinitions.gen.yaml").read_text()
    return {d["metadata"]["name"]: d for d in yaml.load_all(text, yaml.CSafeLoader) if d}


def ours():
    text = subprocess.run([BUILD / "galley/galley", "crds"], capture_output=True, text=True, check=True).stdout
    return {json.loads(d)["metadata"]["name"]: json.loads(d) for d in text.split("---\n") if d.strip()}


OFFICIAL, OURS = official(), ours()


def fields(schema, path="spec"):
    """{path: type} of everything below; what only validates (minimum, required, oneOf ...) does not count."""
    out = {path: "any" if schema.get("x-kubernetes-preserve-unknown-fields") else schema.get("type")}
    if schema.get("x-kubernetes-int-or-string"):
        out[path] = "integer"
    if schema.get("enum"):
        out[path] = "enum " + " ".join(sorted(schema["enum"]))
    for name, child in schema.get("properties", {}).items():
        out.update(fields(child, f"{path}.{name}"))
    if "items" in schema:
        out.update(fields(schema["items"], path + "[]"))
    if isinstance(schema.get("additionalProperties"), dict):
        out.update(fields(schema["additionalProperties"], path + "{}"))
    return out


def test_G03_every_kind_has_its_definition():
    assert len(OURS) >= 15 and set(OURS) == set(OFFICIAL)


@pytest.mark.parametrize("name", sorted(OURS))
def test_G03_names_versions_and_columns_are_the_official_ones(name):
    a, b = OURS[name]["spec"], OFFICIAL[name]["spec"]
    assert a["group"] == b["group"] and a["scope"] == b["scope"]
    assert a["names"] == b["names"]
    assert sorted((v["name"], v["storage"], v["served"]) for v in a["versions"]) == sorted((v["name"], v["storage"], v["served"]) for v in b["versions"])
    for version in a["versions"]:
        other = next(v for v in b["versions"] if v["name"] == version["name"])
        columns = [[(c["name"], c["jsonPath"], c["type"]) for c in v.get("additionalPrinterColumns", [])] for v in (version, other)]
        assert columns[0] == columns[1]
        assert version["subresources"] == other["subresources"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_G03_fields_and_types_are_the_official_ones(name):
    for version in OURS[name]["spec"]["versions"]:
        other = next(v for v in OFFICIAL[name]["spec"]["versions"] if v["name"] == version["name"])
        a = fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
        b = fields(other["schema"]["openAPIV3Schema"]["properties"]["spec"])
        different = {p: (a.get(p), b.get(p)) for p in set(a) | set(b) if a.get(p) != b.get(p)}
        assert not different


def test_an_argument_is_refused():
    result = subprocess.run([BUILD / "galley/galley", "crds", "x"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and '"x" is not expected' in result.stderr
