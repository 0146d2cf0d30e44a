"""Inputs that are pictures, as PNG in a data URI; which inputs are pictures at all."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from math import isqrt

import numpy as np

from keepstone.contract.validate import Array

MAX_SIDE = 512


def picture_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Height, width and channels (1 or 3) of inputs that can be seen, or None.

    (H, W), (C, H, W) and (H, W, C); and flat ones whose number is a square from 8 x 8 on.
    """
    match shape:
        case (width,) if width >= 64 and isqrt(width) ** 2 == width:
            found = (isqrt(width), isqrt(width), 1)
        case (height, width):
            found = (height, width, 1)
        case ((1 | 3) as channels, height, width) | (height, width, (1 | 3) as channels):
            found = (height, width, channels)
        case _:
            return None
    return found if min(found[:2]) >= 4 and max(found[:2]) <= MAX_SIDE else None


def picture(row: Array, shape: tuple[int, ...], low: Array, high: Array) -> str | None:
    """One flat input as a data URI, its range from black to white; None where it is no picture."""
    size = picture_shape(shape)
    if size is None:
        return None
    height, width, channels = size
    span = np.where(high > low, high - low, 1.0)
    grey = np.clip(np.rint((row - low) / span * 255), 0, 255).astype(np.uint8)
    if len(shape) == 3 and channels == shape[0] and shape[2] != channels:
        grey = grey.reshape(channels, height, width).transpose(1, 2, 0)
    return _png(grey.reshape(height, width, channels))


def difference(row: Array, other: Array, shape: tuple[int, ...]) -> str | None:
    """What was changed, around grey, as strong as the largest change of this input."""
    change = other - row
    most = np.full_like(change, np.abs(change).max(initial=0.0) or 1.0)
    return picture(change, shape, -most, most)


def _png(pixels: Array) -> str:
    """Source: PNG (ISO/IEC 15948): 8 bits, grey or RGB, filter 0 on every line."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*part)
        for part in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return "data:image/png;base64," + b64encode(data).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
