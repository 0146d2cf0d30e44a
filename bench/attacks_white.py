"""Robust accuracy that the white-box search finds, and what it costs, beside AutoAttack's standard.

`python -m bench.attacks_white [SEED...]` prints a line for each data set, model and seed. A seed
trains the models, splits the data and draws for both attackers; both see the same 500 samples,
the same epsilon (L-inf) and the same module in one process and one thread, ours first or last in
turn. AutoAttack is on no package index: AUTOATTACK_SOURCE names a checkout of
github.com/fra31/auto-attack. Without it ours is measured alone, and that is said.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.attacks_models import DATA, EPS, Data, train, warm_up
from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import LINF
from keepstone.lab.targets.torch import TorchTarget

SEEDS = range(5)
SOURCE = "AUTOATTACK_SOURCE"
# No sample is asked so often; what was asked is counted and printed.
BUDGET = 10_000


@dataclass(frozen=True, slots=True)
class Pair:
    """One model and seed: how many of `n` samples stand, and the CPU seconds that it took.

    `missed` counts the samples that AutoAttack broke and ours did not.
    """

    data: str
    model: str
    seed: int
    n: int
    ours: int
    ours_s: float
    queries: float
    peer: int | None = None
    peer_s: float | None = None
    missed: int | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.peer_s is None else self.ours_s / self.peer_s

    def line(self) -> str:
        head = f"{self.data:<7} {self.model:<8} {self.seed:>4} {self.ours / self.n:8.3f}"
        cost = f"{self.ours_s:8.2f} {self.queries:8.0f}"
        if self.peer is None or self.peer_s is None:
            return f"{head} {'-':>8} {cost} {'-':>8} {'-':>7} {'-':>6}"
        peer = f"{self.peer_s:8.2f} {self.peer_s / self.ours_s:6.1f}x"
        return f"{head} {self.peer / self.n:8.3f} {cost} {peer} {self.missed:>6}"


HEAD = (
    f"{'data':<7} {'model':<8} {'seed':>4} {'ours':>8} {'AutoAtt.':>8} {'CPU s':>8} {'queries':>8}"
    f" {'its CPU':>8} {'faster':>7} {'missed':>6}"
)


def ours(model: Any, data: Data, eps: float, seed: int) -> tuple[Array, float, float]:
    """Which samples stand, the CPU seconds and the mean queries."""
    target = TorchTarget(model, Domain.of(data.x.shape[1:], 0, 1))
    start = time.process_time()
    meter = Meter(target, data.x.reshape(len(data.x), -1), data.y, Goal(LINF, eps, BUDGET))
    run_attack(WhiteBox(), meter, np.random.default_rng(seed))
    taken = time.process_time() - start
    tally = meter.tally()
    return ~tally.within(eps), taken, float(tally.queries.mean())


def autoattack(peer: Any, model: Any, data: Data, eps: float, seed: int) -> tuple[Array, float]:
    """The same of AutoAttack, judged anew by the model, all samples in one batch."""
    import torch

    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        start = time.process_time()
        attack = peer.AutoAttack(model, norm="Linf", eps=eps, seed=seed, device="cpu")
        found = attack.run_standard_evaluation(x, y, bs=len(x))
        taken = time.process_time() - start
    with torch.no_grad():
        return (model(found).argmax(1) == y).numpy(), taken


def source() -> Any:
    """AutoAttack's package from its checkout, or None."""
    folder = os.environ.get(SOURCE)
    if not folder:
        return None
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("autoattack")
    finally:
        sys.path.remove(folder)


def pairs(seeds: range | list[int] = SEEDS) -> Iterator[Pair]:
    import torch

    torch.set_num_threads(1)
    peer = source()
    warm_up()
    for turn, (seed, name, kind) in enumerate(
        (seed, name, kind) for seed in seeds for name in DATA for kind in EPS
    ):
        data = DATA[name](seed)
        model = train(kind, data, seed).requires_grad_(False)
        eps = EPS[kind]
        before = autoattack(peer, model, data, eps, seed) if peer and turn % 2 else None
        stands, taken, queries = ours(model, data, eps, seed)
        found = Pair(name, kind, seed, len(data.y), int(stands.sum()), taken, queries)
        if peer:
            theirs, cost = before or autoattack(peer, model, data, eps, seed)
            found = Pair(
                name, kind, seed, len(data.y), int(stands.sum()), taken, queries,
                int(theirs.sum()), cost, int((stands & ~theirs).sum()),
            )  # fmt: skip
        yield found


def rows() -> list[dict[str, Any]]:
    found = list(pairs())
    told = [one for one in found if one.peer is not None]
    accuracy = sum(one.ours / one.n for one in found) / len(found)
    cpu = sum(one.ours_s for one in found)
    if not told:
        name = f"AutoAttack (skipped: {SOURCE} is not set)"
        return [
            _row("attacks.white.accuracy", accuracy, name, None, "robust", "<= peer", False),
            _row("attacks.white.cpu", cpu, name, None, "CPU s", "<= 1/5", False),
        ]
    peer = sum((one.peer or 0) / one.n for one in told) / len(told)
    every = all(one.peer is not None and one.ours <= one.peer for one in told)
    cost = sum(one.peer_s or 0 for one in told)
    slowest = max(one.ratio or 0 for one in told)
    name = "AutoAttack"
    return [
        _row("attacks.white.accuracy", accuracy, name, peer, "robust", "<= on every pair", every),
        _row("attacks.white.cpu", cpu, name, cost, "CPU s", "<= 1/5 each", slowest <= 0.2),
    ]


def _row(
    name: str, ours: float, peer: str, value: float | None, unit: str, target: str, met: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_value": value,
        "unit": unit,
        "ratio": None if value is None else ours / value,
        "target": target,
        "met": met,
    }


def main() -> None:
    if not os.environ.get(SOURCE):
        print(f"AutoAttack is skipped: {SOURCE} names no checkout of it.", file=sys.stderr)
    print(HEAD, flush=True)
    found = []
    for one in pairs([int(given) for given in sys.argv[1:]] or SEEDS):
        found.append(one)
        print(one.line(), flush=True)
    told = [one for one in found if one.peer is not None]
    if told:
        worse = sum(one.ours > (one.peer or 0) for one in told)
        slowest = max(one.ratio or 0 for one in told)
        total = sum(one.peer_s or 0 for one in told) / sum(one.ours_s for one in told)
        print(f"worse on {worse} of {len(told)} pairs; CPU ratio {1 / total:.3f} in all, at most "
              f"{slowest:.3f} on one pair")  # fmt: skip


if __name__ == "__main__":
    main()
