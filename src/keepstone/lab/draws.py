"""Where chance comes from: a stream of its own for every use of one seed."""

from __future__ import annotations

import numpy as np


def draws(seed: int, *use: int) -> np.random.Generator:
    """The stream of `seed` for one use of it, told from others by its numbers.

    No two uses share draws, and none shares them with `default_rng(seed)`, by which callers split
    their data: half of the shadow models would else be trained on just the members. (NumPy takes
    `[seed, 0]` for `seed`.)
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=use))
