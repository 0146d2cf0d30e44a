"""ART's black-box evasion attacks as the bench runs them, in the environment of the peers.

Labels come as one-hot scores, or the attack would be told more than it needs. What needs pictures
gets the digits as 8 x 8. Left out, for they do not ask for the nearest wrong answer to one row:
SpatialTransformation (turns and moves pictures), GRAPHITE and Laser (physical changes of a scene),
UniversalPerturbation (one perturbation for all rows).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Attack = Callable[[Any, Any], Any]
Made = Callable[[Any, float], Attack]
_PICTURE = (1, 8, 8)
_CLASSES = 10


def _served(counted: Any, *, scored: bool, shape: tuple[int, ...] = (64,)) -> Any:
    from art.estimators.classification import (
        BlackBoxClassifierNeuralNetwork,
    )

    asked = counted.scores if scored else counted.one_hot
    return BlackBoxClassifierNeuralNetwork(
        lambda x: asked(x.reshape(len(x), -1)),
        input_shape=shape,
        nb_classes=_CLASSES,
        clip_values=(0.0, 1.0),
        channels_first=True,
    )


def _on_pictures(attack: Any, labels: Callable[[Any], Any] = lambda y: y) -> Attack:
    return lambda x, y: attack.generate(x.reshape(-1, *_PICTURE), labels(y)).reshape(len(x), -1)


def _hopskipjump(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import HopSkipJump

    served = _served(counted, scored=False)
    return HopSkipJump(  # type: ignore[no-any-return]
        served, norm=np.inf, max_iter=10, max_eval=1000, init_eval=100, verbose=False
    ).generate


def _boundary(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import BoundaryAttack

    served = _served(counted, scored=False)
    return BoundaryAttack(  # type: ignore[no-any-return]
        served, targeted=False, max_iter=50, verbose=False
    ).generate


def _signopt(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import SignOPTAttack

    served = _served(counted, scored=False)
    return SignOPTAttack(  # type: ignore[no-any-return]
        served, targeted=False, query_limit=2000, max_iter=20, verbose=False
    ).generate


def _geoda(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import GeoDA

    served = _served(counted, scored=False, shape=_PICTURE)
    return _on_pictures(GeoDA(served, norm=np.inf, sub_dim=8, max_iter=1000, verbose=False))


def _square(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import SquareAttack

    served = _served(counted, scored=True, shape=_PICTURE)
    return _on_pictures(SquareAttack(served, norm=np.inf, eps=eps, max_iter=1000, verbose=False))


def _simba(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import SimBA

    served = _served(counted, scored=True, shape=_PICTURE)
    attack = SimBA(served, attack="px", max_iter=1000, epsilon=eps, verbose=False)
    return _on_pictures(attack, lambda y: np.eye(_CLASSES)[y])


def _zoo(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import ZooAttack

    served = _served(counted, scored=True)
    return ZooAttack(  # type: ignore[no-any-return]
        served,
        max_iter=20,
        nb_parallel=32,
        use_resize=False,
        use_importance=False,
        learning_rate=0.1,
        variable_h=0.1,
        verbose=False,
    ).generate


def _threshold(counted: Any, eps: float) -> Attack:
    """By differential evolution: its other strategy needs a package of its own, `cma`."""
    from art.attacks.evasion import ThresholdAttack

    served = _served(counted, scored=True, shape=_PICTURE)
    return _on_pictures(ThresholdAttack(served, th=int(255 * eps), es=1, max_iter=3, verbose=False))


def _pixel(counted: Any, eps: float) -> Attack:
    from art.attacks.evasion import PixelAttack

    served = _served(counted, scored=True, shape=_PICTURE)
    return _on_pictures(PixelAttack(served, th=5, es=1, max_iter=3, verbose=False))


def _decision_tree(counted: Any, eps: float) -> Attack:
    """Reads the tree, and asks nothing but each row's label; given no `y`, which it takes for the
    label to reach: with the right labels it would change nothing and report no error."""
    from art.attacks.evasion import DecisionTreeAttack
    from art.estimators.classification.scikitlearn import (
        ScikitlearnDecisionTreeClassifier,
    )

    served = ScikitlearnDecisionTreeClassifier(counted.model)

    def run(x: Any, y: Any) -> Any:
        counted.rows += len(x)
        return DecisionTreeAttack(served, verbose=False).generate(x)

    return run


ATTACKS: dict[str, Made] = {
    "hopskipjump": _hopskipjump,
    "boundary": _boundary,
    "signopt": _signopt,
    "geoda": _geoda,
    "square": _square,
    "simba": _simba,
    "zoo": _zoo,
    "threshold": _threshold,
    "pixel": _pixel,
    "decision-tree": _decision_tree,
}
# What takes one row after another by itself, so that giving it one at a time is no slower.
SINGLE = frozenset(ATTACKS) - {"square", "decision-tree"}
