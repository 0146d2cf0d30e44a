"""Torch modules and exported programs as targets."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.losses import cross_entropy
from keepstone.lab.targets.port import UNANSWERED
from keepstone.lab.targets.torch import TorchTarget

DOMAIN = Domain.of((1, 4, 4), 0.0, 1.0)
ROWS = np.random.default_rng(0).uniform(0, 1, (20, 16)).astype(np.float32)
Y = np.arange(20) % 3


@pytest.fixture
def torch(need_module: Callable[[str], ModuleType]) -> Any:
    return need_module("torch")


def network(torch: Any, *more: Any) -> Any:
    torch.manual_seed(0)
    layers = (torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return torch.nn.Sequential(*layers, *more)


def gradient(target: TorchTarget, rows: np.ndarray) -> np.ndarray:
    found = target.linearize(rows)
    return found.vjp(cross_entropy(found.scores, Y[: len(rows)])[1])


def test_its_gradient_is_torchs(torch: Any) -> None:
    module = network(torch)
    target = TorchTarget(module, DOMAIN, batch=7)
    given = torch.from_numpy(ROWS.reshape(-1, 1, 4, 4)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(module(given), torch.from_numpy(Y), reduction="sum")
    loss.backward()
    assert np.allclose(gradient(target, ROWS), given.grad.numpy().reshape(20, -1), atol=1e-6)


def test_no_more_than_one_piece_is_remembered(torch: Any) -> None:
    import weakref

    made = []

    class Watched(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, rows: Any) -> Any:
            found = rows.flatten(1)[:, :3] * 2
            made.append(weakref.ref(found))
            return found

    target = TorchTarget(Watched(), DOMAIN, batch=5)
    found = target.linearize(ROWS)
    assert [one() for one in made if one() is not None] == []
    assert (found.vjp(np.ones((20, 3), np.float32)).sum(axis=1) == 6).all()


def test_an_exported_program_is_the_module_that_it_was_made_of(torch: Any) -> None:
    module = network(torch).eval()
    example = (torch.zeros(2, 1, 4, 4),)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(module, example, dynamic_shapes=({0: batch},))
    one, other = TorchTarget(program, DOMAIN), TorchTarget(module, DOMAIN)
    assert np.allclose(one.predict(ROWS).scores, other.predict(ROWS).scores, atol=1e-6)
    assert np.allclose(gradient(one, ROWS), gradient(other, ROWS), atol=1e-6)


def test_probabilities_become_their_logarithms_with_their_gradient(torch: Any) -> None:
    served = TorchTarget(network(torch, torch.nn.Softmax(1)), DOMAIN)
    plain = TorchTarget(network(torch), DOMAIN)
    assert np.allclose(gradient(served, ROWS), gradient(plain, ROWS), atol=1e-5)


def test_scores_that_are_no_numbers_are_no_answer(torch: Any) -> None:
    class Broken(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(torch)

        def forward(self, x: Any) -> Any:
            first = x.reshape(len(x), -1)[:, :1]
            return torch.where(first > 0.5, torch.nan, self.inner(x))

    target = TorchTarget(Broken(), DOMAIN)
    silent = ROWS[:, 0] > 0.5
    assert silent.any()
    assert ((target.predict(ROWS).labels == UNANSWERED) == silent).all()
    assert ((target.linearize(ROWS).labels == UNANSWERED) == silent).all()


def test_what_is_no_module_is_refused(torch: Any) -> None:
    for given in (object(), lambda x: x, network):
        with pytest.raises(InputError) as caught:
            TorchTarget(given, DOMAIN)
        assert caught.value.code == "target.bad_object"
    with pytest.raises(InputError) as caught:
        TorchTarget(torch.nn.Identity(), DOMAIN)
    assert caught.value.code == "target.bad_object"


def odd(torch: Any, odd_from: float, forward: Callable[[Any], Any]) -> TorchTarget:
    """A target that answers otherwise where the first number of a batch is above `odd_from`."""

    class Odd(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(torch)

        def forward(self, x: Any) -> Any:
            first = float(x.detach().reshape(-1)[0])
            return forward(self.inner(x)) if first > odd_from else self.inner(x)

    return TorchTarget(Odd(), DOMAIN)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, ZeroDivisionError, KeyError])
def test_what_a_module_raises_is_its_failure(torch: Any, kind: type[Exception]) -> None:
    def fail(_: Any) -> Any:
        raise kind("of its own")

    target = odd(torch, 0.99, fail)
    rows = np.ones((4, 16), np.float32)
    for action in (target.predict, target.linearize):
        with pytest.raises(OperationalError) as caught:
            action(rows)
        assert caught.value.code == "runtime.failed"
        assert "of its own" not in caught.value.cause


def test_an_error_with_a_code_keeps_it(torch: Any) -> None:
    def refuse(_: Any) -> Any:
        raise InputError("some.code", "Its own.")

    with pytest.raises(InputError) as caught:
        odd(torch, 0.99, refuse).predict(np.ones((4, 16), np.float32))
    assert caught.value.code == "some.code"


def test_a_gradient_that_fails_is_the_modules_failure(torch: Any) -> None:
    class Fails(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            raise RuntimeError("of its own")

    target = odd(torch, 0.99, Fails.apply)
    with pytest.raises(OperationalError) as caught:
        gradient(target, np.ones((4, 16), np.float32))
    assert caught.value.code == "runtime.failed"


@pytest.mark.parametrize(
    "forward",
    [lambda y: y[:-1], lambda y: y[0], lambda y: y.sum(), lambda y: y[:, :2], lambda y: y[:, 0]],
)
def test_an_answer_of_another_shape_is_broken(torch: Any, forward: Callable[[Any], Any]) -> None:
    target = odd(torch, 0.99, forward)
    rows = np.ones((4, 16), np.float32)
    for action in (target.predict, target.linearize):
        with pytest.raises(OperationalError) as caught:
            action(rows)
        assert caught.value.code == "target.broken"
    with pytest.raises(InputError) as refused:
        odd(torch, 0.99, lambda y: (y,)).predict(rows)
    assert refused.value.code == "target.bad_object"


def test_a_module_of_half_precision_answers(torch: Any) -> None:
    target = odd(torch, -1.0, lambda y: y.to(torch.bfloat16))
    assert target.predict(ROWS).scores is not None
