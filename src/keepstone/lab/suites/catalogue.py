"""The suites by name: `quick` for a CI, `standard` for a release, `full` for a night.

What runs depends on what the target declares. Cheap attacks that break much come first, so that
the dear ones find few samples to spend on; those that need less of the target come last, and find
what attacks by gradient or by score were made to miss.
"""

from __future__ import annotations

from functools import partial

from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.carlini_wagner import CarliniWagner
from keepstone.lab.attacks.evasion.deepfool import DeepFool
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.transfer import Transfer
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.port import Attack
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.targets.port import Capability

# The most queries for a sample: of the suites in their order. What the first has is the least that
# counts for something.
_PLAN: tuple[tuple[Attack, tuple[int, int, int]], ...] = (
    (WhiteBox(), (1_000, 3_500, 3_500)),
    (DeepFool(), (200, 400, 400)),
    (CarliniWagner(), (1_000, 1_000, 5_000)),
    (TreeAttack(), (400, 2_000, 20_000)),
    (RandomSearch(), (300, 1_000, 5_000)),
    (Square(), (1_000, 5_000, 10_000)),
    (Transfer(), (100, 100, 400)),
    (HopSkipJump(), (500, 2_500, 25_000)),
    (Boundary(), (500, 2_500, 25_000)),
)
# Too dear for what they add, where minutes count.
_NOT_QUICK = ("carlini-wagner", "transfer", "boundary")


def _steps(number: int, able: frozenset[Capability]) -> tuple[Step, ...]:
    """All that are planned: one that the target gives too little for is told as not evaluated.

    But for trees: that a target has none is nothing that was left out.
    """
    return tuple(
        Step(attack, budgets[number], budgets[0])
        for attack, budgets in _PLAN
        if (attack.needs is not Capability.TREES or Capability.TREES in able)
        and (number > 0 or attack.name not in _NOT_QUICK)
    )


SUITES = {
    suite.name: suite
    for suite in (
        Suite("quick", 200, partial(_steps, 0)),
        Suite("standard", 1_000, partial(_steps, 1)),
        Suite("full", 10_000, partial(_steps, 2)),
    )
}


def suite_called(name: str) -> Suite:
    """Raises InputError `attack.no_suite`."""
    try:
        return SUITES[name]
    except KeyError as error:
        raise InputError(
            "attack.no_suite",
            f"There is no suite {name[:32]!r}.",
            f"Use one of: {', '.join(SUITES)}.",
        ) from error
