"""Torch modules and exported programs as targets."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.errors import InputError
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
