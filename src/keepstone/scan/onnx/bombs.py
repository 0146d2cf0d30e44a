"""Operators that make a huge tensor out of a few constants.

A file of a hundred bytes may ask for sixty gigabytes, when it is opened or with the first request.
Only what constants alone decide is looked at: a size that inputs decide is the caller's to bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from keepstone.scan.onnx.graph import integers, read_graph

MAX_ELEMENTS = 1 << 31
# Which input of an operator is a shape, or counts of repetitions.
_SHAPES = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}


def constant_bombs(data: memoryview) -> Iterator[tuple[str, int]]:
    """The operator, and how many elements it makes, for each that makes too many."""
    graph = read_graph(data)
    if graph is None:
        return
    for node in graph.nodes:
        place = _SHAPES.get(node.operator)
        if place is None or place >= len(node.inputs):
            continue
        item = graph.tensors.get(node.inputs[place])
        if item is None:
            continue
        lengths = integers(data, graph.reader, item)
        size = prod(length for length in lengths if length > 0)
        if size > MAX_ELEMENTS:
            yield node.operator, size
