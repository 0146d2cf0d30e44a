"""The exact bound of a chance, against its definition."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from keepstone.errors import InputError
from keepstone.lab.metrics.clopper_pearson import at_least


def test_the_bound_is_that_of_the_beta_distribution(
    need_module: Callable[[str], ModuleType],
) -> None:
    beta = need_module("scipy.stats").beta
    for n, hits in ((1, 1), (10, 3), (100, 99), (100, 100), (1000, 503), (10_000, 9_999)):
        for alpha in (0.05, 0.001):
            exact = beta.ppf(alpha, hits, n - hits + 1)
            found = at_least(hits, n, alpha)
            assert found <= exact
            assert found == pytest.approx(exact, rel=1e-6)
    assert at_least(0, 100, 0.001) == 0.0


@pytest.mark.parametrize(("hits", "n", "alpha"), [(5, 4, 0.1), (-1, 4, 0.1), (1, 4, 0.0)])
def test_what_is_no_share_has_no_bound(hits: int, n: int, alpha: float) -> None:
    with pytest.raises(InputError, match=r"attack\.bad_share"):
        at_least(hits, n, alpha)
