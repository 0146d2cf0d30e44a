"""Foolbox's and CleverHans's attacks by gradient, in an environment of their own.

`python attacks_gradient_peer.py FOLDER` reads a model and samples there, and prints a line of JSON
for each attack of each library that is installed: its distance from each sample that is served
another label (null: none), and the CPU seconds. bench/attacks_gradient.py has written the folder.
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


def foolbox(model: Any, x: Any, y: Any, eps: float) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    import foolbox as library
    from foolbox import attacks

    asked = library.PyTorchModel(model, bounds=(0, 1), device="cpu")
    pgd = attacks.LinfPGD(steps=STEPS, rel_stepsize=2.5 / STEPS)
    price = attacks.L2CarliniWagnerAttack(binary_search_steps=SEARCHES, steps=RUNS, stepsize=0.02)
    for name, norm, one, radius in (
        ("fgsm", "linf", attacks.LinfFastGradientAttack(random_start=False), eps),
        ("pgd", "linf", pgd, eps),
        ("deepfool", "l2", attacks.L2DeepFoolAttack(), None),
        ("deepfool", "linf", attacks.LinfDeepFoolAttack(), None),
        ("carlini-wagner", "l2", price, None),
    ):
        # In [1] are the points as the attack left them, cut to the epsilon where there is one.
        yield name, norm, partial(_found, one, asked, x, y, radius)


def _found(attack: Any, asked: Any, x: Any, y: Any, radius: float | None) -> Any:
    return attack(asked, x, y, epsilons=radius)[1]


def cleverhans(
    model: Any, x: Any, y: Any, eps: float
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
    from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    box = {"clip_min": 0.0, "clip_max": 1.0, "y": y}
    runs = {"binary_search_steps": SEARCHES, "max_iterations": RUNS, "lr": 0.02}
    step = eps * 2.5 / STEPS
    yield "fgsm", "linf", lambda: fast_gradient_method(model, x, eps, np.inf, **box)
    yield (
        "pgd",
        "linf",
        lambda: projected_gradient_descent(
            model, x, eps, step, STEPS, np.inf, sanity_checks=False, **box
        ),
    )
    yield "carlini-wagner", "l2", lambda: carlini_wagner_l2(model, x, 10, **(box | runs))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    given = np.load(folder / "samples.npz")
    model = network(given["x"].shape[-1])
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval().requires_grad_(False)
    x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
    warm_up()
    for library in (foolbox, cleverhans):
        torch.manual_seed(0)
        try:
            attacks = list(library(model, x, y, float(given["eps"])))
        except ImportError:
            print(json.dumps({"library": library.__name__, "skipped": "not installed"}))
            continue
        for name, norm, run in attacks:
            start = time.process_time()
            found = run().detach()
            taken = time.process_time() - start
            delta = (found - x).flatten(1).numpy()
            far = np.abs(delta).max(axis=1) if norm == "linf" else np.linalg.norm(delta, axis=1)
            with torch.no_grad():
                wrong = (model(found.clamp(0, 1)).argmax(1) != y).numpy()
                far[(model(x).argmax(1) != y).numpy()] = 0
            told = [
                float(one) if ok or one == 0 else None for one, ok in zip(far, wrong, strict=True)
            ]
            line = {"library": library.__name__, "name": name, "norm": norm}
            print(json.dumps(line | {"distance": told, "cpu_s": taken}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
