"""What a hardened model is judged by, and asked for: rows that say something."""

from __future__ import annotations

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.samples import Samples
from keepstone.workspace.lab.hardening import require_apart, seen_once

DOMAIN = Domain.of((2,), -1.0, 1.0)


def samples(*rows: tuple[float, float]) -> Samples:
    x: Array = np.array(rows)
    return Samples(x, np.arange(len(x)), Digest.of(x.tobytes()))


def test_rows_are_the_same_where_the_model_is_given_the_same_numbers() -> None:
    trained = samples((0.1, 0.2), (0.0, 0.5))
    require_apart(trained, samples((0.1, 0.3), (0.2, 0.1), (0.1001, 0.2)), DOMAIN)
    for same in ((0.1, 0.2), (0.1 + 1e-12, 0.2), (-0.0, 0.5), (0.100001, 0.2)):
        with pytest.raises(InputError, match=r"defence\.trained_on"):
            require_apart(trained, samples((0.3, 0.3), same), DOMAIN)
    # What lies outside is fitted first, as it is before the model sees it.
    with pytest.raises(InputError, match=r"defence\.trained_on"):
        require_apart(samples((1.0, 1.0)), samples((7.0, 9.0)), DOMAIN)


def test_rows_that_are_there_again_tell_nothing_of_one() -> None:
    found = seen_once(samples((0.3, 0.0), (0.1, 0.0), (0.3, 0.0), (0.2, 0.0)))
    assert found.x[:, 0].tolist() == [0.1, 0.2]
    assert found.y.tolist() == [1, 3]
