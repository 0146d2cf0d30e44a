"""The extraction attacks by name, for a thief who has a pool of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.copycat import Copycat
from keepstone.lab.attacks.extraction.equation_solving import EquationSolving
from keepstone.lab.attacks.extraction.jacobian import JacobianAugmentation
from keepstone.lab.attacks.extraction.knockoff import Knockoff
from keepstone.lab.attacks.extraction.noise_pool import NoisePool
from keepstone.lab.attacks.extraction.port import ExtractionAttack

NAMES = tuple(
    kind.name for kind in (EquationSolving, Knockoff, Copycat, JacobianAugmentation, NoisePool)
)


def attacks_with(pool: Array, names: Sequence[str] = NAMES) -> list[ExtractionAttack]:
    """Those that are named, each with rows `pool` (n, d) of the target's domain."""
    # A few rows are what this one needs: it makes the others itself.
    seeds = pool[: max(1, len(pool) // 10)]
    made: dict[str, Callable[[], ExtractionAttack]] = {
        EquationSolving.name: EquationSolving,
        Knockoff.name: partial(Knockoff, pool),
        Copycat.name: partial(Copycat, pool),
        JacobianAugmentation.name: partial(JacobianAugmentation, seeds),
        NoisePool.name: NoisePool,
    }
    return [made[name]() for name in names]
