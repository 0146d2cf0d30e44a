"""joblib's files: the content of an array lies between two opcodes of the pickle.

joblib's loader reads it as soon as the array's wrapper has its state. To a plain loader the same
bytes are opcodes: a file in which those import something is two files in one, and is flagged.

Source: joblib's numpy_pickle.py (0.10 to 1.6) and numpy_pickle_compat.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from keepstone.core.finding import Finding
from keepstone.scan.pickle.machine import Machine
from keepstone.scan.pickle.opcodes import Cause
from keepstone.scan.pickle.ruling import Ruling
from keepstone.scan.pickle.values import Box, Global, Made, Value

_OLD_WRAPPERS = ("NDArrayWrapper", "ZNDArrayWrapper")
# Types by their letter and size, as numpy spells them; an object's content is a pickle.
_SIZED = re.compile(r"[<>=|]?([bBhHiIlLqQefdgFDGSUVMmuicaO?p])(\d*)\Z")
_LETTERS = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "l": 8, "L": 8, "q": 8}
_LETTERS |= {"Q": 8, "e": 2, "f": 4, "d": 8, "g": 16, "F": 8, "D": 16, "G": 32, "p": 8}
_SCALARS = {
    "bool": 1,
    "bool_": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    "longdouble": 16,
    "float128": 16,
    "int": 8,
    "float": 8,
    "intc": 4,
    "uintc": 4,
    "intp": 8,
    "uintp": 8,
    "longlong": 8,
    "ulonglong": 8,
}
OBJECTS = -1


@dataclass(slots=True)
class Arrays:
    """Steps over the arrays of one stream. `first` is where the first content lies."""

    data: memoryview
    ruling: Ruling
    most: int
    first: int | None = None
    spent: int = 0

    def after_build(self, target: Made, at: int) -> int | None:
        maker = target.maker
        # sklearn once carried a copy of joblib.
        if maker is None or "joblib.numpy_pickle" not in maker.module:
            return at
        if maker.name in _OLD_WRAPPERS:
            self._beside(target.state, at)
        if maker.name != "NumpyArrayWrapper":
            return at
        self.first = at if self.first is None else self.first
        return self._content(target.state, at)

    def _beside(self, state: Value, at: int) -> None:
        name = state.named.get("filename") if isinstance(state, Box) else None
        if not isinstance(name, str) or "/" in name or "\\" in name or name.startswith("."):
            reason = "An array's content lies in a file outside of the folder."
            self.ruling.say("pickle.call", reason, at)
            return
        self.ruling.say("pickle.sidecar", "An array's content lies in another file.", at)

    def _content(self, state: Value, at: int) -> int | None:
        """Where the content that begins at `at` ends; None where it cannot be told."""
        if not isinstance(state, Box):
            return None
        shape, size = state.named.get("shape"), item_size(state.named.get("dtype"))
        if size == OBJECTS:
            return self._objects(at)
        counts = shape if isinstance(shape, tuple) else None
        if size is None or counts is None or not all(type(n) is int and n >= 0 for n in counts):
            self.ruling.say(
                "scan.not_evaluated", "The size of an array cannot be told from the file.", at
            )
            return None
        if state.named.get("numpy_array_alignment_bytes") is not None:
            if at >= len(self.data):
                return None
            at += 1 + self.data[at]
        end = at + size * prod(n for n in counts if type(n) is int)
        return end if end <= len(self.data) else None

    def _objects(self, at: int) -> int | None:
        """An array of objects is a pickle of its own, read by the plain loader."""
        machine = Machine(self.data, self.ruling)
        cause = machine.run(at, max(0, self.most - self.spent))
        self.spent += machine.opcodes
        return machine.at if cause is Cause.STOP else None


def item_size(kind: Value) -> int | None:
    """The bytes of one item of this numpy type; `OBJECTS` where it holds any, None if unclear."""
    if isinstance(kind, Global):
        if kind.name in ("object_", "object"):
            return OBJECTS
        return _SCALARS.get(kind.name) if kind.module in ("numpy", "builtins") else None
    if isinstance(kind, str):
        return _spelled(kind)
    if not isinstance(kind, Made) or kind.maker is None or kind.maker.name.lower()[-5:] != "dtype":
        return None
    if str(kind.maker) != "numpy.dtype":
        # numpy.dtypes.Float64DType and its like are called by their own names.
        return _SCALARS.get(kind.maker.name.lower().removesuffix("dtype"))
    first = kind.args[0] if isinstance(kind.args, tuple) and kind.args else None
    state = kind.state
    if isinstance(state, tuple) and len(state) >= 8:
        # dtype.__setstate__: (version, order, subtype, names, fields, size, alignment, flags)
        size, flags = state[5], state[7]
        if isinstance(flags, int) and flags & 0x01:
            return OBJECTS
        if isinstance(size, int) and size >= 0:
            return size
        if isinstance(state[2], tuple):
            return _repeated(state[2])
    return item_size(first)


def _repeated(subtype: tuple[Value, ...]) -> int | None:
    size = item_size(subtype[0])
    counts = subtype[1] if len(subtype) == 2 else None
    counts = counts if isinstance(counts, tuple) else (counts,)
    if size is None or size == OBJECTS or not all(type(n) is int and n >= 0 for n in counts):
        return size if size == OBJECTS else None
    return size * prod(n for n in counts if type(n) is int)


def _spelled(text: str) -> int | None:
    if text in _SCALARS:
        return _SCALARS[text]
    found = _SIZED.match(text)
    if found is None:
        return None
    letter, count = found[1], found[2]
    if letter == "O":
        return OBJECTS
    if letter in "SVa":
        return int(count) if count else None
    if letter == "U":
        return 4 * int(count) if count else None
    if letter in "Mm":
        return 8
    if count:
        return int(count)
    return _LETTERS.get(letter)


def read_plainly(data: memoryview, start: int, ruling: Ruling, arrays: Arrays) -> list[Finding]:
    """What a plain loader would import out of the bytes of an array."""
    if arrays.first is None:
        return []
    plain = Ruling(ruling.view, ruling.base)
    Machine(data, plain).run(start, max(0, arrays.most - arrays.spent))
    told = ("pickle.import", "pickle.dangerous_import", "pickle.computed_import")
    return [
        item
        for item in plain.findings
        if item.rule in told
        and (item.location.offset or 0) >= arrays.first + ruling.base
        and "?" not in item.message
    ]
