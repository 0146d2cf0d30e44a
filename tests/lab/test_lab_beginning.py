"""A module begun anew: what may know the rows is refused, and what cannot is not."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from keepstone.errors import InputError
from keepstone.lab.defences.beginning import begun_anew, digest_of

Need = Callable[[str], ModuleType]
Builds = Callable[[Any], None]


@pytest.fixture
def made(need_module: Need) -> Callable[[Builds], Any]:
    """A module whose constructor draws a layer and then does what it is given."""
    torch = need_module("torch")

    def make(builds: Builds) -> Any:
        class Made(torch.nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.body = torch.nn.Linear(4, 4)
                builds(self)

        return Made()

    return make


def test_weights_are_drawn_by_the_seed(need_module: Need, made: Callable[[Builds], Any]) -> None:
    torch = need_module("torch")
    module = made(lambda one: None)
    first, again, other = (begun_anew(module, seed).body.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, module.body.weight)


def draws_and_begins(one: Any) -> None:
    """Everything that torch's own layers begin with."""
    import torch
    from torch import nn

    one.norm, one.affine = nn.BatchNorm1d(4), nn.LayerNorm(4)
    # A row of zeros in a table that is drawn.
    one.table = nn.Embedding(6, 4, padding_idx=0)
    one.attention = nn.MultiheadAttention(4, 2)
    one.none = nn.Parameter(torch.zeros(3, 4), requires_grad=False)
    one.register_buffer("empty", torch.zeros(0))
    # Draws of one bit, and of eight: two of them are often the same.
    one.register_buffer("signs", torch.randint(0, 2, (60,)) * 2 - 1)
    one.register_buffer("bits", torch.randn(400).bfloat16())
    one.register_buffer("order", torch.randperm(30))


def test_what_torch_begins_with_is_no_memory(made: Callable[[Builds], Any]) -> None:
    for seed in range(3):
        begun_anew(made(draws_and_begins), seed)


def remembered() -> dict[str, tuple[Builds, str]]:
    """What may come of the rows, each with the name of what holds it."""
    import torch
    from torch import nn

    kept, table = nn.Linear(4, 4).state_dict(), torch.arange(6.0)

    def mixed(one: Any) -> None:
        one.table = nn.Embedding(6, 4)
        one.table.weight.data[2:4] = kept["weight"][:2]

    def holed(one: Any) -> None:
        # What is no number is no draw.
        one.register_buffer("rows", torch.tensor([float("nan"), 1.0, 1.0]))

    return {
        "weights": (lambda one: one.body.load_state_dict(kept), "body.weight"),
        "some of a table": (mixed, "table.weight"),
        "a buffer": (lambda one: one.register_buffer("rows", table, persistent=False), "rows"),
        "a buffer with holes": (holed, "rows"),
        "a frozen weight": (
            lambda one: setattr(one, "rows", nn.Parameter(table, requires_grad=False)),
            "rows",
        ),
        "a mean of the rows": (
            lambda one: one.register_buffer("mean", torch.full((4,), 0.1307)),
            "mean",
        ),
        "one number": (lambda one: setattr(one, "bias", nn.Parameter(torch.tensor([0.7]))), "bias"),
        "which weights are kept": (
            lambda one: one.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0])),
            "mask",
        ),
        "an attribute": (lambda one: setattr(one.body, "rows", table), "body.rows"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "weights",
        "some of a table",
        "a buffer",
        "a buffer with holes",
        "a frozen weight",
        "a mean of the rows",
        "one number",
        "which weights are kept",
        "an attribute",
    ],
)
def test_what_is_the_same_whatever_the_seed_is_no_new_beginning(
    need_module: Need, made: Callable[[Builds], Any], kind: str
) -> None:
    need_module("torch")
    builds, name = remembered()[kind]
    module = made(builds)
    with pytest.raises(InputError, match=r"defence\.unfit") as refused:
        begun_anew(module, 0)
    assert repr(name) in str(refused.value)
    # Unless somebody states that it was made without the rows.
    fixed = ("body",) if name.startswith("body") else (name,)
    begun_anew(module, 0, fixed)
    with pytest.raises(InputError, match=r"defence\.unfit"):
        begun_anew(module, 0, ("other",))


def test_weights_that_are_others_each_time_are_no_beginning(made: Callable[[Builds], Any]) -> None:
    import torch

    times: list[int] = []

    def grows(one: Any) -> None:
        times.append(1)
        one.register_buffer(f"rows{len(times)}", torch.arange(4.0))

    with pytest.raises(InputError, match=r"defence\.unfit"):
        begun_anew(made(grows), 0, ("rows1", "rows2", "rows3"))


def test_only_what_stays_is_stated_to_be_fixed(made: Callable[[Builds], Any]) -> None:
    import torch

    def builds(one: Any) -> None:
        one.place = torch.nn.Module()
        one.place.register_buffer("table", torch.arange(8.0).sin())

    module = made(builds)
    for name in ("place.table", "place"):
        begun_anew(module, 0, (name,))
    # Drawn; of no tensor; the beginning of a name, which is none.
    for name in ("body", "none", "pla", ""):
        with pytest.raises(InputError, match=r"defence\.bad_parameters"):
            begun_anew(module, 0, ("place", name))


def test_a_digest_is_of_all_that_a_name_holds(made: Callable[[Builds], Any]) -> None:
    import torch

    def holds(first: float, kind: Any = torch.float32) -> Builds:
        def build(one: Any) -> None:
            one.place = torch.nn.Module()
            one.place.register_buffer("a", torch.tensor([first, 2.0], dtype=kind))
            one.place.register_buffer("b", torch.tensor([True, False]))
            one.place.register_buffer("c", torch.tensor(7))

        return build

    module = made(holds(1.0))
    assert digest_of(module, "place") == digest_of(made(holds(1.0)), "place")
    assert digest_of(module, "place.a") == digest_of(made(holds(1.0)), "place.a")
    others = [made(holds(3.0)), made(holds(1.0, torch.float64)), made(holds(1.0))]
    # The same bytes in another shape.
    others[2].place.a = others[2].place.a.reshape(2, 1)
    assert len({str(digest_of(one, "place")) for one in (module, *others)}) == 4
    assert digest_of(module, "place") != digest_of(module, "place.a")
