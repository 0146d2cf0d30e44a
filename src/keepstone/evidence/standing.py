"""Revocation: what was ended, by whom, in the order of the ledger.

The rules, which `docs/explain/evidence.md` explains:

1. A revocation counts if one of its signers has the right `state.revocation` and that key was
   not itself revoked earlier in the ledger. Once it counts it stands: revoking its signer's
   key, or revoking it as a statement, does not lift it.
2. A revoked key ends every other statement it signed, whenever that was made or logged.
3. A revoked statement ends by its payload, so signing it again or wrapping it anew is no way
   back, and with it ends whatever names it, through any number of steps.
4. A revoked artifact is a standing denial, and so is one whose only file has the revoked
   SHA-256: what people compute with `sha256sum` must not miss. It is lifted only by a later
   reinstatement that names that revocation, by a signer with the right `state.reinstatement`
   who did not sign the revocation - neither by key nor by name - and for as long as that
   reinstatement holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from keepstone.core.digest import Digest
from keepstone.evidence.predicates import Reinstatement, Revocation, Scan, rests_on
from keepstone.evidence.verified import (
    Rights,
    Signers,
    VerifiedStatement,
    Why,
    with_right,
)

# A signer's clock may run ahead of ours by this much before its statement is refused.
MAX_SKEW_MS = 300_000


@dataclass(frozen=True, slots=True)
class Denial:
    """One revocation of an artifact that counts. `lifted_by` names the reinstatement, if any."""

    statement: VerifiedStatement
    revocation: Revocation
    lifted_by: Digest | None = None

    @property
    def digest(self) -> Digest:
        """What a reinstatement must name."""
        return self.statement.digest


@dataclass(frozen=True, slots=True)
class Ended:
    """Why something does not count, with the sentence that says so."""

    why: Why
    detail: str


_NOTHING_TO_LIFT = Ended(Why.NOTHING_TO_LIFT, "It names no earlier revocation of this artifact.")
_CANNOT_REVOKE = Ended(
    Why.REVOCATION_STANDS, "A revocation cannot be revoked: a reinstatement lifts it."
)


def _short(keys: Iterable[str]) -> str:
    return ", ".join(key[:16] for key in keys)


class Standing:
    """The standing of every statement in a ledger: a pure function of them and the rights."""

    def __init__(
        self, found: Iterable[VerifiedStatement], signers: Signers, rights: Rights
    ) -> None:
        self._signers = signers
        self._rights = rights
        everything = sorted(found, key=lambda item: item.place)
        # Any envelope's digest names what it wraps; in here, the payload's digest does.
        self._names = {item.digest: item.payload_digest for item in everything}
        self.statements = _first_of_each(everything)
        self._reinstatements = [
            item for item in self.statements if isinstance(item.predicate, Reinstatement)
        ]
        self._file_of, self._artifacts_of = self._single_files()
        self.revoked_keys: dict[str, VerifiedStatement] = {}
        self._revoked: dict[Digest, VerifiedStatement] = {}
        self._denials: dict[Digest, list[tuple[VerifiedStatement, Revocation]]] = {}
        # By place: the revocations that have no effect.
        self.ineffective: dict[int, Ended] = {}
        self._apply_revocations()
        self._mentions = self._who_rests_on_what()
        self._ended = self._end_for_good()

    def _single_files(self) -> tuple[dict[Digest, Digest], dict[Digest, set[Digest]]]:
        """Which artifacts are one file and which file that is, as who scanned them saw it."""
        file_of: dict[Digest, Digest] = {}
        artifacts_of: dict[Digest, set[Digest]] = defaultdict(set)
        for item in self.statements:
            file = item.statement.file_sha256
            seen = isinstance(item.predicate, Scan) and with_right(item, self._rights)
            if file is not None and seen:
                file_of[item.subject.digest] = file
                artifacts_of[file].add(item.subject.digest)
        return file_of, artifacts_of

    def name_of(self, digest: Digest) -> Digest:
        """The payload digest of the statement that `digest` names, or `digest` itself."""
        return self._names.get(digest, digest)

    def _apply_revocations(self) -> None:
        """Rule 1: in ledger order, each against the keys revoked before it."""
        stand: set[Digest] = set()
        ends: list[tuple[VerifiedStatement, Revocation]] = []
        for item in self.statements:
            predicate = item.predicate
            if not isinstance(predicate, Revocation):
                continue
            entitled = with_right(item, self._rights)
            if not entitled:
                self.ineffective[item.place] = self._no_right(item)
                continue
            if all(key in self.revoked_keys for key in entitled):
                late = Ended(Why.KEY_REVOKED, "It was logged after its signer's key was revoked.")
                self.ineffective[item.place] = late
                continue
            stand.add(item.payload_digest)
            if predicate.target.kind == "key":
                self.revoked_keys.setdefault(predicate.target.digest.hex, item)
            elif predicate.target.kind == "artifact":
                self._denials.setdefault(predicate.target.digest, []).append((item, predicate))
            else:
                ends.append((item, predicate))
        # Only now is it known which statements are revocations that stand.
        for item, predicate in ends:
            name = self.name_of(predicate.target.digest)
            if name in stand:
                self.ineffective[item.place] = _CANNOT_REVOKE
            else:
                self._revoked.setdefault(name, item)

    def _who_rests_on_what(self) -> Mapping[Digest, list[VerifiedStatement]]:
        mentions: dict[Digest, list[VerifiedStatement]] = defaultdict(list)
        for item in self.statements:
            # A revocation stands whatever happens to what it was based on.
            if not isinstance(item.predicate, Revocation):
                for digest in rests_on(item.predicate):
                    mentions[self.name_of(digest)].append(item)
        return mentions

    def _end_for_good(self) -> dict[Digest, Ended]:
        """Rules 2 and 3: everything that ended whatever the time is."""
        ended: dict[Digest, Ended] = {}
        for digest, by in self._revoked.items():
            ended[digest] = Ended(Why.STATEMENT_REVOKED, f"Statement {by.digest.short} revoked it.")
        for key, by in self.revoked_keys.items():
            ended[Digest(key)] = Ended(Why.KEY_REVOKED, f"Statement {by.digest.short} revoked it.")
        alive: dict[Digest, bool] = {}
        for item in self.statements:
            entitled = with_right(item, self._rights)
            if entitled and not isinstance(item.predicate, Revocation):
                holds = any(key not in self.revoked_keys for key in entitled)
                alive[item.payload_digest] = alive.get(item.payload_digest, False) or holds
        for digest, holds in alive.items():
            if not holds:
                ended.setdefault(
                    digest, Ended(Why.KEY_REVOKED, "The key that signed it is revoked.")
                )
        return self._spread(ended, ended)

    def _spread(
        self, seeds: Mapping[Digest, Ended], known: Mapping[Digest, Ended]
    ) -> dict[Digest, Ended]:
        """`known`, and all that rests on `seeds` through any number of steps."""
        ended = dict(known)
        waiting = list(seeds)
        while waiting:
            digest = waiting.pop()
            for item in self._mentions.get(digest, ()):
                if item.payload_digest not in ended:
                    ended[item.payload_digest] = Ended(
                        Why.INPUT_ENDED, f"It rests on {digest.short}, which is revoked."
                    )
                    waiting.append(item.payload_digest)
        return ended

    def ended_at(self, now: int) -> Mapping[Digest, Ended]:
        """What has ended, by payload digest, with all that rests on artifacts denied now."""
        denied = {
            digest: Ended(Why.INPUT_ENDED, "The artifact is revoked.")
            for named in self._denials
            for digest in (named, *self._artifacts_of.get(named, ()))
            if digest in self._mentions and self.denied(digest, now) is not None
        }
        return self._spread(denied, self._ended) if denied else self._ended

    def refusal(
        self, item: VerifiedStatement, now: int, ended: Mapping[Digest, Ended] | None = None
    ) -> Ended | None:
        """Why `item` (not a revocation) does not hold at `now`, or None if it does.

        `ended` is what `ended_at(now)` gave. Without it, and for a reinstatement always, what
        rests on a denied artifact still counts: a reinstatement may name what it lifts.

        (1) a signer has the right to state it; (2) such a signer's key is not revoked;
        (3) neither it nor what it rests on is revoked; (4) it was made by now, allowing for
        five minutes of clock skew; (5) it has not expired: it holds while now < expires.
        """
        entitled = with_right(item, self._rights)
        # (1) the right to state it.
        if not entitled:
            return self._no_right(item)
        # (2) the key.
        if all(key in self.revoked_keys for key in entitled):
            return Ended(Why.KEY_REVOKED, f"The key {_short(entitled)} that signed it is revoked.")
        # (3) the statement, and what it rests on.
        gone = self._ended if ended is None or item.kind == Reinstatement.kind else ended
        if item.payload_digest in gone:
            return gone[item.payload_digest]
        made = item.predicate.made
        # (4) made by now.
        if made.created > now + MAX_SKEW_MS:
            return Ended(Why.NOT_YET, "It says it was made in the future: check the clocks.")
        # (5) not expired.
        if made.expires is not None and now >= made.expires:
            return Ended(Why.EXPIRED, "It has expired.")
        return None

    def _no_right(self, item: VerifiedStatement) -> Ended:
        return Ended(
            Why.NO_RIGHT, f"Its signer {_short(item.signers)} lacks the right {item.right}."
        )

    def effective(self, item: VerifiedStatement) -> VerifiedStatement:
        """`item` with only those signers that may state it and whose keys are not revoked."""
        entitled = with_right(item, self._rights)
        return replace(item, signers=tuple(key for key in entitled if key not in self.revoked_keys))

    def denials(self, digest: Digest, now: int) -> tuple[Denial, ...]:
        """Every revocation of this artifact that counts, oldest first, lifted or not."""
        return tuple(
            Denial(item, revocation, self._lifted_by(item, now))
            for item, revocation in self._revocations_of(digest)
        )

    def _revocations_of(self, digest: Digest) -> list[tuple[VerifiedStatement, Revocation]]:
        """Those that name the artifact, and those that name its one file."""
        found = list(self._denials.get(digest, ()))
        file = self._file_of.get(digest)
        if file is not None and file in self._denials:
            found = sorted((*found, *self._denials[file]), key=lambda pair: pair[0].place)
        return found

    def denied(self, digest: Digest, now: int) -> Denial | None:
        """The newest revocation of this artifact that nothing lifts at `now`."""
        return next(
            (one for one in reversed(self.denials(digest, now)) if one.lifted_by is None), None
        )

    def _lifted_by(self, revocation: VerifiedStatement, now: int) -> Digest | None:
        for item in self._reinstatements:
            holds = self.refusal(item, now) is None
            if holds and self._cannot_lift(item, revocation) is None:
                return item.digest
        return None

    def lifts_nothing(self, item: VerifiedStatement) -> Ended | None:
        """Why the reinstatement `item` lifts no revocation of its subject, or None if it does."""
        reasons = [
            self._cannot_lift(item, revocation)
            for revocation, _ in self._revocations_of(item.subject.digest)
        ]
        if None in reasons:
            return None
        named = (reason for reason in reasons if reason and reason.why is Why.SAME_SIGNER)
        return next(named, _NOTHING_TO_LIFT)

    def _cannot_lift(self, item: VerifiedStatement, revocation: VerifiedStatement) -> Ended | None:
        """Rule 4, apart from time: why the reinstatement `item` does not lift `revocation`."""
        predicate = item.predicate
        named = (
            isinstance(predicate, Reinstatement)
            and self.name_of(predicate.revocation) == revocation.payload_digest
            and item.subject.digest == revocation.subject.digest
            and item.place > revocation.place
        )
        if not named:
            return _NOTHING_TO_LIFT
        revokers = {self._person(key) for key in revocation.signers}
        others = [
            key
            for key in self.effective(item).signers
            if key not in revocation.signers and self._person(key) not in revokers
        ]
        if not others:
            return Ended(Why.SAME_SIGNER, "Whoever revoked it cannot reinstate it.")
        return None

    def _person(self, key: str) -> str:
        return self._signers[key].name


def _first_of_each(found: Iterable[VerifiedStatement]) -> tuple[VerifiedStatement, ...]:
    """One statement per payload and signer, the first logged: a copy adds nothing.

    So replaying an old revocation does not undo a reinstatement, and logging an old scan again
    does not make it newer.
    """
    seen: set[tuple[Digest, str]] = set()
    kept: list[VerifiedStatement] = []
    for item in found:
        fresh = tuple(key for key in item.signers if (item.payload_digest, key) not in seen)
        seen.update((item.payload_digest, key) for key in fresh)
        if fresh:
            kept.append(replace(item, signers=fresh))
    return tuple(kept)
