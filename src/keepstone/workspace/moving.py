"""Move the sealed models to another store: copied, verified over there, switched in one step.

Until the switch the old store is the one in use, whatever is killed meanwhile; a run that was
cut short is begun again and copies what is not there yet. Nothing is removed from the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from keepstone.core.subject import Subject
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.predicates import Sealing
from keepstone.evidence.verify import EvidenceBase
from keepstone.vault.overlap import Sink
from keepstone.vault.seal import check_sealed, read_header
from keepstone.vault.stores import BlobStore, StoreAddress
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.site import Site
from keepstone.workspace.store import in_use, read_store_address, store_at, write_store_address

Progress = Callable[[int], None]
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Moved:
    """Where the sealed models lie now, how many there are, and which were lost before."""

    place: str
    blobs: int
    damaged: tuple[str, ...]


def move(site: Site, to: StoreAddress | None, *, progress: Progress = lambda done: None) -> Moved:
    """Bring every newest sealing to the store `to` (None: the workspace's own folder).

    (1) The other store may be used, and nobody else's models lie there.
    (2) Each newest sealing is copied as it lies, and unseals from over there, read back whole.
    (3) The workspace takes the other store into use, and that is on the record.

    Raises OperationalError `workspace.owned` beside a running endpoint, and as the stores do;
    InputError `store.same`, `store.in_use`. What does not unseal from the old store was lost
    before: it is named and left behind.
    """
    with open_workspace(site) as workspace:
        before = read_store_address(site.layout)
        if before == to:
            raise InputError("store.same", "The sealed models lie there already.")
        with closing(store_at(site.layout, to)) as target:
            # (1)
            target.require_usable()
            _require_ours(workspace, target)
            fields = {"old": str(before or "local"), "new": str(to or "local")}
            workspace.record_event("vault.moving", fields)
            # (2)
            damaged, done = [], 0
            for subject, number in newest_sealings(workspace.evidence):
                if _bring(workspace, target, subject, number):
                    done += 1
                    progress(done)
                else:
                    damaged.append(f"{subject.name} ({subject.digest.short})")
            # (3)
            write_store_address(site.layout, to)
            workspace.record_event("vault.moved", fields | {"blobs": done, "damaged": len(damaged)})
            return Moved(target.place, done, tuple(damaged))


def newest_sealings(evidence: EvidenceBase) -> list[tuple[Subject, int]]:
    """The number of the newest sealing of each artifact under each of its names, sorted."""
    found: dict[Subject, int] = {}
    for item in evidence.statements:
        if isinstance(item.predicate, Sealing):
            found[item.subject] = max(found.get(item.subject, 0), item.predicate.version)
    return sorted(found.items())


def _require_ours(workspace: Workspace, target: BlobStore) -> None:
    for held in target.addresses():
        with target.open(held.digest, held.name) as blob:
            try:
                ours = read_header(blob).kek == workspace.kek.key_id
            except VerificationError:
                ours = False
        if not ours:
            raise in_use(target)


def _bring(workspace: Workspace, target: BlobStore, subject: Subject, number: int) -> bool:
    """Have the sealing over there; False where the old store has no sound one."""
    if _is_sound(workspace, target, subject, number):
        # Brought by a run that was cut short.
        return True
    try:
        _copy(workspace.store, target, subject)
    except InputError as error:
        if error.code != "blob.missing":
            raise
        return False
    if _is_sound(workspace, target, subject, number):
        return True
    # Whose fault it is decides: nothing is taken into use that spoils what it is given.
    if _is_sound(workspace, workspace.store, subject, number):
        raise VerificationError(
            "store.spoils",
            f"What was copied to {target.place} does not come back as it was.",
            "Choose another store, and ask whoever runs this one.",
        )
    return False


def _is_sound(workspace: Workspace, store: BlobStore, subject: Subject, number: int) -> bool:
    try:
        check_sealed(store, workspace.kek, subject.digest, subject.name, number)
    except VerificationError:
        return False
    except InputError as error:
        if error.code != "blob.missing":
            raise
        return False
    return True


def _copy(source: BlobStore, target: BlobStore, subject: Subject) -> None:
    with source.open(subject.digest, subject.name) as blob:

        def fill(sink: Sink) -> None:
            buffer = memoryview(bytearray(_BLOCK))
            while count := blob.readinto(buffer):
                sink(buffer[:count])

        target.write(subject.digest, subject.name, fill)
