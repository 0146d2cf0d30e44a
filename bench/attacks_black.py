"""Attacks without gradients, beside ART's and Foolbox's, on four models that have none.

Digits, L-inf at the epsilon of `attacks_black_models`, the first samples after those fitted on.
Robust accuracy is the share of all of them that is served the right label and stays so. Each peer
is met by our random search on the same samples with a tenth of the queries that it took on average;
then robust accuracy, queries and CPU seconds are compared. A peer that takes seconds for a sample
is asked about fewer, and ours about the same ones. `python -m bench.attacks_black` prints all of
it, and what the splits and the labels alone give.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.attacks_black_models import EPS, attacked, digest, models
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
FOREST_REACH, FOREST_QUERIES, FOREST_CPU = 0.07, 100, 3.0
# ART's attacks that take one sample after another: how many they get, where a query is dear.
_DEAR = {"hopskipjump": 40, "boundary": 30, "zoo": 30, "simba": 30, "signopt": 4}
ATTACKS = {
    "art": ("hopskipjump", "boundary", "square", "zoo", "simba", "signopt"),
    "foolbox": (
        "hopskipjump",
        "boundary",
        "linf-noise",
        "blended-noise",
        "salt-pepper",
        "pointwise",
        "genattack",
        "dataset",
    ),
}

Found = dict[str, Any]


def _count(model: str, library: str, attack: str) -> int:
    if library != "art" or attack == "square" or (model, attack) == ("forest", "hopskipjump"):
        return SAMPLES
    if model in ("forest", "boosting"):
        return _DEAR[attack]
    return 40 if attack == "signopt" else SAMPLES


def theirs(names: tuple[str, ...]) -> tuple[dict[str, str], list[Found]]:
    """The peers' digests of the models, and what each attack found on those of `names`."""
    wanted = [
        {
            "model": name,
            "library": library,
            "attack": attack,
            "count": _count(name, library, attack),
        }
        for name in names
        for library, attacks in ATTACKS.items()
        for attack in attacks
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


def ours(attack: Attack, target: Target, count: int, budget: int) -> Found:
    x, y = attacked(count)
    clean = target.predict(target.domain.fit(x, x)).labels == y
    meter = Meter(target, x[clean], y[clean], Goal(LINF, EPS, budget))
    started = time.process_time()
    run_attack(attack, meter, np.random.default_rng(0))
    seconds = time.process_time() - started
    tally = meter.tally()
    return {
        "robust": float((~tally.within(EPS)).sum() / count),
        "queries_mean": float(tally.queries.mean()),
        "queries_max": int(tally.queries.max()),
        "cpu_s": seconds,
    }


def measured() -> tuple[list[Found], dict[str, dict[str, Found]]]:
    """What each peer found, with ours beside it; and ours on its own, by model."""
    made = models()
    python_of(PEER)
    # CPU seconds do not mind a neighbour on another core.
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(theirs, (("tree", "forest"), ("svc", "boosting"))))
    for said, _ in parts:
        if said != {name: digest(model) for name, model in made.items()}:
            raise RuntimeError("the peers' models are not ours: pin their scikit-learn as ours is")
    domain = Domain.of((64,), 0, 1)
    scored = {name: PythonTarget(model, domain) for name, model in made.items()}
    # A single tree's scores tie: its labels say as much, and cost half.
    scored["tree"] = PythonTarget(made["tree"], domain, scores=False)
    alone: dict[str, dict[str, Found]] = {}
    with threadpool_limits(1):
        found = [one for _, part in parts for one in part]
        for one in found:
            if "failed" not in one:
                budget = max(1, int(one["queries_mean"] / 10))
                one["ours"] = ours(RandomSearch(), scored[one["model"]], one["count"], budget)
        for name, model in made.items():
            labelled = PythonTarget(model, domain, scores=False)
            alone[name] = {
                "scores": ours(RandomSearch(), PythonTarget(model, domain), SAMPLES, 100),
                "labels": ours(RandomSearch(), labelled, SAMPLES, 100),
            }
            if name != "svc":
                shown = TreeTarget(scored[name], read_trees(model))
                alone[name]["splits"] = ours(TreeAttack(), shown, SAMPLES, 100)
    return found, alone


def _lower(one: Found, alone: dict[str, dict[str, Found]]) -> bool:
    """Whether ours found more; where a tree's exact answer says that no more is there, as much."""
    mine, other = one["ours"]["robust"], one["robust"]
    exact = one["model"] == "tree" and mine <= alone["tree"]["splits"]["robust"] + 1e-9
    return bool(mine < other or (exact and mine <= other + 1e-9))


def _row(
    name: str, ours: float, peer: str, theirs: float, unit: str, target: str, met: bool
) -> Found:
    ratio = ours / theirs if theirs else None
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_value": theirs,
        "unit": unit,
        "ratio": ratio,
        "target": target,
        "met": met,
    }


def rows() -> list[Found]:
    found, alone = measured()
    return made_rows(found, alone)


def made_rows(found: list[Found], alone: dict[str, dict[str, Found]]) -> list[Found]:
    table = []
    for model in alone:
        known = [one for one in found if one["model"] == model and "ours" in one]
        # Beside each library's best: the one that leaves the least, then the one that asks less.
        for library in ATTACKS:
            best = min(
                (one for one in known if one["library"] == library),
                key=lambda one: (one["robust"], one["queries_mean"]),
            )
            peer, mine = f"{library} {best['attack']}", best["ours"]
            name = f"attacks_black.{model}"
            table += [
                _row(
                    f"{name}.robust",
                    mine["robust"],
                    peer,
                    best["robust"],
                    f"of {best['count']}, eps {EPS}",
                    "lower",
                    _lower(best, alone),
                ),
                _row(
                    f"{name}.queries",
                    mine["queries_mean"],
                    peer,
                    best["queries_mean"],
                    "a sample",
                    "<= .1 x",
                    mine["queries_mean"] <= 0.1 * best["queries_mean"],
                ),
                _row(
                    f"{name}.cpu",
                    mine["cpu_s"],
                    peer,
                    best["cpu_s"],
                    "CPU s",
                    "<= .1 x",
                    mine["cpu_s"] <= 0.1 * best["cpu_s"],
                ),
            ]
        lost = [one for one in known if not _lower(one, alone)]
        table.append(
            _row(
                f"attacks_black.{model}.beaten",
                len(known) - len(lost),
                "art, foolbox",
                len(known),
                "attacks at a tenth of their queries",
                "all",
                not lost,
            )
        )
    reach = alone["forest"]["scores"]
    table.append(
        _row(
            "attacks_black.forest.reach",
            reach["robust"],
            f"{FOREST_QUERIES} queries, {reach['cpu_s']:.2f} CPU s",
            FOREST_REACH,
            "robust",
            "<= .07, <= 3 s",
            reach["robust"] <= FOREST_REACH
            and reach["queries_max"] <= FOREST_QUERIES
            and reach["cpu_s"] <= FOREST_CPU,
        )
    )
    return table


def _line(label: str, one: Found) -> str:
    most = "-" if one["queries_max"] is None else f"{one['queries_max']}"
    return (
        f"  {label:34} {one['robust']:.3f}  {one['queries_mean']:8.1f} mean {most:>6} max"
        f"  {one['cpu_s']:8.2f} CPU s"
    )


def main() -> None:
    found, alone = measured()
    for model, mine in alone.items():
        print(f"{model}: robust accuracy at L-inf {EPS}, {SAMPLES} samples")
        for kind, one in mine.items():
            print(_line(f"ours, by {kind}, budget 100", one))
        for one in (one for one in found if one["model"] == model):
            name = f"{one['library']} {one['attack']} ({one['count']})"
            if "failed" in one:
                print(f"  {name:34} failed: {one['failed'][:100]}")
                continue
            print(_line(name, one))
            print(_line("  ours at a tenth of its queries", one["ours"]))
            queries = one["ours"]["queries_mean"] / one["queries_mean"]
            seconds = one["ours"]["cpu_s"] / max(one["cpu_s"], 1e-9)
            word = "lower" if _lower(one, alone) else "NOT LOWER"
            print(f"    {word}, {queries:.3f} of its queries, {seconds:.3f} of its time")
    from bench.run import table

    print(table(made_rows(found, alone)))


if __name__ == "__main__":
    main()
