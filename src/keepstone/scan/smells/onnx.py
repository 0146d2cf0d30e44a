"""Smells of ONNX: what reaches no output, choices on inputs, and the last layer's weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keepstone.scan.onnx.graph import Graph, contents, read_graph
from keepstone.scan.rules import printable
from keepstone.scan.smells.statistics import bias_smells, hidden_file, read_matrix, weight_smells
from keepstone.scan.view import View

_TYPES = {1: "F32", 10: "F16", 11: "F64", 16: "BF16"}
_COMPARES = frozenset({"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"})
_CHOOSES = frozenset({"Where", "If"})
# What may stand between the last layer and the output.
_AFTER = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Add", "Reshape", "Cast"})
_NAMES = 3


def onnx_smells(view: View) -> Iterator[tuple[str, str, str]]:
    """The rule, why, and where."""
    graph = read_graph(view.data)
    if graph is not None:
        yield from _unreachable(graph)
        yield from _branches(graph)
        yield from _tensors(view, graph)


def _unreachable(graph: Graph) -> Iterator[tuple[str, str, str]]:
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


def _branches(graph: Graph) -> Iterator[tuple[str, str, str]]:
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


def _tensors(view: View, graph: Graph) -> Iterator[tuple[str, str, str]]:
    last = _last_layer(graph)
    for name, item in graph.tensors.items():
        dims, element, raw = contents(view.data, graph.reader, item)
        kind = _TYPES.get(element, "")
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


def _last_layer(graph: Graph) -> dict[str, bool]:
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
