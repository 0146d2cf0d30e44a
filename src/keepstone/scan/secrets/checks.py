"""What a token says about itself: checksums and structures, so that a look-alike is no finding.

Sources: GitHub's "Behind GitHub's new authentication token formats" (2021), which npm follows;
libmacaroons' binary format 2 (PyPI); RFC 7519 (JWT); BIP 173 (age's keys); minisign's format.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, urlsafe_b64decode
from binascii import Error
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def base62(number: int, width: int = 6) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def crc_base62(token: str) -> bool:
    """`PREFIX_`, thirty characters, and their CRC-32 in six of base 62."""
    body = token.rpartition("_")[2]
    return base62(zlib.crc32(body[:-6].encode("ascii"))) == body[-6:]


def decode64(text: str) -> bytes | None:
    """The bytes of base64 or base64url, with or without padding; None where it is none."""
    bare = text.rstrip("=")
    if len(bare) % 4 == 1 or len(text) - len(bare) > 2:
        return None
    try:
        if "-" in bare or "_" in bare:
            return urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (Error, ValueError):
        return None


def decodes_to(size: int, text: str) -> bool:
    raw = decode64(text)
    return raw is not None and len(raw) == size


def is_macaroon(token: str) -> bool:
    """A PyPI token: a binary macaroon with a location, an identifier and a signature."""
    data = decode64(token.removeprefix("pypi-"))
    if data is None or data[:1] != b"\x02":
        return False
    at, kinds = 1, []
    while at < len(data):
        kind, at = data[at], at + 1
        if kind == 0:
            kinds.append(kind)
            continue
        length, shift = 0, 0
        while at < len(data) and shift < 28:
            byte, at = data[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        kinds.append(kind)
        at += length
        if kind == 6:
            return length == 32 and at == len(data) and kinds[:3] == [1, 2, 0]
    return False


def json_of(part: str) -> dict[str, Any] | None:
    """The JSON object that a part of a token decodes to."""
    raw = decode64(part)
    if raw is None or raw[:1] != b"{":
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def jwt_note(token: str) -> str | None:
    """What a signed JWT says of itself; None where it is none, or carries no signature."""
    head, _, rest = token.partition(".")
    body, _, signature = rest.partition(".")
    header, claims = json_of(head), json_of(body)
    if header is None or claims is None or not isinstance(header.get("alg"), str):
        return None
    if header["alg"].lower() == "none" or decode64(signature) is None:
        return None
    ends = claims.get("exp")
    note = f"Its algorithm is {header['alg'][:16]!r}."
    if isinstance(ends, int) and not isinstance(ends, bool) and 0 < ends < 1 << 37:
        day = datetime.fromtimestamp(ends, UTC).date().isoformat()
        note += f" It ends on {day}; an expired one is a secret all the same."
    return note


def is_discord(token: str) -> bool:
    """The first part is the account's number."""
    raw = decode64(token.partition(".")[0])
    return raw is not None and raw.isdigit() and 17 <= len(raw) <= 20


def is_bech32(text: str) -> bool:
    """BIP 173: the polynomial over prefix and data is one."""
    text = text.lower()
    prefix, _, data = text.rpartition("1")
    value = 1
    numbers = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for number in numbers + [_BECH32.find(c) for c in data]:
        top, value = value >> 25, (value & 0x1FFFFFF) << 5 ^ number
        for bit in range(5):
            value ^= _GENERATOR[bit] if top >> bit & 1 else 0
    return value == 1


def is_minisign(text: str) -> bool:
    """158 bytes: `Ed`, the key derivation, `B2`, and what is or is not encrypted."""
    raw = decode64(text)
    return raw is not None and len(raw) == 158 and raw[:2] == b"Ed" and raw[4:6] == b"B2"


def has_openai_mark(token: str) -> bool:
    return "T3BlbkFJ" in token


_WORDS = re.compile(
    r"example|placeholder|change[_-]?(?:me|this|it)|redacted|dummy|your[_-]|yourpass|yoursecret"
    r"|yourtoken|yourkey|replace[_-]?(?:me|this|with)|insert[_-]|not[_-]?a?[_-]?(?:real|secret)"
    r"|x{4}|\*{3}|\.{3}|<[a-z _-]{2,40}>|to[_-]?be[_-]?(?:set|filled)|sample|fake",
    re.IGNORECASE,
)


def is_placeholder(text: str) -> bool:
    """True for what stands where a secret would: vendors' examples, dots, runs, one letter."""
    if _WORDS.search(text[:4096]) is not None:
        return True
    lower = text.lower()
    letters = Counter(lower).most_common()
    if len(letters) * 5 <= min(len(lower), 40) or len(letters) <= 3:
        return True
    if letters[0][1] * 2 >= len(lower) >= 8:
        return True
    # `123456` and `abcdef`: each letter is the one after the last.
    climbs = sum(ord(after) - ord(before) == 1 for before, after in pairwise(lower))
    return climbs * 2 >= len(lower)
