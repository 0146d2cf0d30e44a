"""The models that black-box attacks are measured on: made alike in our environment and the peers'.

Digits in [0, 1], 1,000 to fit on; what is attacked are others. scikit-learn and its version are
pinned in the peers' environment too, and both say a digest of their answers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

FITTED = 1000
EPS = 0.2
VERSIONS = {"art": "ART 1.20.1", "foolbox": "Foolbox 3.3.4"}
# Which attacks are asked for: the peers' files say how each is run, and what is left out.
PEERS = {
    "art": (
        "hopskipjump",
        "boundary",
        "signopt",
        "geoda",
        "square",
        "simba",
        "zoo",
        "threshold",
        "pixel",
        "decision-tree",
    ),
    "foolbox": (
        "hopskipjump",
        "boundary",
        "linf-noise",
        "l2-gaussian",
        "l2-uniform",
        "l2-clip-gaussian",
        "l2-clip-uniform",
        "blended-noise",
        "salt-pepper",
        "gaussian-blur",
        "contrast",
        "contrast-binary",
        "inversion",
        "pointwise",
        "genattack",
        "dataset",
    ),
}


def digits() -> tuple[Any, Any]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.data))
    return (data.data / 16).astype(np.float32)[order], data.target[order]


def models() -> dict[str, Any]:
    x, y = digits()
    kinds = {
        "forest": RandomForestClassifier(100, random_state=0),
        "boosting": HistGradientBoostingClassifier(random_state=0),
        "svc": SVC(),
        "tree": DecisionTreeClassifier(random_state=0),
    }
    return {name: kind.fit(x[:FITTED], y[:FITTED]) for name, kind in kinds.items()}


def attacked(count: int) -> tuple[Any, Any]:
    x, y = digits()
    return x[FITTED : FITTED + count], y[FITTED : FITTED + count]


def digest(model: Any) -> str:
    """Of the model's answers: the same where the model is."""
    x, _ = digits()
    return hashlib.sha256(model.predict(x).astype("<i8").tobytes()).hexdigest()[:16]
