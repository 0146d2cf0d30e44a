"""A symbolic pickle machine: what a loader would do, told to whoever rules on it.

Promise: every import, call and change of an object that a loader would do is told, in the
loader's order, up to where every loader stops; nothing is built, imported or called. Where the
C loader and the one in Python part ways, that is told as an oddity, and the walk goes on.

Source: CPython's Modules/_pickle.c and Lib/pickle.py, 3.11 to 3.14.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Protocol

from keepstone.scan.pickle.opcodes import Cause, line_end
from keepstone.scan.pickle.values import (
    KEPT,
    NUMBER,
    SHORT,
    UNKNOWN,
    Box,
    Global,
    Kind,
    Made,
    Opaque,
    Value,
)

_INTEGER = re.compile(rb"[+-]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+)\Z")
_DECIMAL = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z|[+-]?(inf|nan)\Z")
# As attributes, loaders call these on an object that the pickle made.
REACHING = frozenset({"append", "extend", "add"})
# Attributes with such names that nothing acts upon.
_INERT = frozenset(
    f"__{name}__"
    for name in [
        "doc",
        "name",
        "module",
        "qualname",
        "orig_class",
        "slotnames",
        "wrapped",
        "annotations",
    ]
)
_NESTED_KEPT = 1000


def reaches(key: str) -> bool:
    """True where a loader, or NumPy while it loads, would look this attribute up and use it."""
    if key.startswith("__") and key.endswith("__"):
        return key not in _INERT
    return key in REACHING


class Rulings(Protocol):
    """Is told what a loader would do, and says what comes of it. `at` is the opcode's offset."""

    def imported(self, module: str, name: str, at: int) -> Value: ...

    def computed(self, parts: tuple[Value, Value], at: int) -> Value: ...

    def extension(self, code: int, at: int) -> Value: ...

    def called(self, how: str, callee: Value, args: Value, at: int) -> Value: ...

    def built(self, target: Value, state: Value, at: int) -> None: ...

    def grown(self, target: Value, how: str, values: list[Value], at: int) -> None: ...

    def persistent(self, name: Value, at: int) -> Value: ...

    def odd(self, reason: str, at: int) -> None: ...


class _BrokenError(Exception):
    """Every loader stops here."""


class Machine:
    """One pickle at a time over the same bytes; `memo` lives as long as a loader's.

    `after_build` is asked after each BUILD where the next opcode lies, since joblib keeps the
    content of an array there; None where there is none.
    """

    def __init__(
        self,
        data: memoryview,
        rulings: Rulings,
        after_build: Callable[[Made, int], int | None] | None = None,
    ) -> None:
        self.data = data
        self.at = 0
        self.opcodes = 0
        self.nested: list[tuple[int, int]] = []
        self.result: Value = UNKNOWN
        self._rulings = rulings
        self._after_build = after_build
        self._size = len(data)
        self._protocol = 0
        self._short_frame = False
        self._stack: list[Value] = []
        self._marks: list[int] = []
        self._fence = 0
        self._memo: dict[int, Value] = {}
        self._table = {code: getattr(self, name) for code, name in _HANDLERS.items()}

    def run(self, start: int, most: int) -> Cause:
        """Walk the pickle that begins at `start`; `at` is then where it ended."""
        self.at, self._protocol, self._short_frame = start, 0, False
        self._stack, self._marks, self._fence, self._memo = [], [], 0, {}
        self.result = UNKNOWN
        table, data, size, left = self._table, self.data, self._size, most
        try:
            while self.at < size:
                if left <= 0:
                    return Cause.LIMIT
                left -= 1
                code = data[self.at]
                if code == 0x2E:
                    self.at += 1
                    self.result = self._pop()
                    if self._short_frame:
                        self._odd("A frame is longer than the file; loaders differ in that.")
                    return Cause.STOP
                handler = table.get(code)
                if handler is None:
                    return Cause.BROKEN
                begin = self.at
                self.at += 1
                try:
                    handler(begin)
                except (_BrokenError, UnicodeDecodeError):
                    self.at = begin
                    raise
        except (_BrokenError, UnicodeDecodeError):
            return Cause.BROKEN
        finally:
            self.opcodes += most - left
        return Cause.BROKEN

    def _odd(self, reason: str) -> None:
        self._rulings.odd(reason, self.at)

    # Arguments ------------------------------------------------------------------------------

    def _line(self) -> bytes:
        end = line_end(self.data, self.at)
        line = bytes(self.data[self.at : end])
        self.at = min(end + 1, self._size)
        return line

    def _number(self, width: int) -> int:
        end = self.at + width
        if end > self._size:
            raise _BrokenError
        found = int.from_bytes(self.data[self.at : end], "little")
        self.at = end
        return found

    def _piece(self, width: int) -> tuple[int, int]:
        """Where the content lies whose length is written in `width` bytes."""
        length = self._number(width)
        start, end = self.at, self.at + length
        if end > self._size:
            raise _BrokenError
        self.at = end
        return start, end

    # The stack ------------------------------------------------------------------------------

    def _pop(self) -> Value:
        if len(self._stack) <= self._fence:
            raise _BrokenError
        return self._stack.pop()

    def _top(self) -> Value:
        if len(self._stack) <= self._fence:
            raise _BrokenError
        return self._stack[-1]

    def _pop_mark(self) -> list[Value]:
        if not self._marks:
            raise _BrokenError
        at = self._marks.pop()
        self._fence = self._marks[-1] if self._marks else 0
        items = self._stack[at:]
        del self._stack[at:]
        return items

    def _mark(self, _: int) -> None:
        self._fence = len(self._stack)
        self._marks.append(self._fence)

    def _do_pop(self, _: int) -> None:
        if self._marks and len(self._stack) == self._fence:
            self._pop_mark()
        else:
            self._pop()

    def _do_pop_mark(self, _: int) -> None:
        self._pop_mark()

    def _dup(self, _: int) -> None:
        self._stack.append(self._top())

    # Constants ------------------------------------------------------------------------------

    def _none(self, _: int) -> None:
        self._stack.append(None)

    def _true(self, _: int) -> None:
        self._stack.append(True)

    def _false(self, _: int) -> None:
        self._stack.append(False)

    def _bin_int(self, _: int) -> None:
        found = self._number(4)
        self._stack.append(found - (1 << 32) if found >> 31 else found)

    def _bin_int1(self, _: int) -> None:
        self._stack.append(self._number(1))

    def _bin_int2(self, _: int) -> None:
        self._stack.append(self._number(2))

    def _int(self, _: int) -> None:
        line = self._line()
        if line in (b"00", b"01"):
            self._stack.append(line == b"01")
        else:
            self._push_integer(line)

    def _long(self, _: int) -> None:
        line = self._line()
        self._push_integer(line[:-1] if line.endswith(b"L") else line)

    def _push_integer(self, line: bytes) -> None:
        if len(line) > SHORT or not _INTEGER.match(line):
            self._odd("A number is spelled so that loaders differ in it.")
            self._stack.append(NUMBER)
        else:
            self._stack.append(int(line, 0))

    def _long1(self, _: int) -> None:
        start, end = self._piece(1)
        self._stack.append(int.from_bytes(self.data[start:end], "little", signed=True))

    def _long4(self, _: int) -> None:
        start, end = self._piece(4)
        if (end - start) >> 31:
            raise _BrokenError
        self._stack.append(Opaque(Kind.NUMBER, start, end))

    def _float(self, _: int) -> None:
        if not _DECIMAL.match(self._line()):
            self._odd("A number is spelled so that loaders differ in it.")
        self._stack.append(NUMBER)

    def _bin_float(self, _: int) -> None:
        self._number(8)
        self._stack.append(NUMBER)

    def _string(self, _: int) -> None:
        line = self._line()
        # The C loader forgives white space at the end, the other one does not.
        plain = line.rstrip()
        if plain != line:
            self._odd("A text ends in white space; loaders differ in that.")
        if len(plain) < 2 or plain[:1] != plain[-1:] or plain[:1] not in (b"'", b'"'):
            raise _BrokenError
        try:
            text = codecs.escape_decode(plain[1:-1])[0]
        except ValueError as error:
            raise _BrokenError from error
        self._push_string(text)

    def _bin_string(self, _: int) -> None:
        start, end = self._piece(4)
        if (end - start) >> 31:
            raise _BrokenError
        self._old_string(start, end)

    def _short_bin_string(self, _: int) -> None:
        self._old_string(*self._piece(1))

    def _old_string(self, start: int, end: int) -> None:
        self._note(start, end)
        if end - start > SHORT:
            self._stack.append(Opaque(Kind.BYTES, start, end))
        else:
            self._push_string(bytes(self.data[start:end]))

    def _push_string(self, text: bytes) -> None:
        # What it becomes is the loader's choice where it is not ASCII: no name of an import is.
        short = len(text) <= SHORT and text.isascii()
        self._stack.append(text.decode("ascii") if short else Opaque(Kind.TEXT))

    def _bytes1(self, _: int) -> None:
        self._push_bytes(*self._piece(1))

    def _bytes4(self, _: int) -> None:
        self._push_bytes(*self._piece(4))

    def _bytes8(self, _: int) -> None:
        self._push_bytes(*self._piece(8))

    def _push_bytes(self, start: int, end: int) -> None:
        self._note(start, end)
        self._stack.append(Opaque(Kind.BYTES, start, end))

    def _note(self, start: int, end: int) -> None:
        """A byte string may be a pickle itself."""
        if end - start < 2 or len(self.nested) >= _NESTED_KEPT:
            return
        if self.data[start] == 0x80 and self.data[start + 1] <= 5:
            self.nested.append((start, end))

    def _unicode(self, _: int) -> None:
        self._push_text(self._line().decode("raw-unicode-escape"))

    def _text1(self, _: int) -> None:
        self._utf8(*self._piece(1))

    def _text4(self, _: int) -> None:
        self._utf8(*self._piece(4))

    def _text8(self, _: int) -> None:
        self._utf8(*self._piece(8))

    def _utf8(self, start: int, end: int) -> None:
        if end - start > SHORT:
            self._stack.append(Opaque(Kind.TEXT, start, end))
        else:
            self._stack.append(str(self.data[start:end], "utf-8", "surrogatepass"))

    def _push_text(self, text: str) -> None:
        self._stack.append(text if len(text) <= SHORT else Opaque(Kind.TEXT))

    def _next_buffer(self, _: int) -> None:
        self._stack.append(Opaque(Kind.BUFFER))
        self._rulings.persistent(self._stack[-1], self.at - 1)

    def _readonly_buffer(self, _: int) -> None:
        self._top()

    # Containers -----------------------------------------------------------------------------

    def _empty_tuple(self, _: int) -> None:
        self._stack.append(())

    def _tuple(self, _: int) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _tuple1(self, _: int) -> None:
        self._stack.append((self._pop(),))

    def _tuple2(self, _: int) -> None:
        last, first = self._pop(), self._pop()
        self._stack.append((first, last))

    def _tuple3(self, _: int) -> None:
        last, middle, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, middle, last))

    def _empty_list(self, _: int) -> None:
        self._stack.append(Box(Kind.LIST))

    def _list(self, _: int) -> None:
        box = Box(Kind.LIST)
        box.items += self._pop_mark()[:KEPT]
        self._stack.append(box)

    def _empty_dict(self, _: int) -> None:
        self._stack.append(Box(Kind.DICT))

    def _dict(self, _: int) -> None:
        box = Box(Kind.DICT)
        _fill(box, self._pop_mark())
        self._stack.append(box)

    def _empty_set(self, _: int) -> None:
        self._stack.append(Box(Kind.SET))

    def _frozen_set(self, _: int) -> None:
        self._pop_mark()
        self._stack.append(Box(Kind.FROZENSET))

    def _append(self, begin: int) -> None:
        value = self._pop()
        self._extended([value], "extend", begin)

    def _appends(self, begin: int) -> None:
        self._extended(self._pop_mark(), "extend", begin)

    def _extended(self, values: list[Value], how: str, begin: int) -> None:
        target = self._top()
        if isinstance(target, Box) and target.kind is Kind.LIST:
            if len(target.items) < KEPT:
                target.items += values[:KEPT]
        elif values:
            self._grow(target, how, values, begin)

    def _set_item(self, begin: int) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value], begin)

    def _set_items(self, begin: int) -> None:
        self._set(self._pop_mark(), begin)

    def _set(self, pairs: list[Value], begin: int) -> None:
        target = self._top()
        if isinstance(target, Box) and target.kind is Kind.DICT:
            _fill(target, pairs)
        elif pairs:
            self._grow(target, "__setitem__", pairs, begin)

    def _add_items(self, begin: int) -> None:
        values, target = self._pop_mark(), self._top()
        if values and not (isinstance(target, Box) and target.kind is Kind.SET):
            self._grow(target, "add", values, begin)

    def _grow(self, target: Value, how: str, values: list[Value], begin: int) -> None:
        if isinstance(target, (Made, Global)) or target is UNKNOWN:
            self._rulings.grown(target, how, values, begin)
        elif not isinstance(target, Box):
            # No constant can be added to: every loader fails.
            raise _BrokenError

    # The memo -------------------------------------------------------------------------------

    def _put_line(self, _: int) -> None:
        self._memo[self._key()] = self._top()

    def _put1(self, _: int) -> None:
        self._memo[self._number(1)] = self._top()

    def _put4(self, _: int) -> None:
        self._memo[self._number(4)] = self._top()

    def _memoize(self, _: int) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get_line(self, _: int) -> None:
        self._get(self._key())

    def _get1(self, _: int) -> None:
        self._get(self._number(1))

    def _get4(self, _: int) -> None:
        self._get(self._number(4))

    def _get(self, key: int) -> None:
        if key not in self._memo:
            # A loader of several pickles may still have it from an earlier one.
            self._odd("The pickle fetches what it has not kept; loaders differ in that.")
            self._stack.append(UNKNOWN)
        else:
            self._stack.append(self._memo[key])

    def _key(self) -> int:
        line = self._line()
        if not line.isdigit() or len(line) > 12:
            self._odd("A key of the memo is spelled so that loaders differ in it.")
            return -1
        return int(line)

    # Imports and calls ----------------------------------------------------------------------

    def _names(self) -> tuple[str, str]:
        module, name = self._line(), self._line()
        return module.decode("utf-8"), name.decode("utf-8")

    def _import(self, module: str, name: str, at: int) -> Value:
        return self._rulings.imported(*renamed(module, name, self._protocol), at)

    def _global(self, begin: int) -> None:
        self._stack.append(self._import(*self._names(), begin))

    def _stack_global(self, begin: int) -> None:
        name, module = self._pop(), self._pop()
        if isinstance(module, str) and isinstance(name, str):
            self._stack.append(self._import(module, name, begin))
        elif _may_be_text(module) and _may_be_text(name):
            self._stack.append(self._rulings.computed((module, name), begin))
        else:
            # Loaders take nothing but a text for a name.
            raise _BrokenError

    def _ext1(self, begin: int) -> None:
        self._stack.append(self._rulings.extension(self._number(1), begin))

    def _ext2(self, begin: int) -> None:
        self._stack.append(self._rulings.extension(self._number(2), begin))

    def _ext4(self, begin: int) -> None:
        self._stack.append(self._rulings.extension(self._number(4), begin))

    def _call(self, how: str, callee: Value, args: Value, begin: int) -> None:
        if not isinstance(callee, (Made, Global)) and callee is not UNKNOWN:
            # No constant can be called: every loader fails.
            raise _BrokenError
        self._stack.append(self._rulings.called(how, callee, args, begin))

    def _reduce(self, begin: int) -> None:
        args, callee = self._pop(), self._pop()
        self._call("REDUCE", callee, args, begin)

    def _new_obj(self, begin: int) -> None:
        args, callee = self._pop(), self._pop()
        self._call("NEWOBJ", callee, args, begin)

    def _new_obj_ex(self, begin: int) -> None:
        named, args, callee = self._pop(), self._pop(), self._pop()
        if isinstance(args, tuple) and not (isinstance(named, Box) and named.named == {}):
            args = (*args, named)
        self._call("NEWOBJ_EX", callee, args, begin)

    def _obj(self, begin: int) -> None:
        items = self._pop_mark()
        if not items:
            raise _BrokenError
        self._instantiate(items[0], tuple(items[1:]), begin)

    def _inst(self, begin: int) -> None:
        # The loader in Python imports before it looks for the mark.
        callee = self._import(*self._names(), begin)
        self._instantiate(callee, tuple(self._pop_mark()), begin)

    def _instantiate(self, callee: Value, args: tuple[Value, ...], begin: int) -> None:
        # Without arguments both loaders make the object without its constructor, if it is a
        # class; a function is called.
        self._call("OBJ" if args else "OBJ without arguments", callee, args, begin)

    def _build(self, begin: int) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, (Made, Global)) or target is UNKNOWN:
            self._rulings.built(target, state, begin)
            if isinstance(target, Made):
                target.state = state
        elif state is not None:
            # Neither constants nor lists have a state: every loader fails.
            raise _BrokenError
        if self._after_build is not None and isinstance(target, Made):
            after = self._after_build(target, self.at)
            if after is None:
                raise _BrokenError
            self.at = after

    def _bin_pers_id(self, begin: int) -> None:
        self._stack.append(self._rulings.persistent(self._pop(), begin))

    def _pers_id(self, begin: int) -> None:
        line = self._line()
        text = line.decode("ascii") if len(line) <= SHORT else UNKNOWN
        self._stack.append(self._rulings.persistent(text, begin))

    # Framing --------------------------------------------------------------------------------

    def _proto(self, _: int) -> None:
        self._protocol = self._number(1)
        if self._protocol > 5:
            raise _BrokenError

    def _frame(self, _: int) -> None:
        # Frames change nothing of what is read; but a loader may insist that they fit.
        length = self._number(8)
        self._short_frame = self._short_frame or length > self._size - self.at


def renamed(module: str, name: str, protocol: int) -> tuple[str, str]:
    """The name that a loader of `protocol` looks for: those of Python 2 have moved."""
    if protocol >= 3:
        return module, name
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    moved = NAME_MAPPING.get((module, name))
    return moved or (IMPORT_MAPPING.get(module, module), name)


def _may_be_text(value: Value) -> bool:
    if isinstance(value, Made):
        return value.entry is None or not value.entry.new
    text = isinstance(value, Opaque) and value.kind in (Kind.TEXT, Kind.BYTES)
    return isinstance(value, str) or text or value is UNKNOWN


def _fill(box: Box, pairs: list[Value]) -> None:
    for at in range(0, len(pairs) - 1, 2):
        key = pairs[at]
        if isinstance(key, str):
            if box.reaches is None and reaches(key):
                box.reaches = key
            if len(box.named) < KEPT or key in box.named:
                box.named[key] = pairs[at + 1]
        elif isinstance(key, (Made, Global)) or key is UNKNOWN:
            box.computed = True


_HANDLERS = {
    ord(code): name
    for code, name in (
        ("(", "_mark"),
        ("0", "_do_pop"),
        ("1", "_do_pop_mark"),
        ("2", "_dup"),
        ("N", "_none"),
        ("\x88", "_true"),
        ("\x89", "_false"),
        ("I", "_int"),
        ("J", "_bin_int"),
        ("K", "_bin_int1"),
        ("M", "_bin_int2"),
        ("L", "_long"),
        ("\x8a", "_long1"),
        ("\x8b", "_long4"),
        ("F", "_float"),
        ("G", "_bin_float"),
        ("S", "_string"),
        ("T", "_bin_string"),
        ("U", "_short_bin_string"),
        ("B", "_bytes4"),
        ("C", "_bytes1"),
        ("\x8e", "_bytes8"),
        ("\x96", "_bytes8"),
        ("V", "_unicode"),
        ("X", "_text4"),
        ("\x8c", "_text1"),
        ("\x8d", "_text8"),
        ("\x97", "_next_buffer"),
        ("\x98", "_readonly_buffer"),
        (")", "_empty_tuple"),
        ("t", "_tuple"),
        ("\x85", "_tuple1"),
        ("\x86", "_tuple2"),
        ("\x87", "_tuple3"),
        ("]", "_empty_list"),
        ("l", "_list"),
        ("}", "_empty_dict"),
        ("d", "_dict"),
        ("\x8f", "_empty_set"),
        ("\x91", "_frozen_set"),
        ("a", "_append"),
        ("e", "_appends"),
        ("s", "_set_item"),
        ("u", "_set_items"),
        ("\x90", "_add_items"),
        ("p", "_put_line"),
        ("q", "_put1"),
        ("r", "_put4"),
        ("\x94", "_memoize"),
        ("g", "_get_line"),
        ("h", "_get1"),
        ("j", "_get4"),
        ("c", "_global"),
        ("\x93", "_stack_global"),
        ("\x82", "_ext1"),
        ("\x83", "_ext2"),
        ("\x84", "_ext4"),
        ("R", "_reduce"),
        ("\x81", "_new_obj"),
        ("\x92", "_new_obj_ex"),
        ("o", "_obj"),
        ("i", "_inst"),
        ("b", "_build"),
        ("Q", "_bin_pers_id"),
        ("P", "_pers_id"),
        ("\x80", "_proto"),
        ("\x95", "_frame"),
    )
}
