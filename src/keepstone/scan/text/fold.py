"""Constants that code puts together: the texts that a piece of a syntax tree spells.

Nothing is evaluated but a few pure operations on short literals: what an attacker does to keep
`"os"` out of sight, and no more.
"""

from __future__ import annotations

import ast
import base64
import binascii
import zlib
from collections.abc import Callable
from typing import Any

_MOST = 1 << 16
_DEPTH = 20
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "b64decode": base64.b64decode,
    "standard_b64decode": base64.b64decode,
    "urlsafe_b64decode": base64.urlsafe_b64decode,
    "decodebytes": base64.b64decode,
    "a2b_base64": base64.b64decode,
    "b32decode": base64.b32decode,
    "b16decode": base64.b16decode,
    "b85decode": base64.b85decode,
    "a85decode": base64.a85decode,
    "fromhex": lambda data: bytes.fromhex(data.decode("ascii")),
    "unhexlify": binascii.unhexlify,
    "decompress": lambda data: zlib.decompressobj().decompress(data, _MOST),
}


def fold(node: ast.AST | None, depth: int = 0) -> str | bytes | int | None:
    """The constant that an expression is, or None where it is not plainly one."""
    if node is None or depth > _DEPTH:
        return None
    match node:
        case ast.Constant(value=str() | bytes() | int() as value):
            return value if isinstance(value, int) or len(value) <= _MOST else None
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _added(fold(left, depth + 1), fold(right, depth + 1))
        case ast.JoinedStr(values=values):
            return _joined("", [_formatted(value, depth) for value in values])
        case ast.Subscript(value=value, slice=ast.Slice() as cut):
            whole, step = fold(value, depth + 1), _step(cut)
            return whole[::step] if isinstance(whole, str | bytes) and step else None
        case ast.Call():
            return _called(node, depth)
    return None


def _step(cut: ast.Slice) -> int | None:
    """The step of `[::step]`; None for any other slice."""
    if cut.lower is not None or cut.upper is not None:
        return None
    match cut.step:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as step)):
            return -step or None
        case ast.Constant(value=int() as step):
            return step or None
    return None


def _added(left: Any, right: Any) -> str | bytes | None:
    if isinstance(left, str) and isinstance(right, str):
        return (left + right)[:_MOST]
    if isinstance(left, bytes) and isinstance(right, bytes):
        return (left + right)[:_MOST]
    return None


def _formatted(node: ast.expr, depth: int) -> Any:
    return fold(node.value if isinstance(node, ast.FormattedValue) else node, depth + 1)


def _joined(between: str, parts: list[Any]) -> str | None:
    if all(isinstance(part, str) for part in parts):
        return between.join(parts)[:_MOST]
    return None


def _called(node: ast.Call, depth: int) -> str | bytes | int | None:
    """A call of one of the few functions that only move letters."""
    first = node.args[0] if node.args else None
    match node.func:
        case ast.Name(id="chr"):
            code = fold(first, depth + 1)
            return chr(code) if isinstance(code, int) and 0 <= code < 0x110000 else None
        case ast.Name(id="str" | "bytes"):
            match first:
                case ast.List(elts=items) | ast.Tuple(elts=items) if len(items) < 4096:
                    numbers = [fold(item, depth + 1) for item in items]
                    if all(isinstance(n, int) and 0 <= n < 256 for n in numbers):
                        return bytes(numbers)  # type: ignore[arg-type]
            return fold(first, depth + 1)
        case ast.Attribute(value=value, attr="join"):
            between = fold(value, depth + 1)
            items = first.elts if isinstance(first, ast.List | ast.Tuple) else []
            if isinstance(between, str) and 0 < len(items) < 4096:
                return _joined(between, [fold(item, depth + 1) for item in items])
            if isinstance(between, str) and isinstance(whole := _mapped(first, depth), str):
                return between.join(whole)
        case ast.Attribute(value=value, attr="decode" | "encode" as way):
            return _recoded(fold(value, depth + 1), way, fold(first, depth + 1))
        case ast.Attribute(value=value, attr="replace") if len(node.args) == 2:
            whole, old, new = (fold(item, depth + 1) for item in (value, *node.args))
            if isinstance(whole, str) and isinstance(old, str) and isinstance(new, str):
                return whole.replace(old, new)[:_MOST] if old else None
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in _DECODERS:
            data = fold(first, depth + 1)
            try:
                plain = data.encode() if isinstance(data, str) else data
                return _DECODERS[name](plain) if isinstance(plain, bytes) else None
            except (ValueError, zlib.error):
                return None
    return None


def _mapped(node: ast.AST | None, depth: int) -> str | bytes | int | None:
    """`map(chr, [..])`, `reversed("..")`, and `chr(c) for c in [..]`."""
    numbers: ast.AST | None = None
    match node:
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id="chr"), numbers]):
            pass
        case ast.Call(func=ast.Name(id="reversed"), args=[value]):
            whole = fold(value, depth + 1)
            return whole[::-1] if isinstance(whole, str) else None
        case (
            ast.GeneratorExp(
                elt=ast.Call(func=ast.Name(id="chr"), args=[ast.Name()]), generators=[one]
            )
            | ast.ListComp(
                elt=ast.Call(func=ast.Name(id="chr"), args=[ast.Name()]), generators=[one]
            )
        ):
            numbers = one.iter
        case _:
            return fold(node, depth + 1)
    items = numbers.elts if isinstance(numbers, ast.List | ast.Tuple) else []
    codes = [fold(item, depth + 1) for item in items[:4096]]
    if codes and all(isinstance(code, int) and 0 <= code < 0x110000 for code in codes):
        return "".join(chr(code) for code in codes if isinstance(code, int))
    return None


def _recoded(value: Any, way: str, coding: Any) -> str | bytes | None:
    name = coding if isinstance(coding, str) else "utf-8"
    try:
        if isinstance(value, bytes) and way == "decode":
            return value.decode(name if name in _CODINGS else "utf-8")
        if isinstance(value, str) and way == "encode":
            return value.encode("utf-8")
    except ValueError:
        pass
    return None


_CODINGS = ("ascii", "utf-8", "utf8", "latin-1", "latin1", "utf-16")
