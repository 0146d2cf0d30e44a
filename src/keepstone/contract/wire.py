"""A strict reader of the protobuf wire format that copies nothing.

Promise: memory stays flat whatever the input, and what this reader accepts has one meaning.
Protobuf's own readers merge a message field that comes twice, take the last of two scalars,
skip groups and accept any field under any wire type; each is a way to show one model to a
checker and another to a runtime. All of that is refused here.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from keepstone.errors import InputError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_WIDTH = {_FIXED64: 8, _FIXED32: 4}


class Kind(IntEnum):
    """What a field holds. A plural may come any number of times, the others once."""

    VARINT = 0
    VARINTS = 1
    BYTES = 2
    BYTES_LIST = 3
    FIXED32 = 4
    FIXED32S = 5
    FIXED64S = 6


# Which wire types may carry which kind; the plural numbers may also come packed.
_CARRIERS: dict[Kind, tuple[int, ...]] = {
    Kind.VARINT: (_VARINT,),
    Kind.VARINTS: (_VARINT, _LENGTH),
    Kind.BYTES: (_LENGTH,),
    Kind.BYTES_LIST: (_LENGTH,),
    Kind.FIXED32: (_FIXED32,),
    Kind.FIXED32S: (_FIXED32, _LENGTH),
    Kind.FIXED64S: (_FIXED64, _LENGTH),
}
_PLURAL = frozenset({Kind.VARINTS, Kind.BYTES_LIST, Kind.FIXED32S, Kind.FIXED64S})


@dataclass(frozen=True, slots=True)
class Message:
    """The fields that a message may have, by number, and which of them the caller wants.

    The others are checked and skipped. The name is for error messages.
    """

    name: str
    fields: Mapping[int, Kind]
    wanted: frozenset[int]


class Field(NamedTuple):
    """One field: for a length-delimited one where its bytes lie, else its value.

    `value` is the varint (as an unsigned 64-bit number), or 0 for fixed-width numbers, which
    no caller here needs. `packed` says that `start` and `end` bound the content.
    """

    number: int
    value: int
    start: int
    end: int
    packed: bool


_FIELD_COST = 8


class Reader:
    """Walks messages in `data`, doing at most `max_work`; past it the file is `too_large`.

    A field costs 8, a value in a run of one skipped field 1: about 0.1 us each.

    `prefix` names the format in error codes, such as `onnx.malformed`.
    """

    def __init__(self, data: memoryview, prefix: str, max_work: int) -> None:
        self.data = data
        self.unknown: dict[str, int] = {}
        self._prefix = prefix
        self._left = max_work

    def error(self, word: str, cause: str, next_step: str = "") -> InputError:
        return InputError(f"{self._prefix}.{word}", cause, next_step)

    def varint(self, at: int, end: int, longest: int = 10) -> tuple[int, int]:
        """Return the number at `at` and where it ends. At most 64 bits, inside `end`."""
        data = self.data
        value = shift = 0
        for position in range(at, min(end, at + longest)):
            byte = data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, position + 1
            shift += 7
        raise self.error("malformed", f"A number at byte {at} does not end where it should.")

    def fields(self, message: Message, start: int, end: int) -> Iterator[Field]:
        """Yield the known fields of the message in `data[start:end]`, in order.

        Raises InputError `<prefix>.malformed` for a broken one, `<prefix>.ambiguous` where a
        single field comes twice, `<prefix>.too_large` past the limit. A field number that the
        message does not define is skipped and recorded in `unknown`.
        """
        data, known, seen, at = self.data, message.fields, 0, start
        while at < end:
            begin = at
            self._left -= _FIELD_COST
            if self._left < 0:
                raise self._too_much()
            tag = data[at]
            if tag < 0x80:
                at += 1
            else:
                # A tag is a 32-bit number: at most five bytes.
                tag, at = self.varint(at, end, 5)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.error("malformed", f"The field at byte {begin} has no valid number.")
            if wire == _LENGTH and at < end and data[at] < 0x80 and data[at] < end - at:
                # The usual case, written out: a short length that fits.
                value, content = data[at], at + 1
                at = content + value
            else:
                value, content, at = self._value(wire, at, end)
            kind = known.get(number)
            if kind is None:
                self._note_unknown(message, number)
                continue
            if wire not in _CARRIERS[kind]:
                raise self.error(
                    "malformed",
                    f"Field {number} of {message.name} at byte {begin} has the wrong type.",
                )
            if kind not in _PLURAL:
                bit = 1 << number
                if seen & bit:
                    raise self.error(
                        "ambiguous",
                        f"Field {number} of {message.name} comes twice, again at byte {begin}: "
                        "readers differ in what that means.",
                    )
                seen |= bit
            if number in message.wanted:
                yield Field(number, value, content, at, wire == _LENGTH)
            elif kind in _PLURAL and tag < 0x80:
                at = self._skip_run(tag, at, end)

    def _too_much(self) -> InputError:
        return self.error("too_large", "There are more fields than the limit allows.")

    def _skip_run(self, tag: int, at: int, end: int) -> int:
        """Skip the values right after one with the same tag: tree models hold millions.

        Whatever is not plainly such a value is left to the general path.
        """
        data, wire, begin, count = self.data, tag & 7, at, 0
        if wire in _FIXED_WIDTH:
            step = 1 + _FIXED_WIDTH[wire]
            while at + step <= end and data[at] == tag:
                at += step
            count = (at - begin) // step
        elif wire == _LENGTH:
            while at + 1 < end and data[at] == tag and data[at + 1] < 0x80:
                after = at + 2 + data[at + 1]
                if after > end:
                    break
                at, count = after, count + 1
        else:
            while at + 1 < end and data[at] == tag and data[at + 1] < 0x80:
                at, count = at + 2, count + 1
        self._left -= count
        return at

    def _value(self, wire: int, at: int, end: int) -> tuple[int, int, int]:
        """The number, where the content starts, and where the field ends."""
        if wire == _VARINT:
            value, after = self.varint(at, end)
            return value, at, after
        if wire == _LENGTH:
            # A length is a 32-bit number in every protobuf reader: at most five bytes.
            value, at = self.varint(at, end, 5)
        elif wire in _FIXED_WIDTH:
            value = _FIXED_WIDTH[wire]
        else:
            raise self.error("malformed", f"The field at byte {at} is a group or of no type.")
        if value > end - at:
            raise self.error("malformed", f"The field at byte {at} runs past its message.")
        return (value if wire == _LENGTH else 0), at, at + value

    def _note_unknown(self, message: Message, number: int) -> None:
        # Bounded: an attacker chooses the numbers.
        if len(self.unknown) < 100:
            name = f"{message.name}.{number}"
            self.unknown[name] = self.unknown.get(name, 0) + 1

    def text(self, field: Field, limit: int) -> str:
        """The field as UTF-8 text of at most `limit` bytes."""
        if field.end - field.start > limit:
            raise self.error(
                "too_large", f"A text at byte {field.start} is longer than {limit} bytes."
            )
        try:
            return bytes(self.data[field.start : field.end]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error("malformed", f"A text at byte {field.start} is not UTF-8.") from error

    def numbers(self, field: Field) -> Iterator[int]:
        """The signed 64-bit numbers of a plural varint field, packed or not."""
        if not field.packed:
            yield signed(field.value)
            return
        at = field.start
        while at < field.end:
            value, at = self.varint(at, field.end)
            yield signed(value)


def signed(value: int) -> int:
    """An unsigned 64-bit number read as two's complement."""
    return value - (1 << 64) if value >> 63 else value
