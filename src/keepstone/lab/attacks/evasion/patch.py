"""Patch: a square of the picture that may hold anything, wherever it does most.

Promise: what is asked differs from the sample in one square of `side` pixels at most, in all
channels; epsilon and the norm only say which of these count (use l0, or linf of the whole range,
to allow any content). A stuck sticker, a dead region of a sensor.

How: places are tried with plain colours first, then the best is kept: its content, in ever smaller
squares, and its place are changed at random while the margin does not shrink. By labels alone each
try is drawn anew. A flat row has no squares: there `side * side` features are the patch, a random
set.

Cost: `budget` queries at most. Blind spots: a patch that works on every sample (that is a trigger
to be trained on many: see the poisoning drills); physical limits of print and light.

Source: Brown et al. 2017 for the threat; Croce et al. 2022 (Sparse-RS) for the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.bounds import into, lengths
from keepstone.lab.attacks.evasion.square import picture, windows
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import margin
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability

# The share of the budget in which places are tried, before the best one is filled.
_PLACES = 0.3
_MOVES = 0.2


@dataclass(frozen=True, slots=True)
class Patch:
    """`side` is the patch's in pixels. Raises InputError `attack.bad_patch`, `attack.no_eps`."""

    side: int = 3

    name: ClassVar[str] = "patch"
    source: ClassVar[Source] = Source("Brown et al. 2017, arXiv:1712.09665", "AML.T0043.003")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1", "l0"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        layout = picture(meter.domain.shape)
        _, height, width = layout.shape
        flat = height == 1
        most = width if flat else min(height, width) ** 2
        if not 1 <= self.side**2 <= most:
            raise InputError("attack.bad_patch", "The patch is empty, or larger than the picture.")
        area = float(self.side**2)
        where = windows(rng, layout, len(meter.x), area)
        best = np.full(len(meter.x), -np.inf)
        kept = meter.x.copy()
        while (at := meter.standing()).size:
            spent = 1 - meter.left[at] / meter.goal.budget
            moves = (spent < _PLACES) | (rng.random(len(at)) < _MOVES)
            fresh = windows(rng, layout, len(at), area)
            place = np.where(moves[:, None, None], fresh, where[at])
            content = self._content(meter, rng, at, kept[at], where[at], spent, flat)
            rows = meter.x[at].copy()
            rows[np.arange(len(at))[:, None, None], place] = content
            rows = into(meter, at, rows.astype(meter.x.dtype))
            answers = meter.ask(at, rows)
            if answers.scores is None:
                continue
            found = margin(answers.scores, meter.y[at])[0]
            better = found >= best[at]
            best[at[better]], kept[at[better]] = found[better], rows[better]
            where[at[better]] = place[better]

    def _content(
        self,
        meter: Meter,
        rng: np.random.Generator,
        at: Array,
        kept: Array,
        where: Array,
        spent: Array,
        flat: bool,
    ) -> Array:
        """What the patches hold, `(n, channels, pixels)`: a plain colour, or the kept one with a
        smaller square in it of another."""
        pixels = where.shape[2]
        count, channels = len(at), where.shape[1]
        low, length = meter.domain.low[where], lengths(meter)[where]
        # The ends of the range are what models are least used to.
        colour = rng.choice((0.0, 1.0), (count, channels, 1)) * np.ones(pixels)
        held = kept[np.arange(count)[:, None, None], where]
        inner = max(1.0, self.side**2 * 0.5 ** (1 + 4 * float(spent.mean())))
        shape = (1, 1, pixels) if flat else (1, self.side, self.side)
        spot = windows(rng, np.arange(pixels).reshape(shape), count, inner)[:, 0]
        chosen = np.zeros((count, 1, pixels), bool)
        chosen[np.arange(count)[:, None], 0, spot] = True
        chosen |= (spent < _PLACES)[:, None, None]
        return np.where(chosen, low + colour * length, held)
