"""A module begun anew: one that cannot know the rows that its weights were trained on.

Promise: noise hides what is learnt, never what was there before. So every number that the module
begins with is one of three: drawn (another seed makes another one), a zero or a one as torch begins
biases and scales, or in a tensor that somebody states was made without the rows (`fixed`): a table
of positions cannot be told from a checkpoint by looking at it. All else is refused.

Blind spots: what the code holds elsewhere than in parameters, buffers and tensors that are
attributes of the module; a checkpoint that draws are added to, or that only says where a drawn
tensor is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.targets.torch import its_own

# Two draws of few bits are often the same; of so many hardly ever all.
_BEGINNINGS = 24


def begun_anew(module: Any, seed: int, fixed: Sequence[str] = ()) -> Any:
    """Another of the module's class, made without arguments, its weights drawn by `seed`.

    `fixed` names tensors, or parts of the module with all that is in them. Raises InputError
    `defence.unfit` for a tensor that stays the same whatever the seed and is not named,
    `defence.bad_parameters` for a name of none that does; OperationalError `runtime.failed`.
    """
    made = _made(module, seed)
    staying = _staying(module, made, seed, fixed)
    unknown = [one for one in staying if not _named(one, fixed)]
    if unknown:
        raise InputError(
            "defence.unfit",
            f"The model does not begin anew: {_listed(unknown)} the same whatever the seed, and may"
            " know the rows.",
            "Give code that draws its weights and loads none. What was made without the rows, as a"
            " table of positions, is stated by its name: --fixed.",
        )
    spare = [one for one in fixed if not any(_named(name, (one,)) for name in staying)]
    if spare:
        raise InputError(
            "defence.bad_parameters",
            f"Nothing in the model that is called {spare[0][:100]!r} stays the same whatever the"
            " seed, so nothing has to be stated of it.",
            "Leave it out, or name it as the module does: part.table.",
        )
    return made


def digest_of(module: Any, name: str) -> Digest:
    """Of the tensor, or all in the part of the module, that is called so: their names, shapes,
    types and values."""
    import torch

    found = {at: one for at, one in _tensors(module).items() if _named(at, (name,))}
    head = [
        {"name": at, "shape": list(one.shape), "dtype": str(one.dtype)} for at, one in found.items()
    ]
    parts = [
        one.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for one in found.values()
    ]
    return Digest.of(canonical(head) + b"\n" + b"".join(parts))


def _staying(module: Any, made: Any, seed: int, fixed: Sequence[str]) -> list[str]:
    """What has numbers, neither all 0 nor all 1, that no other seed changes."""
    import torch

    first = _tensors(made)
    # Element by element: of a table some rows may be drawn, and the others loaded.
    same = {name: torch.ones_like(one, dtype=torch.bool) for name, one in first.items()}
    for turn in range(1, _BEGINNINGS):
        other = _tensors(_made(module, seed ^ turn))
        if {at: one.shape for at, one in other.items()} != {
            at: one.shape for at, one in first.items()
        }:
            raise InputError(
                "defence.unfit",
                "The model does not begin anew: it has other weights each time that it is made.",
            )
        for name, still in same.items():
            still &= _equal(first[name], other[name])
        same = {at: still for at, still in same.items() if not _is_begun(first[at][still])}
        if all(_named(name, fixed) for name in same):
            break
    return list(same)


def _equal(one: Any, other: Any) -> Any:
    """Which numbers of two tensors are the same; what is no number is the same as what is none."""
    return (one == other) | ((one != one) & (other != other))


def _is_begun(values: Any) -> bool:
    return bool((values == 0).all() or (values == 1).all())


def _named(name: str, names: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in names)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one[:100]) for one in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _made(module: Any, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]), its_own():
        torch.manual_seed(seed)
        return type(module)()


def _tensors(module: Any) -> dict[str, Any]:
    """Of the module and its parts, by name: parameters, buffers, and attributes that are plain."""
    import torch

    found = dict(module.named_parameters()) | dict(module.named_buffers())
    for place, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                found[f"{place}.{name}" if place else name] = value
    return dict(sorted(found.items()))
