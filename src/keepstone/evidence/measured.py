"""A share that was measured, and the interval around it: what a gate reads is an end of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from keepstone.evidence.fields import Fields


@dataclass(frozen=True, slots=True)
class Measured:
    """`value` of `n` trials, which lies between `low` and `high`; all within 0 and 1."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": decimal(self.value),
            "low": decimal(self.low),
            "high": decimal(self.high),
            "n": self.n,
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads its four fields and no more: what stands beside them is the caller's."""
        value, low, high = (fields.decimal(name, 1.0) for name in ("value", "low", "high"))
        if not low <= value <= high:
            raise fields.fault("value", "lies outside its interval")
        return cls(value, low, high, fields.integer("n", low=1))


def decimal(number: float) -> str:
    """A number as statements hold it: the shortest text that reads as the same."""
    return repr(float(number) + 0.0)
