"""Reads the pixels of a PNG as Chromium writes it: 8 bits a channel, RGB or RGBA, no interlace."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 6: 4}


def colors(data):
    """Returns (width, height, {(r, g, b): number of pixels})."""
    assert data.startswith(SIGNATURE), "not a PNG"
    width = height = channels = 0
    packed = b""
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and color in CHANNELS and not interlace
            channels = CHANNELS[color]
        elif kind == b"IDAT":
            packed += body
    return width, height, _count(zlib.decompress(packed), width * channels, channels)


def _chunks(data):
    at = len(SIGNATURE)
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8:at + 8 + size]
        at += size + 12


def _count(raw, stride, channels):
    counts, above = {}, bytearray(stride)
    for start in range(0, len(raw), stride + 1):
        row = bytearray(raw[start + 1:start + 1 + stride])
        _unfilter(raw[start], row, above, channels)
        for at in range(0, stride, channels):
            pixel = (row[at], row[at + 1], row[at + 2])
            counts[pixel] = counts.get(pixel, 0) + 1
        above = row
    return counts


def _unfilter(kind, row, above, step):
    if kind == 0:
        return
    for at, value in enumerate(row):
        left = row[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = (0, left, above[at], (left + above[at]) // 2,
                 _paeth(left, above[at], corner) if kind == 4 else 0)[kind]
        row[at] = (value + guess) & 255


def _paeth(left, up, corner):
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))
