"""One seed, and a stream of its own for each use of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keepstone.lab.draws import draws

SEEDS = st.integers(0, 2**63 - 1)
USES = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(tuple)


@given(SEEDS, USES)
def test_a_use_draws_the_same_for_a_seed_and_never_what_the_caller_draws(
    seed: int, use: tuple[int, ...]
) -> None:
    assert (draws(seed, *use).random(8) == draws(seed, *use).random(8)).all()
    assert not (draws(seed, *use).random(8) == np.random.default_rng(seed).random(8)).any()


@given(SEEDS, USES, USES)
def test_two_uses_share_nothing(seed: int, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    if one != other:
        assert not (draws(seed, *one).random(8) == draws(seed, *other).random(8)).any()


def test_the_first_use_is_none_that_numpy_takes_for_the_seed_itself() -> None:
    assert (np.random.default_rng([7, 0]).random(8) == np.random.default_rng(7).random(8)).all()
    assert not (draws(7, 0).random(8) == np.random.default_rng(7).random(8)).any()
