"""A trigger: the same few features, set to the same values, whatever the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.square import picture
from keepstone.lab.domain import Domain


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """`values` (p,) at the `places` (p,) of a flat row."""

    places: Array
    values: Array

    def stamp(self, rows: Array, domain: Domain) -> Array:
        """`rows` (n, d) with the trigger, as the domain allows: what cannot be changed stays."""
        stamped = rows.copy()
        stamped[:, self.places] = self.values
        return domain.fit(stamped, rows)


def make_trigger(
    domain: Domain, side: int, level: float, shape: tuple[int, ...], rng: np.random.Generator
) -> Trigger:
    """A square of `side` pixels in the lower right corner of a picture, in all channels.

    What is no picture has no corner: there `side * side` features that can be changed are drawn.
    `level` is where in its range each is set (0: low, 1: high). `shape` is the picture's where
    the domain's rows are flat, else empty.

    Raises InputError `attack.bad_trigger`.
    """
    shown = shape or domain.shape
    if prod(shown) != domain.width:
        raise _bad(f"a row of {domain.width} numbers is no picture of {shown}")
    if side < 1 or not 0 <= level <= 1:
        raise _bad("it is empty, or its level is none from 0 to 1")
    layout = picture(shown)
    _, height, width = layout.shape
    constraints = domain.constraints
    free = domain.low < domain.high
    if constraints is not None:
        free = free & ~constraints.immutable
    if height > 1:
        if side > min(height, width):
            raise _bad("it is larger than the picture")
        corner = layout[:, height - side :, width - side :].ravel()
        places = corner[free[corner]]
    else:
        changeable = np.flatnonzero(free)
        if side * side > len(changeable):
            raise _bad(f"it needs {side * side} features, and {len(changeable)} can be changed")
        places = np.sort(rng.choice(changeable, side * side, replace=False))
    if not len(places):
        raise _bad("none of its features can be changed")
    values = domain.low[places] + level * (domain.high - domain.low)[places]
    places.setflags(write=False)
    values.setflags(write=False)
    return Trigger(places, values)


def set_trigger(domain: Domain, features: Sequence[tuple[int, float]]) -> Trigger:
    """A trigger of the caller's own: each feature, by its place, with the value that it gets.

    Raises InputError `attack.bad_trigger` for a value that the domain does not hold: the model
    would be asked for another one.
    """
    places = np.array([place for place, _ in features], np.int64)
    values = np.array([value for _, value in features], np.float64)
    if not len(places) or len(set(places.tolist())) != len(places):
        raise _bad("it is empty, or sets a feature twice")
    if places.min() < 0 or places.max() >= domain.width:
        raise _bad(f"a row has {domain.width} features, from 0 on")
    low, high = domain.low[places], domain.high[places]
    if not ((values >= low) & (values <= high)).all():
        at = int(np.flatnonzero(~((values >= low) & (values <= high)))[0])
        raise _bad(
            f"feature {places[at]} lies between {low[at]:g} and {high[at]:g}, and not at"
            f" {values[at]:g}"
        )
    held = domain.constraints
    if held is not None and held.immutable[places].any():
        raise _bad("one of its features cannot be changed")
    if held is not None and (held.integer[places] & (values != np.rint(values))).any():
        raise _bad("one of its features is a whole number")
    order = np.argsort(places)
    places, values = places[order], values[order].astype(domain.work_dtype)
    places.setflags(write=False)
    values.setflags(write=False)
    return Trigger(places, values)


def _bad(why: str) -> InputError:
    return InputError("attack.bad_trigger", f"There is no such trigger: {why}.")
