"""What a booster of XGBoost or LightGBM was trained for: only a classifier has labels to change.

The model itself says its objective; what it serves for a row hangs on that, and does not show it:
one number may be a probability, a count, a rank or a class. What is not known to be an objective
of classes is refused: a rate (`reg:logistic`, `cross_entropy`) too, for nothing says at which
value one class ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from keepstone.errors import InputError

# Objectives whose predictions are scores of classes: probabilities, or their margins.
_SCORES = frozenset(
    {
        "binary:logistic",
        "binary:logitraw",
        "multi:softprob",
        "binary",
        "multiclass",
        "multiclassova",
    }
)
# Objectives whose predictions are the places of classes.
_LABELS = frozenset({"binary:hinge", "multi:softmax"})


@dataclass(frozen=True, slots=True)
class Objective:
    """`labels` where a prediction is the place of a class, and not its scores."""

    name: str
    classes: int
    labels: bool


def objective_of(booster: Any) -> Objective | None:
    """The objective of a booster for classes; None for an object that says none.

    Raises InputError `target.no_classifier` for any other.
    """
    if callable(getattr(booster, "save_config", None)):
        name, classes = _xgboost(booster)
    elif callable(getattr(booster, "dump_model", None)):
        name, classes = _lightgbm(booster)
    else:
        return None
    if name not in _SCORES | _LABELS:
        raise no_classifier(f"The model was trained as {name[:64]!r}, which serves no class.")
    return Objective(name, max(2, classes), name in _LABELS)


def no_classifier(cause: str) -> InputError:
    return InputError(
        "target.no_classifier",
        cause,
        "Only classifiers are attacked. Train it for classes: XGBoost with binary:logistic or"
        " multi:softprob, LightGBM with binary or multiclass.",
    )


def _xgboost(booster: Any) -> tuple[str, int]:
    learner = json.loads(booster.save_config())["learner"]
    return str(learner["objective"]["name"]), int(learner["learner_model_param"]["num_class"])


def _lightgbm(booster: Any) -> tuple[str, int]:
    # Parameters follow the name. One of the caller's own is not kept in the model.
    model = booster.dump_model(num_iteration=1)
    words = str(model.get("objective") or "an objective of its own").split(" num_class:")
    return words[0].split(" sigmoid:")[0], int(model["num_class"])
