"""Definitions of messages and enums as plain dictionaries: ours and the official ones, and how they differ.

Both sides go through tests/protos/descdump, so a difference in its output is a difference in the definitions.
"""

import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
DESCDUMP = pathlib.Path(__file__).resolve().parent / "descdump"

# Packages that are ours: nobody else defines them, so there is nothing to compare them with.
OWN_PACKAGES = ("fairlead.",)
# Imported for protobuf-c's options, not written by us.
IMPORTED_FILES = ("google/protobuf/descriptor.proto", "protobuf-c/protobuf-c.proto")
# Packages in which every field of a message that we have must be there too: users write these, so a field that is
# missing here would be refused as unknown. Of Envoy's messages we may hold a part.
COMPLETE_PACKAGES = ("istio.", "google.")

# Deliberate differences, "message.field": (what differs, reason). proto3 `optional` would be one (protoc-c 1.4.1 refuses
# it, and an explicit oneof of one field is the same on the wire); the pinned APIs have no such field in what we use.
# An entry that no longer differs fails the test.
DEVIATIONS = {}

COMPARED = ("name", "label", "type", "type_name", "oneof", "json_name")


def proto_files():
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def includedir():
    command = ["pkg-config", "--variable=includedir", "libprotobuf-c"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build_descdump(folder):
    tool = pathlib.Path(folder) / "descdump"
    subprocess.run(["go", "build", "-o", str(tool), "."], cwd=DESCDUMP, check=True)
    return tool


def official(tool):
    return json.loads(subprocess.run([str(tool)], check=True, capture_output=True).stdout)


def ours(tool, folder, proto_path=PROTOS, files=None):
    descriptors = pathlib.Path(folder) / "ours.bin"
    command = ["protoc", f"--proto_path={proto_path}", f"--proto_path={includedir()}", "--include_imports",
               f"--descriptor_set_out={descriptors}"]
    subprocess.run(command + (files or proto_files()), check=True)
    dump = json.loads(subprocess.run([str(tool), str(descriptors)], check=True, capture_output=True).stdout)
    for part in ("messages", "enums"):
        dump[part] = {name: item for name, item in dump[part].items() if item["file"] not in IMPORTED_FILES}
    return dump


def is_own(item):
    return item["package"].startswith(OWN_PACKAGES)


def field_problems(name, our, their, used_deviations):
    """Ours against the official field of the same number, one line for each difference."""
    where = f"{name}.{our['name']}"
    if where in DEVIATIONS:
        used_deviations.add(where)
        return []
    if their is None:
        return [f"{where}: the official message has no field {our['number']}"]
    problems = [f"{where}: {key} is {our.get(key)!r}, officially {their.get(key)!r}"
                for key in COMPARED if our.get(key) != their.get(key)]
    if our.get("optional", False) != their.get("optional", False):
        problems.append(f"{where}: proto3 optional differs")
    return problems


def message_problems(name, our, their, used_deviations):
    if their is None:
        return [f"{name}: no such official message"]
    problems = []
    if our.get("map_entry", False) != their.get("map_entry", False):
        problems.append(f"{name}: is a map entry on one side only")
    numbers = {field["number"]: field for field in their["fields"]}
    for field in our["fields"]:
        problems += field_problems(name, field, numbers.get(field["number"]), used_deviations)
    if name.startswith(COMPLETE_PACKAGES):
        have = {field["number"] for field in our["fields"]}
        problems += [f"{name}.{field['name']}: missing" for number, field in numbers.items() if number not in have]
    return problems


def enum_problems(name, our, their):
    """An enum is compared whole: a value that we lack could not be read back from JSON."""
    if their is None:
        return [f"{name}: no such official enum"]
    mine = {(value["name"], value["number"]) for value in our["values"]}
    real = {(value["name"], value["number"]) for value in their["values"]}
    problems = [f"{name}: {value} = {number} is not official" for value, number in sorted(mine - real)]
    return problems + [f"{name}: {value} = {number} is missing" for value, number in sorted(real - mine)]


def compare(our_dump, official_dump):
    """Returns (problems, number of messages compared, number of fields compared, number of enums compared)."""
    problems, used, messages, fields, enums = [], set(), 0, 0, 0
    for name, message in our_dump["messages"].items():
        if is_own(message):
            continue
        messages += 1
        fields += len(message["fields"])
        problems += message_problems(name, message, official_dump["messages"].get(name), used)
    for name, enum in our_dump["enums"].items():
        if is_own(enum):
            continue
        enums += 1
        problems += enum_problems(name, enum, official_dump["enums"].get(name))
    problems += [f"{where}: listed as a deviation, but is none" for where in sorted(set(DEVIATIONS) - used)]
    if not messages or not fields or not enums:
        problems.append("nothing was compared")
    return problems, messages, fields, enums


def reachable_fields(dump, root):
    """Every (message, field) that a document of message `root` can hold. Google's own types count as leaves."""
    seen, queue, found = set(), [root], []
    while queue:
        name = queue.pop(0)
        if name in seen or name not in dump["messages"]:
            continue
        seen.add(name)
        for field in dump["messages"][name]["fields"]:
            if not dump["messages"][name].get("map_entry"):
                found.append((name, field))
            target = field.get("type_name", "")
            if not target.startswith("google.protobuf."):
                queue.append(target)
    return found


def registry_rows(name, macro):
    """The rows of one of the .def registries, as lists of their arguments."""
    text = re.sub(r"/\*.*?\*/", "", (PROTOS / name).read_text(), flags=re.S)
    rows = re.findall(rf"^{macro}\((.*)\)\s*$", text, flags=re.M)
    return [[part.strip().strip('"') for part in re.findall(r'"[^"]*"|[^,]+', row) if part.strip()] for row in rows]
