"""ART's backdoors on the same digits, at the same rate; runs in its own environment.

`python poisoning_peer.py DATA.npz RESULT.npz SEED`: poisons `x`, `y` with PoisoningAttackBackdoor
(rows of other classes, the target's label) and with PoisoningAttackCleanLabelBackdoor (rows of the
target's class, perturbed against a linear model of the same rows), and stamps the held-out rows.
Patterns are the one square of the data's `side`, and ART's own. CPU seconds are of one set, the
mean of many.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from art.attacks.poisoning import (
    PoisoningAttackBackdoor,
    PoisoningAttackCleanLabelBackdoor,
)
from art.attacks.poisoning.perturbations import add_pattern_bd
from art.estimators.classification import SklearnClassifier
from sklearn.linear_model import LogisticRegression

REPEATS = 200


def main(path: str, result: str, seed: int) -> None:
    warnings.simplefilter("ignore")
    np.random.seed(seed)
    with np.load(path) as data:
        x, y, held_out = data["x"], data["y"], data["held_out"]
        rate, side, target = float(data["rate"]), int(data["side"]), int(data["target"])

    def pictures(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(-1, 8, 8)

    def square(rows: np.ndarray) -> np.ndarray:
        stamped = rows.copy()
        pictures(stamped)[:, 8 - side :, 8 - side :] = 1
        return stamped

    def pattern(rows: np.ndarray) -> np.ndarray:
        return np.asarray(add_pattern_bd(pictures(rows)).reshape(rows.shape))

    label = np.eye(10)[target]
    count = round(rate * len(x))
    found: dict[str, np.ndarray] = {}
    for name, stamp in (("square", square), ("pattern", pattern)):
        backdoor = PoisoningAttackBackdoor(stamp)

        def dirty(backdoor: object = backdoor) -> tuple[np.ndarray, np.ndarray]:
            chosen = np.random.choice(np.flatnonzero(y != target), count, replace=False)
            rows, labels = backdoor.poison(x[chosen], label, True)  # type: ignore[attr-defined]
            changed, told = x.copy(), y.copy()
            changed[chosen], told[chosen] = rows, labels.argmax(axis=1)
            return changed, told

        dirty()
        begin = time.process_time()
        for _ in range(REPEATS):
            made = dirty()
        found[f"{name}.cpu"] = np.array((time.process_time() - begin) / REPEATS)
        found[f"{name}.x"], found[f"{name}.y"] = made
        found[f"{name}.held_out"] = stamp(held_out)
    begin = time.process_time()
    linear = LogisticRegression(max_iter=300).fit(x, y)
    proxy = SklearnClassifier(linear, clip_values=(0, 1))
    clean = PoisoningAttackCleanLabelBackdoor(
        PoisoningAttackBackdoor(square), proxy, label, pp_poison=count / int((y == target).sum())
    )
    changed, told = clean.poison(x, np.eye(10)[y])
    found["clean.cpu"] = np.array(time.process_time() - begin)
    found["clean.x"], found["clean.y"] = changed, told.argmax(axis=1)
    found["clean.held_out"] = square(held_out)
    np.savez(result, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
