"""Protocol buffers and flatbuffers by hand: enough to write what no honest library would.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | bytes | str) -> bytes:
    """A field of the type that its value has: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode("utf-8") if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw
