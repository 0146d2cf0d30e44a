"""What the defences share that start from files: which samples may be judged by."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.samples import Samples


def require_apart(trained: Samples, held_out: Samples, domain: Domain) -> None:
    """Refuse to judge a model by rows that it was trained on, whatever their labels are.

    Rows are the same where the model is given the same numbers. Raises InputError
    `defence.trained_on`.
    """
    learnt = {row.tobytes() for row in _as_given(trained.x, domain)}
    count = sum(row.tobytes() in learnt for row in _as_given(held_out.x, domain))
    if count:
        raise InputError(
            "defence.trained_on",
            f"{count} of {len(held_out)} held-out rows are among those that are trained on.",
            "Hold out rows that the training never sees.",
        )


def _as_given(x: Array, domain: Domain) -> Array:
    # Zero has two signs and is one number.
    return np.ascontiguousarray(domain.fit(x, x).astype(domain.dtype) + 0)
