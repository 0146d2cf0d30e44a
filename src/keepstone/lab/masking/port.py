"""What a sign is, and what it is read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from keepstone.lab.meter import Meter
from keepstone.lab.metrics.wilson import share
from keepstone.lab.targets.port import Capability

if TYPE_CHECKING:
    from keepstone.lab.masking.subject import Subject


class Weight(StrEnum):
    """A sign that proves masking makes the verdict; one that hints is for people to read."""

    PROVES = "proves"
    HINTS = "hints"


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign on one target. `seen` None: not evaluated, and `message` says why.

    `value` is what was measured, and `limit` how far it may go on a model that masks nothing.
    """

    name: str
    seen: bool | None
    value: float | None
    limit: float
    message: str
    weight: Weight

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seen": self.seen,
            "value": self.value,
            "limit": self.limit,
            "message": self.message,
            "weight": self.weight.value,
        }


class NotEvaluated(Exception):  # noqa: N818  # no error: why a sign cannot be read on this target
    """What is missing, as a sentence."""


# Of a norm's radius, a budget and the places of samples (None: all): a meter for them.
Meters = Callable[..., Meter]


class Measure(Protocol):
    """A frozen dataclass of its parameters: two signs that need the same one share it."""

    name: ClassVar[str]
    needs: ClassVar[Capability]

    @property
    def cost(self) -> int:
        """Queries for each sample, at most. Its meters are held to it."""
        ...

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Any:
        """Raises NotEvaluated where this subject cannot be measured so."""
        ...


class Check(Protocol):
    """How one sign is read. A frozen dataclass; its docstring says what it proves and cites it."""

    name: ClassVar[str]
    source: ClassVar[str]
    weight: ClassVar[Weight]

    @property
    def limit(self) -> float: ...

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that it may take."""
        ...

    def read(self, subject: Subject) -> Reading:
        """Raises NotEvaluated."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a check found: whether its sign is there, the number it went by, and a sentence."""

    seen: bool
    value: float
    message: str


def exceeds(hits: int, n: int, limit: float) -> bool:
    """Whether more than `limit` of a population is so of which `hits` of `n` are.

    By Wilson's lower bound: one sample of a few is chance.
    """
    found = share(hits, n)
    return found.value > limit and found.low > limit
