"""`keepstone harden`: defend a model, and say what is left of the defence once it is attacked."""

from __future__ import annotations

import click

from keepstone.cli.lazy import Lazy

# The value is the file of this package.
DEFENCES: dict[str, str] = {
    # Of a model.
    "train": "harden_train",
    "private": "harden_private",
    "smooth": "harden_smooth",
    "inputs": "harden_inputs",
    "outputs": "harden_outputs",
    "ensemble": "harden_ensemble",
    # Of what a model is trained on.
    "partition": "harden_partition",
    "trim": "harden_trim",
}


@click.group("harden", cls=Lazy, files=DEFENCES)
def command() -> None:
    """Defend a model, and measure what the defence is worth.

    No defence tells a number before it was attacked by one who knows it; one that only masks is
    called so.

    Exit status: 0 pass; 1 fail; 2 something given cannot be used; 3 insufficient or invalid (the
    defence masks, or contradicts itself): no number that could be relied on.
    """
