"""The few headers that mean something here, each at most once."""

from __future__ import annotations

from collections.abc import Iterable

from keepstone.gateway.exchange import Exchange
from keepstone.gateway.problem import PROBLEMS

_CLOSE = (b"connection", b"close")
TOO_LARGE = PROBLEMS["request.too_large"].with_headers(_CLOSE)
_READ = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
    }
)
_BEARER = b"bearer "


def read_headers(exchange: Exchange, headers: Iterable[tuple[bytes, bytes]], max_body: int) -> None:
    """Take the credential and the body's measures from the headers into `exchange`.

    A header given twice, or both credentials at once, could be read one way here and another way
    by whoever stands in front: such a request has no credential.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            if name in found:
                exchange.credential = PROBLEMS["request.bad_header"]
                return
            found[name] = value
    authorization = found.get(b"authorization")
    key = found.get(b"x-api-key")
    if authorization is not None:
        if key is not None:
            exchange.credential = PROBLEMS["request.bad_header"]
            return
        if authorization[:7].lower() == _BEARER:
            exchange.credential = authorization[7:].strip()
    elif key is not None:
        exchange.credential = key
    length = found.get(b"content-length")
    if length is not None and (len(length) > 15 or not length.isdigit() or int(length) > max_body):
        exchange.flaw = TOO_LARGE
    usual = (authorization is not None) + (key is not None) + (length is not None)
    if len(found) > usual:
        _read_rare(exchange, found)


def _read_rare(exchange: Exchange, found: dict[bytes, bytes]) -> None:
    encoding = found.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        exchange.flaw = PROBLEMS["request.encoding"].with_headers(_CLOSE)
    length = found.get(b"inference-header-content-length")
    if length is not None:
        if len(length) > 15 or not length.isdigit():
            exchange.flaw = PROBLEMS["request.bad_header"]
        else:
            exchange.header_length = int(length)
