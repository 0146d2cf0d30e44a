"""The suites by name: `quick` for a CI, `standard` for a release, `full` for a night.

What runs depends on what the target declares. Cheap attacks that break much come first, so that
the dear ones find few samples to spend on; those that need less of the target come last, and find
what attacks by gradient or by score were made to miss.
"""

from __future__ import annotations

from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.transfer import Transfer
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.port import Attack
from keepstone.lab.domain import Domain
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.targets.port import Capability


def _quick(domain: Domain, able: frozenset[Capability]) -> tuple[Step, ...]:
    return _steps(
        able,
        (WhiteBox(), 1_000),
        (TreeAttack(), 400),
        (RandomSearch(), 300),
        (Square(), 1_000),
        (HopSkipJump(), 500),
    )


def _standard(domain: Domain, able: frozenset[Capability]) -> tuple[Step, ...]:
    return _steps(
        able,
        (WhiteBox(), 1_000),
        (TreeAttack(), 2_000),
        (RandomSearch(), 1_000),
        (Square(), 5_000),
        (Transfer(), 100),
        (HopSkipJump(), 2_500),
        (Boundary(), 2_500),
    )


def _full(domain: Domain, able: frozenset[Capability]) -> tuple[Step, ...]:
    return _steps(
        able,
        (WhiteBox(), 1_000),
        (TreeAttack(restarts=10, crossings=200), 20_000),
        (RandomSearch(), 5_000),
        (Square(), 10_000),
        (Transfer(), 400),
        (HopSkipJump(), 25_000),
        (Boundary(), 25_000),
    )


def _steps(able: frozenset[Capability], *planned: tuple[Attack, int]) -> tuple[Step, ...]:
    """All that are planned: one that the target gives too little for is told as not evaluated.

    But for trees: that a target has none is nothing that was left out.
    """
    return tuple(
        Step(attack, budget)
        for attack, budget in planned
        if attack.needs is not Capability.TREES or Capability.TREES in able
    )


SUITES = {
    suite.name: suite
    for suite in (
        Suite("quick", 200, _quick),
        Suite("standard", 1_000, _standard),
        Suite("full", 10_000, _full),
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
