"""What the callables of the allow-list may be called with, where their name alone is not enough.

A check says why a call is refused, or None. It sees values as far as the file shows them; what
it cannot see it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from keepstone.scan.pickle.values import Box, Global, Kind, Made, Opaque, Value


class Bench(Protocol):
    """Who asks: lets a check rule on a call or a file that the checked call would lead to."""

    def why_not(self, how: str, callee: Value, args: Value) -> str | None: ...

    def inner_file(self, content: Opaque) -> None: ...


_PLAIN = (bool, int, str, tuple, Opaque, Box)
_MOST = 10_000
Check: TypeAlias = "Callable[[Bench, tuple[Value, ...]], str | None]"

# Arrays: classes whose `__new__` is that of numpy's array, or comes down to it.
_ARRAYS = frozenset(
    f"{module}.{name}"
    for module, names in (
        ("numpy", "ndarray matrix recarray memmap chararray"),
        ("numpy.core.memmap", "memmap"),
        ("numpy._core.memmap", "memmap"),
        ("numpy.matrixlib.defmatrix", "matrix"),
        ("numpy.rec", "recarray"),
        ("numpy.core.records", "recarray"),
        ("numpy._core.records", "recarray"),
        ("numpy.ma", "MaskedArray"),
        ("numpy.ma.core", "MaskedArray MaskedConstant mvoid"),
        ("numpy.ma.mrecords", "MaskedRecords"),
        ("numpy.char", "chararray"),
        ("numpy.core.defchararray", "chararray"),
    )
    for name in names.split()
)
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_PLAIN_BASES = ("object", "dict", "list", "tuple", "int", "float", "str", "bytes", "set", "complex")
_LATIN = ("latin1", "latin-1")
# What dill calls by these names are types of values, not of code.
_DILL_TYPES = frozenset(
    (*_PLAIN_BASES, *("bool", "bytearray", "frozenset", "range", "slice", "type", "NoneType"))
)
# The only thing that scipy ever fills its template with: names of shapes, loc and scale.
_SHAPES = r"(?:[A-Za-z_]\w*, )*"
_SCIPY_TEMPLATE = re.compile(
    rf"\ndef _parse_args\(self, {_SHAPES} (?:loc=0, scale=1|loc=0)\):\n"
    rf"    return \({_SHAPES}\), (?:loc, scale|loc, 1)\n\n"
    rf"def _parse_args_rvs\(self, {_SHAPES} (?:loc=0, scale=1|loc=0), size=None\):\n"
    rf"    return self\._argcheck_rvs\({_SHAPES} (?:loc, scale|loc, 1), size=size\)\n\n"
    rf"def _parse_args_stats\(self, {_SHAPES} (?:loc=0, scale=1|loc=0), moments='mv'\):\n"
    rf"    return \({_SHAPES}\), (?:loc, scale|loc, 1), moments\n\Z"
)


def _is_array(value: Value) -> bool:
    return isinstance(value, Global) and value.entry is not None and str(value) in _ARRAYS


def _array(_: Bench, args: tuple[Value, ...]) -> str | None:
    return None if args and _is_array(args[0]) else "it makes something else than an array"


def _masked(_: Bench, args: tuple[Value, ...]) -> str | None:
    fine = len(args) == 4 and _is_array(args[0]) and _is_array(args[1])
    return None if fine else "it makes something else than an array"


def _class_first(_: Bench, args: tuple[Value, ...]) -> str | None:
    first = args[0] if args else None
    entry = first.entry if isinstance(first, Global) else None
    if entry is not None and (entry.new or entry.call):
        return None
    return "it makes an object of a class that is not on the list"


def _reconstructor(bench: Bench, args: tuple[Value, ...]) -> str | None:
    base = args[1] if len(args) == 3 else None
    if not isinstance(base, Global) or base.module != "builtins" or base.name not in _PLAIN_BASES:
        return "it makes an object by a base class that is not a plain one"
    return _class_first(bench, args)


def _latin(_: Bench, args: tuple[Value, ...]) -> str | None:
    text = args[0] if args else None
    plain = isinstance(text, str) or (isinstance(text, Opaque) and text.kind is Kind.TEXT)
    return None if plain and args[1:] in (("latin1",), ("latin-1",)) else "it is no Latin-1 text"


def _bytearray(_: Bench, args: tuple[Value, ...]) -> str | None:
    if not args or (len(args) == 2 and args[1] in _LATIN):
        return None
    made = isinstance(args[0], Made) and str(args[0].maker) == "_codecs.encode"
    plain = isinstance(args[0], (Opaque, str, Box)) or made
    return None if len(args) == 1 and plain else "it is no byte string"


def _bit_generator(_: Bench, args: tuple[Value, ...]) -> str | None:
    first = args[0] if args else "MT19937"
    named = isinstance(first, str) and first in _BIT_GENERATORS
    direct = (
        isinstance(first, Global)
        and first.module.startswith("numpy.random.")
        and first.name in _BIT_GENERATORS
    )
    return None if len(args) <= 1 and (named or direct) else "it is no generator of numpy's"


def _random_state(bench: Bench, args: tuple[Value, ...]) -> str | None:
    made = isinstance(args[0], Made) and args[0].entry is not None if args else False
    if not made and (reason := _bit_generator(bench, args[:1])):
        return reason
    maker = args[1] if len(args) > 1 else None
    if maker is None or str(maker) == "numpy.random._pickle.__bit_generator_ctor":
        return None
    return "it calls something else than numpy's constructor"


def _plain(_: Bench, args: tuple[Value, ...]) -> str | None:
    """Constants, lists and tuples of the file: nothing that could be asked for attributes."""
    waiting, looked = list(args[:_MOST]), 0
    while waiting:
        value, looked = waiting.pop(), looked + 1
        if isinstance(value, (tuple, Box)):
            # Shared parts may unfold without end: so much is looked at, and no more.
            waiting += (value if isinstance(value, tuple) else value.items)[:_MOST]
        made = isinstance(value, Made) and str(value.maker) == "_codecs.encode"
        if not made and value is not None and not isinstance(value, _PLAIN):
            return "it is given more than plain values"
        if looked > _MOST:
            return "it is given more values than are looked at"
    return None


def _factory(_: Bench, args: tuple[Value, ...]) -> str | None:
    first = args[0] if args else None
    plain = first is None or (isinstance(first, Global) and first.entry is not None)
    return None if plain and len(args) <= 1 else "what it would call is not on the list"


def _mapping(_: Bench, args: tuple[Value, ...]) -> str | None:
    plain = all(isinstance(item, Box) for item in args) and len(args) <= 1
    return None if plain else "it is given more than plain values"


def _texts(_: Bench, args: tuple[Value, ...]) -> str | None:
    plain = all(isinstance(item, (str, int)) or item is None for item in args)
    return None if plain else "it is given more than texts and numbers"


def _named(_: Bench, args: tuple[Value, ...]) -> str | None:
    plain = len(args) == 2 and all(isinstance(item, str) for item in args)
    return None if plain else "the name that it looks up is computed"


def _attribute(_: Bench, args: tuple[Value, ...]) -> str | None:
    """An attribute of a name counts as a name of its own; scipy binds methods of its objects."""
    if len(args) != 2 or not isinstance(args[1], str):
        return "the attribute that it looks up is computed"
    first, name = args
    bound = isinstance(first, Made) and first.maker is not None and first.entry is not None
    if bound and str(first.maker).startswith("scipy.stats.") and not name.startswith("__"):  # type: ignore[union-attr]
        return None
    return None if isinstance(first, Global) else "it looks up an attribute of a value"


def _type_of(_: Bench, args: tuple[Value, ...]) -> str | None:
    plain = len(args) == 1 and (
        args[0] is None or args[0] is NotImplemented or isinstance(args[0], (Opaque, int, str))
    )
    ellipsis = len(args) == 1 and isinstance(args[0], Global) and args[0].module == "builtins"
    return None if plain or ellipsis else "it makes a class"


def _dill_type(_: Bench, args: tuple[Value, ...]) -> str | None:
    plain = len(args) == 1 and args[0] in _DILL_TYPES
    return None if plain else "it names a type of code"


def _dill_array(bench: Bench, args: tuple[Value, ...]) -> str | None:
    if len(args) not in (3, 4):
        return "it is given other arguments than dill gives"
    extra = args[3] if len(args) == 4 else None
    if not (extra is None or (isinstance(extra, Box) and not extra.reaches and not extra.computed)):
        return "its attributes are computed"
    return bench.why_not("REDUCE", args[0], args[1])


def _storage(_: Bench, args: tuple[Value, ...]) -> str | None:
    first = args[0] if args else None
    fine = isinstance(first, Made) and first.entry is not None
    return None if fine else "its storage is not one of the file's own"


def _typed(bench: Bench, args: tuple[Value, ...]) -> str | None:
    if len(args) != 4:
        return "it is given other arguments than torch gives"
    kind, state = args[1], args[3]
    if not isinstance(kind, Global) or kind.entry is None or not kind.entry.new:
        return "it makes an object of a class that is not on the list"
    boxes = [item for item in (state if isinstance(state, tuple) else (state,)) if item is not None]
    if not all(isinstance(box, Box) and not box.reaches and not box.computed for box in boxes):
        return "its attributes are computed"
    return bench.why_not("REDUCE", args[0], args[2])


def _parameter(_: Bench, args: tuple[Value, ...]) -> str | None:
    state = args[3] if len(args) > 3 else None
    boxes = [item for item in (state if isinstance(state, tuple) else (state,)) if item is not None]
    if all(isinstance(box, Box) and not box.reaches and not box.computed for box in boxes):
        return None
    return "its attributes are computed"


def _inner_file(bench: Bench, args: tuple[Value, ...]) -> str | None:
    first = args[0] if len(args) == 1 else None
    if isinstance(first, Opaque) and first.kind is Kind.BYTES:
        bench.inner_file(first)
        return None
    return "the file that it loads is computed"


def _scipy_state(_: Bench, args: tuple[Value, ...]) -> str | None:
    """scipy runs the text `_parse_arg_template` of the state: it must be scipy's own."""
    state = args[0]
    if not isinstance(state, Box):
        return "its state is computed"
    text = state.named.get("_parse_arg_template")
    if text is None or (isinstance(text, str) and _SCIPY_TEMPLATE.match(text)):
        return None
    return "scipy would run code of the state"


CHECKS: Mapping[str, Check] = {
    "array": _array,
    "masked": _masked,
    "class": _class_first,
    "reconstructor": _reconstructor,
    "latin": _latin,
    "bytearray": _bytearray,
    "bit_generator": _bit_generator,
    "random_state": _random_state,
    "plain": _plain,
    "factory": _factory,
    "mapping": _mapping,
    "texts": _texts,
    "name": _named,
    "attribute": _attribute,
    "type": _type_of,
    "dill_type": _dill_type,
    "dill_array": _dill_array,
    "storage": _storage,
    "typed": _typed,
    "file": _inner_file,
    "parameter": _parameter,
    "scipy": _scipy_state,
}
# These give an object of the class that is their first argument.
OF_FIRST = frozenset({"class", "reconstructor"})
# These give what they look up.
LOOK_UPS = frozenset({"name", "attribute"})
