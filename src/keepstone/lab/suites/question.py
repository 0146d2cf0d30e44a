"""What a suite is to find out: within which perturbations, for how much, and what is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.norms import Norm, norm_called

MAX_EPSILONS = 16
MAX_EPS = 1e9
# Below so many samples an interval is too wide to decide by: 100 are +-10 points.
MIN_SAMPLES = 100
AT_LEAST = 0.5
# What is asked where nobody says anything, in parts of the range of the inputs.
DEFAULT_EPS = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """Robust accuracy at each of `epsilons` (ascending) under `norm`.

    It passes where the lower end of every interval is `at_least`. `samples` are drawn by `seed`;
    `budget` is the most queries for a sample that one attack may spend, None for what each takes.
    """

    norm: Norm
    epsilons: tuple[float, ...]
    samples: int
    at_least: float = AT_LEAST
    budget: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < len(self.epsilons) <= MAX_EPSILONS:
            raise InputError("attack.bad_eps", f"Give 1 to {MAX_EPSILONS} epsilons.")
        least = 1.0 if self.norm.name == "l0" else 0.0
        if any(not (max(least, 1e-300) <= eps <= MAX_EPS) for eps in self.epsilons):
            raise InputError(
                "attack.bad_eps",
                f"An epsilon lies above zero (for l0 from 1 on) and up to {MAX_EPS:g}.",
            )
        if list(self.epsilons) != sorted(set(self.epsilons)):
            raise InputError("attack.bad_eps", "Epsilons ascend, each once.")
        if not 0 < self.at_least <= 1:
            raise InputError("attack.bad_limit", "What is enough lies above 0 and up to 1.")
        if self.seed < 0:
            raise InputError("attack.bad_seed", "A seed is a whole number from 0 on.")
        if self.samples < 1:
            raise InputError("attack.bad_samples", "An attack needs a sample.")
        if self.budget is not None and self.budget < 1:
            raise InputError("attack.bad_budget", "A budget below one query asks nothing.")

    def to_dict(self) -> dict[str, Any]:
        return {
            "norm": self.norm.name,
            "epsilons": list(self.epsilons),
            "samples": self.samples,
            "at_least": self.at_least,
            "budget": self.budget,
            "seed": self.seed,
        }


def asked(
    norm: str | None, epsilons: tuple[float, ...], domain: Domain
) -> tuple[Norm, tuple[float, ...]]:
    """The norm and the epsilons that somebody asks for, or those that stand for nothing said.

    Nothing said is a tenth of the range of the inputs, by the largest change of one of them.
    Raises InputError `attack.no_norm`, `attack.no_eps`, `attack.bad_norm`.
    """
    if epsilons and norm is None:
        raise InputError(
            "attack.no_norm",
            "An epsilon without a norm measures nothing.",
            "Say which with --norm (linf, l2, l1, l0).",
        )
    if epsilons:
        return norm_called(str(norm)), tuple(sorted(set(epsilons)))
    spans = domain.high - domain.low
    if norm not in (None, "linf") or spans.min() != spans.max():
        raise InputError(
            "attack.no_eps",
            "There is no epsilon that means the same for every model: the features' ranges"
            " differ, or the norm is not linf.",
            "Say how large a perturbation may be with --eps.",
        )
    return norm_called("linf"), (float(spans[0]) * DEFAULT_EPS,)
