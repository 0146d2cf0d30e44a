"""Smells of safetensors: the layer whose name says that it is the last, and odd tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.scan.rules import printable
from keepstone.scan.smells.statistics import bias_smells, hidden_file, read_matrix, weight_smells
from keepstone.scan.tensors.safetensors import TensorPlace, tensor_places
from keepstone.scan.view import View

_LAST = re.compile(
    r"(^|[._/])(classifier|head|lm_head|fc|score|logits|output|cls|out_proj|predictions?|linear)"
    r"([._/](\d+|dense|out_proj|decoder|fc|linear|proj))*[._/](weight|bias|kernel)$"
)
_MOST = 8


def safetensors_smells(view: View) -> Iterator[tuple[str, str, str]]:
    """The rule, why, and the tensor's name."""
    places = tensor_places(view.data)
    for place in places[:100_000]:
        what = hidden_file(bytes(view.data[place.start : min(place.end, place.start + 8)]))
        if what:
            yield "smell.hidden_file", f"The tensor begins as {what}", printable(place.name)
    last = [place for place in places if _LAST.search(place.name)][-_MOST:]
    for place in last:
        for rule, reason in _numbers(view, place):
            yield rule, reason, printable(place.name)


def _numbers(view: View, place: TensorPlace) -> Iterator[tuple[str, str]]:
    matrix = read_matrix(view.data[place.start : place.end], place.dtype, place.shape)
    if matrix is None:
        return
    if matrix.ndim == 2:
        # TensorFlow and JAX keep the classes in the columns.
        classes = matrix.T if place.name.endswith("kernel") else matrix
        yield from weight_smells(classes, place.dtype)
    elif matrix.ndim == 1 and place.name.endswith("bias"):
        yield from bias_smells(matrix, place.dtype)
