"""Private keys as their programs write them: PEM, OpenSSH, PGP, PuTTY, minisign, cosign.

Promise: a key is a finding only where what stands between its lines decodes to one; whether a
passphrase protects it is read from the key. Lines may be joined by `\\n`, quotes and commas, as in
JSON and in source.

Sources: RFC 7468, OpenSSH's PROTOCOL.key, RFC 9580 5.5.3, PuTTY's appendix C, minisign's format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from keepstone.scan.secrets.checks import decode64, is_minisign
from keepstone.scan.secrets.found import Hit

_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----")
_LONGEST = 24 << 10
_HEADER = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): ?[^\\\r\n\"']{0,200}")
_BETWEEN = re.compile(
    r"[\"'`]\s{0,40}\+\s{0,80}[\"'`]|\\[nrt]|[\s\"'`,;#>|\\]|=[A-Za-z0-9+/]{4}(?=\s|\\|$)"
)
_LEAST = 40
_PUTTY = re.compile(
    r"PuTTY-User-Key-File-[123]: ?(\S{1,60})(?:\\n|\s){1,4}Encryption: ?([a-z0-9-]{1,40})"
)
_PUTTY_LINES = re.compile(
    r"Private-Lines: ?[0-9]{1,3}(?:\\[rn]|\s){1,4}((?:[A-Za-z0-9+/=]|\\[rn]|[\r\n]){20,20000})"
)
_MINISIGN = re.compile(
    r"RWQAAEI[y-z0-9A-Za-z+/]{200,210}={0,2}|RWRTY0Iy[A-Za-z0-9+/]{200,210}={0,2}"
)
_KEK = re.compile(r"\"schema\"\s{0,8}:\s{0,8}\"keepstone\.kek/v1\"")
_KEK_KEY = re.compile(r"\"key\"\s{0,8}:\s{0,8}\"([A-Za-z0-9+/_-]{43}=?)\"")
OPEN, LOCKED = "secret.private_key", "secret.encrypted_key"


def key_hits(text: str, count: Callable[[int], None] = lambda _: None) -> Iterator[Hit]:
    """Every private key in the text."""
    at = text.find("-----BEGIN ")
    while at >= 0:
        found = _BEGIN.match(text, at, at + 80)
        hit = None
        if found is not None:
            stop = text.find("-----", found.end(), found.end() + _LONGEST)
            hit = _pem(text, found[1], found.end(), stop)
            count(stop - found.end() if stop >= 0 else _LONGEST)
        count(80)
        if hit is not None:
            yield hit
        at = text.find("-----BEGIN ", at + 11 if hit is None else hit.end)
    yield from _putty(text)
    if "RWRTY0Iy" in text or "RWQAAEI" in text:
        for found in _MINISIGN.finditer(text):
            if is_minisign(found[0]):
                locked = decode64(found[0])[2:4] != b"\0\0"  # type: ignore[index]
                rule = LOCKED if locked else OPEN
                yield Hit(*found.span(), rule, "minisign secret key", found[0], True)
    for found in _KEK.finditer(text) if "keepstone.kek/v1" in text else ():
        start = max(0, found.start() - 512)
        if (key := _KEK_KEY.search(text, start, found.end() + 512)) is not None:
            yield Hit(*key.span(1), OPEN, "Keepstone key-encryption key", key[1], True)


def _pem(text: str, label: str, begin: int, stop: int) -> Hit | None:
    """The key whose first line ends at `begin`, and the next line of dashes begins at `stop`."""
    raw = text[begin : stop if stop >= 0 else begin + _LONGEST]
    body = _BETWEEN.sub("", _HEADER.sub("", raw))
    if stop < 0 or not text.startswith(f"-----END {label}", stop):
        # A key that lacks its last line is one all the same.
        body = re.match(r"[A-Za-z0-9+/]{0,20000}={0,2}", body)[0]  # type: ignore[index]
        body = body[: len(body) // 4 * 4]
    data = decode64(body)
    if data is None or len(data) < _LEAST or not _is_key(label, data):
        return None
    locked = "ENCRYPTED" in label or "ENCRYPTED" in raw[:200] or _is_locked(label, data)
    kind = "PGP private key" if "PGP" in label else _kind_of(label, text, begin)
    end = begin + len(raw)
    return Hit(begin, end, LOCKED if locked else OPEN, kind, body, True)


def _kind_of(label: str, text: str, begin: int) -> str:
    around = text[max(0, begin - 400) : begin]
    if '"service_account"' in around or "private_key_id" in around:
        return "Google service account key"
    if "SIGSTORE" in label or "COSIGN" in label:
        return "cosign private key"
    return "OpenSSH private key" if "OPENSSH" in label else "private key (PEM)"


def _is_key(label: str, data: bytes) -> bool:
    """The first bytes are those of the form that the label names."""
    if "OPENSSH" in label:
        return data.startswith(b"openssh-key-v1\0")
    if "PGP" in label:
        return data[0] & 0x80 != 0 and _packet(data)[0] == 5
    if "SIGSTORE" in label or "COSIGN" in label:
        return data[:1] == b"{"
    # DER's SEQUENCE; a body that is encrypted as a whole shows nothing.
    return data[0] == 0x30 or len(data) % 8 == 0


def _is_locked(label: str, data: bytes) -> bool:
    if "OPENSSH" in label:
        length = int.from_bytes(data[15:19], "big")
        return data[19 : 19 + length] != b"none"
    return "PGP" in label and _usage(data) not in (0, None)


def _packet(data: bytes) -> tuple[int, bytes]:
    """The tag and the body of the first packet (RFC 9580 4.2)."""
    head = data[0]
    if head & 0x40:
        tag, first = head & 0x3F, data[1]
        at = 2 if first < 192 else 3 if first < 224 else 6
    else:
        tag, at = head >> 2 & 15, 1 + (1, 2, 4, 0)[head & 3]
    return tag, data[at:]


def _usage(data: bytes) -> int | None:
    """The octet that says how the secret part is protected; None where it is not reached."""
    _, body = _packet(data)
    try:
        version, algorithm, at = body[0], body[5], 6
        if version == 6:
            return body[10 + int.from_bytes(body[6:10], "big")]
        if algorithm in (18, 19, 22):
            at += 1 + body[at]
        for _ in range({1: 2, 2: 2, 3: 2, 16: 3, 17: 4, 18: 1, 19: 1, 22: 1}.get(algorithm, 0)):
            at += 2 + (int.from_bytes(body[at : at + 2], "big") + 7) // 8
        at += {25: 32, 26: 56, 27: 32, 28: 57}.get(algorithm, 0)
        if algorithm == 18:
            at += 1 + body[at]
        return body[at]
    except IndexError:
        return None


def _putty(text: str) -> Iterator[Hit]:
    at = text.find("PuTTY-User-Key-File-")
    while at >= 0:
        found = _PUTTY.match(text, at, at + 200)
        lines = None if found is None else _PUTTY_LINES.search(text, at, at + _LONGEST)
        if found is not None and lines is not None:
            data = decode64(_BETWEEN.sub("", lines[1]))
            if data is not None and len(data) >= 32:
                rule = OPEN if found[2] == "none" else LOCKED
                yield Hit(*lines.span(1), rule, "PuTTY private key", lines[1], True)
        at = text.find("PuTTY-User-Key-File-", at + 20)
