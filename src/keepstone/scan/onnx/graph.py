"""The main graph of an ONNX file: which node feeds which, and where its tensors lie.

Source: onnx.proto, as in `keepstone.contract.onnx_walk`, which walks every graph but keeps none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from keepstone.contract.onnx_walk import ATTRIBUTE, GRAPH, MODEL, NODE, TENSOR, VALUE
from keepstone.contract.wire import Field, Message, Reader

# The contract's own tables of fields; which of them are wanted here is another matter.
_GRAPH = replace(GRAPH, wanted=frozenset({1, 5, 11, 12}))
_NODE = replace(NODE, wanted=frozenset({1, 2, 4, 5}))
_ATTRIBUTE = replace(ATTRIBUTE, wanted=frozenset({1, 3, 6, 11}))
_TENSOR = replace(TENSOR, wanted=frozenset({1, 2, 7, 8, 9}))
_VALUE = replace(VALUE, wanted=frozenset({1}))
MAX_NODES = 100_000
MAX_WORK = 20_000_000


@dataclass(slots=True)
class Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    transposed: bool = False


@dataclass(slots=True)
class Graph:
    """The main graph, as far as it tells who feeds whom."""

    reader: Reader
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Field] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    outputs: list[str] = field(default_factory=list)

    def read(self, item: Field) -> None:
        for part in self.reader.fields(_GRAPH, item.start, item.end):
            if part.number == 1 and len(self.nodes) < MAX_NODES:
                self.nodes.append(self.node(part))
            elif part.number == 5:
                self.tensors[self.name(_TENSOR, part, 8)] = part
            elif part.number == 11:
                self.inputs.add(self.name(_VALUE, part, 1))
            elif part.number == 12:
                self.outputs.append(self.name(_VALUE, part, 1))

    def name(self, message: Message, item: Field, number: int) -> str:
        for part in self.reader.fields(message, item.start, item.end):
            if part.number == number:
                return self.reader.text(part, 4096)
        return ""

    def node(self, item: Field, depth: int = 0) -> Node:
        node = Node()
        for part in self.reader.fields(_NODE, item.start, item.end):
            if part.number == 1:
                node.inputs.append(self.reader.text(part, 4096))
            elif part.number == 2:
                node.outputs.append(self.reader.text(part, 4096))
            elif part.number == 4:
                node.operator = self.reader.text(part, 4096)
            else:
                self.attribute(node, part, depth)
        return node

    def attribute(self, node: Node, item: Field, depth: int) -> None:
        name, number = "", 0
        for part in self.reader.fields(_ATTRIBUTE, item.start, item.end):
            if part.number == 1:
                name = self.reader.text(part, 4096)
            elif part.number == 3:
                number = part.value
            elif depth < 16:
                # A graph inside takes what it needs from outside: the node's inputs, too.
                for inner in self.reader.fields(_GRAPH, part.start, part.end):
                    if inner.number == 1:
                        node.inputs.extend(self.node(inner, depth + 1).inputs)
        node.transposed |= name == "transB" and number == 1


def read_graph(data: memoryview) -> Graph | None:
    """The main graph of a file that is already known to be sound; None where it is too large."""
    reader = Reader(data, "onnx", MAX_WORK)
    graph = Graph(reader)
    for item in reader.fields(MODEL, 0, len(data)):
        if item.number == 7:
            graph.read(item)
    return graph if len(graph.nodes) < MAX_NODES else None


def contents(
    data: memoryview, reader: Reader, item: Field
) -> tuple[tuple[int, ...], int, memoryview]:
    """The dimensions of a tensor, its element type, and its bytes where it has them as such."""
    dims: list[int] = []
    kind, raw = 0, data[:0]
    for part in reader.fields(_TENSOR, item.start, item.end):
        if part.number == 1:
            dims.extend(number for _, number in zip(range(8), reader.numbers(part), strict=False))
        elif part.number == 2:
            kind = part.value
        elif part.number == 9:
            raw = data[part.start : part.end]
    return tuple(dims), kind, raw


def integers(data: memoryview, reader: Reader, item: Field, most: int = 64) -> list[int]:
    """The first of a tensor's 64-bit integers, raw or one by one."""
    found: list[int] = []
    for part in reader.fields(_TENSOR, item.start, item.end):
        if part.number == 7:
            found.extend(
                number for _, number in zip(range(most), reader.numbers(part), strict=False)
            )
        elif part.number == 9:
            raw = bytes(data[part.start : min(part.end, part.start + 8 * most)])
            found.extend(
                int.from_bytes(raw[at : at + 8], "little", signed=True)
                for at in range(0, len(raw) - 7, 8)
            )
    return found[:most]
