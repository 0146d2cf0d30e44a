"""Adversarial training of a torch module: on the worst inputs near the samples, not on the samples.

Promise: a copy of the module is trained, the caller's own stays as it is; the same one for a seed
on one machine. Perturbations are within `eps` (L-inf) and within the domain. Epsilon grows over
the first half of the training, without which a small network learns nothing.

- `PgdTraining`: `steps` of projected gradient descent for each batch (Madry et al. 2018, arXiv
  1706.06083).
- `Trades`: the clean loss, and `beta` times how far the worst input's answer is from the clean one
  (Zhang et al. 2019, arXiv 1901.08573).
- `FastTraining`: one step from a random start (Wong et al. 2020, arXiv 2001.03994).

Cost: `steps` + 1 times that of training; `FastTraining` twice. Blind spots: it promises nothing
beyond its epsilon and its norm; it costs accuracy on clean samples; and one step can teach a model
to mask its gradient (catastrophic overfitting), which `evaluate` and the signs of masking see and
the training's own loss does not. No number is told before `evaluate`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.defences.certificate import checked
from keepstone.lab.domain import Domain
from keepstone.lab.targets.torch import TorchTarget, its_own


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast is trained: Adam, its rate rising to `rate` and falling again."""

    epochs: int = 20
    batch: int = 128
    rate: float = 0.004

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not (np.isfinite(self.rate) and self.rate > 0):
            raise InputError(
                "defence.bad_parameters", "A training has epochs, a batch and a rate above zero."
            )


class Lesson(Protocol):
    """A frozen dataclass of its parameters: what is learnt from one batch."""

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def eps(self) -> float: ...

    def loss(self, batch: Batch) -> Any: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs `x` and classes `y` of one step, and all that it takes to perturb them.

    `logits` makes scores of classes of what the module says.
    """

    module: Any
    logits: Any
    x: Any
    y: Any
    low: Any
    high: Any
    eps: float
    draws: Any

    def scores(self, rows: Any) -> Any:
        return self.logits(self.module(rows))

    def worst(self, loss: Any, steps: int, size: float) -> Any:
        """Where `steps` of `size` epsilons up the sign of `loss`'s slope lead, from a random start.

        The module is in evaluation mode for that: what it is perturbed by is not what it learns.
        """
        import torch

        self.module.eval()
        start = 2 * torch.rand(self.x.shape, generator=self.draws, dtype=self.x.dtype) - 1
        found = self._fit(self.x + self.eps * start)
        for _ in range(steps):
            found.requires_grad_()
            (slope,) = torch.autograd.grad(loss(self.scores(found)), found)
            found = self._fit(found.detach() + size * self.eps * slope.sign())
        self.module.train()
        return found

    def _fit(self, rows: Any) -> Any:
        import torch

        near = torch.min(torch.max(rows, self.x - self.eps), self.x + self.eps)
        return torch.min(torch.max(near, self.low), self.high)


@dataclass(frozen=True, slots=True)
class PgdTraining:
    """`steps` steps, each of `size` epsilons."""

    eps: float
    steps: int = 7
    size: float = 0.35
    name: ClassVar[str] = "pgd-training"
    source: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"

    def loss(self, batch: Batch) -> Any:
        from torch.nn import functional

        def miss(scores: Any) -> Any:
            return functional.cross_entropy(scores, batch.y)

        return miss(batch.scores(batch.worst(miss, self.steps, self.size)))


@dataclass(frozen=True, slots=True)
class Trades:
    """`beta` weighs robustness against accuracy."""

    eps: float
    beta: float = 6.0
    steps: int = 7
    size: float = 0.35
    name: ClassVar[str] = "trades"
    source: ClassVar[str] = "Zhang et al. 2019, arXiv 1901.08573"

    def loss(self, batch: Batch) -> Any:
        from torch.nn import functional

        batch.module.eval()
        calm = functional.softmax(batch.scores(batch.x), 1).detach()
        bad = batch.worst(lambda scores: _apart(scores, calm), self.steps, self.size)
        clean = batch.scores(batch.x)
        kept = _apart(batch.scores(bad), functional.softmax(clean, 1))
        return functional.cross_entropy(clean, batch.y) + self.beta * kept


@dataclass(frozen=True, slots=True)
class FastTraining:
    """One step of `size` epsilons, above 1 so that it leaves where it started."""

    eps: float
    size: float = 1.25
    name: ClassVar[str] = "fast-training"
    source: ClassVar[str] = "Wong et al. 2020, arXiv 2001.03994"

    def loss(self, batch: Batch) -> Any:
        from torch.nn import functional

        def miss(scores: Any) -> Any:
            return functional.cross_entropy(scores, batch.y)

        return miss(batch.scores(batch.worst(miss, 1, self.size)))


def harden(
    lesson: Lesson,
    module: Any,
    x: Array,
    y: Array,
    domain: Domain,
    *,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> TorchTarget:
    """Train a copy of `module` on rows `x` (n, d) of classes `y` (n,), by their places.

    Raises InputError `defence.bad_data`, `defence.unfit`,
    `attack.bad_eps`, `target.bad_object`; OperationalError `runtime.missing`, `runtime.failed`,
    `defence.diverged`.
    """
    if not (np.isfinite(lesson.eps) and lesson.eps > 0):
        raise InputError("attack.bad_eps", f"An epsilon of {lesson.eps} measures nothing.")
    if domain.dtype.kind != "f":
        raise InputError(
            "defence.unfit", f"{lesson.name} does not fit the model: it takes no real numbers."
        )
    # Missing torch and what is no module are told as the target tells them.
    made = copy.deepcopy(module)
    before = TorchTarget(copy.deepcopy(module), domain)
    x, y = checked(x, y, domain.width, before.classes)
    if not len(x):
        raise InputError("defence.bad_data", "There are no samples to train on.")
    with its_own():
        _train(lesson, made, before, (domain.fit(x, x), y), schedule or Schedule(), seed)
    return TorchTarget(made, domain)


def _train(
    lesson: Lesson,
    module: Any,
    before: TorchTarget,
    samples: tuple[Array, Array],
    plan: Schedule,
    seed: int,
) -> None:
    import torch

    draws = torch.Generator().manual_seed(seed)
    domain = before.domain
    rows, labels = torch.from_numpy(domain.as_inputs(samples[0])), torch.from_numpy(samples[1])
    low, high = (torch.from_numpy(domain.as_inputs(end[None])) for end in (domain.low, domain.high))
    module.requires_grad_(True).train()
    steps = plan.epochs * -(-len(rows) // plan.batch)
    learner = torch.optim.Adam(module.parameters(), lr=plan.rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(learner, plan.rate, total_steps=steps + 1)
    # Layers that draw, as dropout does, draw from the one generator of the process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            if step % (steps // plan.epochs) == 0:
                parts = iter(torch.randperm(len(rows), generator=draws).split(plan.batch))
            at = next(parts)
            eps = lesson.eps * min(1.0, 2 * (step + 1) / steps)
            loss = lesson.loss(
                Batch(module, before.logits, rows[at], labels[at], low, high, eps, draws)
            )
            _require_numbers(loss)
            learner.zero_grad()
            loss.backward()
            learner.step()
            rate.step()
    for weight in module.parameters():
        _require_numbers(weight)


def _require_numbers(found: Any) -> None:
    if not bool(found.isfinite().all()):
        raise OperationalError(
            "defence.diverged",
            "The adversarial training's loss or weights are no numbers any more.",
            "Train at a lower rate, or within a smaller epsilon.",
        )


def _apart(scores: Any, calm: Any) -> Any:
    from torch.nn import functional

    return functional.kl_div(functional.log_softmax(scores, 1), calm, reduction="batchmean")
