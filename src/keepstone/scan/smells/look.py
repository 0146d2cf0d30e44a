"""Look for smells: apart from the scanners, after them, and without a say in the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from keepstone.core.finding import Finding
from keepstone.scan.rules import smell
from keepstone.scan.smells.onnx import onnx_smells
from keepstone.scan.smells.safetensors import safetensors_smells
from keepstone.scan.view import View

MAX_SMELLS = 20
_NOSES: Mapping[str, Callable[[View], Iterator[tuple[str, str, str]]]] = {
    "onnx": onnx_smells,
    "safetensors": safetensors_smells,
}


def smells_of(view: View, kind: str) -> tuple[Finding, ...]:
    """What is odd about a whole file of `kind`. Never raises: what cannot be read has no smell."""
    nose = _NOSES.get(kind)
    if nose is None:
        return ()
    found: list[Finding] = []
    try:
        for rule, reason, place in islice(nose(view), MAX_SMELLS):
            found.append(smell(rule, f"{reason}.", view.path, place))
    except Exception:  # noqa: BLE001  # an edge: an attacker's numbers in another's library
        return tuple(found)
    return tuple(found)
