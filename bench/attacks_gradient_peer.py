"""Foolbox's, CleverHans's and ART's attacks on a network, each in a process apart from ours.

`python attacks_gradient_peer.py FOLDER LAYER` reads a model and samples from FOLDER and the
libraries from LAYER, and prints a line of JSON for each attack: its distance from each sample that
is served another label (null: none), the CPU seconds and the rows that the model saw for a sample;
or why there are none. bench/attacks_gradient.py has written the folder.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.attacks_models import network, warm_up

STEPS, RUNS, SEARCHES = 40, 200, 6
# What takes thousands of queries for a sample, or seconds, gets the first of them.
FEW = 100
_SLOW = ("carlini-wagner", "hopskipjump", "boundary")

# The name of the attack as ours has it, the norm, how many samples, and what gives its points.
Run = tuple[str, str, int, Callable[[], Any]]


class Counting(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    """A model whose rows are counted, in whatever way a library calls it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.rows = 0

    def forward(self, x: Any) -> Any:
        self.rows += len(x)
        return self.model(x)


def foolbox(model: Any, x: Any, y: Any, eps: float) -> Iterator[Run]:
    import foolbox as library
    from foolbox import attacks

    asked = library.PyTorchModel(model, bounds=(0, 1), device="cpu")
    pgd = attacks.LinfPGD(steps=STEPS, rel_stepsize=2.5 / STEPS)
    price = attacks.L2CarliniWagnerAttack(binary_search_steps=SEARCHES, steps=RUNS, stepsize=0.02)
    jump = partial(attacks.HopSkipJumpAttack, steps=10, max_gradient_eval_steps=1000)
    for name, norm, one, radius in (
        ("fgsm", "linf", attacks.LinfFastGradientAttack(random_start=False), eps),
        ("pgd", "linf", pgd, eps),
        ("deepfool", "l2", attacks.L2DeepFoolAttack(), None),
        ("deepfool", "linf", attacks.LinfDeepFoolAttack(), None),
        ("carlini-wagner", "l2", price, None),
        ("hopskipjump", "l2", jump(constraint="l2"), None),
        ("hopskipjump", "linf", jump(constraint="linf"), None),
        ("boundary", "l2", attacks.BoundaryAttack(steps=2000), None),
    ):
        count = FEW if name in _SLOW else len(x)
        # In [1] are the points as the attack left them, cut to the epsilon where there is one.
        yield name, norm, count, partial(_foolbox, one, asked, x[:count], y[:count], radius)


def _foolbox(attack: Any, asked: Any, x: Any, y: Any, radius: float | None) -> Any:
    return attack(asked, x, y, epsilons=radius)[1]


def cleverhans(model: Any, x: Any, y: Any, eps: float) -> Iterator[Run]:
    from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
    from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
    from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    box = {"clip_min": 0.0, "clip_max": 1.0, "y": y}
    runs = {"binary_search_steps": SEARCHES, "max_iterations": RUNS, "lr": 0.02}
    step = eps * 2.5 / STEPS

    def jump(norm: Any) -> Any:
        some = {"num_iterations": 10, "max_num_evals": 1000, "verbose": False}
        ends = {"clip_min": 0.0, "clip_max": 1.0}
        return hop_skip_jump_attack(model, x[:FEW], norm, initial_num_evals=100, **some, **ends)

    yield "fgsm", "linf", len(x), lambda: fast_gradient_method(model, x, eps, np.inf, **box)
    yield (
        "pgd",
        "linf",
        len(x),
        lambda: projected_gradient_descent(
            model, x, eps, step, STEPS, np.inf, sanity_checks=False, **box
        ),
    )
    few = box | runs | {"y": y[:FEW]}
    yield "carlini-wagner", "l2", FEW, lambda: carlini_wagner_l2(model, x[:FEW], 10, **few)
    yield "hopskipjump", "l2", FEW, lambda: jump(2)
    yield "hopskipjump", "linf", FEW, lambda: jump(np.inf)


def art(model: Any, x: Any, y: Any, eps: float) -> Iterator[Run]:
    from art.attacks import evasion
    from art.estimators.classification import (
        BlackBoxClassifierNeuralNetwork,
        PyTorchClassifier,
    )

    shape, labels = tuple(x.shape[1:]), y.numpy()
    loss = torch.nn.CrossEntropyLoss()
    served = PyTorchClassifier(model, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu")
    box = {"norm": np.inf, "eps": eps, "batch_size": len(x)}
    step = {"eps_step": eps * 2.5 / STEPS, "max_iter": STEPS, "num_random_init": 1}
    auto = {"eps_step": 2 * eps, "max_iter": 100, "nb_random_init": 1}
    price = {"binary_search_steps": SEARCHES, "max_iter": RUNS, "learning_rate": 0.02}

    def answer(rows: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(np.asarray(rows, np.float32))).numpy()

    black = BlackBoxClassifierNeuralNetwork(answer, shape, 10, clip_values=(0.0, 1.0))

    def jump(on: Any, norm: Any) -> Any:
        some = {"max_iter": 10, "max_eval": 1000, "init_eval": 100, "verbose": False}
        return evasion.HopSkipJump(on, norm=norm, **some)

    def walk(on: Any) -> Any:
        return evasion.BoundaryAttack(on, targeted=False, max_iter=100, verbose=False)

    made: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("fgsm", "linf", lambda: evasion.FastGradientMethod(served, **box)),
        (
            "pgd",
            "linf",
            lambda: evasion.ProjectedGradientDescent(served, **box, **step, verbose=False),
        ),
        (
            "apgd-ce",
            "linf",
            lambda: evasion.AutoProjectedGradientDescent(
                served, **box, **auto, loss_type="cross_entropy", verbose=False
            ),
        ),
        (
            "apgd-t",
            "linf",
            lambda: evasion.AutoProjectedGradientDescent(
                served, **box, **auto, loss_type="difference_logits_ratio", verbose=False
            ),
        ),
        (
            "deepfool",
            "l2",
            lambda: evasion.DeepFool(served, max_iter=50, batch_size=len(x), verbose=False),
        ),
        (
            "carlini-wagner",
            "l2",
            lambda: evasion.CarliniL2Method(served, **price, batch_size=FEW, verbose=False),
        ),
        ("hopskipjump of PyTorchClassifier", "l2", lambda: jump(served, 2)),
        ("boundary of PyTorchClassifier", "l2", lambda: walk(served)),
        ("hopskipjump", "l2", lambda: jump(black, 2)),
        ("hopskipjump", "linf", lambda: jump(black, np.inf)),
        ("boundary", "l2", lambda: walk(black)),
    )
    for name, norm, attack in made:
        count = FEW if name.startswith(_SLOW) else len(x)
        yield name, norm, count, partial(_art, attack, x[:count].numpy(), labels[:count])


def _art(attack: Callable[[], Any], x: Any, y: Any) -> Any:
    return torch.from_numpy(np.asarray(attack().generate(x, y), np.float32))


def measure(model: Counting, one: Run, x: Any, y: Any) -> dict[str, Any]:
    _, norm, count, run = one
    x, y = x[:count], y[:count]
    model.rows = 0
    start = time.process_time()
    found = run().detach()
    taken = time.process_time() - start
    rows = model.rows
    delta = (found - x).flatten(1).numpy()
    far = np.abs(delta).max(axis=1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    with torch.no_grad():
        wrong = (model(found.clamp(0, 1)).argmax(1) != y).numpy()
        before = (model(x).argmax(1) != y).numpy()
    far[before] = 0
    told = [float(one) if ok else None for one, ok in zip(far, wrong | before, strict=True)]
    return {"distance": told, "cpu_s": taken, "queries": rows / count}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    given = np.load(folder / "samples.npz")
    model = network(given["x"].shape[-1])
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval().requires_grad_(False)
    counting = Counting(model).eval()
    x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
    warm_up()
    for library in (foolbox, cleverhans, art):
        torch.manual_seed(0)
        np.random.seed(0)
        for one in library(counting, x, y, float(given["eps"])):
            line = {"library": library.__name__, "name": one[0], "norm": one[1]}
            try:
                said = measure(counting, one, x, y)
            except Exception as error:
                said = {"failed": f"{type(error).__name__}: {error}"[:200]}
            print(json.dumps(line | said), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.append(sys.argv[2])
    main(Path(sys.argv[1]))
