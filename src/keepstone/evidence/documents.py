"""Statements about documents: a bill of materials by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.evidence.fields import Fields
from keepstone.evidence.made import Made


@dataclass(frozen=True, slots=True)
class Bom:
    """A publisher says: this bill of materials, byte for byte, describes this artifact."""

    kind: ClassVar[str] = "bom"
    made: Made
    document: Digest
    format: str
    serial: str

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "document": str(self.document),
            "format": self.format,
            "serial": self.serial,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        return cls(
            made, fields.digest("document"), fields.line("format", 64), fields.line("serial", 64)
        )
