"""Attacks on a network beside Foolbox's, CleverHans's and ART's, on the same model and samples.

`python -m bench.attacks_gradient` prints a line for each. The attacks within an epsilon are
compared by the robust accuracy that they leave, those that minimise by the median distance; both
by CPU seconds, with one thread, and by queries, of which those by labels (HopSkipJump, Boundary)
get half of what the peer took. What a peer's attack did not find counts as endless. Iterations,
step sizes and searches are the same on both sides; ART has Auto-PGD's difference of logits ratio
without targets, ours has it with them. The libraries are those of bench/peers/adapters.txt, laid
behind our own packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.attacks_models import EPS, digits, train, warm_up
from bench.beside import Beside, Side, keep, table
from bench.environment import ROOT, layer_of
from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.apgd import ApgdCe, ApgdTargeted
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.carlini_wagner import CarliniWagner
from keepstone.lab.attacks.evasion.deepfool import DeepFool
from keepstone.lab.attacks.evasion.fgsm import Fgsm
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.port import Attack, run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter, reach
from keepstone.lab.norms import NORMS
from keepstone.lab.targets.port import Capability
from keepstone.lab.targets.torch import TorchTarget

PEERS = "adapters"
VERSIONS = {"foolbox": "Foolbox 3.3.4", "cleverhans": "CleverHans 4.0.0", "art": "ART 1.20.1"}
ATTACKS: dict[str, Attack] = {
    one.name: one
    for one in (
        Fgsm(),
        Pgd(40),
        ApgdCe(100),
        ApgdTargeted(100),
        DeepFool(50),
        CarliniWagner(200, 6),
        HopSkipJump(),
        Boundary(),
    )
}
_KIND = "pgd"
_BUDGET = 10_000
_LABELLED = 0.5


class Model:
    """The network, the samples, and what ours found already."""

    def __init__(self) -> None:
        self.data, self.eps = digits(0), EPS[_KIND]
        self.net = train(_KIND, self.data, 0)
        self._target = TorchTarget(self.net, Domain.of(self.data.x.shape[1:], 0, 1))
        self._found: dict[tuple[str, str, int, int], tuple[Array, Side]] = {}

    def ours(self, name: str, norm: str, count: int, budget: int) -> tuple[Array, Side]:
        """How far our attack gets on each of `count` samples, and what it took."""
        key = (name, norm, count, budget)
        if key not in self._found:
            one, x = ATTACKS[name], self.data.x[:count]
            goal = Goal(NORMS[norm], None if one.minimizes else self.eps, budget)
            start = time.process_time()
            meter = Meter(self._target, x.reshape(count, -1), self.data.y[:count], goal)
            run_attack(one, meter, np.random.default_rng(0))
            taken = time.process_time() - start
            far = meter.distance
            queries = float(meter.tally().queries.mean())
            self._found[key] = far, Side(name, self.value(name, far), queries, taken)
        return self._found[key]

    def value(self, name: str, far: Array) -> float:
        if ATTACKS[name].minimizes:
            return float(np.median(far))
        return float(np.mean(far > reach(self.eps)))

    def beside(self, told: dict[str, Any]) -> Beside:
        """Ours beside a line of the peers'."""
        name, norm, library = told["name"], told["norm"], VERSIONS[told["library"]]
        peer = f"{library} {name} {norm}"
        minimizes = name not in ATTACKS or ATTACKS[name].minimizes
        family = "distortion" if minimizes else "white box"
        subject = f"digits, PGD-trained CNN{'' if minimizes else f', {norm} {self.eps}'}"
        if "failed" in told:
            return Beside.of_failed(family, subject, peer, told["failed"])
        far = np.array([np.inf if one is None else one for one in told["distance"]])
        labelled = ATTACKS[name].needs is Capability.LABEL
        budget = max(1, int(_LABELLED * told["queries"])) if labelled else _BUDGET
        mine, side = self.ours(name, norm, len(far), budget)
        held = [one <= reach(self.eps) for one in (mine, far)]
        return Beside(
            family,
            subject,
            len(far),
            side,
            Side(peer, self.value(name, far), told["queries"], told["cpu_s"]),
            unit="median distance" if minimizes else "robust",
            missed=None if minimizes else int((held[1] & ~held[0]).sum()),
            found=None if minimizes else int((held[0] & ~held[1]).sum()),
            queries=_LABELLED if labelled else None,
        )


def theirs(model: Model) -> list[dict[str, Any]]:
    import torch

    layer = layer_of(PEERS)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.net.state_dict(), Path(folder) / "model.pt")
        data = model.data
        np.savez(Path(folder) / "samples.npz", x=data.x, y=data.y, eps=model.eps)
        script = ROOT / "bench" / "attacks_gradient_peer.py"
        told = subprocess.run(
            [sys.executable, script, folder, layer],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def measured() -> list[Beside]:
    import torch

    torch.set_num_threads(1)
    model = Model()
    warm_up()
    return [model.beside(one) for one in theirs(model)]


def rows() -> list[dict[str, Any]]:
    found = measured()
    keep("attacks_gradient", found)
    print(table(found))
    ran = [one for one in found if not one.failed]
    return [
        {
            "name": f"attacks_gradient.{one.peer.attack.split(' ', 2)[2].replace(' ', '.')}.{what}",
            "ours": ours,
            "peer": one.peer.attack,
            "peer_value": peer,
            "unit": one.unit if what == "found" else "CPU s",
            "ratio": ours / peer if peer else None,
            "target": "<= peer",
            "met": bool(one.lower if what == "found" else one.cpu_ratio <= 1),
        }
        for one in ran
        for what, ours, peer in (
            ("found", one.ours.value, one.peer.value),
            ("cpu", one.ours.cpu_s, one.peer.cpu_s),
        )
    ]


def main() -> None:
    print(table(measured()))


if __name__ == "__main__":
    main()
