"""Robust accuracy that the white-box search finds, and what it costs, beside AutoAttack's standard.

`python -m bench.attacks_white [SEED...]` prints a line for each norm, data set, model and seed. A
seed trains the models, splits the data and draws for both attackers; both see the same samples (500
with L-inf, 300 with L1, where AutoAttack is slow, and one seed), the same epsilon and the same
module in one process and one thread, ours first or last in turn. AutoAttack is on no package index:
AUTOATTACK_SOURCE names a checkout of github.com/fra31/auto-attack. Without it ours is measured
alone, and that is said.
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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.attacks_models import DATA, EPS, Data, train, warm_up
from bench.beside import Beside, Side, keep, table
from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import L1, LINF, Norm
from keepstone.lab.targets.torch import TorchTarget

SEEDS = range(5)
SHARE = 0.2
L1_SEEDS, L1_SAMPLES = range(1), 300
# Where some samples of each model stand and others do not.
L1_EPS = {
    "digits": {"pgd": 1.5, "trades": 1.5, "natural": 1.5},
    "shapes": {"pgd": 3.0, "trades": 3.0, "natural": 1.5},
}
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
    norm: str = "linf"
    eps: float = 0.0

    @property
    def ratio(self) -> float | None:
        return None if self.peer_s is None else self.ours_s / self.peer_s

    def line(self) -> str:
        head = f"{self.norm:<4} {self.data:<7} {self.model:<8} {self.seed:>4}"
        head = f"{head} {self.ours / self.n:8.3f}"
        cost = f"{self.ours_s:8.2f} {self.queries:8.0f}"
        if self.peer is None or self.peer_s is None:
            return f"{head} {'-':>8} {cost} {'-':>8} {'-':>7} {'-':>6}"
        peer = f"{self.peer_s:8.2f} {self.peer_s / self.ours_s:6.1f}x"
        return f"{head} {self.peer / self.n:8.3f} {cost} {peer} {self.missed:>6}"

    def beside(self) -> Beside:
        """For the table of all attacks. AutoAttack's queries are not counted by anyone."""
        subject = f"{self.data}, {self.model}, {self.norm} {self.eps}, seed {self.seed}"
        mine = Side("white-box", self.ours / self.n, self.queries, self.ours_s)
        if self.peer is None or self.peer_s is None or self.missed is None:
            why = f"{SOURCE} names no checkout"
            return Beside.of_failed("white box", subject, "AutoAttack standard", why)
        peer = Side("AutoAttack standard", self.peer / self.n, None, self.peer_s)
        found = self.missed + self.peer - self.ours
        return Beside(
            "white box", subject, self.n, mine, peer, missed=self.missed, found=found, cpu=SHARE
        )


HEAD = (
    f"{'norm':<4} {'data':<7} {'model':<8} {'seed':>4} {'ours':>8} {'AutoAtt.':>8} {'CPU s':>8}"
    f" {'queries':>8} {'its CPU':>8} {'faster':>7} {'missed':>6}"
)


def ours(
    model: Any, data: Data, eps: float, seed: int, norm: Norm = LINF
) -> tuple[Array, float, float]:
    """Which samples stand, the CPU seconds and the mean queries."""
    target = TorchTarget(model, Domain.of(data.x.shape[1:], 0, 1))
    start = time.process_time()
    meter = Meter(target, data.x.reshape(len(data.x), -1), data.y, Goal(norm, eps, BUDGET))
    run_attack(WhiteBox(), meter, np.random.default_rng(seed))
    taken = time.process_time() - start
    tally = meter.tally()
    return ~tally.within(eps), taken, float(tally.queries.mean())


def autoattack(
    peer: Any, model: Any, data: Data, eps: float, seed: int, norm: Norm = LINF
) -> tuple[Array, float]:
    """The same of AutoAttack, judged anew by the model, all samples in one batch."""
    import torch

    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        start = time.process_time()
        name = norm.name.capitalize()
        attack = peer.AutoAttack(model, norm=name, eps=eps, seed=seed, device="cpu")
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
    asked = [
        *((LINF, seed, name, kind) for seed in seeds for name in DATA for kind in EPS),
        *((L1, seed, name, kind) for seed in L1_SEEDS for name in DATA for kind in EPS),
    ]
    for turn, (norm, seed, name, kind) in enumerate(asked):
        data = DATA[name](seed)
        model = train(kind, data, seed).requires_grad_(False)
        eps = EPS[kind]
        if norm is L1:
            eps = L1_EPS[name][kind]
            data = replace(data, x=data.x[:L1_SAMPLES], y=data.y[:L1_SAMPLES])
        before = autoattack(peer, model, data, eps, seed, norm) if peer and turn % 2 else None
        stands, taken, queries = ours(model, data, eps, seed, norm)
        found = Pair(
            name, kind, seed, len(data.y), int(stands.sum()), taken, queries,
            norm=norm.name, eps=eps,
        )  # fmt: skip
        if peer:
            theirs, cost = before or autoattack(peer, model, data, eps, seed, norm)
            missed = int((stands & ~theirs).sum())
            found = replace(found, peer=int(theirs.sum()), peer_s=cost, missed=missed)
        yield found


def _measured(seeds: range | list[int]) -> list[Pair]:
    """Every pair, printed as it ends: the whole takes long."""
    print(HEAD, flush=True)
    found = []
    for one in pairs(seeds):
        found.append(one)
        print(one.line(), flush=True)
    return found


def rows() -> list[dict[str, Any]]:
    found = _measured(SEEDS)
    beside = [one.beside() for one in found]
    keep("attacks_white", beside)
    print(table(beside))
    return [row for norm in ("linf", "l1") for row in _rows(norm, found)]


def _rows(norm: str, every: list[Pair]) -> list[dict[str, Any]]:
    found = [one for one in every if one.norm == norm]
    if not found:
        return []
    told = [one for one in found if one.peer is not None]
    accuracy = sum(one.ours / one.n for one in found) / len(found)
    cpu = sum(one.ours_s for one in found)
    head = f"attacks.white.{norm}"
    if not told:
        name = f"AutoAttack (skipped: {SOURCE} is not set)"
        return [
            _row(f"{head}.accuracy", accuracy, name, None, "robust", "<= peer", False),
            _row(f"{head}.cpu", cpu, name, None, "CPU s", "<= 1/5", False),
        ]
    peer = sum((one.peer or 0) / one.n for one in told) / len(told)
    every_pair = all(one.peer is not None and one.ours <= one.peer for one in told)
    cost = sum(one.peer_s or 0 for one in told)
    slowest = max(one.ratio or 0 for one in told)
    name = "AutoAttack"
    return [
        _row(f"{head}.accuracy", accuracy, name, peer, "robust", "<= on every pair", every_pair),
        _row(f"{head}.cpu", cpu, name, cost, "CPU s", "<= 1/5 each", slowest <= SHARE),
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
    found = _measured([int(given) for given in sys.argv[1:]] or SEEDS)
    told = [one for one in found if one.peer is not None]
    if told:
        worse = sum(one.ours > (one.peer or 0) for one in told)
        slowest = max(one.ratio or 0 for one in told)
        total = sum(one.peer_s or 0 for one in told) / sum(one.ours_s for one in told)
        print(f"worse on {worse} of {len(told)} pairs; CPU ratio {1 / total:.3f} in all, at most "
              f"{slowest:.3f} on one pair")  # fmt: skip


if __name__ == "__main__":
    main()
