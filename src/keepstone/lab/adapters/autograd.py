"""A metered target as a torch module, whose gradient the target itself gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keepstone.errors import OperationalError
from keepstone.lab.adapters.metered import Metered


def torch_library() -> Any:
    """Raises OperationalError `runtime.missing`."""
    try:
        import torch
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "torch is not installed, which this adapter needs.",
            "pip install 'keepstone[torch]'",
        ) from error
    return torch


def as_module(asked: Metered, *, gradient: bool) -> Any:
    """A module that takes batches and gives scores; its parameters are none.

    With `gradient` the target is linearized where the batch wants one, and only there.
    """
    torch = torch_library()

    class Ask(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, batch: Any) -> Any:
            rows = batch.detach().cpu().numpy()
            if gradient and ctx.needs_input_grad[0]:
                scores, ctx.pull = asked.linearize(rows)
            else:
                scores, ctx.pull = asked.outputs(rows), None
            return torch.as_tensor(scores, dtype=batch.dtype, device=batch.device)

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            if ctx.pull is None:
                raise RuntimeError("the attack wants a gradient, which it did not declare to need")
            found = ctx.pull(cotangent.detach().cpu().numpy())
            return torch.as_tensor(found, dtype=cotangent.dtype, device=cotangent.device)

    class Asked(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, batch: Any) -> Any:
            return Ask.apply(batch)

    return Asked().eval()


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Seed torch's generator from NumPy's, and put it back afterwards."""
    torch = torch_library()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.randint(2**31)))
        yield
