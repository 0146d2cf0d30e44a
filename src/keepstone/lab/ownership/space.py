"""Where a model's inputs lie, and secret draws of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from keepstone.contract.schema import ANY, Bound, ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError
from keepstone.lab.ownership.secret import Secret

_MAX_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True)
class Space:
    """Rows of `width` numbers, each between its `low` and `high`, as the model's own type holds.

    `shape` is that of one input of the model, whose rows these are when they are laid out flat.
    """

    spec: TensorSpec
    low: Array
    high: Array

    @property
    def width(self) -> int:
        return len(self.low)

    @classmethod
    def of(
        cls, contract: ModelContract, low: float | None = None, high: float | None = None
    ) -> Space:
        """The space of a model with one input of numbers, whose first axis is open.

        `low` and `high` stand in for a range that the contract does not declare. Raises
        InputError `fingerprint.unsupported`, `fingerprint.no_range`.
        """
        spec = the_input(contract)
        width = prod(spec.shape[1:])
        ends = [_end(spec.low, low, spec, width), _end(spec.high, high, spec, width)]
        if not (ends[0] < ends[1]).any():
            raise InputError(
                "fingerprint.no_range", f"The range of {spec.name!r} holds a single value."
            )
        return cls(spec, *ends)

    def fit(self, rows: Array) -> Array:
        """`rows` as the model will see them: in range, and rounded to its type."""
        kept = np.clip(rows, self.low, self.high)
        if not self.spec.datatype.is_float:
            kept = np.rint(kept)
        typed = kept.astype(NUMPY[self.spec.datatype]).astype(np.float64)
        return np.asarray(np.clip(typed, self.low, self.high))

    def draw(self, secret: Secret, count: int) -> Array:
        """`count` secret rows of three kinds: noise, extremes of some density, runs of one value.

        Noise alone looks the same to a model whose width is large; these do not.
        """
        rows = np.empty((count, self.width))
        for number in range(count):
            drawn = secret.uniform("row", number, self.width + 1)
            first, rest = drawn[0], drawn[1:]
            if number % 3 == 1:
                rest = (rest < first).astype(np.float64)
            elif number % 3 == 2:
                run = 1 + int(first * max(1, self.width // 4))
                rest = np.repeat(rest, run)[: self.width]
            rows[number] = self.low + rest * (self.high - self.low)
        return self.fit(rows)


def the_input(contract: ModelContract) -> TensorSpec:
    """The one input that a fingerprint is made of. Raises InputError `fingerprint.unsupported`."""
    spec = contract.inputs[0]
    shaped = len(spec.shape) >= 2 and spec.shape[0] == ANY and ANY not in spec.shape[1:]
    if len(contract.inputs) != 1 or not spec.datatype.is_number or not shaped:
        raise InputError(
            "fingerprint.unsupported",
            "A fingerprint needs a model with one input of numbers, many rows at a time.",
        )
    if prod(spec.shape[1:]) > _MAX_WIDTH:
        raise InputError(
            "fingerprint.unsupported", f"One row of {spec.name!r} has more than a million numbers."
        )
    return spec


def _end(bound: Bound, given: float | None, spec: TensorSpec, width: int) -> Array:
    if bound is None:
        bound = given
    if bound is None:
        raise InputError(
            "fingerprint.no_range",
            f"The contract declares no range for {spec.name!r}, so no input can be drawn.",
            "Declare low and high in the model's contract, or give --low and --high.",
        )
    ends = np.asarray(bound, np.float64)
    return np.array(np.broadcast_to(ends, (width // max(ends.size, 1), max(ends.size, 1))).ravel())
