"""A workspace as its one owner holds it: everything opened, checked, and kept in step.

Every change goes through here: a statement or event is durable in the ledger before anyone acts
on it, with one exception. A revocation stops the serving first and is recorded second, and no
disk that is slow or full keeps it waiting.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, KeepstoneError, OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.predicates import Admission, Registered, Revocation, Sealing
from keepstone.evidence.record import entry_body
from keepstone.evidence.statement import open_payload
from keepstone.evidence.verified import VerifiedStatement, require_right, verify_statement
from keepstone.evidence.verify import EvidenceBase
from keepstone.files import write_atomic
from keepstone.identity.tls import Authority
from keepstone.identity.tokens import TokenVerifier
from keepstone.ledger import Checkpoint, EntryId, Kind, Ledger, make_entry
from keepstone.ledger.tree import leaf_hash
from keepstone.ledger.witness import OutsideCheckpoints, require_extends
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.trust import Trust
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.stores import BlobStore
from keepstone.workspace.book import Book
from keepstone.workspace.clock import SteadyClock
from keepstone.workspace.kek import Rotated, finish_rotation
from keepstone.workspace.keys import (
    WorkspaceKeys,
    create_authority,
    load_authority,
    load_keys,
)
from keepstone.workspace.layout import Layout, WorkspaceIdentity, read_identity
from keepstone.workspace.owner import own
from keepstone.workspace.reading import load_policy
from keepstone.workspace.reserve import keep_reserve, release_reserve
from keepstone.workspace.secrets import AuditPeriods, load_ring
from keepstone.workspace.site import Site
from keepstone.workspace.store import read_store_address, store_at

# Far beyond any sync on a disk that works; a revocation has its own road when one does not.
_DURABLE_S = 20.0
# What only the workspace's own keys state.
_OWN = (Admission, Sealing, Registered)
Listener = Callable[[], None]
T = TypeVar("T")


class Workspace:
    """An owned workspace. Every method may be called from any thread.

    `trust`, `authorizer` and `evidence` are replaced, never changed, so a reader that took one
    sees one state of affairs.
    """

    def __init__(
        self,
        site: Site,
        identity: WorkspaceIdentity,
        keys: WorkspaceKeys,
        ledger: Ledger,
        kek: KeyEncryptionKey,
    ) -> None:
        self.site = site
        self.identity = identity
        self.keys = keys
        self.ledger = ledger
        self.clock = SteadyClock(site.clock, ledger.newest_time())
        self.kek = kek
        self._store: BlobStore | None = None
        self._opening_store = threading.Lock()
        self.periods = AuditPeriods(site.layout.audit_periods, self.kek)
        self.trust = self._load_trust()
        self.authorizer = Authorizer(Engine(self.trust.policy))
        # Revocations in force that are not on the record yet, or could not be put there.
        self._unrecorded: tuple[bytes, ...] = ()
        self.evidence = self._read_evidence(self.trust)
        self.book = Book(self.ledger, self.clock)
        self.ring = load_ring(site.layout, self.kek, self.trust.policy.key_max_lifetime_ms)
        self.verifier = TokenVerifier(
            [keys.token.verifying],
            identity.origin,
            identity.origin,
            self.trust.policy.token_max_lifetime_ms,
        )
        self._outside = OutsideCheckpoints(site.outside)
        # Held while what is in force changes, never while the disk is waited for.
        self._change = threading.RLock()
        self._ring_file = threading.Lock()
        # Held while the next sealing's number is chosen and put on the record.
        self.numbering = threading.Lock()
        self._sealing: WeakValueDictionary[Subject, threading.Lock] = WeakValueDictionary()
        self._listeners: list[Listener] = []

    @property
    def layout(self) -> Layout:
        return self.site.layout

    @contextmanager
    def sealing_alone(self, subject: Subject) -> Iterator[None]:
        """Hold back others who would seal the same artifact under the same name meanwhile."""
        with self.numbering:
            lock = self._sealing.setdefault(subject, threading.Lock())
        with lock:
            yield

    @property
    def store(self) -> BlobStore:
        """Where the sealed models lie; opened when it is first needed.

        What does not touch a model, a revocation above all, must not fail for the store.
        """
        with self._opening_store:
            if self._store is None:
                self._store = store_at(self.layout, read_store_address(self.layout))
            return self._store

    def close(self) -> None:
        """Let go of the store's connections."""
        if self._store is not None:
            self._store.close()

    # What is in force

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after every change of evidence or policy, on the changing thread."""
        self._listeners.append(listener)

    def reload_policy(self) -> None:
        """Take the policy file as it now stands into force; one that is broken changes nothing.

        Raises `policy.*`.
        """
        with self._change:
            trust = self._load_trust()
            engine, evidence = Engine(trust.policy), self._read_evidence(trust)
            self.trust, self.evidence = trust, evidence
            self.authorizer.replace(engine)
            self._notify()

    def edit_policy(self, edit: Callable[[bytes], bytes]) -> None:
        """Write the policy file anew and take it into force, or leave both as they were.

        Raises what `edit` does, and `policy.*`.
        """
        path = self.layout.policy
        with self._change:
            before = path.read_bytes()
            write_atomic(path, edit(before))
            try:
                self.reload_policy()
            except KeepstoneError:
                write_atomic(path, before)
                raise

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _load_trust(self) -> Trust:
        return Trust.of(
            load_policy(self.layout),
            observer=self.keys.observer.verifying,
            gate=self.keys.gate.verifying,
        )

    def _read_evidence(self, trust: Trust) -> EvidenceBase:
        recorded = self.ledger.indexed("statement")
        waiting = enumerate(self._unrecorded, self.ledger.durable_size)
        return EvidenceBase.build([*recorded, *waiting], trust.signers, trust.rights)

    # Recording

    def record(self, envelope: Envelope) -> tuple[EntryId, VerifiedStatement]:
        """Put a statement into the ledger if a known signer with the right to it signed it.

        A revocation takes effect before it is recorded, and is recorded out of the reserve
        where the disk is full; one that cannot be recorded at all stays in force while this
        process lives. Raises `signature.*`, `statement.*`, `ledger.*`.
        """
        trust = self.trust
        found = require_right(verify_statement(envelope, trust.signers), trust.rights)
        body = entry_body(envelope, self.clock.now_ms())
        if isinstance(found.predicate, Revocation):
            return self._revoke(body), found
        index = self._append(body)
        with self._change:
            self.evidence = self.evidence.extended([(index, body)])
            self._notify()
        return EntryId.of(index, leaf_hash(body)), found

    def take(self, envelope: Envelope) -> tuple[EntryId, VerifiedStatement]:
        """As `record`, of a statement that somebody brings from outside.

        What the workspace states itself is on the record where it was made: brought again, it
        would count a second time, and later. Raises DeniedError `statement.own`.
        """
        if isinstance(open_payload(envelope).predicate, _OWN):
            raise DeniedError(
                "statement.own",
                "The workspace makes such statements itself; none is taken from outside.",
                "Bring what a person or a system signed: an approval, a revocation, a report.",
            )
        return self.record(envelope)

    def _revoke(self, body: bytes) -> EntryId:
        with self._change:
            self.evidence = self.evidence.extended([(self.ledger.durable_size, body)])
            self._unrecorded = (*self._unrecorded, body)
            self._notify()
        index = self.urgently(lambda: self._append(body))
        with self._change:
            # The entry's true index may be another than the one it took effect under.
            self._unrecorded = tuple(one for one in self._unrecorded if one != body)
            self.evidence = self._read_evidence(self.trust)
        return EntryId.of(index, leaf_hash(body))

    def urgently(self, write: Callable[[], T]) -> T:
        """Do `write`, and where it fails do it once more with the space that was held back."""
        try:
            return write()
        except OperationalError:
            release_reserve(self.layout)
            self.ledger.resume()
            return write()
        finally:
            keep_reserve(self.layout)

    def record_event(self, event: str, fields: Mapping[str, Any]) -> EntryId:
        """Put an event into the ledger and wait until it is durable."""
        body = make_entry(Kind.EVENT, self.clock.now_ms(), {"event": event, **fields})
        return EntryId.of(self._append(body), leaf_hash(body))

    def record_events(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """As `record_event` for several, which are waited for together."""
        now = self.clock.now_ms()
        bodies = [make_entry(Kind.EVENT, now, {"event": name, **said}) for name, said in events]
        for pending in [self.ledger.append(body) for body in bodies]:
            pending.wait(_DURABLE_S)

    def _append(self, body: bytes) -> int:
        return self.ledger.append(body).wait(_DURABLE_S)

    def resume_after_full_disk(self) -> None:
        """Take entries again where only a full disk stopped the ledger.

        After a failed sync it stays stopped until the next start: what the kernel still holds
        of a page that it could not write is not known.
        """
        stopped = self.ledger.stopped
        if stopped is not None and stopped.code == "ledger.disk_full":
            self.ledger.resume()

    def require_recorded(self) -> None:
        """Return if all that is in force is on the record, else raise `ledger.unrecorded`."""
        if self._unrecorded:
            raise OperationalError(
                "ledger.unrecorded",
                f"{len(self._unrecorded)} revocations are in force and not on the record yet.",
                "Free space on the ledger's disk, then revoke again.",
            )

    # Checkpoints

    def require_outside(self) -> Checkpoint | None:
        """Refuse a ledger that does not extend the checkpoint kept outside; None if none is."""
        note = self._outside.newest(self.identity.origin)
        if note is None:
            return None
        return require_extends(
            self.ledger.reader, note, self.identity.origin, [self.keys.ledger.verifying]
        )

    def keep_outside(self) -> Checkpoint:
        """Sign the ledger's head and keep it outside. Raises `ledger.*`, `witness.unwritable`."""
        return self._outside.keep(
            self.ledger.reader,
            self.ledger.checkpoint(),
            self.identity.origin,
            [self.keys.ledger.verifying],
        )

    # API keys and certificates

    def save_ring(self) -> None:
        """Write the records of the API keys; the change is in force already."""
        # The ring is read under the lock, so the last to write has everybody's changes.
        with self._ring_file:
            write_atomic(self.layout.api_keys, self.ring.to_json())

    def authority(self, hosts: Sequence[str]) -> Authority:
        """The local certificate authority; one for `hosts` is made where both files are gone."""
        if not any(path.exists() for path in (self.layout.authority_key, self.layout.authority)):
            create_authority(self.layout, hosts, self.clock.now_ms(), self.site.passphrase)
        return load_authority(self.layout, self.site.passphrase)

    def _accept_rollback(self) -> None:
        """Record why a restored backup may be behind what was kept outside, once."""
        note = self.layout.rollback_note
        if note.exists():
            self.record_event("rollback.accepted", {"reason": note.read_text()[:1000]})
            note.unlink()


@contextmanager
def open_workspace(site: Site, *, patience: float = 0.0) -> Iterator[Workspace]:
    """Own and open the workspace of `site` for the block.

    (1) It is a workspace of a version this build knows. (2) No other process owns it. (3) Its
    keys open and only their owner can read them; a rotation of the key-encryption key that was
    cut short is finished first. (4) The ledger extends the checkpoint kept outside.
    Raises `workspace.*`, `key.*`, `policy.*`, `ledger.*`, `hsm.*`, `kms.failed`.
    """
    identity = read_identity(site.layout)
    with own(site.layout, patience=patience):
        keys = load_keys(site.layout, site.passphrase)
        with Ledger.open(
            site.layout.ledger, origin=identity.origin, key=keys.ledger, clock=site.clock
        ) as ledger:
            kek, rotated = finish_rotation(site)
            workspace = Workspace(site, identity, keys, ledger, kek)
            workspace.require_outside()
            if rotated is not None:
                record_rotation(workspace, rotated)
            keep_reserve(site.layout)
            _clear_staging(site.layout)
            workspace._accept_rollback()
            try:
                yield workspace
            finally:
                workspace.close()
                # Also after a failure: what was recorded until then is worth the same.
                _keep_outside(workspace)


def record_rotation(workspace: Workspace, rotated: Rotated) -> None:
    done = rotated.rewrapped
    fields = {"old": rotated.old, "new": rotated.new, "blobs": done.blobs}
    workspace.record_event("kek.rotated", fields | {"damaged": len(done.damaged)})


def _keep_outside(workspace: Workspace) -> None:
    try:
        workspace.keep_outside()
    except KeepstoneError as error:
        # What was done stands; that the outside copy lags shows in `doctor`.
        if error.code not in ("witness.unwritable", "ledger.disk_full", "ledger.stopped"):
            raise


def _clear_staging(layout: Layout) -> None:
    """Remove what a process left that was killed while it copied a model: nobody stages now."""
    for left in layout.staging.glob("*"):
        shutil.rmtree(left, ignore_errors=True)
