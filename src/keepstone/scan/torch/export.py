"""Programs of `torch.export` (.pt2): a JSON graph that torch turns into calls when it loads it.

Loading looks each node's target up from torch's root by its dotted name, and evaluates texts as
arithmetic. So a target must be an operator of the list, and every such text plain arithmetic
over symbols. Sample inputs, constants and custom objects are torch's own archives, judged as
such; weights are stepped over. Native code (AOTInductor) is flagged: it is a program.

Source: torch/_export/serde/serialize.py and torch/export/pt2_archive, 2.1 to 2.13.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.archive.zip import members, problems
from keepstone.scan.archive.zipdir import read_zip
from keepstone.scan.rules import printable
from keepstone.scan.torch.script import operators
from keepstone.scan.view import View

_NOTES = re.compile(
    r"(archive_format|archive_version|version|byteorder|\.?data/(version|serialization_id))\Z"
)
_NOTE = re.compile(rb"[0-9a-z.\s]{0,64}\Z")
_PROGRAM = re.compile(r"(models/[^/]+|serialized_exported_program)\.json\Z")
_CONFIG = re.compile(r"data/(?:weights|constants)/[^/]+_config\.json\Z")
_RAW = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+\Z")
_NATIVE = re.compile(r"data/aotinductor/.*\.(so|o|cpp|cubin|json|ptx|hsaco|dylib|dll)\Z")
_MAX_JSON = 256 << 20
_MAX_DEPTH = 100

_QUOTED = re.compile(r"'[A-Za-z]\w{0,40}'")
_ARITHMETIC = re.compile(r"[\w\s+\-*/%(),=<>.!&|~]{0,10000}\Z")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z_]|__")
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_SYMBOL = re.compile(r"(?:s|u|z|f|zf|zuf|_)\d+\Z")
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "ModularIndexing",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "CeilToInt",
        "FloorToInt",
        "IntTrueDiv",
        "FloatTrueDiv",
        "ToFloat",
        "TruncToInt",
        "TruncToFloat",
        "RoundToInt",
        "RoundDecimal",
        "Pow",
        "PowByNatural",
        "FloatPow",
        "Eq",
        "Ne",
        "Ge",
        "Gt",
        "Le",
        "Lt",
        "And",
        "Or",
        "Not",
        "Piecewise",
        "Where",
        "Add",
        "Mul",
        "Abs",
        "sqrt",
        "floor",
        "ceiling",
        "True",
        "False",
        "positive",
        "integer",
        "nonnegative",
        "real",
        "oo",
        "int_oo",
        "zoo",
        "Identity",
        "LShift",
        "RShift",
        "BitwiseFn_bitwise_and",
        "BitwiseFn_bitwise_or",
        "and",
        "or",
        "not",
        "log2",
        "exp",
        "log",
    ]
)
_PLAIN_TARGET = re.compile(
    r"math\.[a-z0-9_]+|torch\._?sym_\w+|_operator\."
    r"(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
)
_TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?\Z")
_HIGHER = frozenset(
    [
        "cond",
        "while_loop",
        "map_impl",
        "scan",
        "associative_scan",
        "wrap",
        "wrap_with_set_grad_enabled",
        "wrap_with_autocast",
        "flex_attention",
        "flex_attention_backward",
        "out_dtype",
        "with_effects",
        "auto_functionalized",
        "auto_functionalized_v2",
        "invoke_subgraph",
        "tag_activation_checkpoint",
        "strict_mode",
    ]
)


def scan_export(view: View) -> Iterator[Finding]:
    """Judge a zip archive that holds an exported program."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    look = _Export()
    yield from members(view, listing, look.member)
    if not look.programs:
        yield view.finding("torch.malformed", "The archive holds no program.")


def is_plain_arithmetic(text: str) -> bool:
    """True for what sympy may be given: numbers, symbols, and functions of a fixed list."""
    plain = _QUOTED.sub("0", text)
    if not _ARITHMETIC.match(plain) or _ATTRIBUTE.search(plain):
        return False
    return all(word in _FUNCTIONS or _SYMBOL.match(word) for word in _WORD.findall(plain))


@dataclass(slots=True)
class _Export:
    programs: int = 0
    said: set[str] = field(default_factory=set)

    def member(self, view: View, name: str, data: memoryview) -> Iterator[Finding]:
        # Older archives have no folder around their members.
        inner = (
            name if "/" not in name or name.startswith("extra_files/") else name.partition("/")[2]
        )
        if _NOTES.match(inner):
            if not _NOTE.match(bytes(data[:65])):
                yield view.finding(
                    "torch.malformed", "The note is none that torch writes.", None, name
                )
        elif _PROGRAM.match(inner):
            self.programs += 1
            yield from self._program(view.nested(name, data))
        elif _CONFIG.match(inner):
            yield from self._program(view.nested(name, data))
        elif _NATIVE.match(inner):
            yield view.finding("torch.native_code", "The archive brings native code.", None, name)
        elif not _RAW.match(inner) or bytes(data[:4]) == b"PK\x03\x04":
            yield from view.inside(name, data)

    def _program(self, view: View) -> Iterator[Finding]:
        if len(view.data) > _MAX_JSON:
            yield view.unseen("The program is longer than the limit.")
            return
        doubled: list[str] = []

        def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(items)
            if len(found) < len(items):
                doubled.append("")
            return found

        try:
            program = json.loads(bytes(view.data), object_pairs_hook=pairs)
        except (ValueError, RecursionError):
            yield view.finding("torch.malformed", "The program is no JSON.")
            return
        if doubled:
            yield view.finding("torch.ambiguous", "The program names a member twice.")
        yield from self._walk(view, program, 0)

    def _walk(self, view: View, part: Any, depth: int) -> Iterator[Finding]:
        if depth > _MAX_DEPTH:
            yield view.unseen("The program is nested deeper than the limit.")
            return
        if isinstance(part, list):
            for item in part:
                yield from self._walk(view, item, depth + 1)
        if not isinstance(part, dict):
            return
        for key, item in part.items():
            if key == "expr_str":
                yield from self._expression(view, item)
            elif key == "guards_code" and isinstance(item, list):
                for text in item:
                    yield from self._guard(view, text)
            elif key == "target" and "inputs" in part:
                yield from self._target(view, item)
            else:
                yield from self._walk(view, item, depth + 1)

    def _once(self, view: View, rule: str, message: str) -> Iterator[Finding]:
        if message not in self.said:
            self.said.add(message)
            yield view.finding(rule, message)

    def _expression(self, view: View, text: Any) -> Iterator[Finding]:
        if not isinstance(text, str) or not is_plain_arithmetic(text):
            reason = f"Loading evaluates {printable(str(text), 80)}."
            yield from self._once(view, "torch.expression", reason)

    def _guard(self, view: View, text: Any) -> Iterator[Finding]:
        # Guards name the inputs: L['x'].size()[0] and the like.
        plain = re.sub(
            r"L(\['\w+'\]|\[\d+\])+(\.(size|stride|storage_offset|item)\(\)(\[\d+\])?)?",
            "0",
            text if isinstance(text, str) else "?",
        )
        yield from self._expression(view, plain)

    def _target(self, view: View, target: Any) -> Iterator[Finding]:
        if not isinstance(target, str):
            yield from self._once(view, "torch.operator", "The target of a node is no name.")
            return
        if _PLAIN_TARGET.fullmatch(target):
            return
        found = _TARGET.match(target)
        space, name = (found[1], found[2]) if found else ("", "")
        if f"{space}::{name}" in operators() or (space == "higher_order" and name in _HIGHER):
            return
        ours = found is None or space in ("aten", "prim", "prims", "higher_order")
        rule = "torch.operator" if ours else "torch.custom_operator"
        yield from self._once(view, rule, f"The program calls {printable(target)}.")
