"""The models and data that attacks are measured on: small, made here, the same for a seed.

Two data sets, pictures in [0, 1] of ten classes, 500 of them to attack. `digits` are the 1,797
handwritten digits of scikit-learn, 8 x 8. `shapes` are no photographs: 2,000 pictures of 10 x 10
drawn by formula (bars, rings, crosses, waves, blobs), moved about and with noise.

Three models for each: a convolutional network trained against PGD (Madry et al. 2018), one trained
with TRADES (Zhang et al. 2019), and one trained on nothing but the data, which is attacked with a
smaller epsilon, so that some of it stands. A fourth, trained by one step (Wong et al. 2020), and
MNIST stand in bench/papers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Peers import this file too, in environments without this library.
    from keepstone.contract.validate import Array

ATTACKED = 500
# For each model the epsilon (L-inf, on pixels in [0, 1]) that it is attacked with.
EPS = {"pgd": 0.2, "trades": 0.2, "natural": 0.06}
_TRAIN_EPS = 0.2
_PASSES = {"digits": 25, "shapes": 15, "mnist": 15}
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Data:
    """Pictures `(n, 1, s, s)` in [0, 1] and their classes; the last ones are to be attacked."""

    name: str
    train_x: Array
    train_y: Array
    x: Array
    y: Array


def digits(seed: int) -> Data:
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = (found.images / 16).astype(np.float32)[:, None]
    return _split("digits", pictures, found.target.astype(np.int64), seed)


def shapes(seed: int, count: int = 2000, size: int = 10) -> Data:
    draw = np.random.default_rng(1000 + seed)
    y = draw.integers(0, 10, count)
    move = draw.uniform(-0.35, 0.35, (2, count, 1, 1))
    axis = np.linspace(-1, 1, size)
    v = axis[None, :, None] - move[0]
    u = axis[None, None, :] - move[1]
    width = draw.uniform(0.15, 0.3, (count, 1, 1))
    radius = np.sqrt(u**2 + v**2)
    wave = draw.uniform(5, 7, (count, 1, 1))
    drawn = [
        np.abs(u) / width + 0 * v,
        np.abs(v) / width + 0 * u,
        np.abs(u - v) / (1.4 * width),
        np.abs(u + v) / (1.4 * width),
        np.abs(radius - 0.55) / width,
        radius / (1.8 * width),
        np.minimum(np.abs(u), np.abs(v)) / width,
        np.minimum(np.abs(u - v), np.abs(u + v)) / (1.4 * width),
        1 - np.sin(wave * u) + 0 * v,
        1 - np.sin(wave * v) + 0 * u,
    ]
    far = np.choose(y[:, None, None], [np.broadcast_to(one, (count, size, size)) for one in drawn])
    ink = np.exp(-(far**2)) * draw.uniform(0.6, 1.0, (count, 1, 1))
    ink += draw.normal(0, 0.12, ink.shape)
    return _split("shapes", np.clip(ink, 0, 1).astype(np.float32)[:, None], y, seed)


DATA = {"digits": digits, "shapes": shapes}


def _split(name: str, x: Array, y: Array, seed: int) -> Data:
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], y[order].astype(np.int64)
    return Data(name, x[:-ATTACKED], y[:-ATTACKED], x[-ATTACKED:], y[-ATTACKED:])


def network(size: int) -> Any:
    """Two convolutions and two dense layers: some 20 thousand weights."""
    from torch import nn

    side = (size + 1) // 2
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * side * side, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(kind: str, data: Data, seed: int) -> Any:
    """A model of `kind` (a key of EPS, or "fast"), the same for a seed on one machine."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    model = network(data.x.shape[-1])
    passes = _PASSES[data.name]
    steps = passes * (len(data.train_x) // _BATCH)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=steps)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    for at in range(steps):
        if at % (len(x) // _BATCH) == 0:
            order = torch.randperm(len(x))
        chosen = order[:_BATCH]
        order = torch.roll(order, -_BATCH)
        part, labels = x[chosen], y[chosen]
        # Epsilon grows over the first half: from the start, a small network learns nothing.
        eps = _TRAIN_EPS * min(1.0, 2 * at / steps)
        if kind == "natural":
            loss = functional.cross_entropy(model(part), labels)
        elif kind == "fast":
            once = partial(functional.cross_entropy, target=labels)
            loss = functional.cross_entropy(model(_worst(model, part, eps, once, 1, 1.25)), labels)
        elif kind == "pgd":
            bad = _worst(model, part, eps, partial(functional.cross_entropy, target=labels))
            loss = functional.cross_entropy(model(bad), labels)
        else:
            calm = functional.softmax(model(part), 1).detach()
            bad = _worst(model, part, eps, partial(_divergence, calm=calm))
            clean = model(part)
            loss = functional.cross_entropy(clean, labels)
            loss = loss + 6 * _divergence(model(bad), functional.softmax(clean, 1)) / len(part)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _divergence(scores: Any, calm: Any) -> Any:
    from torch.nn import functional

    return functional.kl_div(functional.log_softmax(scores, 1), calm, reduction="sum")


def _worst(model: Any, x: Any, eps: float, loss: Any, steps: int = 5, size: float = 0.4) -> Any:
    import torch

    found = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        found.requires_grad_()
        (slope,) = torch.autograd.grad(loss(model(found)), found)
        found = found.detach() + size * eps * slope.sign()
        found = torch.min(torch.max(found, x - eps), x + eps).clamp(0, 1)
    return found.detach()


def warm_up() -> None:
    """What torch imports at its first gradient is no attack's cost."""
    import torch

    x = torch.zeros(2, requires_grad=True)
    torch.autograd.grad(x * 2, x, torch.ones(2))
