"""Checkpoints kept *outside* the workspace: what shows that a ledger was rolled back or rewritten.

A ledger's file can be replaced by an older copy of itself, or by another history signed with
the same key, and then agrees with itself perfectly. Only something that was not replaced with
it tells. The folder of `OutsideCheckpoints` holds one file per ledger, a plain C2SP note, so a
copy of it on another machine serves just as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from keepstone.errors import OperationalError, VerificationError
from keepstone.identity.signing import VerifyingKey
from keepstone.ledger.checkpoint import MAX_NOTE, Checkpoint, verify_checkpoint
from keepstone.ledger.reader import LedgerReader


class Standing(StrEnum):
    """How a ledger stands to an outside checkpoint."""

    SAME = "same"
    EXTENDS = "extends"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"


def compare(reader: LedgerReader, outside: Checkpoint) -> Standing:
    """How the ledger's stored hashes stand to `outside`. It re-hashes no body: see `verify`."""
    size = reader.size()
    if outside.size > size:
        return Standing.ROLLED_BACK
    if reader.root_at(outside.size) != outside.root:
        return Standing.FORKED
    return Standing.SAME if outside.size == size else Standing.EXTENDS


def require_extends(
    reader: LedgerReader, note: str, origin: str, keys: Sequence[VerifyingKey]
) -> Checkpoint:
    """Return the checkpoint of `note` if the ledger has everything that it covers.

    (1) the note is this ledger's and signed by one of `keys`; (2) the ledger is no shorter;
    (3) its tree at that size has that root. Raises `checkpoint.*`, and VerificationError
    `ledger.rolled_back` or `ledger.forked`.
    """
    # (1) tlog-checkpoint, signed-note
    outside = verify_checkpoint(note, origin, keys)
    standing = compare(reader, outside)
    # (2) an older copy was put back, or the tail was cut
    if standing is Standing.ROLLED_BACK:
        raise VerificationError(
            "ledger.rolled_back",
            f"The ledger has {reader.size()} entries; the checkpoint kept outside has "
            f"{outside.size}.",
            "Put the newest copy of the ledger back.",
        )
    # (3) RFC 6962 2.1: another history
    if standing is Standing.FORKED:
        raise VerificationError(
            "ledger.forked",
            f"The first {outside.size} entries are not those of the checkpoint kept outside.",
            "Put the ledger back that the outside checkpoint is of.",
        )
    return outside


class OutsideCheckpoints:
    """A folder outside the workspace with the newest checkpoint of each ledger (mode 0600)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, origin: str) -> Path:
        """The file for the ledger `origin`: a name of its hash, as an origin may hold slashes."""
        return self.folder / f"{sha256(origin.encode()).hexdigest()[:32]}.checkpoint"

    def newest(self, origin: str) -> str | None:
        """The kept note, not verified here; None if there is none.

        Raises OperationalError `witness.unreadable`: a note that cannot be read is not a note
        that was never kept.
        """
        try:
            with self.path(origin).open("rb") as file:
                return file.read(MAX_NOTE + 1).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise OperationalError(
                "witness.unreadable",
                f"The checkpoint kept at {self.path(origin)} cannot be read.",
                "Mend its permissions, or put its copy back.",
            ) from error

    def keep(
        self, reader: LedgerReader, note: str, origin: str, keys: Sequence[VerifyingKey]
    ) -> Checkpoint:
        """Keep `note` as the newest, durably, and return its checkpoint.

        Both it and the one kept before must hold for the ledger, so a ledger that was rolled
        back or rewritten never overwrites the evidence against it. An older note than the kept
        one changes nothing. Raises what `require_extends` does, `witness.unreadable` and
        `witness.unwritable`.
        """
        checkpoint = require_extends(reader, note, origin, keys)
        kept = self.newest(origin)
        if kept is not None:
            before = require_extends(reader, kept, origin, keys)
            if before.size >= checkpoint.size:
                return before
        self._write(self.path(origin), note.encode())
        return checkpoint

    def forget(self, origin: str) -> None:
        """Drop what was kept of `origin`: after this, a ledger rolled back looks like any other.

        Only for an operator who knowingly puts an older backup in place.
        """
        self.path(origin).unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(scratch, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
            folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise OperationalError(
                "witness.unwritable",
                f"The checkpoint cannot be kept at {path}: {error.strerror}.",
                "Check the folder's permissions and space.",
            ) from error
