"""Where a bounded attack may ask: rows within epsilon of their samples that the domain holds."""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.meter import Meter, reach


def radius(meter: Meter) -> float:
    """The goal's epsilon. Raises InputError `attack.no_eps` where it has none."""
    if meter.goal.eps is None:
        raise InputError(
            "attack.no_eps",
            "The attack searches within an epsilon, and none was given.",
            "Give --eps, or choose an attack that seeks the smallest perturbation.",
        )
    return meter.goal.eps


def costs(meter: Meter) -> Array:
    """What a unit of each feature weighs in the goal's norm, `(d,)`."""
    constraints = meter.domain.constraints
    if constraints is None or constraints.cost is None:
        return np.ones(meter.domain.width, meter.domain.work_dtype)
    return constraints.cost.astype(meter.domain.work_dtype)


def into(meter: Meter, places: Array, rows: Array, eps: Array | None = None) -> Array:
    """Rows within epsilon of their samples and in the domain, near to `rows`.

    `eps` (n,) is one for each row, else the goal's. Whole numbers are rounded towards the sample.
    A one-hot group that would take its row out of epsilon stays as the sample's.
    """
    eps, cost = np.full(len(rows), radius(meter)) if eps is None else eps, costs(meter)
    domain, norm = meter.domain, meter.goal.norm
    origin = meter.x[places]
    delta = norm.project((rows - origin) * cost, eps) / cost
    whole = np.zeros(domain.width, bool)
    if domain.dtype.kind in "iu":
        whole[:] = True
    elif domain.constraints is not None:
        whole |= domain.constraints.integer
    if whole.any():
        # What a division by a cost left just below a whole number is that number.
        delta[:, whole] = np.trunc(delta[:, whole] * (1 + 1e-6))
    found = domain.fit(origin + delta, origin)
    groups = () if domain.constraints is None else domain.constraints.one_hot
    if groups:
        beyond = meter.measure(places, found) > eps + reach(0.0)
        members = np.zeros(domain.width, bool)
        members[[at for group in groups for at in group]] = True
        held = beyond[:, None] & members
        found[held] = origin[held]
        whole[members] = True
    return _rounded_back(meter, places, found, eps, whole)


def _rounded_back(meter: Meter, places: Array, rows: Array, eps: Array, whole: Array) -> Array:
    """`rows`, of which none is further than epsilon by the rounding of its type.

    Beside large values a small epsilon is a few steps of a 32-bit float.
    """
    kind = meter.domain.dtype if meter.domain.dtype.kind == "f" else meter.domain.work_dtype
    for _ in range(4):
        beyond = np.flatnonzero(meter.measure(places, rows) > eps + reach(0.0))
        if not beyond.size:
            break
        back = np.nextafter(rows[beyond].astype(kind), meter.x[places[beyond]].astype(kind))
        rows[beyond] = np.where(whole, rows[beyond], back.astype(rows.dtype))
    return rows


def lengths(meter: Meter) -> Array:
    """How long each feature's range is, `(d,)`; 1 where it has none, so that it can divide."""
    span = (meter.domain.high - meter.domain.low).astype(meter.domain.work_dtype)
    return np.where(span > 0, span, 1)
