"""How somebody names a version: `digits@3`, `digits@sha256:...`, `digits@production`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.core.subject import check_name
from keepstone.errors import InputError

# A name, an at, and a digest with its algorithm; whatever is longer is none of these.
_MAX_TEXT = 160
_NUMBER = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)
_DIGITS = re.compile(r"[0-9]+\Z", re.ASCII)


def check_pointer(name: str) -> str:
    """Return `name` if an alias or stage may have it, else raise `name.invalid`.

    As `check_name`, and not all digits: that is a version's number.
    """
    check_name(name)
    if _DIGITS.match(name):
        raise InputError(
            "name.invalid",
            f"{name!r} is a number, not the name of an alias or stage.",
            "Use a name with a letter in it.",
        )
    return name


@dataclass(frozen=True, slots=True)
class Reference:
    """A model by its name, and at most one of: a version's number, its digest, a pointer to it.

    A pointer is the name of an alias or a stage.
    """

    name: str
    digest: Digest | None = None
    number: int | None = None
    pointer: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InputError `name.invalid`, `digest.malformed`, `reference.malformed`."""
        if len(text) > _MAX_TEXT:
            raise InputError(
                "reference.malformed",
                f"{text[:40]!r}... is too long to name a version.",
                "Write NAME, NAME@3, NAME@sha256:DIGEST or NAME@ALIAS.",
            )
        name, at, rest = text.partition("@")
        check_name(name)
        if not at:
            return cls(name)
        if rest.startswith("sha256:"):
            return cls(name, digest=Digest.parse(rest))
        if _NUMBER.match(rest):
            return cls(name, number=int(rest))
        return cls(name, pointer=check_pointer(rest))

    @property
    def is_whole(self) -> bool:
        """Whether the model is meant, and no version of it."""
        return self.digest is None and self.number is None and self.pointer is None

    def __str__(self) -> str:
        rest = self.digest or self.number or self.pointer
        return self.name if rest is None else f"{self.name}@{rest}"
