#!/usr/bin/env python3
"""Writes pb_registry.c: a table of every message descriptor in the generated C files, sorted by full message name.

usage: registry.py OUTPUT GENERATED.pb-c.c...
"""
import re
import sys

DESCRIPTOR = re.compile(
    r'^const ProtobufCMessageDescriptor (\w+) =\s*\{\s*PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,\s*"([^"]+)"', re.M)


def main() -> None:
    output, inputs = sys.argv[1], sys.argv[2:]
    found: dict[str, str] = {}
    for path in inputs:
        with open(path, encoding="utf-8") as f:
            for symbol, name in DESCRIPTOR.findall(f.read()):
                if found.setdefault(name, symbol) != symbol:
                    sys.exit(f"{path}: {name} is defined twice")
    rows = sorted(found.items())
    if not rows:
        sys.exit("no message descriptor found")
    with open(output, "w", encoding="utf-8") as f:
        f.write('#include "common/pb/field.h"\n\n')
        f.writelines(f"extern const ProtobufCMessageDescriptor {symbol};\n" for _, symbol in rows)
        f.write("\nconst ProtobufCMessageDescriptor *const pb_registry[] = {\n")
        f.writelines(f"\t&{symbol}, /* {name} */\n" for name, symbol in rows)
        f.write("};\nconst size_t pb_registry_len = sizeof(pb_registry) / sizeof(pb_registry[0]);\n")


main()
