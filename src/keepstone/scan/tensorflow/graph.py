"""The nodes of a graph, where they lie: in the main graph or in any function of its library.

Promise: every node is met. Where an operator reads or writes files, the texts that its file name
is made of are followed back to the constants they come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from keepstone.contract.wire import Field, Reader
from keepstone.scan.tensorflow.ops import FILES, Op, standing
from keepstone.scan.tensorflow.schema import (
    FUNCTION,
    GRAPH,
    LIBRARY,
    NODE,
    OP_DEF,
    TENSOR,
    VALUE,
    attribute,
)

MAX_NODES = 1_000_000
MAX_NAME = 4096
_TRACED = 256
_STRINGS = frozenset({"value"})
# Attributes that are themselves the names of files: which operator, which attribute, what is fine.
BY_ATTRIBUTE = {
    "PrintV2": ("output_stream", ("stderr", "stdout", "log(info)", "log(warning)", "log(error)")),
    "DecodeProtoV2": ("descriptor_source", ("", "local://")),
    "EncodeProto": ("descriptor_source", ("", "local://")),
}
_OUTSIDE = re.compile(
    rb"^\s*([/~\\]|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.\-]*://)|(^|[/\\])\.\.([/\\]|$)"
)
# Which input of each operator names the files; None: all of them.
_TABLES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
_NAMED_BY: dict[str, int | None] = {"MergeV2Checkpoints": None, **dict.fromkeys(_TABLES)}


class Met(NamedTuple):
    """What one node does that is not plain: the rule, why, where in the file, and in which part."""

    rule: str
    reason: str
    offset: int
    place: str


class _Node(NamedTuple):
    operator: str
    inputs: tuple[str, ...]
    texts: tuple[bytes, ...]
    offset: int


@dataclass(slots=True)
class GraphWalk:
    """One walk over a GraphDef. `assets` are the nodes that TensorFlow sets to assets' files."""

    reader: Reader
    assets: frozenset[str] = frozenset()
    nodes: int = 0
    functions: set[str] = field(default_factory=set)

    def graph(self, item: Field) -> Iterator[Met]:
        libraries: list[Field] = []
        main: list[Field] = []
        for part in self.reader.fields(GRAPH, item.start, item.end):
            (main if part.number == 1 else libraries).append(part)
        bodies = [
            body
            for library in libraries
            for body in self.reader.fields(LIBRARY, library.start, library.end)
        ]
        parsed = [self.function(body) for body in bodies]
        for name, _ in parsed:
            if name in self.functions:
                raise self.reader.error("ambiguous", f"The function {name[:64]!r} comes twice.")
            self.functions.add(name)
        yield from self.body(main, "graph", self.assets)
        for name, nodes in parsed:
            yield from self.body(nodes, f"function {name[:100]}", frozenset())

    def function(self, item: Field) -> tuple[str, list[Field]]:
        name, nodes = "", []
        for part in self.reader.fields(FUNCTION, item.start, item.end):
            if part.number == 3:
                nodes.append(part)
            else:
                for inner in self.reader.fields(OP_DEF, part.start, part.end):
                    name = self.reader.text(inner, MAX_NAME)
        return name, nodes

    def body(self, items: list[Field], place: str, assets: frozenset[str]) -> Iterator[Met]:
        self.nodes += len(items)
        if self.nodes > MAX_NODES:
            raise self.reader.error("too_large", f"There are more than {MAX_NODES} nodes.")
        nodes: dict[str, _Node] = {}
        for item in items:
            name, node = self.node(item)
            if name in nodes:
                raise self.reader.error("ambiguous", f"The node {name[:64]!r} comes twice.")
            nodes[name] = node
            yield from self.judge(name, node, place)
        for name, node in nodes.items():
            if node.operator in FILES:
                yield from self.files(name, node, nodes, place, assets)

    def node(self, item: Field) -> tuple[str, _Node]:
        name, operator = "", ""
        inputs: list[str] = []
        attributes: list[Field] = []
        for part in self.reader.fields(NODE, item.start, item.end):
            match part.number:
                case 1:
                    name = self.reader.text(part, MAX_NAME)
                case 2:
                    operator = self.reader.text(part, MAX_NAME)
                case 3:
                    inputs.append(self.reader.text(part, MAX_NAME))
                case 5:
                    attributes.append(part)
        texts = tuple(self.texts(operator, attributes))
        return name, _Node(operator, tuple(inputs), texts, item.start)

    def texts(self, operator: str, attributes: list[Field]) -> Iterator[bytes]:
        """The texts of a constant, or of the attribute that names a file."""
        known = BY_ATTRIBUTE.get(operator)
        if operator not in ("Const", "HostConst") and known is None:
            return
        wanted = _STRINGS if known is None else frozenset({known[0]})
        for item in attributes:
            _, value = attribute(self.reader, item, wanted)
            if value is None:
                continue
            for part in self.reader.fields(VALUE, value.start, value.end):
                if part.number == 2:
                    yield bytes(self.reader.data[part.start : part.end])[:MAX_NAME]
                elif part.number == 8:
                    yield from self.strings(part)

    def strings(self, item: Field) -> Iterator[bytes]:
        for count, part in enumerate(self.reader.fields(TENSOR, item.start, item.end)):
            if count < _TRACED:
                yield bytes(self.reader.data[part.start : part.end])[:MAX_NAME]

    def judge(self, name: str, node: _Node, place: str) -> Iterator[Met]:
        met = standing(node.operator)
        if met is Op.ALLOWED and node.operator not in BY_ATTRIBUTE:
            return
        shown = f"{node.operator[:100]} ({name[:100]})"
        if met is Op.HOST:
            reason = f"The operator {shown} reaches out of the graph."
            yield Met("tf.host_operator", reason, node.offset, place)
        elif node.operator in BY_ATTRIBUTE:
            key, fine = BY_ATTRIBUTE[node.operator]
            for text in node.texts:
                plain = text.decode("utf-8", "replace")
                if plain not in fine and not plain.startswith("bytes://"):
                    reason = f"The operator {shown} has {plain[:100]!r} for its {key}."
                    yield Met("tf.host_operator", reason, node.offset, place)
        elif met is Op.UNKNOWN and node.operator not in self.functions:
            reason = f"The operator {shown} is not known."
            yield Met("tf.unknown_operator", reason, node.offset, place)

    def files(
        self,
        name: str,
        node: _Node,
        nodes: dict[str, _Node],
        place: str,
        assets: frozenset[str],
    ) -> Iterator[Met]:
        """Follow what names the files back to its constants."""
        which = _NAMED_BY.get(node.operator, 0)
        data = [one for one in node.inputs if not one.startswith("^")]
        pending = list(data if which is None else data[which : which + 1])
        seen: set[str] = set()
        while pending and len(seen) < _TRACED:
            source = pending.pop().partition(":")[0]
            if source in seen or source not in nodes or source in assets:
                continue
            seen.add(source)
            found = nodes[source]
            pending.extend(one for one in found.inputs if not one.startswith("^"))
            for text in found.texts:
                if _OUTSIDE.search(text):
                    shown = text.decode("utf-8", "replace")[:100]
                    reason = f"The operator {node.operator} ({name[:100]}) is given {shown!r}."
                    yield Met("tf.path", reason, node.offset, place)
