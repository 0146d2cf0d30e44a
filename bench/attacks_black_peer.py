"""ART's and Foolbox's black-box attacks; runs as a module in an environment of their own.

Reads one JSON line a run from stdin: `{"model", "attack", "count"}`; answers each with a line:
robust accuracy, queries and CPU seconds, or why there are none. Queries are the rows that a
model's wrapper saw, counted here and not by the attack. An attack that gives back more than epsilon
is helped: what it gave is also tried cut to epsilon, which costs it no query.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
from threadpoolctl import threadpool_limits

from bench.attacks_black_models import EPS, attacked, digest, models

Found = Any
_CLASSES = 10


class Counted:
    """A model whose rows are counted: `labels`, and `scores` (never zero) where it has them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows = 0

    def labels(self, x: Any) -> Any:
        self.rows += len(x)
        return self.model.predict(np.asarray(x, np.float32))

    def one_hot(self, x: Any) -> Any:
        return np.eye(_CLASSES, dtype=np.float32)[self.labels(x)]

    def scores(self, x: Any) -> Any:
        self.rows += len(x)
        x = np.asarray(x, np.float32)
        if hasattr(self.model, "predict_proba"):
            return self.model.predict_proba(x).astype(np.float32)
        found = self.model.decision_function(x)
        powers = np.exp(found - found.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _art(counted: Counted, *, scored: bool, shape: tuple[int, ...] = (64,)) -> Any:
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


def art_attack(name: str, counted: Counted) -> Callable[[Any, Any], Found]:
    import art.attacks.evasion as art

    picture = (1, 8, 8)
    if name == "hopskipjump":
        attack = art.HopSkipJump(
            _art(counted, scored=False),
            norm=np.inf,
            max_iter=10,
            max_eval=1000,
            init_eval=100,
            verbose=False,
        )
    elif name == "boundary":
        attack = art.BoundaryAttack(
            _art(counted, scored=False), targeted=False, max_iter=50, verbose=False
        )
    elif name == "square":
        attack = art.SquareAttack(
            _art(counted, scored=True, shape=picture),
            norm=np.inf,
            eps=EPS,
            max_iter=1000,
            verbose=False,
        )
        return lambda x, y: attack.generate(x.reshape(-1, *picture), y).reshape(len(x), -1)
    elif name == "zoo":
        attack = art.ZooAttack(
            _art(counted, scored=True),
            max_iter=20,
            nb_parallel=32,
            use_resize=False,
            use_importance=False,
            learning_rate=0.1,
            variable_h=0.1,
            verbose=False,
        )
    elif name == "simba":
        simba = art.SimBA(
            _art(counted, scored=True, shape=picture),
            attack="px",
            max_iter=1000,
            epsilon=EPS,
            verbose=False,
        )
        return lambda x, y: simba.generate(x.reshape(-1, *picture), np.eye(_CLASSES)[y]).reshape(
            len(x), -1
        )
    elif name == "signopt":
        attack = art.SignOPTAttack(
            _art(counted, scored=False), targeted=False, query_limit=2000, max_iter=20
        )
    else:
        raise KeyError(name)
    return lambda x, y: attack.generate(x, y)


def foolbox_attack(name: str, counted: Counted) -> Callable[[Any, Any], Found]:
    from foolbox import attacks

    class Served(foolbox.models.base.Model):  # type: ignore[misc]
        bounds = foolbox.types.Bounds(0.0, 1.0)

        def __call__(self, inputs: Any) -> Any:
            found = counted.scores if name in ("linf-noise", "genattack") else counted.one_hot
            tensor, restore = ep.astensor_(inputs)
            return restore(ep.astensor(found(tensor.numpy().reshape(len(tensor), -1))))

    kinds: dict[str, Callable[[], Any]] = {
        "hopskipjump": lambda: attacks.HopSkipJumpAttack(
            steps=10, constraint="linf", max_gradient_eval_steps=1000
        ),
        "boundary": lambda: attacks.BoundaryAttack(steps=1000),
        "linf-noise": lambda: attacks.LinfRepeatedAdditiveUniformNoiseAttack(repeats=1000),
        "blended-noise": lambda: attacks.LinearSearchBlendedUniformNoiseAttack(),
        "salt-pepper": lambda: attacks.SaltAndPepperNoiseAttack(steps=1000),
        "pointwise": lambda: attacks.PointwiseAttack(),
        "genattack": lambda: attacks.GenAttack(steps=100, population=10),
        "dataset": lambda: attacks.DatasetAttack(),
    }
    attack = kinds[name]()
    model = Served()

    def run(x: Any, y: Any) -> Found:
        inputs, right = ep.astensor(x), ep.astensor(y)
        criterion: Any = foolbox.criteria.Misclassification(right)
        if name == "dataset":
            attack.feed(model, inputs)
        if name == "genattack":
            wanted = ep.astensor((y + 1) % _CLASSES)
            criterion = foolbox.criteria.TargetedMisclassification(wanted)
            inputs = ep.astensor(x.reshape(-1, 1, 8, 8))
            attack.reduced_dims = None
            attack.channel_axis = 1
        bounded = name in ("linf-noise", "genattack")
        found = attack.run(model, inputs, criterion, **({"epsilon": EPS} if bounded else {}))
        return found.numpy().reshape(len(x), -1)

    return run


def measure(model: Any, library: str, name: str, count: int) -> dict[str, Any]:
    x, y = attacked(count)
    counted = Counted(model)
    clean = model.predict(x) == y
    x_right, y_right = x[clean], y[clean]
    attack = (art_attack if library == "art" else foolbox_attack)(name, counted)
    np.random.seed(0)  # what these libraries draw from
    # ART's take one sample after another by themselves, so that this is no slower.
    single = library == "art" and name in ("hopskipjump", "boundary", "zoo", "signopt", "simba")
    most = None
    started = time.process_time()
    if single:
        each, given = [], []
        for at in range(len(x_right)):
            before = counted.rows
            given.append(attack(x_right[at : at + 1], y_right[at : at + 1]))
            each.append(counted.rows - before)
        found, most = np.concatenate(given), max(each)
    else:
        found = attack(x_right, y_right)
    seconds = time.process_time() - started
    found = np.where(np.isfinite(found), found, x_right).astype(np.float32)
    cut = np.clip(found, x_right - np.float32(EPS), x_right + np.float32(EPS)).clip(0, 1)
    near = np.abs(found - x_right).max(axis=1) <= EPS + 1e-6
    broken = (near & (model.predict(found) != y_right)) | (model.predict(cut) != y_right)
    return {
        "robust": float((~broken).sum() / count),
        "queries_mean": counted.rows / len(x_right),
        "queries_max": most,
        "cpu_s": seconds,
    }


def main() -> None:
    made = models()
    print(json.dumps({name: digest(model) for name, model in made.items()}), flush=True)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line in sys.stdin:
            wanted = json.loads(line)
            model = made[wanted["model"]]
            try:
                said = measure(model, wanted["library"], wanted["attack"], wanted["count"])
            except Exception as error:
                said = {"failed": f"{type(error).__name__}: {error}"[:200]}
            print(json.dumps(wanted | said), flush=True)


if __name__ == "__main__":
    main()
