"""Which models of the zoo are called masked, beside what PGD-40 alone says of their robustness.

`python -m bench.masking [SEEDS]` prints the whole table; SEEDS is 5. `broken` is the robust
accuracy after everything that was tried: PGD, a search without gradients, and PGD on a stand-in
that is differentiable (the defence without what masks it), tried on the model itself.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench import zoo as animals
from keepstone.lab.losses import cross_entropy, margin
from keepstone.lab.masking.examine import Examination, Verdict, examine
from keepstone.lab.masking.measures.descent import descend
from keepstone.lab.masking.measures.search import search
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import LINF

SEEDS = 5
SAMPLES = 120
_STEPS = 40
_SEARCHES = 500


@dataclass(frozen=True)
class Row:
    """One model of one seed. Accuracies are shares of all samples; `cpu_s` is the examination's."""

    name: str
    masked: bool
    seed: int
    clean: float
    pgd: float
    broken: float
    found: Examination
    cpu_s: float

    @property
    def right(self) -> bool:
        wanted = Verdict.MASKED if self.masked else Verdict.HONEST
        return self.found.verdict is wanted


def measure(seeds: int = SEEDS) -> Iterator[Row]:
    torch.set_num_threads(1)
    for seed in range(seeds):
        zoo = animals.Zoo(seed)
        for name in (*animals.HONEST, *animals.MASKED):
            yield one(zoo, name)


def one(zoo: animals.Zoo, name: str, *, truth: bool = True) -> Row:
    """Examine one model; `truth` False leaves out the long attacks beside it."""
    target, x, y = zoo.target(name), zoo.x[:SAMPLES], zoo.y[:SAMPLES]
    start = time.process_time()
    found = examine(target, x, y, LINF, animals.EPS, seed=zoo.seed)
    spent = time.process_time() - start
    clean = target.predict(x).labels == y
    stands = clean.copy()
    pgd = float("nan")
    if truth:
        rng = np.random.default_rng(zoo.seed)
        meter = Meter(target, x, y, Goal(LINF, animals.EPS, _STEPS))
        descend(meter, rng, cross_entropy, _STEPS)
        stands &= ~meter.broken
        pgd = float(stands.mean())
        stands &= ~transferred(zoo, name, rng)
        left = np.flatnonzero(stands)
        if left.size:
            meter = Meter(target, x[left], y[left], Goal(LINF, animals.EPS, _SEARCHES))
            search(meter, rng, _SEARCHES)
            stands[left] = ~meter.broken
    return Row(
        name,
        name in animals.MASKED,
        zoo.seed,
        float(clean.mean()),
        pgd,
        float(stands.mean()),
        found,
        spent,
    )


def transferred(zoo: animals.Zoo, name: str, rng: np.random.Generator) -> Any:
    """Which samples the stand-in's adversarial examples break."""
    x, y = zoo.x[:SAMPLES], zoo.y[:SAMPLES]
    meter = Meter(zoo.target(name), x, y, Goal(LINF, animals.EPS, 1))
    twin = zoo.stand_in(name)
    if twin is not None:
        away = Meter(twin, x, y, Goal(LINF, animals.EPS, _STEPS))
        descend(away, rng, margin, _STEPS)
        meter.ask(np.arange(len(x)), away.best)
    return meter.broken


def rows() -> list[dict[str, Any]]:
    """How many of each kind are called what they are; the peer is PGD-40 taken at its word."""
    table = list(measure())
    masked, honest = ([row for row in table if row.masked is kind] for kind in (True, False))
    overstated = [row for row in masked if row.pgd - row.broken > 0.02]

    def share(hits: int, of: int) -> float:
        return 100 * hits / max(of, 1)

    found = share(sum(row.right for row in masked), len(masked))
    alarms = share(sum(row.found.verdict is Verdict.MASKED for row in honest), len(honest))
    # PGD alone calls nothing masked; what it overstates it reports as robust.
    missed = share(sum(not row.right for row in overstated), len(overstated))
    measured: tuple[tuple[str, float, float, str, Callable[[float], bool]], ...] = (
        ("masking.masked_found", found, 0.0, "100 %", lambda value: value == 100),
        ("masking.false_alarms", alarms, 0.0, "0 %", lambda value: value == 0),
        ("masking.overstated_unsaid", missed, 100.0, "0 %", lambda value: value == 0),
    )
    return [
        {
            "name": name,
            "ours": ours,
            "peer": "PGD-40 alone",
            "peer_value": peer,
            "unit": "%",
            "ratio": ours / peer if peer else None,
            "target": target,
            "met": bool(met(ours)),
        }
        for name, ours, peer, target, met in measured
    ]


def main(arguments: list[str]) -> None:
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in measure(int(arguments[0]) if arguments else SEEDS):
        by_name[row.name].append(row)
        print(f"seed {row.seed}: {row.name}", file=sys.stderr)
    print(
        f"{'model':22} {'kind':7} {'called right':>12} {'clean':>6} {'PGD-40':>7} {'broken':>7}"
        f" {'CPU s':>6} {'queries':>8}  signs (in how many of the seeds)"
    )
    for name, found in by_name.items():
        signs: dict[str, int] = defaultdict(int)
        for row in found:
            for sign in row.found.seen:
                signs[sign] += 1
        mean = {
            field: float(np.mean([getattr(row, field) for row in found]))
            for field in ("clean", "pgd", "broken", "cpu_s")
        }
        print(
            f"{name:22} {'masked' if found[0].masked else 'honest':7}"
            f" {sum(row.right for row in found):>7} of {len(found)}"
            f" {mean['clean']:6.2f} {mean['pgd']:7.2f} {mean['broken']:7.2f} {mean['cpu_s']:6.2f}"
            f" {max(row.found.queries for row in found):4}/{found[0].found.cost}"
            f"  {', '.join(f'{sign} {count}' for sign, count in signs.items())}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
