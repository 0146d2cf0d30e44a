"""The steps before a scikit-learn classifier, with their slope, read off the fitted objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.targets.slopes import Slope, chained, clipped, multiplied, normed, scaled


class Unknown(Exception):  # noqa: N818  # it says what, and never leaves the lab
    """What is not computed here, by its name."""


def step_of(step: Any) -> Slope:
    """What a fitted step of a pipeline does to rows. Raises Unknown."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return chained(())
    name = type(step).__name__
    if name not in _STEPS:
        raise Unknown(f"the step {name[:64]}")
    return _STEPS[name](step)


def floats(value: Any) -> Array:
    """As 64-bit floats; scikit-learn may have made a matrix sparse."""
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value, np.float64)


def _standard(step: Any) -> Slope:
    scale = 1.0 if step.scale_ is None else floats(step.scale_)
    mean = floats(step.mean_) if step.with_mean else 0.0
    return _centred(mean, scale if step.with_std else 1.0)


def _robust(step: Any) -> Slope:
    mean = floats(step.center_) if step.with_centering else 0.0
    return _centred(mean, floats(step.scale_) if step.with_scaling else 1.0)


def _centred(mean: Any, scale: Any) -> Slope:
    factor = 1 / np.asarray(scale)
    return scaled(factor, -np.asarray(mean) * factor)


def _within(step: Any) -> Slope:
    whole = scaled(floats(step.scale_), floats(step.min_))
    return chained([whole, clipped(*map(float, step.feature_range))]) if step.clip else whole


def _largest(step: Any) -> Slope:
    whole = _centred(0.0, floats(step.scale_))
    return chained([whole, clipped(-1.0, 1.0)]) if getattr(step, "clip", False) else whole


def _principal(step: Any) -> Slope:
    matrix = floats(step.components_).T
    if step.whiten:
        spread = np.sqrt(floats(step.explained_variance_))
        matrix = matrix / np.maximum(spread, np.finfo(np.float64).eps)
    return multiplied(matrix, -floats(step.mean_) @ matrix)


_STEPS: Mapping[str, Callable[[Any], Slope]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _within,
    "MaxAbsScaler": _largest,
    "RobustScaler": _robust,
    "PCA": _principal,
    "Normalizer": lambda step: normed(str(step.norm)),
}
