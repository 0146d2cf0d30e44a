"""What a push takes and gives. Apart from how it is done, which brings every scanner along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepstone.vault.registry.catalogue import Version

if TYPE_CHECKING:
    from keepstone.vault.staging import Staged
    from keepstone.workspace.intake import Submission


@dataclass(frozen=True, slots=True)
class Push:
    """What somebody brings: the model and its signatures, and what it says of itself.

    `staged` is the copy where the bytes were staged already, as by a server; its caller discards
    it. `attributes` are exactly those that the policy asks for.
    """

    submission: Submission
    attributes: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    staged: Staged | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """The version that it is. `known` where the very same artifact was one before."""

    version: Version
    known: bool
    entry: str | None
