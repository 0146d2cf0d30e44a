"""Adversarial training beside ART's, from the same weights, on the same samples, for as long.

`python -m bench.hardening` prints a line for each: what our own white-box attack leaves of either
model on samples that neither was trained on, and the CPU seconds of the training, with one thread:
mean and standard error over seeds, each with a split and weights of its own. Epochs, batches,
epsilon, steps and step sizes are the same. Both use Adam; of either the best of the same three
rates counts, but for ART's fast training, which has a rate of its own. A seed alone decides
nothing: 500 samples, and one step that overfits or not.
"""

from __future__ import annotations

import copy
import importlib
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench.attacks_models import Data, digits, train
from bench.environment import layer_of
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.defences.adversarial_training import (
    FastTraining,
    Lesson,
    PgdTraining,
    Schedule,
    Trades,
    harden,
)
from keepstone.lab.domain import Domain
from keepstone.lab.norms import LINF
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.torch import TorchTarget

EPS, STEPS, SIZE = 0.2, 7, 0.35
EPOCHS, BATCH = 20, 128
# One step is cheap, and overfits by some seeds; the peer's seven take most of the time.
SEEDS = {"pgd": 2, "trades": 2, "fast": 5}
# These are tried, each anew.
RATES = (0.004, 0.02, 0.1)
_DOMAIN = Domain.of((1, 8, 8), 0.0, 1.0)
_SUITE = Suite("white", 500, lambda able: (Step(WhiteBox(), 3_500, 1_000),))
LESSONS: dict[str, Lesson] = {
    "pgd": PgdTraining(EPS, STEPS, SIZE),
    "trades": Trades(EPS, 6.0, STEPS, SIZE),
    "fast": FastTraining(EPS),
}


def robust(module: Any, data: Data) -> float:
    """What is left within EPS on the samples that were held out."""
    target = TorchTarget(module, _DOMAIN)
    question = Question(LINF, (EPS,), len(data.x))
    found = run_suite(target, data.x.reshape(len(data.x), -1), data.y, _SUITE, question)
    return found.robust[0].robust.value


def ours(name: str, begun: Any, data: Data, rate: float, seed: int) -> tuple[Any, float]:
    start = time.process_time()
    rows, plan = data.train_x.reshape(len(data.train_x), -1), Schedule(EPOCHS, BATCH, rate)
    made = harden(LESSONS[name], begun, rows, data.train_y, _DOMAIN, schedule=plan, seed=seed)
    return made.module, time.process_time() - start


class _Whole(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def theirs(name: str, begun: Any, data: Data, rate: float, seed: int) -> tuple[Any, float]:
    trainers = importlib.import_module("art.defences.trainer")
    attacks = importlib.import_module("art.attacks.evasion")
    estimators = importlib.import_module("art.estimators.classification")
    # Of a torch Sequential its TRADES takes the first layer's outputs for the scores, and fails.
    module = _Whole(copy.deepcopy(begun).requires_grad_(True))
    classifier = estimators.PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        optimizer=torch.optim.Adam(module.parameters(), rate),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    given = {"eps": EPS, "eps_step": SIZE * EPS, "max_iter": STEPS, "num_random_init": 1}
    descent = attacks.ProjectedGradientDescent(
        classifier, norm=np.inf, batch_size=BATCH, verbose=False, **given
    )
    made: dict[str, Callable[[], Any]] = {
        "pgd": lambda: trainers.AdversarialTrainerMadryPGD(
            classifier, nb_epochs=EPOCHS, batch_size=BATCH, **given
        ),
        "trades": lambda: trainers.AdversarialTrainerTRADESPyTorch(classifier, descent, beta=6.0),
        "fast": lambda: trainers.AdversarialTrainerFBFPyTorch(classifier, eps=EPS),
    }
    trainer = made[name]()
    torch.manual_seed(seed)
    np.random.seed(seed)  # what ART draws from
    start = time.process_time()
    asked = {} if name == "pgd" else {"batch_size": BATCH, "nb_epochs": EPOCHS}
    trainer.fit(data.train_x, np.eye(10, dtype=np.float32)[data.train_y], **asked)
    return module.eval(), time.process_time() - start


def measure() -> dict[str, list[tuple[float, float]]]:
    """Ours and the peer's by `training.what`, a pair for each seed."""
    torch.set_num_threads(1)
    sys.path.append(str(layer_of("adapters")))
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(max(SEEDS.values())):
        data = digits(seed)
        begun = train("natural", data, seed)
        for name in (one for one in LESSONS if seed < SEEDS[one]):
            mine = _best([ours(name, begun, data, rate, seed) for rate in RATES], data)
            # It takes no rate.
            rates = RATES[:1] if name == "fast" else RATES
            with warnings.catch_warnings():
                # Of other libraries' deprecations, which are theirs.
                warnings.simplefilter("ignore")
                peer = _best([theirs(name, begun, data, rate, seed) for rate in rates], data)
            found[f"{name}.robust"].append((mine[0], peer[0]))
            found[f"{name}.cpu"].append((mine[1], peer[1]))
    return found


def _best(tried: Sequence[tuple[Any, float]], data: Data) -> tuple[float, float]:
    """What the best one leaves, and the seconds that it took."""
    return max((robust(module, data), spent) for module, spent in tried)


def rows() -> list[dict[str, Any]]:
    found = measure()
    for name, pairs in found.items():
        print(
            f"{name:<16}{len(pairs)} seeds"
            + "".join(f"{shown(side):>18}" for side in zip(*pairs, strict=True))
        )
    return [_row(name, *np.mean(pairs, axis=0).tolist()) for name, pairs in found.items()]


def shown(values: Sequence[float]) -> str:
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} +- {spread:.3f}"


def _row(name: str, mine: float, peer: float) -> dict[str, Any]:
    robust = name.endswith(".robust")
    return {
        "name": f"hardening.{name}",
        "ours": mine,
        "peer": "ART 1.20.1",
        "peer_value": peer,
        "unit": f"robust at {EPS}" if robust else "CPU s",
        "ratio": mine / peer if peer else None,
        "target": f"{'>=' if robust else '<='} peer",
        "met": bool(mine >= peer if robust else mine <= peer),
    }


if __name__ == "__main__":
    for row in rows():
        print(
            f"{row['name']}: {row['ours']:.3f}, {row['peer']} {row['peer_value']:.3f}"
            f" {row['unit']}, {'met' if row['met'] else 'missed'}"
        )
