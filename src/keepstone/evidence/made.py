"""How a statement came to be: tool, times, and what it rests on. Part of every predicate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from keepstone import __version__
from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.evidence.fields import Fields

MAX_INPUTS = 256


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    version: str


# What states everything that this program states.
TOOL = Tool("keepstone", __version__)


@dataclass(frozen=True, slots=True)
class Input:
    """Something a statement rests on: an artifact, a file, or another statement, by digest."""

    name: str
    digest: Digest

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "digest": str(self.digest)}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(fields.line("name", 256), fields.digest("digest"))
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Made:
    """How a statement came to be. Times in ms; it holds while `now < expires`."""

    tool: Tool
    created: int
    expires: int | None = None
    inputs: tuple[Input, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "tool": {"name": self.tool.name, "version": self.tool.version},
            "created": rfc3339(self.created),
            "expires": None if self.expires is None else rfc3339(self.expires),
            "inputs": [item.to_dict() for item in self.inputs],
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        tool = fields.inner("tool")
        named = Tool(tool.line("name", 128), tool.line("version", 128))
        tool.done()
        created = fields.time("created")
        expires = None if fields.raw("expires") is None else fields.time("expires")
        if expires is not None and expires <= created:
            raise fields.fault("expires", "is not after `created`")
        items = fields.items("inputs", MAX_INPUTS)
        inputs = tuple(Input.read(Fields(item, "predicate's input")) for item in items)
        return cls(named, created, expires, inputs)
