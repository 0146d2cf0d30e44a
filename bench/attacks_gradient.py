"""FGSM, PGD, DeepFool and C&W beside Foolbox's and CleverHans's, on the same model and samples.

`python -m bench.attacks_gradient` prints a line for each. The attacks within an epsilon are
compared by the robust accuracy that they leave, those that minimise by the median distance; both
by CPU seconds, with one thread. Iterations, step sizes and searches are the same on both sides.
CleverHans pins libraries that no longer exist: it is measured where someone has put it into the
environment of Foolbox (`pip install --no-deps cleverhans absl-py`), else it is said that it is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.attacks_models import EPS, digits, train, warm_up
from bench.environment import ROOT, python_of
from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.carlini_wagner import CarliniWagner
from keepstone.lab.attacks.evasion.deepfool import DeepFool
from keepstone.lab.attacks.evasion.fgsm import Fgsm
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, reach
from keepstone.lab.norms import NORMS
from keepstone.lab.targets.torch import TorchTarget

ATTACKS: tuple[tuple[Attack, str], ...] = (
    (Fgsm(), "linf"),
    (Pgd(40), "linf"),
    (DeepFool(50), "l2"),
    (DeepFool(50), "linf"),
    (CarliniWagner(200, 6), "l2"),
)
_KIND = "pgd"


def ours(model: Any, x: Array, y: Array, eps: float) -> Iterator[tuple[str, str, Array, float]]:
    target = TorchTarget(model, Domain.of(x.shape[1:], 0, 1))
    for one, norm in ATTACKS:
        start = time.process_time()
        goal = Goal(NORMS[norm], None if one.minimizes else eps, 10_000)
        meter = Meter(target, x.reshape(len(x), -1), y, goal)
        run_attack(one, meter, np.random.default_rng(0))
        yield one.name, norm, meter.distance, time.process_time() - start


def theirs(python: Path, model: Any, x: Array, y: Array, eps: float) -> list[dict[str, Any]]:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder) / "model.pt")
        np.savez(Path(folder) / "samples.npz", x=x, y=y, eps=eps)
        script = ROOT / "bench" / "attacks_gradient_peer.py"
        told = subprocess.run(
            [python, script, folder], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    return [json.loads(line) for line in told.splitlines()]


def measure(python: Path) -> Iterator[dict[str, Any]]:
    """A row for each attack and library that has it."""
    import torch

    torch.set_num_threads(1)
    data, eps = digits(0), EPS[_KIND]
    model = train(_KIND, data, 0)
    warm_up()
    told = theirs(python, model, data.x, data.y, eps)
    for name, norm, distance, taken in ours(model, data.x, data.y, eps):
        minimizes = name in ("deepfool", "carlini-wagner")
        for peer in told:
            if peer.get("name") != name or peer.get("norm") != norm:
                continue
            far = np.array([np.inf if one is None else one for one in peer["distance"]])
            values = [_value(one, eps, minimizes) for one in (distance, far)]
            yield {
                "attack": f"{name}.{norm}",
                "library": peer["library"],
                "unit": "median distance" if minimizes else f"robust at {eps}",
                "values": values,
                "cpu": (taken, peer["cpu_s"]),
            }
    for peer in told:
        if "skipped" in peer:
            print(f"{peer['library']} is skipped: {peer['skipped']}", file=sys.stderr)


def _value(distance: Array, eps: float, minimizes: bool) -> float:
    return float(np.median(distance) if minimizes else np.mean(distance > reach(eps)))


def rows() -> list[dict[str, Any]]:
    return [
        {
            "name": f"attacks.{one['attack']}.{what}",
            "ours": ours,
            "peer": one["library"],
            "peer_value": peer,
            "unit": unit,
            "ratio": ours / peer,
            "target": "<= peer",
            "met": bool(ours <= peer),
        }
        for one in measure(python_of("foolbox-torch"))
        for what, unit, (ours, peer) in (
            ("found", one["unit"], one["values"]),
            ("cpu", "CPU s", one["cpu"]),
        )
    ]


def main() -> None:
    python = Path(sys.argv[1]) if len(sys.argv) > 1 else python_of("foolbox-torch")
    print(
        f"{'attack':<20} {'library':<11} {'unit':<16} {'ours':>8} {'peer':>8} {'CPU s':>7} peer's"
    )
    for one in measure(python):
        mine, peer = one["values"]
        print(
            f"{one['attack']:<20} {one['library']:<11} {one['unit']:<16} {mine:8.4f} {peer:8.4f}"
            f" {one['cpu'][0]:7.2f} {one['cpu'][1]:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
