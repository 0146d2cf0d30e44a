"""What another registry calls an artifact: its model, its version, and where an alias points.

A registry that checks nothing can serve one version's files under another's number, or move an
alias back. So who admits a version states which digest that number is, once, and each alias that
moves is stated too: the newest statement about an alias is where it points, and whatever else the
registry says is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keepstone.evidence.fields import Fields
from keepstone.evidence.made import Made

MAX_MODEL_NAME = 256
MAX_LOCATION = 1024


@dataclass(frozen=True, slots=True)
class Registered:
    """An observer says: in that registry this artifact is `version` of the model `model`.

    `location` is where its files lay when they were looked at. With an `alias` it says that the
    alias points here, from now on and until the next statement about it.
    """

    kind: ClassVar[str] = "registered"
    made: Made
    registry: str
    model: str
    version: int
    location: str
    alias: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "registry": self.registry,
            "model": self.model,
            "version": self.version,
            "location": self.location,
            "alias": self.alias,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        return cls(
            made,
            fields.line("registry", 64),
            fields.line("model", MAX_MODEL_NAME),
            fields.integer("version", low=1),
            fields.line("location", MAX_LOCATION),
            None if fields.raw("alias") is None else fields.line("alias", MAX_MODEL_NAME),
        )
