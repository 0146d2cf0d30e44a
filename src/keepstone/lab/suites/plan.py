"""Which attacks a suite runs, in which order, for how many queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepstone.lab.attacks.port import Attack
from keepstone.lab.domain import Domain
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import Capability, Target


@dataclass(frozen=True, slots=True)
class Step:
    """One attack, and the most queries it may spend on a sample."""

    attack: Attack
    budget: int

    def able(self, target: Target, norm: Norm) -> str | None:
        """Why it cannot attack this target, or None if it can."""
        if self.attack.needs not in target.capabilities:
            return f"it needs the target's {self.attack.needs.value}, which it does not declare"
        if norm.name not in self.attack.norms:
            return f"it knows no norm {norm.name}"
        return None


@dataclass(frozen=True, slots=True)
class Suite:
    """`steps` gives the attacks for an input's domain; cheap ones that break much come first."""

    name: str
    samples: int
    steps: Callable[[Domain, frozenset[Capability]], tuple[Step, ...]]
