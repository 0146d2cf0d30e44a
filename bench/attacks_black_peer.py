"""ART's and Foolbox's black-box attacks; runs as a module in an environment of their own.

Reads one JSON line a run from stdin: `{"model", "library", "attack", "count"}`; answers each with a
line: which of how many rows it broke, queries and CPU seconds, or why there are none. Queries are
the rows that a model's wrapper saw, counted here and not by the attack. An attack that gives back
more than epsilon is helped: what it gave is also tried cut to epsilon, which costs it no query.

An attack gets its rows until `LIMIT` CPU seconds are spent, and at least `LEAST` of them; what
takes more than `MOST` is cut off, and did not run. How many rows it had is part of the answer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench import attacks_black_art, attacks_black_foolbox
from bench.attacks_black_models import EPS, attacked, digest, models

LIMIT, LEAST, MOST = 15.0, 5, 120.0
_CLASSES = 10
_BATCH = 100


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


def measure(model: Any, library: str, name: str, count: int) -> dict[str, Any]:
    x, y = attacked(count)
    counted = Counted(model)
    clean = np.flatnonzero(model.predict(x) == y)
    if library == "art":
        attack = attacks_black_art.ATTACKS[name](counted, EPS)
        size = 1 if name in attacks_black_art.SINGLE else _BATCH
    else:
        attack, size = attacks_black_foolbox.made(name, counted, EPS), _BATCH
    np.random.seed(0)  # what these libraries draw from
    each: list[float] = []
    given: list[Any] = []
    started = time.process_time()
    for at in range(0, len(clean), size):
        spent = time.process_time() - started
        if spent > LIMIT and at >= LEAST:
            break
        rows = clean[at : at + size]
        before = counted.rows
        given.append(attack(x[rows], y[rows]))
        each.append((counted.rows - before) / len(rows))
    seconds = time.process_time() - started
    found = np.concatenate(given)
    done = clean[: len(found)]
    # All rows up to the last that was attacked; those that were wrong before count as broken.
    total = count if len(done) == len(clean) else int(done[-1]) + 1
    x_right, y_right = x[done], y[done]
    found = np.where(np.isfinite(found), found, x_right).astype(np.float32)
    cut = np.clip(found, x_right - np.float32(EPS), x_right + np.float32(EPS)).clip(0, 1)
    near = np.abs(found - x_right).max(axis=1) <= EPS + 1e-6
    broken = (near & (model.predict(found) != y_right)) | (model.predict(cut) != y_right)
    return {
        "count": total,
        "stands": done[~broken].tolist(),
        "robust": float((~broken).sum() / total),
        "queries_mean": counted.rows / len(done),
        "queries_max": max(each) if size == 1 else None,
        "cpu_s": seconds,
    }


class TooLongError(Exception):
    def __init__(self) -> None:
        super().__init__(f"{MOST:.0f} CPU s did not do for {LEAST} rows, or for one batch")


def _stop(*_: object) -> None:
    raise TooLongError


def main() -> None:
    made = models()
    print(json.dumps({name: digest(model) for name, model in made.items()}), flush=True)
    signal.signal(signal.SIGPROF, _stop)
    # GeoDA writes a file to where it runs.
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), warnings.catch_warnings():
        os.chdir(folder)
        warnings.simplefilter("ignore")
        for line in sys.stdin:
            wanted = json.loads(line)
            model = made[wanted["model"]]
            signal.setitimer(signal.ITIMER_PROF, MOST)
            try:
                said = measure(model, wanted["library"], wanted["attack"], wanted["count"])
            except Exception as error:
                said = {"failed": f"{type(error).__name__}: {error}"[:200]}
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps(wanted | said), flush=True)


if __name__ == "__main__":
    main()
