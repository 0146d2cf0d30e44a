"""DP-SGD: training whose every step hides each row in noise, with the epsilon that this proves.

Promise: a copy of a torch module is trained; each step takes each row with the chance `rate`, clips
its gradient to the length `clip` and adds noise of `noise` times that to the sum. Nothing of the
training is kept but the weights that got that noise: those that the module has frozen, its buffers
and whatever else it holds are as they began. The epsilon is that of `accounting`, on which two
accountants agree, and is computed before anything is trained.

Noise that can be repeated hides nothing: a `seed` is for tests, and makes the result invalid.

Source: Abadi et al. 2016, arXiv 1607.00133; Poisson samples as the accountants assume them (Chua
et al. 2024 on why no others). Cost: gradients row by row. Blind spots: NumPy's generator is no
cryptographic one, and floats have gaps (Mironov 2012); choosing settings by their results
spends privacy that nobody counts; modules that mix rows, as batch normalisation, are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.defences.accounting import Epsilon, account
from keepstone.lab.defences.certificate import checked
from keepstone.lab.domain import Domain
from keepstone.lab.draws import draws
from keepstone.lab.problem import Problem, Verdict, invalid, worst_of
from keepstone.lab.targets.torch import TorchTarget, its_own


@dataclass(frozen=True, slots=True)
class Private:
    """The model, and what its training is proved to hide. `invalid`: it hides nothing."""

    target: TorchTarget
    epsilon: Epsilon
    clip: float
    problems: tuple[Problem, ...]

    @property
    def verdict(self) -> Verdict:
        return worst_of(self.problems)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "keepstone.privacy/v1",
            "defence": DpSgd.name,
            "source": DpSgd.source,
            "verdict": self.verdict.value,
            "privacy": self.epsilon.to_dict(),
            "clip": self.clip,
            "problems": [one.to_dict() for one in self.problems],
        }


@dataclass(frozen=True, slots=True)
class DpSgd:
    """`noise` in parts of `clip`; `rate` is the chance of a row to be in a step; `speed` is the
    learning rate of Adam, to which noisy gradients are given."""

    noise: float = 1.0
    clip: float = 1.0
    rate: float = 0.1
    steps: int = 200
    speed: float = 0.01
    name: ClassVar[str] = "dp-sgd"
    source: ClassVar[str] = "Abadi et al. 2016, arXiv 1607.00133"

    def fit(
        self,
        module: Any,
        x: Array,
        y: Array,
        domain: Domain,
        delta: float,
        seed: int | None = None,
    ) -> Private:
        """Train on rows `x` (n, d) of classes `y` (n,), by their places, what of the module takes
        gradients. What it begins with is published as it is (`beginning`).

        Raises what `account` raises; InputError `defence.bad_data`, `defence.bad_delta`,
        `defence.unfit`, `target.bad_object`; OperationalError `defence.diverged`.
        """
        if not (np.isfinite(self.clip) and self.clip > 0 and self.speed > 0):
            raise InputError("defence.bad_parameters", "Gradients are clipped to above zero.")
        x, y = checked(x, y, domain.width, TorchTarget(copy.deepcopy(module), domain).classes)
        if not len(x) or delta >= 1 / len(x):
            raise InputError(
                "defence.bad_delta",
                f"A delta of {delta:g} lets one of {len(x)} rows be published whole.",
                "Give one well below one by the number of rows.",
            )
        _check_rows_apart(module)
        epsilon = account(self.noise, self.rate, self.steps, delta)
        problems = () if seed is None else (_seeded(),)
        return Private(self.train(module, x, y, domain, seed), epsilon, self.clip, problems)

    def train(
        self, module: Any, x: Array, y: Array, domain: Domain, seed: int | None
    ) -> TorchTarget:
        """The training of `fit` alone, of which nothing is proved: for shadow models."""
        taught, made = copy.deepcopy(module), copy.deepcopy(module)
        before = TorchTarget(copy.deepcopy(module), domain)
        with its_own():
            self._train(taught, before, domain.as_inputs(domain.fit(x, x)), y, seed)
        # What rows left elsewhere in the module that was taught, in an attribute say, stays there.
        kept = _trained(taught)
        for name, weight in _trained(made).items():
            weight.data.copy_(kept[name].data)
        return TorchTarget(made, domain)

    def _train(
        self, module: Any, before: TorchTarget, x: Array, y: Array, seed: int | None
    ) -> None:
        import torch

        # torch's own generator keeps 32 bits of a seed: who tries them all subtracts the noise.
        # This one takes 128 bits from the system.
        rng = np.random.default_rng() if seed is None else draws(seed, 0, 1)
        rows, labels = torch.from_numpy(x), torch.from_numpy(y)
        module.train()
        weights = _trained(module)
        learner = torch.optim.Adam(weights.values(), lr=self.speed)
        for _ in range(self.steps):
            at = torch.from_numpy(rng.random(len(rows)) < self.rate)
            sums = self.clipped_sums(module, rows[at], labels[at], before.logits)
            for name, weight in weights.items():
                drawn = torch.as_tensor(rng.standard_normal(weight.shape), dtype=weight.dtype)
                noisy = sums[name] + self.noise * self.clip * drawn
                # By the mean size of a sample: its true size would tell of a row.
                weight.grad = noisy / (self.rate * len(rows))
            learner.step()
        if not all(bool(torch.isfinite(one).all()) for one in weights.values()):
            raise OperationalError(
                "defence.diverged",
                "The private training's weights are no numbers any more.",
                "Train at a lower speed.",
            )

    def clipped_sums(
        self, module: Any, rows: Any, labels: Any, logits: Callable[[Any], Any] = lambda told: told
    ) -> dict[str, Any]:
        """The sum of the rows' gradients, each no longer than `clip` over all weights together.

        `logits` makes scores of classes of what the module says.
        """
        import torch
        from torch.func import functional_call, grad, vmap
        from torch.nn import functional

        weights = {name: one.detach() for name, one in _trained(module).items()}
        if not len(rows):
            return {name: torch.zeros_like(one) for name, one in weights.items()}

        def loss(given: Any, row: Any, label: Any) -> Any:
            scores = logits(functional_call(module, given, (row[None],)))
            return functional.cross_entropy(scores, label[None])

        each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        found = each(weights, rows, labels)
        square = sum(one.flatten(1).pow(2).sum(1) for one in found.values())
        # A gradient that is no number is left out: it would be in every weight.
        factor = (self.clip / square.sqrt().clamp_min(1e-12)).clamp(max=1.0)
        usable = torch.isfinite(square)
        sums = {}
        for name, one in found.items():
            shape = (-1, *(1,) * (one.dim() - 1))
            kept = torch.where(usable.reshape(shape), one * factor.reshape(shape), 0.0)
            sums[name] = kept.sum(0)
        return sums


def _trained(module: Any) -> dict[str, Any]:
    """The weights that take gradients. Raises InputError `defence.unfit` where none does."""
    found = {name: one for name, one in module.named_parameters() if one.requires_grad}
    if not found:
        raise InputError(
            "defence.unfit",
            "dp-sgd does not fit the model: all of its weights are frozen.",
            "Let those take gradients that are to be trained.",
        )
    return found


def _check_rows_apart(module: Any) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    if any(
        isinstance(one, _BatchNorm) or getattr(one, "track_running_stats", False)
        for one in module.modules()
    ):
        raise InputError(
            "defence.unfit",
            "dp-sgd does not fit the model: its normalisation mixes the rows of a step, or keeps"
            " their mean.",
            "Use group or layer normalisation.",
        )


def _seeded() -> Problem:
    return invalid(
        "defence.seeded", "The noise was drawn by a known seed: who knows it subtracts the noise."
    )
