"""What was found: where, of which kind, and never the secret itself.

Promise: neither a finding nor anything made of it holds more of a value than a quarter of it, and
never more than its first four characters. A fingerprint cannot be turned back into a value: that
of a random token is a hash of 80 bits of entropy or more; that of anything a person may have
thought up is made of its place alone, and holds nothing of the value.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from keepstone.core.finding import Finding

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """A secret in a text: `text[start:end]`. It holds the value, and stays inside of this room.

    `random` is true where nobody can guess the value: only then is it part of a fingerprint.
    `name` is what the value was given to, `note` a sentence more for people. `of_user` is true
    where it was given to a user, of whom nothing is kept: a token may stand in a user's place.
    """

    start: int
    end: int
    rule: str
    kind: str
    value: str
    random: bool = False
    name: str = ""
    note: str = ""
    of_user: bool = False

    def __repr__(self) -> str:
        return f"Hit({self.kind!r} at {self.start})"


@dataclass(frozen=True, slots=True)
class SecretFinding:
    """A secret, or something that could not be read (`finding.rule` is `scan.not_evaluated`).

    `finding` is what any room takes: rule, severity, one sentence, and the place. `line` and
    `column` count from one, within the file or within the member that the place names.
    `allowed` is the reason of a comment that allows it, `known` true where a baseline names it.
    """

    finding: Finding
    kind: str = ""
    line: int | None = None
    column: int | None = None
    masked: str = ""
    fingerprint: str = ""
    allowed: str | None = None
    known: bool = False

    @property
    def is_secret(self) -> bool:
        """False for what only says that something was not read."""
        return bool(self.kind)

    @property
    def counts(self) -> bool:
        """True for a secret that neither a comment nor a baseline accounts for."""
        return self.is_secret and self.allowed is None and not self.known

    def as_known(self) -> SecretFinding:
        return replace(self, known=True)


def mask(value: str) -> str:
    """The beginning and the length: enough to find it, too little to use it."""
    shown = value[: min(_SHOWN, len(value) // 4)]
    safe = "".join(c if c.isprintable() else "?" for c in shown)
    return f"{safe}... ({len(value)} characters)"


def fingerprint(hit: Hit, path: str, member: str | None, number: int) -> str:
    """What tells this secret from others, for baselines.

    A random value is the same secret wherever it lies. Another is one by its place: the file, the
    member, the kind, the name it is given to, and which of several such it is (`number`).
    """
    if hit.random:
        parts = ["keepstone secret v1", "value", hit.kind, hit.value]
    else:
        place = [path, member or "", hit.kind, hit.name, str(number)]
        parts = ["keepstone secret v1", "place", *place]
    text = "\x00".join(part.replace("\x00", "\x00\x00") for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
