"""Which of a model's outputs is its answer, and how each row's answer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod

import numpy as np

from keepstone.contract.schema import ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError
from keepstone.lab.ownership.crossings import Answer
from keepstone.lab.ownership.space import the_input

_MAX_LABEL = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """How to put rows of numbers to a model and read one answer to each.

    A label is text, so that `3` from one model and the third class of another are the same.
    """

    input: TensorSpec
    output: TensorSpec

    @classmethod
    def of(cls, contract: ModelContract, output: str | None = None) -> Reading:
        """The output called `output`, else the first of labels, else the first that is read.

        Raises InputError `fingerprint.unsupported`, `fingerprint.no_output`.
        """
        asked = the_input(contract)
        able = [spec for spec in contract.outputs if _is_read(spec) and output in (None, spec.name)]
        if not able:
            named = "no output" if output is None else f"no output {output[:64]!r}"
            raise InputError(
                "fingerprint.no_output",
                f"The model has {named} with one label, number or row of scores for each input.",
                f"Its outputs: {', '.join(spec.name for spec in contract.outputs)[:200]}.",
            )
        labels = [spec for spec in able if not spec.datatype.is_float]
        return cls(asked, (labels or able)[0])

    @property
    def width(self) -> int:
        return prod(self.input.shape[1:])

    def question(self, rows: Array) -> Array:
        """Flat rows as the model takes them. Raises InputError `fingerprint.other_inputs`."""
        if rows.shape[1:] != (self.width,):
            raise InputError(
                "fingerprint.other_inputs",
                f"The model takes {self.width} numbers a row, not {rows.shape[-1]}.",
                "A fingerprint asks only models that take the inputs of its own.",
            )
        typed = rows.astype(NUMPY[self.input.datatype])
        return np.ascontiguousarray(typed.reshape(-1, *self.input.shape[1:]))

    def answers(self, outputs: Mapping[str, Array], count: int) -> list[Answer]:
        """The answer to each of `count` rows; None for one that is no number or no label."""
        found = outputs[self.output.name]
        if found.shape[:1] != (count,):
            return [None] * count
        if not self.output.datatype.is_float:
            return [_label(value) for value in found.reshape(count, -1)[:, 0].tolist()]
        flat = found.reshape(count, -1).astype(np.float64)
        if flat.shape[1] > 1:
            best = flat.argmax(axis=1)
            return [
                str(int(best[at])) if np.isfinite(flat[at]).all() else None for at in range(count)
            ]
        return [value if isfinite(value) else None for value in flat[:, 0].tolist()]


def number(value: object) -> float | None:
    """A number out of somebody's JSON, or None: an integer may be longer than any float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if isfinite(found) else None


def _is_read(spec: TensorSpec) -> bool:
    if not spec.datatype.is_float:
        return len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1)
    return len(spec.shape) in (1, 2)


def _label(value: object) -> Answer:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:_MAX_LABEL]
