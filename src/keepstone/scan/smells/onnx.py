"""Smells of ONNX: what reaches no output, choices on inputs, and the last layer's weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from keepstone.contract.onnx_walk import MODEL
from keepstone.contract.wire import Field, Kind, Message, Reader
from keepstone.scan.rules import printable
from keepstone.scan.smells.statistics import bias_smells, hidden_file, read_matrix, weight_smells
from keepstone.scan.view import View

_B, _BS, _V, _VS = Kind.BYTES, Kind.BYTES_LIST, Kind.VARINT, Kind.VARINTS
_GRAPH = Message(
    "GraphProto",
    {**dict.fromkeys((1, 5, 11, 12, 13, 14, 15, 16), _BS), 2: _B, 10: _B},
    frozenset({1, 5, 11, 12}),
)
_NODE = Message(
    "NodeProto",
    {**dict.fromkeys((1, 2, 5, 9, 10), _BS), **dict.fromkeys((3, 4, 6, 7, 8), _B)},
    frozenset({1, 2, 4, 5}),
)
_ATTRIBUTE = Message(
    "AttributeProto",
    {
        2: Kind.FIXED32,
        7: Kind.FIXED32S,
        3: _V,
        20: _V,
        8: _VS,
        **dict.fromkeys((1, 4, 5, 6, 13, 14, 21, 22), _B),
        **dict.fromkeys((9, 10, 11, 15, 23), _BS),
    },
    frozenset({1, 3, 6, 11}),
)
_TENSOR = Message(
    "TensorProto",
    {
        4: Kind.FIXED32S,
        10: Kind.FIXED64S,
        2: _V,
        14: _V,
        **dict.fromkeys((1, 5, 7, 11), _VS),
        **dict.fromkeys((3, 8, 9, 12), _B),
        **dict.fromkeys((6, 13, 16), _BS),
    },
    frozenset({1, 2, 8, 9}),
)
_VALUE = Message("ValueInfoProto", {1: _B, 2: _B, 3: _B, 4: _BS}, frozenset({1}))
_TYPES = {1: "F32", 10: "F16", 11: "F64", 16: "BF16"}
_COMPARES = frozenset({"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"})
_CHOOSES = frozenset({"Where", "If"})
# What may stand between the last layer and the output.
_AFTER = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Add", "Reshape", "Cast"})
MAX_NODES = 100_000
MAX_WORK = 20_000_000
_NAMES = 3


@dataclass(slots=True)
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    transposed: bool = False


@dataclass(slots=True)
class _Graph:
    """The main graph, as far as it tells who feeds whom."""

    reader: Reader
    nodes: list[_Node] = field(default_factory=list)
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

    def node(self, item: Field, depth: int = 0) -> _Node:
        node = _Node()
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

    def attribute(self, node: _Node, item: Field, depth: int) -> None:
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


def onnx_smells(view: View) -> Iterator[tuple[str, str, str]]:
    """The rule, why, and where."""
    reader = Reader(view.data, "onnx", MAX_WORK)
    graph = _Graph(reader)
    for item in reader.fields(MODEL, 0, len(view.data)):
        if item.number == 7:
            graph.read(item)
    if len(graph.nodes) >= MAX_NODES:
        return
    yield from _unreachable(graph)
    yield from _branches(graph)
    yield from _tensors(view, graph)


def _unreachable(graph: _Graph) -> Iterator[tuple[str, str, str]]:
    made = {name: node for node in graph.nodes for name in node.outputs}
    pending, used = list(graph.outputs), set()
    while pending:
        name = pending.pop()
        if name in used:
            continue
        used.add(name)
        if name in made:
            pending.extend(made[name].inputs)
    for what, names in (
        ("tensors", [name for name in graph.tensors if name not in used]),
        ("nodes", [n.operator for n in graph.nodes if not used.intersection(n.outputs)]),
    ):
        if names:
            shown = ", ".join(printable(name, 40) for name in names[:_NAMES])
            yield "smell.unreachable", f"{len(names)} {what} reach no output: {shown}", "graph"


def _branches(graph: _Graph) -> Iterator[tuple[str, str, str]]:
    """Comparisons of a plain input, and the choices that rest on one."""
    plain = set(graph.inputs) - set(graph.tensors)
    compared: set[str] = set()
    # The nodes stand in an order in which each comes after what it needs.
    for node in graph.nodes:
        near = plain.intersection(node.inputs)
        if node.operator in _COMPARES and near:
            compared.update(node.outputs)
        elif (
            node.operator in ("Gather", "Slice", "Cast", "Squeeze", "ReduceMean", "ReduceSum")
            and near
        ):
            plain.update(node.outputs)
        elif node.operator in _CHOOSES and compared.intersection(node.inputs[:1]):
            yield "smell.branch", f"A {node.operator} rests on comparing an input", "graph"
            return
        elif compared.intersection(node.inputs):
            compared.update(node.outputs)


def _tensors(view: View, graph: _Graph) -> Iterator[tuple[str, str, str]]:
    last = _last_layer(graph)
    for name, item in graph.tensors.items():
        dims, kind, raw = _contents(view, graph.reader, item)
        if what := hidden_file(bytes(raw[:8])):
            yield "smell.hidden_file", f"The tensor begins as {what}", printable(name)
        if name not in last:
            continue
        matrix = _matrix(raw, kind, dims)
        if matrix is not None and matrix.ndim == 2:
            classes = matrix if last[name] else matrix.T
            for rule, reason in weight_smells(classes, kind):
                yield rule, reason, printable(name)
        elif matrix is not None and matrix.ndim == 1:
            for rule, reason in bias_smells(matrix, kind):
                yield rule, reason, printable(name)


def _matrix(raw: memoryview, kind: str, dims: tuple[int, ...]) -> Any:
    try:
        return read_matrix(raw, kind, dims)
    except ValueError:
        # Fewer bytes than the shape needs: the runtime has its say on that.
        return None


def _last_layer(graph: _Graph) -> dict[str, bool]:
    """The tensors of the layer before the output, and whether their rows are the classes."""
    made = {name: node for node in graph.nodes for name in node.outputs}
    found: dict[str, bool] = {}
    pending = [(name, 0) for name in graph.outputs[:4]]
    while pending:
        name, steps = pending.pop()
        node = made.get(name)
        if node is None or steps > 6:
            continue
        if node.operator in ("Gemm", "MatMul"):
            found.update(dict.fromkeys(node.inputs[1:], node.transposed))
        elif node.operator in _AFTER:
            found.update(dict.fromkeys((n for n in node.inputs if n in graph.tensors), False))
            pending.extend((n, steps + 1) for n in node.inputs)
    return found


def _contents(view: View, reader: Reader, item: Field) -> tuple[tuple[int, ...], str, memoryview]:
    dims: list[int] = []
    kind, raw = "", view.data[:0]
    for part in reader.fields(_TENSOR, item.start, item.end):
        if part.number == 1:
            dims.extend(number for _, number in zip(range(8), reader.numbers(part), strict=False))
        elif part.number == 2:
            kind = _TYPES.get(part.value, "")
        elif part.number == 9:
            raw = view.data[part.start : part.end]
    return tuple(dims), kind, raw
