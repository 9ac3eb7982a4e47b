#!/usr/bin/env python3
"""Which source files read which fields of the Istio kinds, as the compiler sees it.

Every member of the generated structs is marked deprecated in a copy of the headers; then gcc's warnings about a source file are the list
of the members that it touches, of the right message, through macros too.

    tests/protos/fields_used.py             the fields that fields_used.tsv lacks, with the files that read them, ready to paste
    tests/protos/fields_used.py FIELD...    who reads these fields ("HTTPRoute.timeout")
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import descriptors

ROOT = descriptors.ROOT
TABLE = pathlib.Path(__file__).with_name("fields_used.tsv")
BUILD = pathlib.Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build/gcc"))
GENERATED = BUILD / "protos"
# Only what decides about proxies and services counts as use: a field that is merely checked does nothing.
SOURCES = ("pilot/features", "pilot/translate", "pilot/model", "galley/kinds", "galley/discovery", "galley/checks", "galley/selectors",
           "galley/networks", "galley/pipeline", "galley/spaces", "galley/registration", "galley/emit", "common/mesh")
# The kinds whose every field must have a row.
KINDS = tuple(f"istio.{kind}" for kind in (
    "networking.v1alpha3.VirtualService", "networking.v1alpha3.DestinationRule", "networking.v1alpha3.Gateway",
    "networking.v1alpha3.ServiceEntry", "networking.v1alpha3.WorkloadEntry", "networking.v1alpha3.Sidecar",
    "networking.v1alpha3.WorkloadGroup", "networking.v1alpha3.EnvoyFilter", "networking.v1beta1.ProxyConfig",
    "security.v1beta1.PeerAuthentication", "security.v1beta1.RequestAuthentication", "security.v1beta1.AuthorizationPolicy",
    "telemetry.v1alpha1.Telemetry", "extensions.v1alpha1.WasmPlugin", "extensions.v1alpha1.TrafficExtension", "mesh.v1alpha1.MeshConfig",
    "mesh.v1alpha1.MeshNetworks"))


def table():
    """{"message.field": (state, files or reason)}; the state is "used" or "not yet"."""
    rows = {}
    for number, line in enumerate(TABLE.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        parts = line.split("\t")
        assert len(parts) == 3, f"{TABLE.name}:{number}: three columns, separated by tabs"
        assert parts[0] not in rows, f"{TABLE.name}:{number}: {parts[0]} is there twice"
        rows[parts[0]] = (parts[1], parts[2])
    return rows


def members(header):
    """{struct: {member: "message.field"}} of a generated header, from the descriptors in the .c file beside it."""
    text = header.with_suffix("").with_suffix(".pb-c.c").read_text()
    messages = dict(re.findall(r'MESSAGE_DESCRIPTOR_MAGIC,\s*"([\w.]+)",\s*"\w+",\s*"(\w+)"', text))
    names = {struct: message for message, struct in messages.items()}
    found = {}
    for name, body in re.findall(r'\{\s*"(\w+)",\s*\d+,\s*PROTOBUF_C_LABEL_\w+,\s*PROTOBUF_C_TYPE_\w+,(.*?)\}', text, re.S):
        # The last one is the member; before it stands the count of a list, or the case of a oneof, which several fields share.
        for struct, member in re.findall(r"offsetof\((\w+), (\w+)\)", body)[-1:]:
            found.setdefault(struct, {})[member] = f"{names[struct]}.{name}"
    return found


def mark(header, copy):
    """Writes the header with all members deprecated; {line: "message.field"}."""
    known, struct, lines, out = members(header), None, {}, []
    for number, line in enumerate(header.read_text().splitlines(), 1):
        begin = re.match(r"struct\s+(\w+)$", line)
        struct = begin[1] if begin else None if line.startswith("};") else struct
        member = re.match(r"\s+[\w ]+?[\s*]+(\w+);$", line)
        field = known.get(struct, {}).get(member[1]) if member else None
        if field:
            lines[number] = field
            line = line[:-1] + " __attribute__((deprecated));"
        out.append(line)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text("\n".join(out) + "\n")
    return lines


class Uses:
    """Asks the compiler about single source files."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.lines = {}
        for header in sorted((GENERATED / "cfg").rglob("*.pb-c.h")):
            copy = self.folder / header.relative_to(GENERATED)
            self.lines[str(copy)] = mark(header, copy)
        commands = json.loads((BUILD / "compile_commands.json").read_text())
        self.commands = {os.path.relpath((BUILD / c["file"]).resolve(), ROOT): c["command"] for c in commands}

    def sources(self):
        return sorted(f for f in self.commands if f.startswith(SOURCES))

    def of(self, source):
        """Every "message.field" that the file touches."""
        given = shlex.split(self.commands[source])
        files = {i + 1 for i, a in enumerate(given) if a in ("-o", "-MF", "-MQ")}
        command = ["gcc", f"-I{self.folder}", "-fsyntax-only"]
        command += [a for i, a in enumerate(given) if a.startswith(("-I", "-D", "-isystem", "-std")) and i not in files]
        command += ["-fno-diagnostics-color", given[-1]]
        result = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=False, env=dict(os.environ, LC_ALL="C"))
        assert result.returncode == 0, result.stderr[-3000:]
        return {self.lines[path][int(line)]
                for path, line in re.findall(r"^(\S+?):(\d+):\d+: note: declared here$", result.stderr, re.M)
                if int(line) in self.lines.get(path, {})}

    def of_all(self, sources):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(sources, pool.map(self.of, sources)))


def wanted(dump, kinds=KINDS):
    """Every official field of the kinds, in the order of the documents."""
    fields = {}
    for kind in kinds:
        for message, field in descriptors.reachable_fields(dump, kind):
            fields[f"{message}.{field['name']}"] = field
    return fields


def main():
    with tempfile.TemporaryDirectory() as folder:
        tool = descriptors.build_descdump(folder)
        uses = Uses(pathlib.Path(folder) / "include")
        by_file = uses.of_all(uses.sources())
        fields = [f for f in wanted(descriptors.official(tool)) if f not in table()]
    if sys.argv[1:]:
        every = {f for found in by_file.values() for f in found}
        fields = sorted(f for f in every if any(f.endswith("." + a) for a in sys.argv[1:]))
    for field in fields:
        files = [f for f in by_file if field in by_file[f]]
        files = [f for f in files if f.startswith(("pilot/features", "pilot/translate"))] or files
        print(f"{field}\tused\t{','.join(files)}" if files else f"{field}\tnot yet\t")
    return 0


if __name__ == "__main__":
    sys.exit(main())
