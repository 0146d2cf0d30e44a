"""A walk over the opcodes of a pickle, with what the names of its imports are made of.

Promise: every opcode that a real loader would reach is reached, so no import before a break is
missed; nothing is built, imported or called. A pickle has no jumps: the walk is linear and the
order is the loader's. Numbers are never parsed, so their odd spellings (`I0x1`, `L0x10L`) stop
nothing. Names are followed through the stack and the memo; where one is not a plain text of
the file, the import is *computed*.

Source: CPython's Lib/pickletools.py and Modules/_pickle.c.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from keepstone.scan.allowance import Allowance

_PAIR = "stringnl_noescape_pair"
# Bytes of length in front of an argument whose length varies.
_PREFIXED = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_NAME_LIMIT = 1024
_IMPORTS_KEPT = 1000
_NESTED_KEPT = 1000
# So many opcodes in a row are no accident; a decoy in front of a payload must be longer.
_RESEMBLES = 200_000


class _Step(Enum):
    """What an opcode does to names."""

    TAKE = "take"  # nothing: it moves the stack
    TEXT = "text"
    MARK = "mark"
    DUP = "dup"
    MEMOIZE = "memoize"
    PUT = "put"
    GET = "get"
    GLOBAL = "global"
    STACK_GLOBAL = "stack global"
    EXTENSION = "extension"


_STEPS = {
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Step.TEXT),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Step.TEXT),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Step.PUT),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Step.GET),
    **dict.fromkeys(("GLOBAL", "INST"), _Step.GLOBAL),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Step.EXTENSION),
    **{step.name: step for step in (_Step.MARK, _Step.DUP, _Step.MEMOIZE, _Step.STACK_GLOBAL)},
}
_CALLS = ("REDUCE", "BUILD", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX")
_BYTES = (
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("BINSTRING", "SHORT_BINSTRING"),
)


@dataclass(frozen=True, slots=True)
class _Opcode:
    name: str
    step: _Step
    lines: int  # arguments that end with a newline
    fixed: int  # bytes of a fixed argument
    prefix: int  # bytes of length in front of the argument
    pops: int
    pushed: tuple[None, ...]
    to_mark: bool  # takes everything down to the topmost mark
    calls: bool
    bytes: bool  # its argument is a byte string
    stops: bool
    persists: bool


def _read_table() -> dict[int, _Opcode]:
    table = {}
    for opcode in pickletools.opcodes:
        argument, lines, fixed, prefix = opcode.arg, 0, 0, 0
        if argument is not None:
            if argument.n == pickletools.UP_TO_NEWLINE:
                lines = 2 if argument.name == _PAIR else 1
            elif argument.n in _PREFIXED:
                prefix = _PREFIXED[argument.n]
            else:
                fixed = argument.n
        before = opcode.stack_before
        to_mark = pickletools.markobject in before
        table[ord(opcode.code)] = _Opcode(
            name=opcode.name,
            step=_STEPS.get(opcode.name, _Step.TAKE),
            lines=lines,
            fixed=fixed,
            prefix=prefix,
            pops=before.index(pickletools.markobject) if to_mark else len(before),
            pushed=(None,) * len(opcode.stack_after),
            to_mark=to_mark,
            calls=opcode.name in _CALLS,
            bytes=opcode.name in _BYTES,
            stops=opcode.name == "STOP",
            persists=opcode.name in ("PERSID", "BINPERSID"),
        )
    return table


_TABLE = _read_table()
_NOTHING: list[tuple[int, int]] = []


class Cause(Enum):
    """Why a walk ended."""

    STOP = "stop"
    BROKEN = "broken"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Import:
    """A name that loading would look up. `module` and `name` are None where computed.

    For an extension code `name` is the number, and there is no module.
    """

    opcode: str
    module: str | None
    name: str | None
    offset: int


@dataclass(slots=True)
class Walk:
    """What one pickle holds: how it ended, where, and what it imports."""

    cause: Cause
    end: int
    imports: list[Import] = field(default_factory=list)  # each name once, the first 1,000
    opcodes: int = 0
    plausible: bool = False  # a loader would have got to a call, or to the end
    # Where byte strings lie that could be pickles themselves, the first 1,000.
    nested: list[tuple[int, int]] = field(default_factory=list)


class _BrokenError(Exception):
    """The stream is not a pickle from here on."""


_MARK = object()


def walk(
    data: memoryview, start: int = 0, max_opcodes: int = 2_000_000, *, persistent: bool = True
) -> Walk:
    """Walk the one pickle that begins at `start`. Never raises for any content.

    `persistent` says whether the loader would bring objects of its own.
    """
    found = Walk(Cause.BROKEN, start)
    machine = _Machine(data)
    seen: set[tuple[str | None, str | None]] = set()
    at = start
    while at < len(data):
        if found.opcodes >= max_opcodes:
            found.cause = Cause.LIMIT
            break
        opcode = _TABLE.get(data[at])
        if opcode is None:
            break
        if opcode.lines or opcode.fixed or opcode.prefix:
            try:
                pieces, after = _arguments(data, at + 1, opcode)
            except _BrokenError:
                break
        else:
            pieces, after = _NOTHING, at + 1
        found.opcodes += 1
        if opcode.step is _Step.TAKE:
            # Most opcodes by far: they put something on the stack or take it off.
            machine.take(opcode)
        else:
            imported = machine.step(opcode, pieces, at)
            if imported is not None and len(seen) < _IMPORTS_KEPT:
                name = (imported.module, imported.name)
                if name not in seen:
                    seen.add(name)
                    found.imports.append(imported)
        if opcode.bytes and len(found.nested) < _NESTED_KEPT:
            begin, end = pieces[0]
            if end - begin > 1 and data[begin] == 0x80 and data[begin + 1] <= 5:
                found.nested.append((begin, end))
        if opcode.persists and not persistent:
            # Such a loader stops here; every zip archive begins with this letter.
            machine.sound = False
        at = after
        if opcode.stops:
            found.plausible = found.plausible or machine.sound
            found.cause = Cause.STOP
            break
        if opcode.calls and seen and machine.sound:
            found.plausible = True
    found.end = at
    return found


def walk_all(data: memoryview, allowance: Allowance) -> Iterator[Walk]:
    """Walk pickle after pickle, as loaders of several objects do, until one does not end."""
    at = 0
    while at < len(data) and allowance.opcodes > 0:
        found = walk(data, at, allowance.opcodes)
        charge(allowance, found.opcodes)
        yield found
        if found.cause is not Cause.STOP:
            return
        at = found.end
    if at < len(data):
        yield Walk(Cause.LIMIT, at)


def charge(allowance: Allowance, opcodes: int) -> None:
    """Take what a walk of one pickle cost off the allowance."""
    # A pickle costs something even if it holds nothing: a file may be a million of them.
    allowance.opcodes -= opcodes + 20


def resembles_pickle(data: memoryview, allowance: Allowance) -> bool:
    """True where `data` opens as a pickle without a protocol mark (protocols 0 and 1) does.

    It must end, or call something it imported, before a loader would stop; or go on for so
    long that it is nothing else. Plain text that happens to begin with opcodes does neither.
    """
    found = walk(data, 0, max(0, min(_RESEMBLES, allowance.opcodes)))
    charge(allowance, found.opcodes)
    return _resembles(found)


def look_as_pickle(data: memoryview, allowance: Allowance) -> Walk:
    """What a loader of pickles would find in `data`, as far as such a look goes."""
    found = walk(data, 0, max(0, min(_RESEMBLES, allowance.opcodes)), persistent=False)
    charge(allowance, found.opcodes)
    return found


def is_importing_pickle(data: memoryview, found: Walk) -> bool:
    """True where what `look_as_pickle` found is a pickle that imports something."""
    marked = len(data) > 1 and data[0] == 0x80 and data[1] <= 5
    return bool(found.imports) and (marked or _resembles(found))


def resembles_importing_pickle(data: memoryview, allowance: Allowance) -> bool:
    """True where a loader of pickles would import something out of `data`."""
    return is_importing_pickle(data, look_as_pickle(data, allowance))


def _resembles(found: Walk) -> bool:
    if found.cause is Cause.LIMIT and not found.imports:
        return True
    if not found.plausible or found.opcodes < 2:
        return False
    return all(could_be_name(item) for item in found.imports[:1])


def could_be_name(item: Import) -> bool:
    if item.module is None or item.name is None:
        return item.opcode in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
    parts = [*item.module.split("."), *item.name.split(".")]
    return all(part.isidentifier() for part in parts)


def _arguments(data: memoryview, at: int, opcode: _Opcode) -> tuple[list[tuple[int, int]], int]:
    """Where each argument's content lies, and where the opcode ends."""
    if opcode.lines:
        pieces = []
        for _ in range(opcode.lines):
            end = line_end(data, at)
            pieces.append((at, end))
            at = min(end + 1, len(data))
        return pieces, at
    length = opcode.fixed
    if opcode.prefix:
        if at + opcode.prefix > len(data):
            raise _BrokenError
        length = int.from_bytes(data[at : at + opcode.prefix], "little")
        at += opcode.prefix
    if length > len(data) - at:
        raise _BrokenError
    return [(at, at + length)], at + length


def line_end(data: memoryview, at: int) -> int:
    """Where the line ends: at its newline, or, as loaders take it, with the data.

    Searched in steps: a line may be the whole file, and must not be copied at once.
    """
    start, step = at, 256
    while at < len(data):
        found = bytes(data[at : at + step]).find(b"\n")
        if found >= 0:
            return at + found
        at, step = at + step, 1 << 16
    # Loaders take a last line without its end, and cut off one byte all the same.
    return max(start, len(data) - 1)


class _Machine:
    """The stack and the memo as far as names go: where a text lies, the mark, or unknown.

    A text is kept as the offset of its opcode: an attacker's million texts cost no memory. An
    opcode on too short a stack makes a loader stop; here `sound` falls and the walk goes on,
    since more reached is never less safe.
    """

    def __init__(self, data: memoryview) -> None:
        self.sound = True
        self._lost = False
        self._data = data
        self._stack: list[int | object | None] = []
        self._memo: dict[int, int | object | None] = {}

    def step(self, opcode: _Opcode, pieces: list[tuple[int, int]], at: int) -> Import | None:
        """One opcode that has to do with names; the others go to `take`."""
        stack = self._stack
        match opcode.step:
            case _Step.TEXT:
                stack.append(at)
            case _Step.MARK:
                stack.append(_MARK)
            case _Step.DUP:
                stack.append(self._top())
            case _Step.MEMOIZE:
                self._memo[len(self._memo)] = self._top()
            case _Step.PUT:
                self._put(self._number(pieces[0], opcode))
            case _Step.GET:
                key = self._number(pieces[0], opcode)
                stack.append(None if key is None or self._lost else self._memo.get(key))
            case _Step.GLOBAL:
                self.take(opcode)
                return Import(opcode.name, self._line(pieces[0]), self._line(pieces[1]), at)
            case _Step.STACK_GLOBAL:
                module, name = [None, None, *stack[-2:]][-2:]
                self.take(opcode)
                return Import(opcode.name, self._text(module), self._text(name), at)
            case _Step.EXTENSION:
                stack.append(None)
                number = int.from_bytes(self._data[pieces[0][0] : pieces[0][1]], "little")
                return Import(opcode.name, None, str(number), at)
        return None

    def _top(self) -> int | object | None:
        if not self._stack:
            self.sound = False
            return None
        return self._stack[-1]

    def _put(self, key: int | None) -> None:
        if key is None:
            # Spelled so that loaders differ: whatever is fetched from now on is unknown.
            self._lost = True
        else:
            self._memo[key] = self._top()

    def take(self, opcode: _Opcode) -> None:
        stack = self._stack
        if opcode.to_mark:
            while True:
                if not stack:
                    self.sound = False
                    break
                if stack.pop() is _MARK:
                    break
        elif opcode.name == "POP" and stack and stack[-1] is _MARK:
            stack.pop()
            return
        if opcode.pops:
            taken = stack[-opcode.pops :]
            self.sound = self.sound and len(taken) == opcode.pops and _MARK not in taken
            del stack[-opcode.pops :]
        stack.extend(opcode.pushed)

    def _text(self, at: int | object | None) -> str | None:
        """The text of the opcode at `at`, or None where it is not plainly one."""
        if not isinstance(at, int):
            return None
        opcode = _TABLE[self._data[at]]
        (start, end), *_ = _arguments(self._data, at + 1, opcode)[0]
        if end - start > _NAME_LIMIT:
            return None
        raw = bytes(self._data[start:end])
        if opcode.lines:
            raw = raw.strip().strip(b"'\"") if opcode.name == "STRING" else raw
            # Escapes are the loader's to undo: a name with one is as good as computed.
            if b"\\" in raw:
                return None
        return raw.decode("utf-8", "replace")

    def _line(self, piece: tuple[int, int]) -> str:
        start, end = piece
        return bytes(self._data[start : min(end, start + _NAME_LIMIT)]).decode("utf-8", "replace")

    def _number(self, piece: tuple[int, int], opcode: _Opcode) -> int | None:
        """The memo key, or None for what is not plainly one."""
        raw = bytes(self._data[piece[0] : min(piece[1], piece[0] + 32)])
        if not opcode.lines:
            return int.from_bytes(raw, "little")
        return int(raw) if raw.isdigit() else None
