"""The texts of a pickle, with their places, and which stands beside which: nothing is run.

Promise: every text and byte string that a loader would make is told, up to where every loader
stops; and every pair of a key and its value, in a dictionary, a state or a tuple of two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keepstone.scan.pickle.joblib import Arrays
from keepstone.scan.pickle.machine import Machine
from keepstone.scan.pickle.opcodes import Cause, charge
from keepstone.scan.pickle.ruling import Ruling
from keepstone.scan.pickle.values import Value
from keepstone.scan.view import View

# Texts beyond this many bytes in one pickle are not kept.
MAX_KEPT = 64 << 20
# Where one text lies that comes again and again.
_PLACES = 100_000


@dataclass(slots=True)
class Constants:
    """What one file of pickles holds. Offsets are those of the opcodes.

    `why` says why it is not all; `nested` are byte strings that begin as pickles themselves.
    """

    texts: list[tuple[int, str]] = field(default_factory=list)
    pairs: list[tuple[int, str, str]] = field(default_factory=list)
    nested: list[tuple[int, int]] = field(default_factory=list)
    kept: int = 0
    why: str = ""


def constants(view: View) -> Constants:
    """Every constant of the pickles in a row of which the view consists."""
    found, at, data = Constants(), 0, view.data
    while at < len(data):
        if view.allowance.opcodes <= 0:
            found.why = "The file has more opcodes of pickles than the limit allows."
            break
        ruling = Ruling(view)
        arrays = Arrays(data, ruling, view.allowance.opcodes)
        machine = _Listener(data, ruling, arrays, found)
        cause = machine.run(at, view.allowance.opcodes)
        charge(view.allowance, machine.opcodes + arrays.spent)
        if cause is not Cause.STOP:
            if not at or cause is Cause.LIMIT:
                found.why = f"The pickle cannot be followed beyond byte {machine.at}."
            break
        at = machine.at
        found.nested += machine.nested
    if found.kept > MAX_KEPT:
        found.why = "The pickle holds more text than the limit."
    return found


class _Listener(Machine):
    """A machine that keeps what it passes."""

    def __init__(self, data: memoryview, ruling: Ruling, arrays: Arrays, found: Constants) -> None:
        super().__init__(data, ruling, arrays.after_build)
        self._found = found
        self._places: dict[str, int] = {}

    def _keep(self, start: int, text: str) -> None:
        self._found.kept += len(text)
        if self._found.kept <= MAX_KEPT:
            self._found.texts.append((start, text))
            if len(self._places) < _PLACES and len(text) <= 1024:
                self._places[text] = start

    def _utf8(self, start: int, end: int) -> None:
        super()._utf8(start, end)
        self._keep(start, str(self.data[start:end], "utf-8", "replace"))

    def _note(self, start: int, end: int) -> None:
        super()._note(start, end)
        if end > start and self.data[start] != 0x80:
            raw = bytes(self.data[start:end])
            self._keep(start, raw.decode("utf-8", "replace"))

    def _string(self, begin: int) -> None:
        super()._string(begin)
        self._line_kept(begin)

    def _unicode(self, begin: int) -> None:
        super()._unicode(begin)
        self._line_kept(begin)

    def _line_kept(self, begin: int) -> None:
        raw = bytes(self.data[begin + 1 : self.at]).strip()
        top = self._stack[-1]
        self._keep(begin, top if isinstance(top, str) else raw.decode("utf-8", "replace"))

    def _set(self, pairs: list[Value], begin: int) -> None:
        self._pairs(pairs, begin)
        super()._set(pairs, begin)

    def _dict(self, begin: int) -> None:
        at = self._marks[-1] if self._marks else len(self._stack)
        self._pairs(self._stack[at:], begin)
        super()._dict(begin)

    def _tuple2(self, begin: int) -> None:
        self._pairs(self._stack[-2:], begin)
        super()._tuple2(begin)

    def _pairs(self, items: list[Value], begin: int) -> None:
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str) and isinstance(value, str):
                self._found.pairs.append((self._places.get(value, begin), key, value))
            elif isinstance(key, str) and (text := self._bytes(value)) is not None:
                self._found.pairs.append((self._places.get(text, begin), key, text))

    def _bytes(self, value: Value) -> str | None:
        """A short byte string as the text that it is."""
        start, end = getattr(value, "start", 0), getattr(value, "end", 0)
        if not isinstance(start, int) or not 0 < end - start <= 1024:
            return None
        return bytes(self.data[start:end]).decode("utf-8", "replace")
