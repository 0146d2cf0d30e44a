"""The evidence of a workspace, rebuilt from the ledger's statement entries.

Pure: bytes, signers and a clock value go in, a value comes out. `EvidenceBase` never changes;
`extended` makes the next one. What a statement can do, and what ends it, is in
`keepstone.evidence.standing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from keepstone.core.digest import Digest
from keepstone.errors import OperationalError
from keepstone.evidence.predicates import Reinstatement, Revocation
from keepstone.evidence.standing import MAX_SKEW_MS, Denial, Ended, Standing
from keepstone.evidence.verified import (
    Refused,
    Rights,
    Signer,
    Signers,
    Unreadable,
    VerifiedStatement,
    Why,
    read_entry,
    require_right,
    verify_statement,
)

_Found = VerifiedStatement | Refused | Unreadable


@dataclass(frozen=True, slots=True)
class Evidence:
    """What holds about one digest (under one name, if one was given) at one time.

    `live` are the statements that count, in ledger order, each with only those signers whose
    word counts; revocations are never among them. `refused` are all others about the subject,
    each with its reason. `denied` is the newest revocation that stands, whatever else is
    there: where it is not None, the answer is no. `revocations` are all that count, with what
    lifted each.
    """

    digest: Digest
    name: str | None
    now: int
    live: tuple[VerifiedStatement, ...]
    refused: tuple[Refused, ...]
    denied: Denial | None
    revocations: tuple[Denial, ...]

    def of(self, kind: str) -> tuple[VerifiedStatement, ...]:
        """The live statements of one kind, oldest first."""
        return tuple(item for item in self.live if item.kind == kind)


class EvidenceBase:
    """Every statement in the ledger, verified once, and what of it holds at a given time."""

    def __init__(self, found: tuple[_Found, ...], signers: Signers, rights: Rights) -> None:
        self._found = found
        self._signers = dict(signers)
        self._rights = dict(rights)
        self._standing = Standing(
            (item for item in found if isinstance(item, VerifiedStatement)),
            self._signers,
            self._rights,
        )
        self._about: dict[Digest, list[VerifiedStatement]] = defaultdict(list)
        for item in self._standing.statements:
            self._about[item.subject.digest].append(item)

    @classmethod
    def build(cls, entries: Iterable[tuple[int, bytes]], signers: Signers, rights: Rights) -> Self:
        """Verify the statement entries (index, body) of a ledger, in any order.

        `rights` says what each key id may state: `{"state.scan", ...}`; a key without an entry
        may state nothing.
        """
        found = tuple(read_entry(index, body, signers) for index, body in entries)
        return cls(found, signers, rights)

    def extended(self, entries: Iterable[tuple[int, bytes]]) -> Self:
        """The base with further entries; what was verified is not verified again."""
        more = tuple(read_entry(index, body, self._signers) for index, body in entries)
        return type(self)(self._found + more, self._signers, self._rights)

    @property
    def statements(self) -> tuple[VerifiedStatement, ...]:
        """Every verified statement in ledger order, whether or not it holds."""
        return self._standing.statements

    @property
    def verified(self) -> tuple[VerifiedStatement, ...]:
        """As `statements`, and every copy of one that adds nothing."""
        return tuple(item for item in self._found if isinstance(item, VerifiedStatement))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The entries that could not be understood: while there is one, nothing is admitted."""
        return tuple(item for item in self._found if isinstance(item, Unreadable))

    @property
    def revoked_keys(self) -> frozenset[str]:
        return frozenset(self._standing.revoked_keys)

    @property
    def ignored_revocations(self) -> tuple[Refused, ...]:
        """Revocations without effect: to be shown, for somebody meant a no."""
        return tuple(
            refused
            for refused in (*self._unverified(), *self._ineffective())
            if refused.kind == Revocation.kind
        )

    def statement(self, digest: Digest) -> VerifiedStatement | None:
        """The verified statement that `digest` (of an envelope, or of its payload) names."""
        name = self._standing.name_of(digest)
        return next((item for item in self.statements if item.payload_digest == name), None)

    def denied(self, digest: Digest, now: int) -> Denial | None:
        """The newest standing revocation of this artifact. Raises `evidence.unreadable`."""
        self.require_readable()
        return self._standing.denied(digest, now)

    def ended(self, digest: Digest, now: int) -> Refused | None:
        """Why the statement that `digest` names no longer holds, or None if it does.

        Raises OperationalError `evidence.unreadable`, and `evidence.unknown_statement` for a
        statement that is not in the ledger: not knowing it never reads as holding.
        """
        self.require_readable()
        item = self.statement(digest)
        if item is None:
            raise OperationalError(
                "evidence.unknown_statement",
                f"No statement {digest.short} is in the ledger.",
                "Run `keepstone ledger tail` to see what is.",
            )
        return self._refused(item, None, now, self._standing.ended_at(now))

    def about(self, digest: Digest, name: str | None, now: int) -> Evidence:
        """Everything about one artifact at `now`; with a name, only what was said under it.

        Denials go by digest alone: a new name shakes nothing off. Raises OperationalError
        `evidence.unreadable` if any statement entry cannot be understood.
        """
        self.require_readable()
        live: list[VerifiedStatement] = []
        refused = [item for item in self._unverified() if _is_about(item, digest)]
        gone = self._standing.ended_at(now)
        for item in self._about.get(digest, ()):
            reason = self._refused(item, name, now, gone)
            if reason is not None:
                refused.append(reason)
            elif not isinstance(item.predicate, Revocation):
                live.append(self._standing.effective(item))
        return Evidence(
            digest,
            name,
            now,
            tuple(live),
            tuple(sorted(refused, key=lambda item: item.entry_index or 0)),
            self._standing.denied(digest, now),
            self._standing.denials(digest, now),
        )

    def live(self, kind: str, now: int) -> tuple[VerifiedStatement, ...]:
        """Every statement of one kind that holds at `now`, whatever it is about, in ledger order.

        Raises OperationalError `evidence.unreadable`, as `about`.
        """
        self.require_readable()
        gone = self._standing.ended_at(now)
        return tuple(
            self._standing.effective(item)
            for item in self.statements
            if item.kind == kind and self._refused(item, None, now, gone) is None
        )

    def _refused(
        self, item: VerifiedStatement, name: str | None, now: int, gone: Mapping[Digest, Ended]
    ) -> Refused | None:
        reason = self._reason(item, name, now, gone)
        if reason is None:
            return None
        if reason.why is Why.EXPIRED:
            # Only who could say it still denies by it what was said before.
            item = self._standing.effective(item)
        return Refused.of(item, reason.why, reason.detail)

    def _reason(
        self, item: VerifiedStatement, name: str | None, now: int, gone: Mapping[Digest, Ended]
    ) -> Ended | None:
        if isinstance(item.predicate, Revocation):
            return self._standing.ineffective.get(item.place)
        reason = self._standing.refusal(item, now, gone)
        if reason is None and isinstance(item.predicate, Reinstatement):
            return self._standing.lifts_nothing(item)
        if reason is None and name is not None and item.subject.name != name:
            return Ended(Why.OTHER_NAME, f"It is about the name {item.subject.name}.")
        return reason

    def _unverified(self) -> list[Refused]:
        return [item for item in self._found if isinstance(item, Refused)]

    def _ineffective(self) -> list[Refused]:
        reasons = self._standing.ineffective
        return [
            Refused.of(item, reasons[item.place].why, reasons[item.place].detail)
            for item in self.statements
            if item.place in reasons
        ]

    def require_readable(self) -> None:
        """Return if every entry could be understood, else raise `evidence.unreadable`."""
        if self.unreadable:
            first = self.unreadable[0]
            raise OperationalError(
                "evidence.unreadable",
                f"Statement entry {first.entry_index} cannot be read, and it may be a revocation "
                f"({first.code}: {first.cause})",
                "Run `keepstone ledger verify`; upgrade Keepstone if a newer one wrote it; name "
                "the signer in the policy again if it was taken out.",
            )


def _is_about(refused: Refused, digest: Digest) -> bool:
    return refused.subject is not None and refused.subject.digest == digest


__all__ = [
    "MAX_SKEW_MS",
    "Denial",
    "Evidence",
    "EvidenceBase",
    "Refused",
    "Rights",
    "Signer",
    "Signers",
    "Unreadable",
    "VerifiedStatement",
    "Why",
    "require_right",
    "verify_statement",
]
