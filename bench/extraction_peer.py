"""ART's extraction attacks, run by the peer's interpreter: prints one JSON object.

For each attack the hits on the held-out rows, the queries that reached the target and the CPU
seconds of `extract`, one of each for every seed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from art.attacks.extraction import (  # type: ignore[import-not-found,unused-ignore]
    CopycatCNN,
    FunctionallyEquivalentExtraction,
    KnockoffNets,
)
from art.estimators.classification import (  # type: ignore[import-not-found,unused-ignore]
    BlackBoxClassifierNeuralNetwork,
    PyTorchClassifier,
)

warnings.simplefilter("ignore")
torch.set_num_threads(1)
# The functionally equivalent attack asks at most so often before it is stopped.
MOST = 1_000_000


class Served:
    """The network behind both sides, with a count of the rows it was asked."""

    def __init__(self, task: Any, name: str) -> None:
        self.layers = [(task[f"{name}{at}w"], task[f"{name}{at}b"]) for at in range(2)]
        self.asked = 0

    def logits(self, rows: Any) -> Any:
        (first, bias), (second, last) = self.layers
        return np.maximum(rows @ first + bias, 0) @ second + last

    def probabilities(self, rows: Any) -> Any:
        self._count(rows)
        found = self.logits(rows)
        found = np.exp(found - found.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    def raw(self, rows: Any) -> Any:
        self._count(rows)
        return self.logits(rows)

    def _count(self, rows: Any) -> None:
        self.asked += len(rows)
        if self.asked > MOST:
            raise RuntimeError(f"it asked more than {MOST:,} rows")


def copy_of(task: Any) -> PyTorchClassifier:
    hidden = int(task["hidden"][0])
    module = torch.nn.Sequential(
        torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10)
    )
    pool = task["pool"]
    return PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        input_shape=(64,),
        nb_classes=10,
        optimizer=torch.optim.Adam(module.parameters(), lr=float(task["rate"])),
        preprocessing=(float(pool.mean()), float(pool.std())),
        device_type="cpu",
    )


def measured(task: Any, steal: Callable[[Served, Any, Any, int], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"hits": [], "n": [], "queries": [], "cpu": []}
    for seed in task["seeds"].tolist():
        np.random.seed(seed)
        torch.manual_seed(seed)
        served, copy = Served(task, "w"), copy_of(task)
        original = BlackBoxClassifierNeuralNetwork(
            served.probabilities, input_shape=(64,), nb_classes=10
        )
        begin = time.process_time()
        stolen = steal(served, original, copy, seed)
        found["cpu"].append(time.process_time() - begin)
        found["queries"].append(served.asked)
        told = stolen.predict(task["held"].astype(np.float32)).argmax(axis=1)
        truth = served.logits(task["held"]).argmax(axis=1)
        found["hits"].append(int((told == truth).sum()))
        found["n"].append(len(truth))
    return found


def attacks(task: Any) -> dict[str, Any]:
    pool, kinds = task["pool"].astype(np.float32), np.eye(10)[task["kinds"]]
    batch = int(task["batch"])
    found = {}

    def ours(seed: int, count: int) -> Any:
        return np.random.default_rng(seed).permutation(len(pool))[:count]

    for queries in task["queries"].tolist():
        # As many batches as ours.
        epochs = max(round(int(task["steps"]) * batch / queries), 30)

        def knockoff(
            strategy: str, count: int = queries, rounds: int = epochs
        ) -> Callable[[Served, Any, Any, int], Any]:
            def steal(_: Served, original: Any, copy: Any, seed: int) -> Any:
                attack = KnockoffNets(
                    original,
                    batch_size_fit=batch,
                    batch_size_query=batch,
                    nb_epochs=rounds,
                    nb_stolen=count,
                    sampling_strategy=strategy,
                    reward="all",
                    verbose=False,
                    use_probability=True,
                )
                chosen = slice(None) if strategy == "adaptive" else ours(seed, count)
                return attack.extract(pool[chosen], kinds[chosen], thieved_classifier=copy)

            return steal

        def copycat(
            _: Served,
            original: Any,
            copy: Any,
            seed: int,
            count: int = queries,
            rounds: int = epochs,
        ) -> Any:
            attack = CopycatCNN(
                original,
                batch_size_fit=batch,
                batch_size_query=batch,
                nb_epochs=rounds,
                nb_stolen=count,
                use_probability=False,
            )
            return attack.extract(pool[ours(seed, count)], thieved_classifier=copy)

        found[f"knockoff.random.{queries}"] = measured(task, knockoff("random"))
        found[f"knockoff.adaptive.{queries}"] = measured(task, knockoff("adaptive"))
        found[f"copycat.{queries}"] = measured(task, copycat)
    return found


def equivalent(task: Any) -> dict[str, Any]:
    served = Served(task, "s")
    original = BlackBoxClassifierNeuralNetwork(served.raw, input_shape=(64,), nb_classes=10)
    np.random.seed(0)
    begin = time.process_time()
    try:
        hidden = served.layers[0][0].shape[1]
        attack = FunctionallyEquivalentExtraction(original, num_neurons=hidden)
        stolen = attack.extract(task["pool"][:100])
        told = stolen.predict(task["held"]).argmax(axis=1)
    except Exception as error:
        return {
            "failed": f"{type(error).__name__}: {error}"[:120],
            "queries": [served.asked],
            "cpu": [time.process_time() - begin],
        }
    seconds = time.process_time() - begin
    truth = served.logits(task["held"]).argmax(axis=1)
    return {
        "hits": [int((told == truth).sum())],
        "n": [len(truth)],
        "queries": [served.asked],
        "cpu": [seconds],
    }


def main() -> None:
    with np.load(sys.argv[1]) as task:
        loaded = dict(task)
    found = {"equivalent": equivalent(loaded)} | attacks(loaded)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
