"""Attacks without gradients, beside ART's and Foolbox's, on four models that have none.

Digits, L-inf at the epsilon of `attacks_black_models`, the first samples after those fitted on.
Robust accuracy is the share of all of them that is served the right label and stays so. A peer gets
samples until its CPU seconds are spent (`attacks_black_peer`); how many is in the table. Ours is
our random search, always on all 200, for it learns from one sample about the others, as theirs do
not; of what it found, the peer's samples are compared, and that part of its CPU seconds.

No sample gets more than a tenth of the queries that the peer took on average; where that finds no
more than the peer did, those that stand get more, as long as the average stays within the tenth.
The number behind our attack's name is the most that a sample got. Both draw from one seed.
`python -m bench.attacks_black` prints what the splits and the labels alone give, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.attacks_black_models import EPS, PEERS, VERSIONS, attacked, digest, models
from bench.beside import Beside, Side, keep, table
from bench.environment import ROOT, python_of
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import LINF
from keepstone.lab.targets.forests import read_trees
from keepstone.lab.targets.port import Target
from keepstone.lab.targets.python import PythonTarget
from keepstone.lab.targets.trees import TreeTarget

PEER = "attacks-black"
SAMPLES = 200
# A query of these costs some milliseconds: a batch of Foolbox's is no larger.
FEWER = {"forest": 100, "boosting": 100}
SHARE = 0.1
# The most queries for a sample, of a peer's average, that are tried for an average of a tenth.
_LADDER = (1.0, 0.75, 0.5, 0.375, 0.25, 0.2, 0.15)
FOREST_REACH, FOREST_QUERIES, FOREST_CPU = 0.07, 100, 3.0
# Two processes side by side, with about as much to do.
PARTS = (("tree", "forest"), ("svc", "boosting"))

Found = dict[str, Any]


def theirs(names: tuple[str, ...]) -> tuple[dict[str, str], list[Found]]:
    """The peers' digests of the models, and what each attack found on those of `names`."""
    wanted = [
        {"model": name, "library": library, "attack": attack, "count": FEWER.get(name, SAMPLES)}
        for name in names
        for library, attacks in PEERS.items()
        for attack in attacks
        if attack != "decision-tree" or name == "tree"
    ]
    done = subprocess.run(
        [str(python_of(PEER)), "-m", "bench.attacks_black_peer"],
        input="".join(json.dumps(one) + "\n" for one in wanted),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    first, *found = [json.loads(line) for line in done.stdout.splitlines()]
    if len(found) != len(wanted):
        raise RuntimeError("the peers did not answer for every attack")
    return first, found


def ours(attack: Attack, target: Target, count: int, budget: int) -> tuple[Side, set[int], int]:
    """What ours found on the first `count` samples, which of them stand, and the most queries
    that one of them took."""
    x, y = attacked(SAMPLES)
    clean = np.flatnonzero(target.predict(target.domain.fit(x, x)).labels == y)
    meter = Meter(target, x[clean], y[clean], Goal(LINF, EPS, budget))
    started = time.process_time()
    run_attack(attack, meter, np.random.default_rng(0))
    seconds = time.process_time() - started
    tally = meter.tally()
    stands = {at for at in clean[~tally.within(EPS)].tolist() if at < count}
    seconds *= count / SAMPLES
    side = Side(attack.name, len(stands) / count, float(tally.queries.mean()), seconds)
    return side, stands, int(tally.queries.max())


def targets(made: dict[str, Any]) -> dict[str, PythonTarget]:
    domain = Domain.of((64,), 0, 1)
    found = {name: PythonTarget(model, domain) for name, model in made.items()}
    # A single tree's scores tie: its labels say as much, and cost half.
    found["tree"] = PythonTarget(made["tree"], domain, scores=False)
    return found


def beside(one: Found, target: PythonTarget, least: float) -> Beside:
    """Ours beside what a peer said of one attack."""
    peer = f"{VERSIONS[one['library']]} {one['attack']}"
    if "failed" in one:
        return Beside.of_failed("black box", one["model"], peer, one["failed"])
    attack: Attack = RandomSearch()
    asked: Target = target
    if one["attack"] == "decision-tree":
        # It reads the tree: so does ours.
        attack, asked = TreeAttack(), TreeTarget(target, read_trees(target.model))
    mean, count = one["queries_mean"], one["count"]
    # Of fewer than ten queries there is no tenth: ours gets one, and is held to the finding alone.
    few = mean < 1 / SHARE
    other = set(one["stands"])

    def held(budget: int) -> tuple[Beside, bool]:
        mine, stands, _ = ours(attack, asked, count, budget)
        mine = replace(mine, attack=f"{mine.attack} {budget}")
        found = Beside(
            "black box",
            one["model"],
            count,
            mine,
            Side(peer, one["robust"], mean, one["cpu_s"]),
            missed=len(stands - other),
            found=len(other - stands),
            least=least,
            strict=True,
            queries=None if few else SHARE,
            cpu=np.inf if few else SHARE,
        )
        return found, (mine.queries or 0) <= SHARE * mean

    first, _ = held(max(1, int(SHARE * mean)))
    if first.lower or few:
        return first
    for part in _LADDER:
        more, within = held(max(1, int(part * mean)))
        if within:
            return more
    return first


def measured() -> list[Beside]:
    """Every attack of the peers, with ours beside it."""
    made = models()
    python_of(PEER)
    # CPU seconds do not mind a neighbour on another core.
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(theirs, PARTS))
    for said, _ in parts:
        if said != {name: digest(model) for name, model in made.items()}:
            raise RuntimeError("the peers' models are not ours: pin their scikit-learn as ours is")
    return compared([one for _, part in parts for one in part], made)


def compared(found: list[Found], made: dict[str, Any]) -> list[Beside]:
    served = targets(made)
    with threadpool_limits(1):
        # On one tree the splits give the exact answer: nothing is below it.
        least = exact(served["tree"], made["tree"])
        return [beside(one, served[one["model"]], _least(one, least)) for one in found]


def _least(one: Found, least: dict[int, float]) -> float:
    return least[one["count"]] if one["model"] == "tree" and "count" in one else 0.0


def exact(target: PythonTarget, tree: Any) -> dict[int, float]:
    """Of the first `n` samples the share that stands for good, for each `n`."""
    shown = TreeTarget(target, read_trees(tree))
    _, stands, _ = ours(TreeAttack(), shown, SAMPLES, 100)
    return {n: sum(at < n for at in stands) / n for n in range(1, SAMPLES + 1)}


def alone(made: dict[str, Any]) -> dict[str, dict[str, tuple[Side, int]]]:
    """Ours with 100 queries by scores, by labels and by splits, and the most that was asked."""
    domain = Domain.of((64,), 0, 1)
    found: dict[str, dict[str, tuple[Side, int]]] = {}
    with threadpool_limits(1):
        for name, model in made.items():
            scored = PythonTarget(model, domain)
            kinds: dict[str, tuple[Attack, Target]] = {
                "scores": (RandomSearch(), scored),
                "labels": (RandomSearch(), PythonTarget(model, domain, scores=False)),
            }
            if name != "svc":
                kinds["splits"] = (TreeAttack(), TreeTarget(scored, read_trees(model)))
            found[name] = {}
            for kind, (attack, target) in kinds.items():
                side, _, most = ours(attack, target, SAMPLES, FOREST_QUERIES)
                found[name][kind] = (side, most)
    return found


def _row(
    name: str, ours: float, peer: str, theirs: float | None, unit: str, target: str, met: bool
) -> Found:
    return {
        "name": f"attacks_black.{name}",
        "ours": ours,
        "peer": peer,
        "peer_value": theirs,
        "unit": unit,
        "ratio": ours / theirs if theirs else None,
        "target": target,
        "met": met,
    }


def rows() -> list[Found]:
    found = measured()
    keep("attacks_black", found)
    print(table(found))
    return made_rows(found, alone(models()))


def made_rows(
    found: list[Beside], mine: dict[str, dict[str, tuple[Side, int]]]
) -> list[dict[str, Any]]:
    made = []
    for model in mine:
        ran = [one for one in found if one.subject == model and not one.failed]
        # Beside each library's best: the one that leaves the least, then the one that asks less.
        for library, version in VERSIONS.items():
            best = min(
                (one for one in ran if one.peer.attack.startswith(version)),
                key=lambda one: (one.peer.value, one.peer.queries),
            )
            made += _rows_of(f"{model}.{library}", best)
        lower, every = sum(one.lower for one in ran), len(ran)
        whole = sum(not one.lacks for one in ran)
        for what, count, target in (
            ("lower", lower, "lower at .1 x queries"),
            ("reach", whole, "and at .1 x CPU"),
        ):
            name = f"{model}.attacks_{what}"
            made.append(_row(name, count, "ART, Foolbox", every, "attacks", target, count == every))
    forest, most = mine["forest"]["scores"]
    met = forest.value <= FOREST_REACH and most <= FOREST_QUERIES and forest.cpu_s <= FOREST_CPU
    peer = f"{FOREST_QUERIES} queries, {forest.cpu_s:.2f} CPU s"
    made.append(
        _row("forest.reach", forest.value, peer, FOREST_REACH, "robust", "<= .07, <= 3 s", met)
    )
    return made


def _rows_of(name: str, one: Beside) -> list[Found]:
    ratio = one.queries_ratio
    return [
        _row(
            f"{name}.robust",
            one.ours.value,
            one.peer.attack,
            one.peer.value,
            f"of {one.n}, eps {EPS}",
            "lower",
            one.lower,
        ),
        _row(
            f"{name}.queries",
            one.ours.queries or 0.0,
            one.peer.attack,
            one.peer.queries,
            "a sample",
            "<= .1 x",
            ratio is None or ratio <= SHARE,
        ),
        _row(
            f"{name}.cpu",
            one.ours.cpu_s,
            one.peer.attack,
            one.peer.cpu_s,
            "CPU s",
            "<= .1 x",
            one.cpu_ratio <= SHARE,
        ),
    ]


def main() -> None:
    found, mine = measured(), alone(models())
    print(table(found))
    for model, kinds in mine.items():
        print(f"{model}: ours alone, at most {FOREST_QUERIES} queries, {SAMPLES} samples")
        for kind, (one, most) in kinds.items():
            print(
                f"  by {kind:8} {one.value:.3f} robust  {one.queries or 0:6.1f} queries mean,"
                f" {most} most  {one.cpu_s:6.2f} CPU s"
            )
    from bench.run import table as of_rows

    print(of_rows(made_rows(found, mine)))


if __name__ == "__main__":
    main()
