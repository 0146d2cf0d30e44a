"""TensorFlow's graphs: SavedModels, graphs alone, and the Keras layers that are kept beside them.

Promise: clean means that every operator of every graph and function only computes, or keeps
variables in the model's own folder; that assets stay in it; and that the configurations of Keras
layers in it name Keras' own building blocks. An operator that is not known is named, not passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.contract.wire import Field, Message, Reader
from keepstone.core.finding import Finding
from keepstone.errors import InputError
from keepstone.scan.keras.config import judge_text
from keepstone.scan.rules import RULES, printable
from keepstone.scan.tensorflow.graph import MAX_NAME, GraphWalk, Met
from keepstone.scan.tensorflow.schema import (
    ASSET,
    FINGERPRINT,
    KERAS_METADATA,
    KERAS_OBJECT,
    META_GRAPH,
    OBJECT,
    OBJECTS,
    SAVED_MODEL,
    TENSOR_INFO,
    USER_OBJECT,
    identify_graph,
)
from keepstone.scan.view import View

MAX_WORK = 80_000_000
MAX_SIZE = (1 << 31) - 1
MAX_METADATA = 64 << 20
_OUTSIDE = re.compile(r"^\s*[/~\\]|^[A-Za-z]:|://|(^|[/\\])\.\.([/\\]|$)|\x00")
_ONCE = 20


def scan_tensorflow(view: View) -> Iterator[Finding]:
    """Judge a SavedModel, a MetaGraphDef, a GraphDef or Keras' metadata. No finding means clean."""
    if len(view.data) > MAX_SIZE:
        yield view.finding("tf.too_large", "The file is larger than protobuf allows: 2 GiB.")
        return
    reader = Reader(view.data, "tf", MAX_WORK)
    whole = Field(0, 0, 0, len(view.data), True)
    try:
        yield from TENSORFLOW[identify_graph(view.data)](view, reader, whole)
        for name in sorted(reader.unknown):
            yield view.finding("tf.unknown_field", f"The field {name} is not known.")
    except InputError as error:
        rule = error.code if error.code in RULES else "tf.malformed"
        yield view.finding(rule, printable(error.cause, 300))


def _saved_model(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    for part in reader.fields(SAVED_MODEL, item.start, item.end):
        if part.number == 2:
            yield from _meta_graph(view, reader, part)


def _meta_graph(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    graphs, assets = [], set()
    for part in reader.fields(META_GRAPH, item.start, item.end):
        match part.number:
            case 2:
                graphs.append(part)
            case 6:
                tensor, file = _asset(reader, part)
                assets.add(tensor.partition(":")[0])
                if _OUTSIDE.search(file):
                    reason = f"The asset {printable(file)!r} lies outside of the model's folder."
                    yield view.finding("tf.path", reason, part.start)
            case 7:
                yield from _objects(view, reader, part)
    for part in graphs:
        yield from _walk(view, reader, part, frozenset(assets))


def _asset(reader: Reader, item: Field) -> tuple[str, str]:
    tensor = file = ""
    for part in reader.fields(ASSET, item.start, item.end):
        if part.number == 2:
            file = reader.text(part, MAX_NAME)
        else:
            for inner in reader.fields(TENSOR_INFO, part.start, part.end):
                tensor = reader.text(inner, MAX_NAME)
    return tensor, file


def _graph(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    yield from _walk(view, reader, item, frozenset())


def _walk(view: View, reader: Reader, item: Field, assets: frozenset[str]) -> Iterator[Finding]:
    """Say each kind of operator a few times, not once for each of its thousand nodes."""
    said: dict[tuple[str, str], int] = {}
    for met in GraphWalk(reader, assets).graph(item):
        key = met.rule, _operator(met)
        said[key] = said.get(key, 0) + 1
        if said[key] <= (_ONCE if met.rule != "tf.unknown_operator" else 1):
            offset = met.offset if view.member is None else None
            yield view.finding(met.rule, printable(met.reason, 300), offset, met.place)


def _operator(met: Met) -> str:
    return met.reason.split(" ", 3)[2]


def _objects(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    """Older SavedModels keep Keras' configurations in their graph of objects."""
    for part in reader.fields(OBJECTS, item.start, item.end):
        for kind in reader.fields(OBJECT, part.start, part.end):
            yield from _described(view, reader, kind, USER_OBJECT, identifier=1, metadata=3)


def _keras_metadata(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    for part in reader.fields(KERAS_METADATA, item.start, item.end):
        yield from _described(view, reader, part, KERAS_OBJECT, identifier=4, metadata=5)


def _described(
    view: View, reader: Reader, item: Field, message: Message, *, identifier: int, metadata: int
) -> Iterator[Finding]:
    name, text = "", ""
    for part in reader.fields(message, item.start, item.end):
        if part.number == identifier:
            name = reader.text(part, MAX_NAME)
        elif part.number == metadata:
            text = reader.text(part, MAX_METADATA)
    if text.strip():
        yield from judge_text(view, text.encode(), f"object {printable(name, 60)}")


def _fingerprint(view: View, reader: Reader, item: Field) -> Iterator[Finding]:
    """Hashes of the model beside it: nothing to judge but that it is no more than that."""
    yield from ()
    for _ in reader.fields(FINGERPRINT, item.start, item.end):
        pass


# Every file of TensorFlow's that is read here, by the name that `identify` gives it.
TENSORFLOW = {
    "saved_model": _saved_model,
    "meta_graph": _meta_graph,
    "graph_def": _graph,
    "keras_metadata": _keras_metadata,
    "tf_fingerprint": _fingerprint,
}
