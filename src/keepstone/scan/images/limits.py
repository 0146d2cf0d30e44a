"""What one image may cost. Whatever runs out is said, and leaves the image not evaluated."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from keepstone.errors import OperationalError


@dataclass(slots=True)
class Limits:
    """Shared by all that one command looks at, never renewed.

    `document` bounds a manifest or a configuration, `held` one file in memory, `kept` the package
    databases of an image together. The counts are those of an image; `manifests` and `depth`
    those of indexes. `unpacked` is what may still come out of layers, `names` what may still be
    held of their names.
    """

    document: int = 4 << 20
    held: int = 256 << 20
    kept: int = 128 << 20
    layers: int = 512
    entries: int = 500_000
    manifests: int = 256
    depth: int = 8
    history: int = 10_000
    unpacked: int = 64 << 30
    names: int = 256 << 20
    seconds: float = 3600.0
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.seconds

    def charge(self, count: int) -> None:
        """`count` more bytes came out of a layer. Raises OperationalError `image.limit`."""
        self.unpacked -= count
        if self.unpacked < 0:
            raise OperationalError("image.limit", "The layers unpack to more than the limit.")
        if time.monotonic() > self.until:
            raise OperationalError("image.limit", "The image takes longer than the limit.")

    def hold(self, count: int) -> None:
        """`count` more characters of names are kept. Raises OperationalError `image.limit`."""
        self.names -= count
        if self.names < 0:
            raise OperationalError("image.limit", "The layers' names are longer than the limit.")
