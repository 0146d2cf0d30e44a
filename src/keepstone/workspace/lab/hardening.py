"""What the defences share that start from files: what is trained, judged by, and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, artifact_digest
from keepstone.errors import InputError
from keepstone.files import write_place
from keepstone.lab.defences.weights import weights_of
from keepstone.lab.domain import Domain
from keepstone.lab.samples import Samples, require_same_columns
from keepstone.lab.targets.torch import TorchTarget
from keepstone.workspace.lab.attacking import Opened


def require_apart(trained: Samples, held_out: Samples, domain: Domain) -> None:
    """Refuse to judge a model by rows that it was trained on, whatever their labels are.

    Rows are the same where every number is, to a hundred-thousandth of its feature's range: one
    file may have been written with fewer digits. Raises InputError `defence.trained_on`, and
    `data.other_columns` for columns that are not alike.
    """
    require_same_columns(held_out.features, trained.features, "the data that is trained on")
    learnt = {row.tobytes() for row in _as_given(trained.x, domain)}
    count = sum(row.tobytes() in learnt for row in _as_given(held_out.x, domain))
    if count:
        raise InputError(
            "defence.trained_on",
            f"{count} of {len(held_out)} held-out rows are among those that are trained on.",
            "Hold out rows that the training never sees.",
        )


def _as_given(x: Array, domain: Domain) -> Array:
    rows = domain.fit(x, x).astype(domain.dtype)
    if domain.dtype.kind == "f":
        span = np.where(domain.high > domain.low, domain.high - domain.low, 1.0)
        rows = np.rint((rows - domain.low) / span * 1e5)
    # Zero has two signs and is one number.
    return np.ascontiguousarray(rows + 0)


def module_of(opened: Opened) -> Any:
    """The torch module whose weights can be trained. Raises InputError `defence.untrainable`."""
    if not isinstance(opened.target, TorchTarget):
        raise InputError(
            "defence.untrainable",
            f"{opened.subject.name} cannot be trained further: it is no torch module by its weights"
            " and its code, with one output of scores.",
            "Give weights and their code: --architecture package.module:Class.",
        )
    return opened.target.module


def seen_once(samples: Samples) -> Samples:
    """Without the rows that are there again, whatever their labels are: of these no attack says
    which it told."""
    _, first, count = np.unique(samples.x, axis=0, return_index=True, return_counts=True)
    return samples.take(np.sort(first[count == 1]))


def write_weights(path: Path, module: Any, opened: Opened, *, replace: bool) -> Digest:
    """Write a module's weights, with the contract of the model that it was made of.

    The digest is that of the artifact, as `keepstone up` tells it. Raises InputError
    `defence.unwritable`; and as `write_place` does.
    """
    data = weights_of(module, opened.contract)
    write_place(path, data, replace=replace)
    return artifact_digest([FileDigest(SINGLE_FILE, len(data), Digest.of(data))])
