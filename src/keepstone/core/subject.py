"""What a statement is about: a name and a digest over paths, sizes and contents."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.errors import InputError

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z")


def check_name(name: str) -> str:
    """Return `name` if it may name a model, key, role or signer, else raise `name.invalid`.

    1 to 64 characters of a-z, 0-9, dot, dash and underscore, beginning and ending with a
    letter or digit. Names reach URLs, file names and Cedar text: nothing else gets in.
    """
    if not _NAME.match(name) or ".." in name:
        raise InputError(
            "name.invalid",
            f"{name!r} is not a valid name.",
            "Use 1 to 64 of a-z 0-9 . _ - and begin and end with a letter or digit.",
        )
    return name


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    name: str
    digest: Digest

    def __post_init__(self) -> None:
        check_name(self.name)

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"
