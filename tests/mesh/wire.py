"""Just enough of protobuf's wire format to be an xDS client and a CSR client that share no code with the project."""
import struct


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def put(number, value):
    """A field: bytes and text as they are, numbers as varints, None and "" not at all."""
    if value is None or value == "" or value == b"":
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data):
    """[(number, value)]: numbers for varints, bytes for the rest."""
    at, found = 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        elif key & 7 == 2:
            size = number()
            value, at = data[at:at + size], at + size
        else:
            size = {1: 8, 5: 4}[key & 7]
            value, at = data[at:at + size], at + size
        found.append((key >> 3, value))
    return found


def get(data, number, default=b""):
    """The last value of a field."""
    found = [v for n, v in fields(data) if n == number]
    return found[-1] if found else default


def every(data, number):
    return [v for n, v in fields(data) if n == number]


def struct_value(value):
    """google.protobuf.Value"""
    if isinstance(value, bool):
        return put(4, 1) if value else varint(4 << 3) + b"\0"
    if isinstance(value, (int, float)):
        return varint(2 << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, str):
        return varint(3 << 3 | 2) + varint(len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return put(5, struct_of(value)) or varint(5 << 3 | 2) + b"\0"
    return put(6, b"".join(put(1, struct_value(v)) for v in value))


def struct_of(value):
    """google.protobuf.Struct"""
    return b"".join(put(1, put(1, key) + put(2, struct_value(v))) for key, v in value.items())
