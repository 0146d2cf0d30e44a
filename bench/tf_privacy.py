"""Beside TensorFlow Privacy: membership tests, budgets, and private training.

`python -m bench.tf_privacy` prints three tables. (1) Its six membership attacks and ours on the
answers of the same overfitted forests: areas, and true-positive rates at 1 % false positives. (2)
The epsilon that each tells of one training. (3) What its private Adam and ours make of the digits
with the same noise, clipping, steps and mean size of a step.

Its last release, 0.9.0, lacks the membership tests in its wheel (the package they moved to is not
in it); what is run is 0.8.12, in an environment of TensorFlow 2.15 that its own requirements would
not give. Its steps hold a fixed number of rows, for which its own accountant's Poisson samples are
no proof (Chua et al. 2024): its epsilon is shown as it tells it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import ROOT, python_of
from bench.membership import FPR, Found, digits, forest, shown, tabular
from keepstone.contract.validate import Array
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import audit_membership
from keepstone.lab.attacks.privacy.rmia import Rmia
from keepstone.lab.attacks.privacy.shadows import make_shadows
from keepstone.lab.defences.accounting import account
from keepstone.lab.defences.dp_sgd import DpSgd
from keepstone.lab.domain import Domain
from keepstone.lab.losses import cross_entropy

PEER = "tf-privacy"
SEEDS = range(3)
TRAINING = DpSgd(noise=1.0, clip=1.0, rate=0.1, steps=200, speed=0.01)
DELTA = 1e-5


def peer(**arrays: Any) -> dict[str, Any]:
    """What TensorFlow Privacy says of these."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, **arrays)
        child = subprocess.run(
            [python_of(PEER, complete=True), ROOT / "bench" / "tf_privacy_peer.py", path],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def membership(name: str) -> Found:
    """Rates and areas by attack, over the seeds; `cpu.*` are seconds."""
    found: Found = defaultdict(list)
    for seed in SEEDS:
        data = {"digits": digits, "tabular": tabular}[name](seed)
        train = forest(data.domain)
        target = train(data.x[data.inside], data.y[data.inside], seed)
        scores = target.predict(data.x).scores
        assert scores is not None
        for label, one in peer(
            scores=scores,
            losses=cross_entropy(scores, data.y)[0],
            y=data.y,
            inside=data.inside,
            seed=seed,
        ).items():
            found[f"tfp.{label}"].append(_rate(np.array(one["fpr"]), np.array(one["tpr"])))
            found[f"auc.tfp.{label}"].append(one["auc"])
            found[f"cpu.tfp.{label}"].append(one["cpu_s"])
        begin = time.process_time()
        shadows = make_shadows(train, data.x, data.y, 4, seed)
        ours = (data.x, data.y, data.inside)
        made = audit_membership(Rmia(), target, *ours, shadows, fprs=(FPR,))
        found["cpu.rmia4"].append(time.process_time() - begin)
        plain = audit_membership(LossThreshold(), target, *ours, fprs=(FPR,))
        for label, audit in (("rmia4", made), ("loss", plain)):
            assert audit.auc is not None
            found[label].append(audit.tpr_at[0].value)
            found[f"auc.{label}"].append(audit.auc)
    return found


def _rate(fpr: Array, tpr: Array) -> float:
    """The most members told while no more others are accused than `FPR`."""
    return float(tpr[fpr <= FPR].max(initial=0.0))


def training() -> Found:
    """The accuracy of private training on digits, ours and theirs, over the seeds."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    domain = Domain.of((64,), 0.0, 1.0)
    found: Found = defaultdict(list)
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(x))
        known, held = order[:1200], order[1200:]
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )
        begin = time.process_time()
        made = TRAINING.fit(module, x[known], y[known], domain, DELTA, seed=seed)
        found["cpu"].append(time.process_time() - begin)
        found["accuracy"].append(float((made.target.predict(x[held]).labels == y[held]).mean()))
        theirs = peer(
            x=x[known],
            labels=y[known],
            x_test=x[held],
            labels_test=y[held],
            batch=round(TRAINING.rate * len(known)),
            noise=TRAINING.noise,
            clip=TRAINING.clip,
            steps=TRAINING.steps,
            speed=TRAINING.speed,
            delta=DELTA,
            seed=seed,
        )
        for key in ("accuracy", "epsilon", "cpu_s"):
            found[f"tfp.{key}"].append(theirs[key])
    return found


def rows() -> list[dict[str, Any]]:
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for name in ("digits", "tabular"):
        found = membership(name)
        print(f"{name}: area, and true-positive rate at {FPR:.0%}, {len(SEEDS)} seeds")
        kinds = [one for one in found if not one.startswith(("auc.", "cpu."))]
        for label in sorted(kinds):
            print(f"  {label:<24}{shown(found[f'auc.{label}']):>18}{shown(found[label]):>18}")
        theirs = max(
            (one for one in kinds if one.startswith("tfp.")),
            key=lambda one: float(np.mean(found[one])),
        )
        ours, best = float(np.mean(found["rmia4"])), float(np.mean(found[theirs]))
        rows.append(
            {
                "name": f"membership.{name}.rmia4",
                "ours": ours,
                "peer": f"TF Privacy {theirs.removeprefix('tfp.')}",
                "peer_value": best,
                "unit": "TPR at 1 %",
                "ratio": ours / best if best else None,
                "target": "more",
                "met": ours > best,
            }
        )
        # The one attack that both have.
        apart = np.abs(np.array(found["auc.loss"]) - np.array(found["auc.tfp.threshold"])).max()
        print(f"  thresholds on the loss differ in area by at most {apart:.1e}")
    found = training()
    epsilon = account(TRAINING.noise, TRAINING.rate, TRAINING.steps, DELTA)
    print(f"private training: epsilon {epsilon.epsilon:.3f} ({epsilon.accountant}) here, ", end="")
    print(f"{np.mean(found['tfp.epsilon']):.3f} (RDP) there")
    print(f"  accuracy {shown(found['accuracy'])} here, {shown(found['tfp.accuracy'])} there")
    print(f"  CPU s    {shown(found['cpu'])} here, {shown(found['tfp.cpu_s'])} there")
    ours, theirs_cpu = float(np.mean(found["cpu"])), float(np.mean(found["tfp.cpu_s"]))
    rows.append(
        {
            "name": "dp_sgd.digits",
            "ours": ours,
            "peer": "TF Privacy",
            "peer_value": theirs_cpu,
            "unit": "CPU s",
            "ratio": ours / theirs_cpu,
            "target": "accuracy no lower",
            "met": float(np.mean(found["accuracy"]))
            >= float(np.mean(found["tfp.accuracy"])) - 0.01,
        }
    )
    return rows


if __name__ == "__main__":
    rows()
