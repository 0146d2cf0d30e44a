"""Differential privacy: what is clipped is clipped, and no epsilon stands on one accountant."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.lab.defences import accounting, dp_sgd
from keepstone.lab.defences.accounting import Epsilon, account, agreed
from keepstone.lab.defences.dp_sgd import DpSgd
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Verdict

DOMAIN = Domain.of((6,), -4.0, 4.0)
Need = Callable[[str], ModuleType]


@pytest.fixture
def accountants(need_module: Need) -> None:
    need_module("opacus")
    need_module("dp_accounting")


# Accounting


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "wanted"),
    # dp-accounting's own, and Opacus's: 7.5237 and 7.5341; 0.6220 and 0.6321; 17.8566, 17.8673.
    [(1.0, 0.05, 500, 7.534), (2.0, 0.01, 1000, 0.632), (1.0, 1.0, 10, 17.867)],
)
def test_two_accountants_agree(
    accountants: None, noise: float, rate: float, steps: int, wanted: float
) -> None:
    found = account(noise, rate, steps, 1e-5)
    assert found.epsilon == pytest.approx(wanted, abs=2e-3)
    by = dict(found.by)
    assert found.epsilon == max(by.values()) == by[found.accountant]
    assert abs(by["prv"] - by["pld"]) < 0.02
    told = found.to_dict()
    assert told["accountant"] in ("prv", "pld")
    assert set(told["by"]) == {"prv", "pld"}


def test_one_step_without_sampling_is_the_gaussian_mechanism(accountants: None) -> None:
    """Balle and Wang 2018, theorem 8: delta is known exactly for one step."""
    from math import exp
    from statistics import NormalDist

    found = account(1.0, 1.0, 1, 1e-5)
    normal = NormalDist()
    eps = found.epsilon
    delta = normal.cdf(0.5 - eps) - exp(eps) * normal.cdf(-0.5 - eps)
    # An upper bound on epsilon, and hardly more.
    assert delta <= 1e-5
    eps -= 0.03
    assert normal.cdf(0.5 - eps) - exp(eps) * normal.cdf(-0.5 - eps) > 1e-5


def test_more_noise_is_more_privacy(accountants: None) -> None:
    found = [account(noise, 0.1, 50, 1e-5).epsilon for noise in (0.8, 1.0, 2.0, 5.0)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("apart", [0.1, 1.0])
def test_accountants_that_disagree_give_no_number(apart: float) -> None:
    with pytest.raises(OperationalError, match=r"defence\.accountants_disagree"):
        agreed((("prv", 2.0), ("pld", 2.0 + apart)), 1.0, 0.1, 10, 1e-5)
    assert agreed((("prv", 2.01), ("pld", 2.0)), 1.0, 0.1, 10, 1e-5).epsilon == 2.01


@pytest.mark.parametrize(
    ("by", "code"),
    [
        (("gdp",), "defence.gdp"),
        (("prv", "pld", "gdp"), "defence.gdp"),
        (("prv",), "defence.one_accountant"),
        (("pld", "pld"), "defence.one_accountant"),
        (("prv", "rdp"), "defence.one_accountant"),
    ],
)
def test_neither_gdp_nor_one_accountant_is_evidence(by: tuple[str, ...], code: str) -> None:
    with pytest.raises(InputError) as refused:
        account(1.0, 0.1, 10, 1e-5, by)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "given", [(0.0, 0.1, 10, 1e-5), (1.0, 0.0, 10, 1e-5), (1.0, 1.1, 10, 1e-5), (1.0, 0.1, 0, 1e-5)]
)
def test_what_is_no_mechanism_has_no_epsilon(given: Any) -> None:
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        account(*given)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_accountant_that_fails_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setitem(accounting._ACCOUNTANTS, "prv", lambda *_: value)
    monkeypatch.setitem(accounting._ACCOUNTANTS, "pld", lambda *_: value)
    with pytest.raises(OperationalError, match=r"defence\.not_accounted"):
        account(1.0, 0.1, 10, 1e-5)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> float:
        raise ImportError

    monkeypatch.setitem(accounting._ACCOUNTANTS, "prv", absent)
    with pytest.raises(OperationalError, match=r"runtime\.missing"):
        account(1.0, 0.1, 10, 1e-5)


# Training


def net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def trained(need_module: Need, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Training, with an epsilon of 1 whatever was done."""
    need_module("torch")

    def one(noise: float, rate: float, steps: int, delta: float) -> Epsilon:
        return Epsilon(1.0, delta, "pld", (("prv", 1.0), ("pld", 1.0)), noise, rate, steps)

    monkeypatch.setattr(dp_sgd, "account", one)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = np.eye(6)[y] * 3 + rng.normal(0, 0.3, (200, 6))

    def fit(made: DpSgd, module: Any = None, delta: float = 1e-5, seed: int | None = 0) -> Any:
        return made.fit(module or net(), x, y, DOMAIN, delta, seed), x, y

    return fit


def test_no_row_weighs_more_than_the_clip(need_module: Need) -> None:
    torch = need_module("torch")
    from torch.nn import functional

    module = net()
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(0, 2, (12, 6)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, 12))
    # The same, row by row and by another way to differentiate.
    gradients, lengths = [], []
    for row, label in zip(rows, labels, strict=True):
        loss = functional.cross_entropy(module(row[None]), label[None])
        gradients.append(torch.autograd.grad(loss, list(module.parameters())))
        lengths.append(float(sum((one**2).sum() for one in gradients[-1]) ** 0.5))
    # Half of them are clipped, the others stay as they are.
    clip = float(np.median(lengths))
    made = DpSgd(clip=clip)
    whole = made.clipped_sums(module, rows, labels)
    wanted = {name: torch.zeros_like(one) for name, one in module.named_parameters()}
    for each, length in zip(gradients, lengths, strict=True):
        for name, one in zip(wanted, each, strict=True):
            wanted[name] += one * min(1.0, clip / length)
    assert all(torch.allclose(whole[name], wanted[name], atol=1e-5) for name in wanted)
    for left in range(12):
        others = [at for at in range(12) if at != left]
        without = made.clipped_sums(module, rows[others], labels[others])
        moved = sum(((whole[name] - without[name]) ** 2).sum() for name in wanted)
        assert float(moved) ** 0.5 <= clip * (1 + 1e-4)
    nothing = made.clipped_sums(module, rows[:0], labels[:0])
    assert not any(one.any() for one in nothing.values())


def test_a_row_that_overflows_does_not_get_through(need_module: Need) -> None:
    torch = need_module("torch")
    rows = torch.full((2, 6), float("inf"))
    rows[1] = 1.0
    found = DpSgd().clipped_sums(net(), rows, torch.tensor([0, 1]))
    assert all(bool(torch.isfinite(one).all()) for one in found.values())


def test_it_learns_and_leaves_the_callers_module_alone(trained: Callable[..., Any]) -> None:
    module = net()
    before = [one.detach().clone() for one in module.parameters()]
    found, x, y = trained(DpSgd(noise=0.5, steps=60), module)
    assert (found.target.predict(x).labels == y).mean() > 0.9
    assert all((old == new).all() for old, new in zip(before, module.parameters(), strict=True))


def test_only_weights_that_got_noise_are_of_the_training(trained: Callable[..., Any]) -> None:
    import torch
    from torch import nn

    class Keeps(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(6, 3)
            self.still = nn.Parameter(torch.ones(6), requires_grad=False)
            # What takes no gradient at all.
            self.places = nn.Parameter(torch.arange(6), requires_grad=False)
            self.asked: list[int] = []

        def forward(self, x: Any) -> Any:
            self.asked.append(len(x))
            return self.body((x * self.still)[:, self.places])

    module = Keeps()
    made = trained(DpSgd(noise=0.5, steps=60), module)[0].target.module
    assert len(made.asked) < 10
    assert torch.equal(made.still, torch.ones(6))
    assert not torch.equal(made.body.weight, module.body.weight)
    with pytest.raises(InputError, match=r"defence\.unfit"):
        trained(DpSgd(), net().requires_grad_(False))


def test_noise_hides_what_was_learnt(trained: Callable[..., Any]) -> None:
    found, x, y = trained(DpSgd(noise=500.0, steps=20))
    assert (found.target.predict(x).labels == y).mean() < 0.9


def test_a_seed_repeats_the_noise_and_is_no_privacy(trained: Callable[..., Any]) -> None:
    first, x, _ = trained(DpSgd(steps=5))
    again = trained(DpSgd(steps=5))[0]
    assert (first.target.predict(x).scores == again.target.predict(x).scores).all()
    assert first.verdict is Verdict.INVALID
    assert [one.code for one in first.problems] == ["defence.seeded"]
    free = [trained(DpSgd(steps=5), seed=None)[0] for _ in range(2)]
    assert all(one.verdict is Verdict.PASS for one in free)
    assert (free[0].target.predict(x).scores != free[1].target.predict(x).scores).any()
    told = free[0].to_dict()["privacy"]
    assert told["accountant"] == "pld"
    assert told["sampling"] == "poisson"


def test_no_seed_of_few_bits_is_behind_the_noise(trained: Callable[..., Any]) -> None:
    # torch's generator on a CPU takes these two for one: its noise has 2**32 beginnings.
    first, x, _ = trained(DpSgd(steps=2), seed=3)
    other = trained(DpSgd(steps=2), seed=3 + (1 << 32))[0]
    assert (first.target.predict(x).scores != other.target.predict(x).scores).any()


def test_what_cannot_be_private_is_refused(trained: Callable[..., Any]) -> None:
    from torch import nn

    with pytest.raises(InputError, match=r"defence\.bad_delta"):
        trained(DpSgd(), delta=0.01)
    mean = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True))
    alone = nn.BatchNorm1d(6, track_running_stats=False)
    for mixes in (nn.BatchNorm1d(6), alone, mean.append(nn.Flatten())):
        with pytest.raises(InputError, match=r"defence\.unfit"):
            trained(DpSgd(), nn.Sequential(mixes, nn.Linear(6, 3)))
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        trained(DpSgd(clip=0.0))


def test_an_epsilon_is_of_what_was_run(accountants: None, need_module: Need) -> None:
    need_module("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 6)), rng.integers(0, 3, 60)
    made = DpSgd(noise=1.5, rate=0.2, steps=7)
    found = made.fit(net(), x, y, DOMAIN, 1e-3)
    assert found.epsilon == account(1.5, 0.2, 7, 1e-3)
