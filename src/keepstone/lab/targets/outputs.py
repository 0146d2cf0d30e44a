"""Which of a model's tensors an attack speaks of: its input, its labels, its scores."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.contract.schema import ANY, ModelContract, TensorSpec
from keepstone.errors import InputError


@dataclass(frozen=True, slots=True)
class Tensors:
    """One input of numbers, and at least one of an output of labels and one of scores."""

    input: TensorSpec
    label: TensorSpec | None
    scores: TensorSpec | None

    @classmethod
    def of(cls, contract: ModelContract) -> Tensors:
        """The first of each kind with one value, or one row, for each input.

        Raises InputError `target.unsupported`.
        """
        spec = contract.inputs[0]
        if len(contract.inputs) != 1 or not spec.datatype.is_number or len(spec.shape) < 2:
            raise InputError(
                "target.unsupported",
                "Only models with one input of numbers, many rows at a time, are attacked.",
            )
        if spec.shape[0] != ANY:
            raise InputError(
                "target.unsupported",
                f"{spec.name!r} takes {spec.shape[0]} rows at a time, no other number.",
                "Export the model with an open first axis.",
            )
        flat = [one for one in contract.outputs if len(one.shape) in (1, 2)]
        labels = [
            one
            for one in flat
            if not one.datatype.is_float and (len(one.shape) == 1 or one.shape[1] == 1)
        ]
        scores = [one for one in flat if one.datatype.is_float]
        if not labels and not scores:
            raise InputError(
                "target.unsupported",
                "The model has no output of one label, or one row of scores, for each input.",
            )
        return cls(spec, labels[0] if labels else None, scores[0] if scores else None)

    @property
    def names(self) -> list[str]:
        return [spec.name for spec in (self.label, self.scores) if spec is not None]

    @property
    def score_count(self) -> int | None:
        """How many classes the scores are of; None where there are none, or nobody says."""
        if self.scores is None:
            return None
        width = self.scores.shape[1] if len(self.scores.shape) == 2 else 1
        return None if width == ANY else max(2, width)
