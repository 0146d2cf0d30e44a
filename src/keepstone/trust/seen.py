"""What this machine saw of trust bundles: the newest of each origin, and when it was last used.

An old bundle verifies as well as a new one. Only something that did not come with it tells that
a newer one was there: one small file (mode 0600) per origin, in the folder where checkpoints are
kept outside of every workspace. A file that cannot be read is not a bundle that was never seen.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.evidence.fields import Fields
from keepstone.files import make_private_directory, read_private, storage_errors, write_atomic
from keepstone.policy.bundle import Seen

SCHEMA = "keepstone.trust-seen/v1"
_LIMIT = 4096
_UNREADABLE = "trust.state_unreadable"


class SeenBundles:
    """The folder `folder`, with what was seen of each origin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, origin: str) -> Path:
        """The file for `origin`: a name of its hash, as an origin may hold slashes."""
        return self.folder / f"{sha256(origin.encode()).hexdigest()[:32]}.trust"

    @contextmanager
    def alone(self, origin: str) -> Iterator[None]:
        """Keep every other process from reading and writing what was seen of `origin`."""
        make_private_directory(self.folder)
        path = self.path(origin).with_suffix(".lock")
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def newest(self, origin: str) -> Seen | None:
        """What was seen of `origin`, None if nothing ever was.

        Raises OperationalError `trust.state_unreadable`.
        """
        path = self.path(origin)
        try:
            # Whoever can write it can make this machine forget what it saw.
            data = read_private(path, _LIMIT)
        except OperationalError as error:
            raise _unreadable(path, error.cause.rstrip(".")) from error
        if data is None:
            return None
        try:
            return _parse(data, origin)
        except InputError as error:
            raise _unreadable(path, error.cause.rstrip(".")) from error

    def keep(self, seen: Seen) -> None:
        """Remember `seen`, durably. Raises OperationalError `disk.full`, `file.unwritable`."""
        document = {
            "schema": SCHEMA,
            "origin": seen.origin,
            "key_id": seen.key_id,
            "size": seen.size,
            "root": str(seen.root),
            "issued": rfc3339(seen.issued),
            "latest": rfc3339(seen.latest),
        }
        write_atomic(self.path(seen.origin), canonical(document))


def _parse(data: bytes, origin: str) -> Seen:
    fields = Fields(parse_json(data, limit=_LIMIT), "state", _UNREADABLE)
    if fields.text("schema") != SCHEMA:
        raise fields.fault("schema", f"is not {SCHEMA}")
    if fields.text("origin") != origin:
        raise fields.fault("origin", "is another workspace's")
    seen = Seen(
        origin,
        fields.key_id("key_id"),
        fields.integer("size"),
        fields.digest("root"),
        fields.time("issued"),
        fields.time("latest"),
    )
    fields.done()
    return seen


def _unreadable(path: Path, why: str) -> OperationalError:
    return OperationalError(
        _UNREADABLE,
        f"What was seen before cannot be read from {path}: {why}.",
        "Put its copy back. Removing it makes this machine forget, and open to older bundles.",
    )
