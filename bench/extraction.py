"""Copies of a digits model by the queries they cost, beside ART's extraction attacks.

`python -m bench.extraction` prints the curves: a linear model's by equations, with scores that are
whole, rounded and withheld; a network's from pools of digits, of pictures of no class and of
noise, and by augmentation; and the rows of Tramèr et al.'s tables that fit here, with what
differs. Every agreement is on rows that no attack was given, with Wilson's interval over the rows
of all seeds.

ART works in an environment of its own on the same weights, the same pools, a copy of the same
widths and as many batches; the CPU seconds are those of asking and training alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread on both sides, so that CPU seconds compare.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ.update(THREADS)

import numpy as np  # noqa: E402

from bench.environment import ROOT, python_of  # noqa: E402
from keepstone.contract.validate import Array  # noqa: E402
from keepstone.lab.attacks.extraction.copycat import Copycat  # noqa: E402
from keepstone.lab.attacks.extraction.equation_solving import EquationSolving  # noqa: E402
from keepstone.lab.attacks.extraction.fidelity import Fidelity, HeldOut, measure  # noqa: E402
from keepstone.lab.attacks.extraction.jacobian import JacobianAugmentation  # noqa: E402
from keepstone.lab.attacks.extraction.knockoff import Knockoff, Policy  # noqa: E402
from keepstone.lab.attacks.extraction.noise_pool import Noise, NoisePool  # noqa: E402
from keepstone.lab.attacks.extraction.port import ExtractionAttack  # noqa: E402
from keepstone.lab.attacks.extraction.run import Extraction, extract  # noqa: E402
from keepstone.lab.attacks.extraction.surrogate import Training  # noqa: E402
from keepstone.lab.defences.output_hardening import (  # noqa: E402
    Hardened,
    LabelsOnly,
    RoundedScores,
)
from keepstone.lab.domain import Domain  # noqa: E402
from keepstone.lab.metrics.wilson import Share, share  # noqa: E402
from keepstone.lab.targets.port import Target  # noqa: E402
from keepstone.lab.targets.python import PythonTarget  # noqa: E402

PEER = "adversarial-robustness-toolbox"
DOMAIN = Domain.of((64,), 0.0, 16.0, "float64")
TRAIN, POOL = 700, 1200
UNIT = 65
QUERIES = (100, 250, 500)
SEEDS = range(5)
TRAINING = Training()
# The network that is to be copied to its weights: its hidden width, and how many weights it has.
SMALL = 8
UNKNOWNS = 65 * SMALL + (SMALL + 1) * 10
Model = Any


def digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.data))
    return found.data[order], found.target[order].astype(np.int64)


def softmax_model(x: Array, y: Array) -> Model:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=3000).fit(x[:TRAIN], y[:TRAIN])


def network_model(x: Array, y: Array, hidden: int) -> Model:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((hidden,), random_state=0, max_iter=600).fit(x[:TRAIN], y[:TRAIN])


def joined(pool: Array, count: int, seed: int) -> Array:
    """The left half of one digit beside the right half of another, turned upside down: pictures
    of no class."""
    rng = np.random.default_rng(seed)
    left, right = (pool[rng.integers(0, len(pool), count)].reshape(-1, 8, 8) for _ in range(2))
    both = np.concatenate([left[:, :, :4], right[:, :, 4:]], axis=2)
    return both[:, ::-1].reshape(count, 64).copy()


@dataclass(frozen=True, slots=True)
class Curve:
    """Agreement at each number of queries over all seeds, and the CPU seconds of one run."""

    points: dict[int, Share]
    seconds: float


def pooled(runs: Sequence[Extraction], seconds: Sequence[float]) -> Curve:
    hits: dict[int, list[Share]] = {}
    for run in runs:
        for point in run.curve:
            assert point.agreement is not None, point.problems
            hits.setdefault(point.queries, []).append(point.agreement)
    points = {
        queries: share(sum(one.hits for one in found), sum(one.n for one in found))
        for queries, found in hits.items()
    }
    return Curve(points, statistics.median(seconds))


def run(
    target: Target,
    attack: Callable[[int], ExtractionAttack],
    held_out: HeldOut,
    budgets: Sequence[int],
    seeds: Sequence[int] = SEEDS,
) -> Curve:
    runs, seconds = [], []
    for seed in seeds:
        begin = time.process_time()
        runs.append(extract(target, attack(seed), held_out, budgets, seed))
        seconds.append(time.process_time() - begin)
    return pooled(runs, seconds)


def one_copy(
    target: Target, attack: ExtractionAttack, held_out: HeldOut, queries: int, seed: int
) -> tuple[Share, float]:
    """The agreement of one copy, and the CPU seconds of asking and training."""
    begin = time.process_time()
    found = extract(target, attack, held_out, [queries], seed)
    spent = time.process_time() - begin
    assert found.final.agreement is not None, found.final.problems
    return found.final.agreement, spent


# The peer


class Weights:
    """The digits network as both sides run it, from its weights alone."""

    def __init__(self, model: Model) -> None:
        self.layers = list(zip(model.coefs_, model.intercepts_, strict=True))
        self.classes_ = np.arange(10)

    def decision_function(self, rows: Array) -> Array:
        for at, (weights, bias) in enumerate(self.layers):
            rows = rows @ weights + bias
            if at < len(self.layers) - 1:
                rows = np.maximum(rows, 0)
        return rows

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.decision_function(rows).argmax(axis=1))


def peer(folder: Path, model: Weights, small: Weights, x: Array, y: Array) -> dict[str, Any]:
    """ART's attacks on the same weights: for each, the copies' hits, queries and seconds."""
    task = folder / "task.npz"
    parts = {
        f"{name}{at}{kind}": value
        for name, one in (("w", model), ("s", small))
        for at, layer in enumerate(one.layers)
        for kind, value in zip("wb", layer, strict=True)
    }
    np.savez(
        task,
        pool=x[TRAIN:POOL],
        kinds=y[TRAIN:POOL],
        held=x[POOL:],
        queries=np.array(QUERIES),
        seeds=np.array(SEEDS),
        hidden=np.array(TRAINING.hidden),
        steps=np.array(TRAINING.steps),
        batch=np.array(TRAINING.batch),
        rate=np.array(TRAINING.rate),
        **parts,
    )
    done = subprocess.run(
        [python_of(PEER), ROOT / "bench" / "extraction_peer.py", task],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | THREADS,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(model: Weights, small: Weights, x: Array, y: Array) -> dict[str, dict[str, list[Any]]]:
    """The same attacks of ours, in the same form as the peer's."""
    target = PythonTarget(model, DOMAIN)
    held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
    pool, kinds = x[TRAIN:POOL], y[TRAIN:POOL]
    # Both sides ask the same rows where the policy leaves that to chance.
    attacks: dict[str, Callable[[Array], ExtractionAttack]] = {
        "knockoff.random": Knockoff,
        "knockoff.adaptive": lambda _: Knockoff(pool, Policy.ADAPTIVE, kinds),
        "copycat": Copycat,
    }
    found = {}
    for name, attack in attacks.items():
        for queries in QUERIES:
            copies = [
                one_copy(target, attack(pool[_chosen(seed, queries)]), held_out, queries, seed)
                for seed in SEEDS
            ]
            found[f"{name}.{queries}"] = _listed(copies, held_out, queries)
    target = PythonTarget(small, DOMAIN)
    held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
    # Four times as wide: a copy of the very width often ends in a bad place.
    solving, queries = EquationSolving((4 * SMALL,), steps=1000), 5 * UNKNOWNS
    copies = [one_copy(target, solving, held_out, queries, seed) for seed in SEEDS]
    found["equivalent"] = _listed(copies, held_out, queries)
    return found


def _chosen(seed: int, queries: int) -> Array:
    return np.random.default_rng(seed).permutation(POOL - TRAIN)[:queries]


def _listed(
    copies: Sequence[tuple[Share, float]], held_out: HeldOut, queries: int
) -> dict[str, list[Any]]:
    return {
        "hits": [one.hits for one, _ in copies],
        "n": [len(held_out.rows)] * len(copies),
        "queries": [queries] * len(copies),
        "cpu": [seconds for _, seconds in copies],
    }


def _agreement(found: dict[str, list[Any]]) -> Share:
    return share(sum(found["hits"]), sum(found["n"]))


@dataclass(frozen=True, slots=True)
class Beside:
    """One attack that both have. `theirs` is None where the peer's failed; `said` says how."""

    name: str
    ours: Share
    seconds: float
    theirs: Share | None
    their_seconds: float
    said: str


def beside(x: Array, y: Array) -> list[Beside]:
    model, small = Weights(network_model(x, y, 64)), Weights(network_model(x, y, SMALL))
    with tempfile.TemporaryDirectory() as folder:
        theirs = peer(Path(folder), model, small, x, y)
    lines = []
    for name, found in ours(model, small, x, y).items():
        other = theirs[name]
        failed = str(other.get("failed", ""))
        lines.append(
            Beside(
                name,
                _agreement(found),
                statistics.median(found["cpu"]),
                None if failed else _agreement(other),
                statistics.median(other["cpu"]),
                f"ours {max(found['queries']):,} queries, peer {max(other['queries']):,} {failed}",
            )
        )
    return lines


# The published table


@dataclass(frozen=True, slots=True)
class Published:
    """A row of Tramèr et al. 2016: table 4 (Adult by race, 5 classes), table 1 (digits)."""

    what: str
    queries: str
    test: float
    uniform: float | None


PUBLISHED = (
    Published("Amazon, logistic regression, Digits (table 1)", "650", 100.0, None),
    Published("softmax, 530 unknowns", "265 (0.5)", 99.96, 99.75),
    Published("softmax, 530 unknowns", "530 (1)", 100.0, 100.0),
    Published("network, 2,225 unknowns", "2,225 (1)", 98.68, 97.23),
    Published("network, 2,225 unknowns", "4,450 (2)", 99.89, 99.82),
)


def reproduced(x: Array, y: Array) -> list[tuple[str, str, Fidelity, Fidelity]]:
    """The same attack on digits: agreement on test rows, and on rows drawn evenly."""
    found = []
    for what, model, unknowns, attack, parts in (
        ("softmax, 650 unknowns", softmax_model(x, y), 650, EquationSolving(), (0.1, 0.5, 1)),
        (
            "network, 1,510 unknowns",
            network_model(x, y, 20),
            1510,
            EquationSolving((20,), steps=3000),
            (0.5, 1, 2),
        ),
    ):
        target = PythonTarget(model, DOMAIN)
        held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
        drawn = HeldOut.drawn(target, 5000, np.random.default_rng(9))
        for part in parts:
            queries = round(part * unknowns)
            result = extract(target, attack, held_out, [queries], 0)
            uniform = measure(result.stolen, drawn, result.seen)
            found.append((what, f"{queries:,} ({part:g})", result.final, uniform))
    return found


# The measurement


def linear_curves(x: Array, y: Array) -> dict[str, Curve]:
    """The digits' softmax regression, d = 64: what it serves decides how fast it is copied."""
    target = PythonTarget(softmax_model(x, y), DOMAIN)
    held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
    budgets = [part * UNIT for part in (1, 2, 3, 5, 10, 20, 50)]
    served: dict[str, Target] = {"scores": target}
    served |= {
        f"scores, {digits} digits": Hardened(target, RoundedScores(digits)) for digits in (3, 2, 1)
    }
    served["labels alone"] = Hardened(target, LabelsOnly())
    return {
        f"equations, {name}": run(one, lambda _: EquationSolving(), held_out, budgets, range(3))
        for name, one in served.items()
    }


def network_curves(x: Array, y: Array) -> dict[str, Curve]:
    """The digits' network: pools of digits, of joined halves and of noise, and augmentation."""
    target = PythonTarget(Weights(network_model(x, y, 64)), DOMAIN)
    held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
    digits, kinds, pictures = x[TRAIN:POOL], y[TRAIN:POOL], joined(x[TRAIN:POOL], 5000, 1)
    pools: dict[str, Callable[[int], ExtractionAttack]] = {
        "knockoff, random, digits": lambda _: Knockoff(digits),
        "knockoff, adaptive, digits": lambda _: Knockoff(digits, Policy.ADAPTIVE, kinds),
        "copycat, digits": lambda _: Copycat(digits),
        "knockoff, random, joined halves": lambda _: Knockoff(pictures),
        "copycat, joined halves": lambda _: Copycat(pictures),
        "augmentation, 100 digits": lambda seed: JacobianAugmentation(
            digits[np.random.default_rng(seed).permutation(len(digits))[:100]]
        ),
    }
    for noise in Noise:
        pools[f"noise, {noise}"] = lambda _, noise=noise: NoisePool(noise, (8, 8))  # type: ignore[misc]
    budgets = [100, 250, 500, 1000, 2000, 5000]
    return {name: run(target, attack, held_out, budgets) for name, attack in pools.items()}


def rows() -> list[dict[str, Any]]:
    """Agreement and CPU seconds beside ART's, and a linear model's copy at d + 1 queries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = digits()
        target = PythonTarget(softmax_model(x, y), DOMAIN)
        held_out = HeldOut.ask(target, x[POOL:], y[POOL:])
        exact, _ = one_copy(target, EquationSolving(), held_out, UNIT, 0)
        lines = beside(x, y)
    found: list[dict[str, Any]] = [
        {
            "name": f"extraction.linear.{UNIT}_queries",
            "ours": 100 * exact.value,
            "peer": "Tramèr et al., 650 queries",
            "peer_value": 100.0,
            "unit": "% agreement",
            "ratio": exact.value,
            "target": "100 %",
            "met": exact.value == 1,
        }
    ]
    for line in lines:
        theirs = line.theirs
        found.append(
            {
                "name": f"extraction.{line.name}",
                "ours": 100 * line.ours.value,
                "peer": "ART",
                "peer_value": None if theirs is None else 100 * theirs.value,
                "unit": "% agreement",
                "ratio": None if theirs is None else line.ours.value / max(theirs.value, 1e-9),
                "target": "no less, by the intervals",
                "met": theirs is None or line.ours.high >= theirs.low,
            }
        )
        if theirs is None:
            continue
        ratio = line.their_seconds / max(line.seconds, 1e-9)
        found.append(
            {
                "name": f"extraction.{line.name}.cpu",
                "ours": line.seconds,
                "peer": "ART",
                "peer_value": line.their_seconds,
                "unit": "s",
                "ratio": ratio,
                "target": ">= 1 x",
                "met": ratio >= 1,
            }
        )
    return found


def _shown(one: Share | None) -> str:
    return "failed" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def main() -> None:
    warnings.simplefilter("ignore")
    x, y = digits()
    print("agreement on held-out rows, by queries")
    for curves in (linear_curves, network_curves):
        for name, curve in curves(x, y).items():
            print(f"\n{name} ({curve.seconds:.2f} CPU s)")
            for queries, found in curve.points.items():
                print(f"  {queries:>6,} queries, {queries / UNIT:5.1f} units: {_shown(found)}")
    print("\nTramèr et al. 2016 beside the same attack here; % agreement on test rows, and on rows")
    print(
        "drawn evenly. What differs: digits (64 numbers, 10 classes) in place of Adult (105 and 5);"
    )
    print("20 rectified hidden units, fitted to the scores, in place of 20 smooth ones, fitted to")
    print("the probabilities; the model is in our process, and no service's")
    for row in PUBLISHED:
        drawn = "-" if row.uniform is None else f"{row.uniform:.2f}"
        print(f"  paper  {row.what:<48} {row.queries:>12} {row.test:7.2f} {drawn:>7}")
    for what, count, test, uniform in reproduced(x, y):
        assert test.agreement is not None
        assert uniform.agreement is not None
        figures = f"{100 * test.agreement.value:7.2f} {100 * uniform.agreement.value:7.2f}"
        print(f"  here   {what:<48} {count:>12} {figures}")
    print("\nbeside ART, 5 seeds")
    for line in beside(x, y):
        print(
            f"  {line.name:<24} ours {_shown(line.ours)} {line.seconds:.2f} s   "
            f"ART {_shown(line.theirs)} {line.their_seconds:.2f} s   {line.said}"
        )


if __name__ == "__main__":
    main()
