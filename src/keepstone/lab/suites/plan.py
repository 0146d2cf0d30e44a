"""Which attacks a suite runs, in which order, for how many queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepstone.lab.attacks.port import Attack
from keepstone.lab.norms import Norm
from keepstone.lab.targets.port import Capability, Explains, Target


@dataclass(frozen=True, slots=True)
class Step:
    """One attack, and the most queries it may spend on a sample.

    With fewer than `least` it is too weak for what it left standing to mean anything.
    """

    attack: Attack
    budget: int
    least: int

    def lacks(self, target: Target, norm: Norm) -> str | None:
        """Why it cannot attack this target under this norm, or None if it can."""
        if norm.name not in self.attack.norms:
            return f"it knows nothing of the norm {norm.name}"
        if self.attack.needs not in target.capabilities:
            missing = f"it needs the target's {self.attack.needs.value}, which it does not declare"
            if self.attack.needs is Capability.GRADIENT and isinstance(target, Explains):
                return (
                    f"{missing}: {target.without_gradient}" if target.without_gradient else missing
                )
            return missing
        return None


@dataclass(frozen=True, slots=True)
class Suite:
    """`steps` gives the attacks for what a target declares; cheap ones that break much come first.

    Of the data `samples` are drawn at most.
    """

    name: str
    samples: int
    steps: Callable[[frozenset[Capability]], tuple[Step, ...]]
