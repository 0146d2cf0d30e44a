"""What is asked of a registry, of whom, and how much of everything is borne with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each step may take in seconds, and how much is taken in bytes."""

    connect_s: float = 10.0
    # From one byte to the next.
    silence_s: float = 30.0
    # Until an answer has begun, and until a piece that is sent was taken.
    answer_s: float = 60.0
    upload_s: float = 300.0
    # A body that is slower than this, over all of it beyond the first seconds, is given up.
    slowest: int = 16 << 10
    grace_s: float = 30.0
    manifest_bytes: int = 4 << 20
    listing_bytes: int = 16 << 20
    tags: int = 100_000
    redirects: int = 5
    attempts: int = 3
    pause_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `repeat` where asking twice does no more than once."""

    method: str
    url: str
    # What the token must be good for (`repository:NAME:pull`).
    scope: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | memoryview | None = None
    repeat: bool = True
    # Whether another address may be told in its place; it never sees a login.
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        port = url.port
        name = f"[{url.host}]" if ":" in url.host else url.host
        return cls(url.scheme, name if port is None else f"{name}:{port}")
