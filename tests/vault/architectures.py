"""Architectures that tests name by `tests.vault.architectures:Class`: a user's own code."""

from __future__ import annotations

from typing import Any

import torch

MADE: list[str] = []


class Scale(torch.nn.Module):
    """Three numbers in, each times its weight out; remembers that it was made."""

    def __init__(self) -> None:
        super().__init__()
        MADE.append("Scale")
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> Any:
        return x * self.weight


class Several(Scale):
    def forward(self, x: torch.Tensor) -> Any:
        return {"y": x * self.weight, "unused": x}


class Wide(Scale):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.cat([x, x], dim=1)


class Broken(torch.nn.Module):
    def __init__(self) -> None:
        raise RuntimeError("no luck")


def not_a_class() -> None:
    """Callable, but no class."""


class Layer(torch.nn.Module):
    """Two numbers in, scores of three classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


class Outer:
    class Inner(Layer):
        """Inside another class, where `package.module:Class` names nothing."""
