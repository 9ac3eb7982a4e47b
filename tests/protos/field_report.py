#!/usr/bin/env python3
"""Lists every official field of the Istio kinds, and whether our .proto files have it.

    tests/protos/field_report.py            counts, and what is missing
    tests/protos/field_report.py --all      every field
"""

import sys
import tempfile

import descriptors
from test_descriptors import ISTIO_KINDS


def rows(official, ours, kind):
    have = {(message, field["name"]) for message, field in descriptors.reachable_fields(ours, kind)}
    for message, field in descriptors.reachable_fields(official, kind):
        yield message, field, (message, field["name"]) in have


def main():
    with tempfile.TemporaryDirectory() as folder:
        tool = descriptors.build_descdump(folder)
        official, ours = descriptors.official(tool), descriptors.ours(tool, folder)
    missing = 0
    for kind in ISTIO_KINDS:
        found = list(rows(official, ours, kind))
        absent = [row for row in found if not row[2]]
        missing += len(absent)
        print(f"{kind}: {len(found)} fields, {len(absent)} missing")
        for message, field, there in found if "--all" in sys.argv[1:] else absent:
            mark = "yes" if there else "NO "
            note = " (deprecated)" if field.get("deprecated") else ""
            print(f"  {mark} {message}.{field['name']} = {field['number']}{note}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
