"""What a training function is, and what names the data that it is given.

Audits of privacy and drills of poisoning repeat the owner's training: on halves of the data, or on
data that was spoiled.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.lab.targets.port import Target


class Train(Protocol):
    """Trains a model of the kind that is audited, the same one for the same arguments.

    `y` are classes by their places; a class may be missing from the rows that are given.
    """

    def __call__(self, x: Array, y: Array, seed: int) -> Target: ...


def data_digest(x: Array, y: Array) -> Digest:
    """The digest of rows and labels: of their shapes, types and values."""
    parts = [(np.ascontiguousarray(x)), np.ascontiguousarray(y)]
    head = canonical([{"shape": list(part.shape), "dtype": part.dtype.str} for part in parts])
    return Digest.of(head + b"\n" + b"".join(part.tobytes() for part in parts))
