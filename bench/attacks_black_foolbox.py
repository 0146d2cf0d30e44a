"""Foolbox's black-box attacks as the bench runs them, in the environment of the peers.

All of its attacks that ask for labels or scores only. Noise that is drawn once stands there as its
repeated form. Left out: SpatialAttack, which turns and moves pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eagerpy as ep
import foolbox
from foolbox import attacks

Attack = Callable[[Any, Any], Any]
_CLASSES = 10
_REPEATS = 1000
# A ball of this l2 radius has rows that are .2 away everywhere: 64 ** .5 * .2.
_L2 = 1.6

ATTACKS: dict[str, Callable[[], Any]] = {
    "hopskipjump": lambda: attacks.HopSkipJumpAttack(
        steps=10, constraint="linf", max_gradient_eval_steps=1000
    ),
    "boundary": lambda: attacks.BoundaryAttack(steps=1000),
    "linf-noise": lambda: attacks.LinfRepeatedAdditiveUniformNoiseAttack(repeats=_REPEATS),
    "l2-gaussian": lambda: attacks.L2RepeatedAdditiveGaussianNoiseAttack(repeats=_REPEATS),
    "l2-uniform": lambda: attacks.L2RepeatedAdditiveUniformNoiseAttack(repeats=_REPEATS),
    "l2-clip-gaussian": lambda: attacks.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack(
        repeats=_REPEATS
    ),
    "l2-clip-uniform": lambda: attacks.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack(
        repeats=_REPEATS
    ),
    "blended-noise": lambda: attacks.LinearSearchBlendedUniformNoiseAttack(),
    "salt-pepper": lambda: attacks.SaltAndPepperNoiseAttack(steps=1000),
    "gaussian-blur": lambda: attacks.GaussianBlurAttack(steps=1000, channel_axis=1),
    "contrast": lambda: attacks.LinearSearchContrastReductionAttack(steps=1000),
    "contrast-binary": lambda: attacks.BinarySearchContrastReductionAttack(),
    "inversion": lambda: attacks.InversionAttack(),
    "pointwise": lambda: attacks.PointwiseAttack(),
    "genattack": lambda: attacks.GenAttack(steps=100, population=10, channel_axis=1),
    "dataset": lambda: attacks.DatasetAttack(),
}
_BOUNDED = {"linf-noise": 0.0, "genattack": 0.0} | {
    name: _L2 for name in ATTACKS if name.startswith("l2-")
}
# These look at numbers, the others at labels alone.
_SCORED = frozenset({"genattack"})
_PICTURES = frozenset({"genattack", "gaussian-blur"})


def made(name: str, counted: Any, eps: float) -> Attack:
    class Served(foolbox.models.base.Model):  # type: ignore[misc]
        bounds = foolbox.types.Bounds(0.0, 1.0)

        def __call__(self, inputs: Any) -> Any:
            found = counted.scores if name in _SCORED else counted.one_hot
            tensor, restore = ep.astensor_(inputs)
            return restore(ep.astensor(found(tensor.numpy().reshape(len(tensor), -1))))

    attack, model = ATTACKS[name](), Served()

    def run(x: Any, y: Any) -> Any:
        inputs = ep.astensor(x.reshape(-1, 1, 8, 8) if name in _PICTURES else x)
        criterion: Any = foolbox.criteria.Misclassification(ep.astensor(y))
        if name == "dataset":
            attack.feed(model, inputs)
        if name == "genattack":
            # It only goes to a class that is named: the next one.
            wanted = ep.astensor((y + 1) % _CLASSES)
            criterion = foolbox.criteria.TargetedMisclassification(wanted)
        bound = {"epsilon": _BOUNDED[name] or eps} if name in _BOUNDED else {}
        return attack.run(model, inputs, criterion, **bound).numpy().reshape(len(x), -1)

    return run
