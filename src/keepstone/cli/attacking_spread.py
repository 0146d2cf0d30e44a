"""An attack in parts: by several processes of this machine, or by the machines of a cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keepstone.cli.attacking import Attacked
    from keepstone.lab.samples import Samples
    from keepstone.lab.suites.shards import Shards
    from keepstone.lab.suites.spread import Spread


def check_spread(target: str, given: dict[str, Any]) -> None:
    """Raises a usage error for both; InputError `attack.not_spread` for an address."""
    if given["workers"] is not None and given["ray"] is not None:
        raise click.UsageError("Give --workers or --ray.")
    asked = given["workers"] is not None or given["ray"] is not None
    if asked and target.startswith("https://"):
        from keepstone.errors import InputError

        raise InputError(
            "attack.not_spread",
            "An address is asked within the limits of one key: more workers get no more answers.",
            "Leave out --workers and --ray.",
        )


def shards_of(attacked: Attacked, samples: Samples, given: dict[str, Any]) -> Shards | None:
    """Who attacks the parts, and how each opens the model; None for all of it here.

    Raises OperationalError `runtime.missing`.
    """
    if given["workers"] is None and given["ray"] is None:
        return None
    import numpy as np

    from keepstone.lab.suites.shards import Shards
    from keepstone.workspace.lab.attacking import open_again

    assert attacked.subject is not None
    assert attacked.wanted is not None
    opens = partial(
        open_again,
        Path(attacked.shown).absolute(),
        # What they are is settled: a worker needs one to hold the model against.
        samples.take(np.arange(1)),
        attacked.wanted,
        attacked.classes.names,
        attacked.subject.digest,
    )
    return Shards(_spread(given), opens)


def _spread(given: dict[str, Any]) -> Spread:
    patience_s = given["patience"] / 1000
    if given["ray"] is not None:
        from keepstone.lab.suites.ray import RayCluster

        return RayCluster(given["ray"], patience_s)
    from keepstone.lab.suites.processes import Processes

    return Processes(given["workers"], patience_s)
