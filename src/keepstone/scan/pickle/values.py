"""What a pickle puts on a loader's stack, as far as a judge needs to know it.

Small constants are themselves: None, True and False, integers, short texts, and tuples of
values. Everything else is one of the classes here. Nothing is ever built or imported, and a
long text or a byte string is only a place in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from keepstone.scan.pickle.allowlist import Entry

# Texts up to this long are kept; a name of an import is shorter.
SHORT = 1024
# So many items of a dictionary are kept by name: the state of an object has fewer.
KEPT = 256


class Kind(Enum):
    """What a value is, where its content does not matter."""

    NUMBER = "a number"
    TEXT = "a text"
    BYTES = "a byte string"
    BUFFER = "a buffer from outside of the file"
    LIST = "a list"
    DICT = "a dictionary"
    SET = "a set"
    FROZENSET = "a frozen set"


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """A constant that is not kept. Its content is `data[start:end]` of the stream."""

    kind: Kind
    start: int = 0
    end: int = 0


@dataclass(slots=True, eq=False)
class Box:
    """A list, dictionary or set that the pickle fills.

    `named` holds the first items of a dictionary whose keys are short texts. `reaches` is the
    first key that would, as an attribute, change what loaders do with an object.
    """

    kind: Kind
    named: dict[str, Value] = field(default_factory=dict)
    reaches: str | None = None
    computed: bool = False  # a key is the result of a call
    # The first items of a list.
    items: list[Value] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that was imported. `entry` is what the allow-list says of it, if it is there."""

    module: str
    name: str
    entry: Entry | None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Made:
    """What a call gave: by whom, out of what. `entry` says what may be done with it."""

    maker: Global | None
    entry: Entry | None
    args: Value
    state: Value = None


class Unknown(Enum):
    """Something that cannot be told. Nothing may be done with it."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
NUMBER = Opaque(Kind.NUMBER)

Value: TypeAlias = (
    "bool | int | str | tuple[Value, ...] | Opaque | Box | Global | Made | Unknown | None"
)
