"""What a reader hands back beside packages: what it could not judge, and the reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class NotJudged:
    """A file, or a package that a file names, about which nothing can be said.

    `name` is the package as the file writes it, empty where the whole file is meant. `reason` is
    one sentence. It never reads as clean.
    """

    path: str
    reason: str
    name: str = ""
