"""What each format holds in texts: notebooks by cells, pickles by constants, heads of tensors.

Each reader gives hits with their places; nothing is run, loaded or built.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keepstone.contract.onnx import read_onnx
from keepstone.errors import InputError
from keepstone.scan.pickle.constants import Constants
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.passage import Passage
from keepstone.scan.secrets.strings import ESCAPES, Spot, Strings
from keepstone.scan.tensors.gguf import gguf_texts
from keepstone.scan.tensors.safetensors import safetensors_texts
from keepstone.scan.view import View

# A place: a part of the view (None for all of it), a line and column in it, or an offset.
Place = tuple[str | None, tuple[int, int] | None, int | None]
Seen = tuple[Hit, Place, str | None]
Reader = Callable[[View], Iterator[Seen]]

# The base64 of what PNG, JPEG, GIF, WebP, BMP, TIFF and ICO begin with, and nothing but base64.
_PICTURE = re.compile(
    r"\s*(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3]|SUkqA|TU0AK|AAABAA)[A-Za-z0-9+/\s]*={0,2}\s*\Z"
)
_PROSE = ("markdown", "raw", "heading")
# Runs of printable bytes are looked for so much at once.
_STEP = 4 << 20
_OVER = 16 << 10
_RUN = 6
_ARRAY = 64 << 20


def text_seen(
    view: View, text: str, name: str, part: str | None = None, code: bool | None = None
) -> Iterator[Seen]:
    """The secrets of a text, by line and column."""
    passage = Passage(text, name, code, view.allowance.out_of_time)
    for hit in passage.hits():
        yield hit, (part, passage.place(hit.start), None), passage.allowed(hit)


def strings_seen(view: View, strings: Strings) -> Iterator[Seen]:
    for spot, hit in strings.hits(view.allowance.out_of_time):
        yield hit, (spot.member, None, spot.offset), None


def notebook_seen(view: View, value: Mapping[str, Any]) -> Iterator[Seen]:
    """Every cell's source and attachments, every output, and the metadata; then every text that
    is left, for not all that Jupyter opens has the shape that nbformat gives it."""
    for number, cell in enumerate(_cells(value), 1):
        if not isinstance(cell, Mapping):
            continue
        source = _text(cell.get("source", cell.get("input", "")))
        is_code = cell.get("cell_type") not in _PROSE
        name = "cell.py" if is_code else "cell.md"
        yield from text_seen(view, source, name, f"cell {number} source")
        outputs = cell.get("outputs")
        for index, output in enumerate(outputs if isinstance(outputs, list) else [], 1):
            yield from _output(view, output, f"cell {number} output {index}")
        strings = Strings()
        for key, item in cell.items():
            if key not in ("source", "input", "outputs"):
                strings.walk(item, Spot(f"cell {number} {key}"), key, _is_picture)
        yield from strings_seen(view, strings)
    strings = Strings()
    for key, item in value.items():
        if key not in ("cells", "worksheets"):
            strings.walk(item, Spot("metadata"), key, _is_picture)
    yield from strings_seen(view, strings)
    yield from _wherever(view, value)


def _wherever(view: View, value: Mapping[str, Any]) -> Iterator[Seen]:
    """Every text, wherever it lies. What was seen in its place already says nothing new."""
    code, shown = Strings(), Strings(code=False)

    def is_aside(name: str, item: Any) -> bool:
        if name in ("source", "input"):
            code.walk(item, Spot(), name, _is_picture)
            return True
        return _is_picture(name, item)

    shown.walk(value, Spot(), "", is_aside)
    yield from strings_seen(view, code)
    yield from strings_seen(view, shown)


def _cells(value: Mapping[str, Any]) -> Iterator[Any]:
    for holder in [value, *_list(value.get("worksheets"))]:
        if isinstance(holder, Mapping):
            yield from _list(holder.get("cells"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "".join(str(line) for line in value) if isinstance(value, list) else str(value)


def _output(view: View, output: Any, part: str) -> Iterator[Seen]:
    """What an output shows. Pictures hold no text."""
    if not isinstance(output, Mapping):
        return
    shown = {key: item for key, item in output.items() if key != "data"}
    data = output.get("data")
    bundle = data if isinstance(data, Mapping) else {}
    for key, item in [*shown.items(), *bundle.items()]:
        if _is_picture(key, item):
            continue
        if isinstance(item, str) or (
            isinstance(item, list) and all(isinstance(x, str) for x in item)
        ):
            lines = "\n".join(item) if key == "traceback" else _text(item)
            yield from text_seen(view, ESCAPES.sub("", lines), "", part, code=False)
        else:
            strings = Strings()
            strings.walk(item, Spot(part), str(key), _is_picture)
            yield from strings_seen(view, strings)


def _is_picture(name: str, value: Any) -> bool:
    """The bytes of a picture, by name and by form: a text in a picture's place is a text."""
    named = name in ("png", "jpeg") or name.startswith("image/")
    return named and isinstance(value, str | list) and _PICTURE.match(_text(value)) is not None


def constants_seen(view: View, found: Constants) -> Iterator[Seen]:
    """The texts of a pickle, and what is given to a name in its dictionaries and states."""
    strings = Strings()
    for offset, text in found.texts:
        strings.add(text, Spot(None, offset))
    for offset, key, value in found.pairs:
        strings.pair(key, value, Spot(None, offset))
    yield from strings_seen(view, strings)


def head_seen(view: View, texts: Mapping[str, str] | list[tuple[str, str]]) -> Iterator[Seen]:
    """Keys and their texts, of a model's metadata."""
    for key, text in texts.items() if isinstance(texts, Mapping) else texts:
        part = f"metadata {key}"
        hits = list(text_seen(view, text, "", part, code=False))
        yield from hits
        strings = Strings()
        strings.pair(key, text, Spot(part))
        if not hits:
            yield from strings_seen(view, strings)


def safetensors_seen(view: View) -> Iterator[Seen]:
    return head_seen(view, safetensors_texts(view.data))


def gguf_seen(view: View) -> Iterator[Seen]:
    return head_seen(view, gguf_texts(view))


def onnx_seen(view: View) -> Iterator[Seen]:
    return head_seen(view, read_onnx(view.data).metadata)


def numpy_seen(view: View) -> Iterator[Seen]:
    """An array of texts, each of which lies in four bytes a character."""
    if len(view.data) > _ARRAY or b"'<U" not in bytes(view.data[:256]):
        return
    try:
        array = np.load(io.BytesIO(view.data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError("scan.unreadable", "The array cannot be read.") from error
    strings = Strings()
    for text in array.ravel().tolist():
        strings.add(str(text), Spot("array"))
    yield from strings_seen(view, strings)


def binary_seen(view: View) -> Iterator[Seen]:
    """Runs of printable bytes, wherever they lie."""
    strings, data, held = Strings(), view.data, 0
    for at in range(0, len(data), _STEP):
        if view.allowance.out_of_time():
            raise InputError("scan.unreadable", "The file takes longer than the limit allows.")
        # A token over the border is whole in the piece where it begins.
        piece = data[at : at + _STEP + _OVER]
        for start, end in printable_runs(piece):
            if start < _STEP and not (at and start == 0 and end <= _OVER):
                text = bytes(piece[start:end]).decode("ascii")
                strings.add(text, Spot(None, at + start))
                held += len(text)
        view.release(at, at + _STEP)
        if held > _STEP:
            yield from strings_seen(view, strings)
            strings, held = Strings(), 0
    yield from strings_seen(view, strings)


def printable_runs(data: memoryview) -> list[tuple[int, int]]:
    """Where at least six printable bytes stand in a row."""
    raw = np.frombuffer(data, np.uint8)
    fits = (raw >= 32) & (raw < 127)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], fits, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= _RUN
    return list(zip(starts[long].tolist(), ends[long].tolist(), strict=True))
