"""Look into a workspace without owning it, beside a running owner or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.predicates import Scan
from keepstone.evidence.verify import EvidenceBase
from keepstone.identity.signing import VerifyingKey, load_public_key
from keepstone.ledger import LedgerReader
from keepstone.ledger.verify import LedgerReport, verify_file
from keepstone.ledger.witness import OutsideCheckpoints
from keepstone.policy.document import Policy
from keepstone.policy.engine import Engine
from keepstone.policy.parse import parse_policy
from keepstone.policy.trust import Trust
from keepstone.vault.registry.reference import Reference
from keepstone.workspace.book import read_catalogue
from keepstone.workspace.clock import SteadyClock
from keepstone.workspace.layout import Layout, WorkspaceIdentity, read_identity
from keepstone.workspace.site import Site


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """What can be known of a workspace from its public keys, its policy and its ledger."""

    site: Site
    identity: WorkspaceIdentity
    trust: Trust
    evidence: EvidenceBase
    reader: LedgerReader
    now: int

    @property
    def policy(self) -> Policy:
        return self.trust.policy

    def engine(self) -> Engine:
        return Engine(self.trust.policy)

    def subject_of(self, text: str) -> Subject:
        """The artifact that `text` means: as `find_subject`, or a version in the registry.

        Raises InputError `model.unknown`, OperationalError `registry.unreadable`.
        """
        if "@" not in text:
            return find_subject(self.evidence, text)
        rules = self.policy.registry
        stages = frozenset() if rules is None else frozenset(one.name for one in rules.stages)
        version = read_catalogue(self.reader).require_readable().find(Reference.parse(text), stages)
        if version is None:
            raise _unknown(text)
        return version.subject


def read_policy(layout: Layout) -> bytes:
    """The bytes of the policy file. Raises InputError `policy.missing`."""
    try:
        return layout.policy.read_bytes()
    except OSError as error:
        raise InputError(
            "policy.missing",
            f"Cannot read {layout.policy}: {error.strerror}.",
            "Restore it from a backup, or write it anew from a profile.",
        ) from error


def load_policy(layout: Layout) -> Policy:
    """Read the policy file. Raises InputError `policy.*`."""
    return parse_policy(read_policy(layout))


def public_key(layout: Layout, role: str) -> VerifyingKey:
    """The public half of one of the workspace's own keys."""
    return load_public_key(layout.keys / f"{role}.pub.pem")


def load_trust(layout: Layout, policy: Policy | None = None) -> Trust:
    """The policy in the file, or the one given, with the workspace's public keys."""
    return Trust.of(
        load_policy(layout) if policy is None else policy,
        observer=public_key(layout, "observer"),
        gate=public_key(layout, "gate"),
    )


@dataclass(frozen=True, slots=True)
class FollowedView:
    """What decides, as it was at `now`."""

    trust: Trust
    engine: Engine
    evidence: EvidenceBase
    now: int


@contextmanager
def read_workspace(site: Site) -> Iterator[WorkspaceView]:
    """Open a workspace read-only. Raises `workspace.*`, `policy.*`, `ledger.*`."""
    identity = read_identity(site.layout)
    trust = load_trust(site.layout)
    with LedgerReader.open(site.layout.ledger) as reader:
        evidence = EvidenceBase.build(reader.indexed("statement"), trust.signers, trust.rights)
        now = SteadyClock(site.clock, reader.newest_time()).now_ms()
        yield WorkspaceView(site, identity, trust, evidence, reader, now)


class WorkspaceFollower:
    """A workspace that is read again and again, beside its owner: only what is new is verified.

    Any thread may ask. Each view is the state of affairs at the time of the question; what cannot
    be read raises as `read_workspace` does, and nothing remembered stands in for it.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._policy: tuple[bytes, Trust, Engine] | None = None
        self._read: tuple[int, EvidenceBase] | None = None
        self._ledger: tuple[tuple[int, int], LedgerReader] | None = None

    def view(self) -> FollowedView:
        """The workspace as it is now. Raises `workspace.*`, `policy.*`, `ledger.*`."""
        layout = self._site.layout
        read_identity(layout)
        with self._lock:
            reader = self._reader()
            trust, engine = self._in_force(read_policy(layout))
            evidence = self._evidence(reader, trust)
            now = SteadyClock(self._site.clock, reader.newest_time()).now_ms()
        return FollowedView(trust, engine, evidence, now)

    def _reader(self) -> LedgerReader:
        """The ledger's file, opened once; another file in its place is another ledger."""
        path = self._site.layout.ledger
        try:
            status = path.stat()
        except OSError:
            place = None
        else:
            place = (status.st_dev, status.st_ino)
        if self._ledger is None or self._ledger[0] != place or place is None:
            if self._ledger is not None:
                self._ledger[1].close()
            self._ledger, self._read = None, None
            reader = LedgerReader.open(path)
            if place is None:
                return reader
            self._ledger = (place, reader)
        return self._ledger[1]

    def _in_force(self, data: bytes) -> tuple[Trust, Engine]:
        if self._policy is None or self._policy[0] != data:
            trust = load_trust(self._site.layout, parse_policy(data))
            self._policy = (data, trust, Engine(trust.policy))
            # Whose word counts may be another's now.
            self._read = None
        return self._policy[1:]

    def _evidence(self, reader: LedgerReader, trust: Trust) -> EvidenceBase:
        size = reader.size()
        begin, base = (0, None) if self._read is None else self._read
        if begin > size:
            begin, base = 0, None
        fresh = list(takewhile(lambda entry: entry[0] < size, reader.indexed("statement", begin)))
        if base is None:
            base = EvidenceBase.build(fresh, trust.signers, trust.rights)
        elif fresh:
            base = base.extended(fresh)
        self._read = (size, base)
        return base


def verify_ledger_of(site: Site) -> LedgerReport:
    """Judge the whole ledger, against the newest checkpoint kept outside if there is one."""
    identity = read_identity(site.layout)
    outside = OutsideCheckpoints(site.outside).newest(identity.origin)
    key = public_key(site.layout, "ledger")
    return verify_file(site.layout.ledger, identity.origin, [key], outside)


def find_subject(evidence: EvidenceBase, text: str) -> Subject:
    """The artifact that `text` means: a name, or a digest of the artifact or of its one file.

    A name means what Keepstone scanned last under it. Raises InputError `model.unknown`.
    """
    scans = [item for item in evidence.statements if isinstance(item.predicate, Scan)]
    for item in reversed(scans):
        digest = item.subject.digest
        known = {item.subject.name, digest.hex, str(digest)}
        if item.statement.file_sha256 is not None:
            known |= {item.statement.file_sha256.hex, str(item.statement.file_sha256)}
        if text in known:
            return item.subject
    raise _unknown(text)


def _unknown(text: str) -> InputError:
    return InputError(
        "model.unknown",
        f"Nothing called {text[:80]!r} was ever scanned here.",
        "Bring it in first: `keepstone push` or `keepstone up`, even where it is then refused.",
    )


def as_digest(text: str) -> Digest | None:
    """`text` as a digest if it is one."""
    try:
        return Digest.parse(text)
    except InputError:
        return None
