"""Models that mask their gradients and models that do not, on scikit-learn's digits.

`Zoo(seed)` trains them as they are asked for, in seconds; the tests and `bench/masking.py` share
it. A masked one is no straw man: each is a defence that was published, or a mistake that was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.targets.torch import TorchTarget

EPS = 0.2
DOMAIN = Domain.of((1, 8, 8), 0.0, 1.0)
TRAINED = 1200
_BATCH = 100

Layer = Callable[[Any], Any]


class Apply(nn.Module):  # type: ignore[misc]  # torch has no types here
    """A function of a batch as a module; `parts` are the modules whose weights it uses."""

    def __init__(self, function: Layer, *parts: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


# Nets


def perceptron(width: int = 64, activation: Callable[[], Any] = nn.ReLU) -> Any:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, 10),
    )


def convolution() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class _StraightSign(torch.autograd.Function):  # type: ignore[misc]
    """The sign; backwards as if it were the identity near zero (Courbariaux et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class _NoisyBack(torch.autograd.Function):  # type: ignore[misc]
    """The identity; backwards with noise larger than the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient + 5 * gradient.std() * torch.randn_like(gradient)


def winners(part: float) -> Callable[[], Any]:
    """The greatest `part` of a layer pass, others are zero (Xiao et al. 2020)."""

    def take(x: Any) -> Any:
        count = max(1, int(part * x.shape[1]))
        least = x.topk(count, dim=1).values[:, -1:]
        return torch.where(x >= least, x, torch.zeros_like(x))

    return lambda: Apply(take)


# Training


def attack(net: Any, x: Any, y: Any, steps: int, loss: Callable[..., Any] | None = None) -> Any:
    """PGD within EPS by cross-entropy, or by `loss` of scores and labels."""
    measured = loss or nn.functional.cross_entropy
    moved = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    size = EPS * 2.5 / steps
    for _ in range(steps):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(measured(net(moved), y), moved)
        moved = moved.detach() + size * gradient.sign()
        moved = torch.min(torch.max(moved, x - EPS), x + EPS).clamp(0, 1)
    return moved.detach()


def natural(net: Any, x: Any, y: Any) -> Any:
    return nn.functional.cross_entropy(net(x), y)


def hardened(steps: int) -> Callable[[Any, Any, Any], Any]:
    """Madry et al. 2018; with one step it is Wong et al. 2020."""
    return lambda net, x, y: natural(net, attack(net, x, y, steps), y)


def trades(net: Any, x: Any, y: Any) -> Any:
    """Zhang et al. 2019, with beta 3."""
    clean = net(x)
    wanted = clean.detach().softmax(1)

    def apart(scores: Any, _: Any) -> Any:
        return nn.functional.kl_div(scores.log_softmax(1), wanted, reduction="batchmean")

    moved = attack(net, x, y, 5, apart)
    kept = nn.functional.kl_div(net(moved).log_softmax(1), clean.softmax(1), reduction="batchmean")
    return nn.functional.cross_entropy(clean, y) + 3 * kept


class Zoo:
    """Every model of one seed. `x`, `y` are what no model was trained on."""

    def __init__(self, seed: int = 0) -> None:
        from sklearn.datasets import load_digits

        self.seed = seed
        found = load_digits()
        order = np.random.default_rng(seed).permutation(len(found.target))
        rows = (found.data / 16).astype(np.float32)[order]
        labels = found.target.astype(np.int64)[order]
        self._x = torch.from_numpy(rows[:TRAINED].reshape(-1, 1, 8, 8))
        self._y = torch.from_numpy(labels[:TRAINED])
        self.x: Array = rows[TRAINED:]
        self.y: Array = labels[TRAINED:]
        self._made: dict[str, Any] = {}

    def target(self, name: str) -> TorchTarget:
        """Raises KeyError for a name on neither list."""
        if name not in self._made:
            torch.manual_seed(self.seed)
            self._made[name] = {**HONEST, **MASKED}[name](self)
        torch.manual_seed(self.seed)
        return TorchTarget(self._made[name], DOMAIN)

    def stand_in(self, name: str) -> TorchTarget | None:
        """A model with the honest gradient of what the masked model `name` hides, if there is."""
        if name not in STAND_INS:
            return None
        return TorchTarget(self.robust if STAND_INS[name] == "robust" else self.plain, DOMAIN)

    def trained(
        self,
        net: Any,
        loss: Callable[[Any, Any, Any], Any] = natural,
        *,
        rounds: int = 20,
        decay: float = 0.0,
        rate: float = 2e-3,
    ) -> Any:
        torch.manual_seed(self.seed)
        learner = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
        for _ in range(rounds):
            for at in torch.randperm(len(self._x)).split(_BATCH):
                learner.zero_grad()
                loss(net, self._x[at], self._y[at]).backward()
                learner.step()
        return net.eval()

    @cached_property
    def plain(self) -> Any:
        return self.trained(convolution())

    @cached_property
    def robust(self) -> Any:
        return self.trained(convolution(), hardened(7), rounds=25)

    def distilled(self, temperature: float = 50.0) -> Any:
        """Papernot et al. 2016: teacher and student are trained at a temperature, and the
        student is served without it."""
        teacher = self.trained(
            perceptron(),
            lambda net, x, y: natural(lambda x: net(x) / temperature, x, y),
            rounds=40,
            rate=1e-2,
        )
        soft = (teacher(self._x) / temperature).softmax(1).detach()
        places = {row.numpy().tobytes(): at for at, row in enumerate(self._x)}

        def loss(net: Any, x: Any, _: Any) -> Any:
            at = [places[row.numpy().tobytes()] for row in x]
            return nn.functional.cross_entropy(net(x) / temperature, soft[at])

        student = self.trained(perceptron(), loss, rounds=40, rate=1e-2)
        return Apply(lambda x: student(x).softmax(1), student)


def _one_hot(net: Any) -> Layer:
    return lambda x: nn.functional.one_hot(net(x).argmax(1), 10).float()


def _quantised(net: Any) -> Layer:
    return lambda x: net(torch.round(3 * x) / 3)


def _noisy(net: Any) -> Layer:
    return lambda x: net(x + 0.15 * torch.randn_like(x))


def _resized(net: Any) -> Layer:
    """Shrunk or grown and put somewhere, anew for each batch (Xie et al. 2018)."""

    def run(x: Any) -> Any:
        side = int(torch.randint(6, 9, ()))
        small = nn.functional.interpolate(x, size=(side, side), mode="bilinear")
        left, top = (int(torch.randint(0, 9 - side, ())) for _ in range(2))
        return net(nn.functional.pad(small, (left, 8 - side - left, top, 8 - side - top)))

    return run


def _detached(net: Any, decoy: Any) -> Layer:
    """The gradient is that of another net, whose scores weigh nearly nothing."""
    return lambda x: net(x.detach()) + 1e-3 * decoy(x)


def _trained_resized(zoo: Zoo) -> Any:
    net = convolution()
    return zoo.trained(Apply(_resized(net), net), rounds=60)


HONEST: dict[str, Callable[[Zoo], Any]] = {
    "MLP": lambda zoo: zoo.trained(perceptron()),
    "CNN": lambda zoo: zoo.plain,
    "PGD-trained CNN": lambda zoo: zoo.robust,
    "logistic regression": lambda zoo: zoo.trained(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), rate=1e-2
    ),
    "wide MLP": lambda zoo: zoo.trained(perceptron(512)),
    "TRADES CNN": lambda zoo: zoo.trained(convolution(), trades, rounds=25),
    "fast-trained MLP": lambda zoo: zoo.trained(perceptron(256), hardened(1), rounds=30),
    "tanh MLP": lambda zoo: zoo.trained(perceptron(64, nn.Tanh)),
    "weight decay": lambda zoo: zoo.trained(perceptron(), decay=1.0, rounds=40),
    "CNN as probabilities": lambda zoo: Apply(lambda x: zoo.plain(x).softmax(1), zoo.plain),
}

MASKED: dict[str, Callable[[Zoo], Any]] = {
    "saturated": lambda zoo: Apply(lambda x: (1e4 * zoo.robust(x)).softmax(1), zoo.robust),
    "quantised inputs": lambda zoo: Apply(_quantised(zoo.robust), zoo.robust),
    "one-hot": lambda zoo: Apply(_one_hot(zoo.robust), zoo.robust),
    "distilled": lambda zoo: zoo.distilled(),
    "noisy inputs": lambda zoo: Apply(_noisy(zoo.robust), zoo.robust),
    "resized inputs": _trained_resized,
    "sign activations": lambda zoo: zoo.trained(
        perceptron(128, lambda: Apply(_StraightSign.apply))
    ),
    "winners take all": lambda zoo: zoo.trained(perceptron(256, winners(0.1)), rounds=30),
    "detached": lambda zoo: Apply(_detached(zoo.robust, convolution()), zoo.robust),
    "noisy gradient": lambda zoo: Apply(lambda x: zoo.robust(_NoisyBack.apply(x)), zoo.robust),
    "squashed inputs": lambda zoo: zoo.trained(
        nn.Sequential(Apply(lambda x: torch.sigmoid(80 * (x - 0.5))), convolution())
    ),
}

STAND_INS = {
    "saturated": "robust",
    "quantised inputs": "robust",
    "one-hot": "robust",
    "noisy inputs": "robust",
    "detached": "robust",
    "noisy gradient": "robust",
    "resized inputs": "plain",
    "sign activations": "plain",
    "winners take all": "plain",
    "distilled": "plain",
    "squashed inputs": "plain",
}
