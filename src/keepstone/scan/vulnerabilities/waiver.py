"""A waiver: somebody signs that these advisories, in this package, are accepted until then.

A JSON document in a DSSE envelope, one a line of a file:

    {"schema": "keepstone.waiver/v1", "ecosystem": "PyPI", "package": "left-pad",
     "version": "1.2", "advisories": ["GHSA-aaaa-bbbb-cccc"], "reason": "not reachable here",
     "created": "2026-11-01T00:00:00.000Z", "expires": "2026-12-01T00:00:00.000Z"}

It names its advisories one by one: there is no way to write *all of them*. Nothing about it can
be changed without its signer, and it ends by itself.

Source: DSSE v1 (`evidence.dsse`); PEP 503 and PEP 508 for names on PyPI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence.dsse import Envelope, sign_envelope, verify_envelope
from keepstone.evidence.fields import Fields
from keepstone.evidence.standing import MAX_SKEW_MS
from keepstone.identity.signing import Signatory, VerifyingKey
from keepstone.scan.packages.folding import cve_of
from keepstone.scan.packages.names import normal_pypi
from keepstone.scan.packages.vulnerability import MALICIOUS
from keepstone.scan.rules import printable

PAYLOAD_TYPE = "application/vnd.keepstone.waiver+json"
SCHEMA = "keepstone.waiver/v1"
MAX_LIFE_MS = 366 * 86_400_000
MAX_ADVISORIES = 64
MAX_LINE = 64 << 10
MAX_WAIVERS = 10_000
MALFORMED = "waiver.malformed"
_VERSION = re.compile(r"keepstone\.waiver/v[0-9]+\Z")
_ADVISORY = re.compile(r"[A-Za-z][A-Za-z0-9]*[-:][A-Za-z0-9._:+-]{1,120}\Z")
# What any ecosystem of ours calls a package. ASCII: what only looks like it is another package.
_PACKAGE = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@._+:/~-]{0,213}\Z")
_WORD = re.compile(r"[!-~]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Waiver:
    """What is accepted, why, and from when until when (ms). No `version` means every one."""

    ecosystem: str
    package: str
    version: str | None
    advisories: tuple[str, ...]
    reason: str
    created: int
    expires: int

    def covers(self, ecosystem: str, package: str, version: str, ids: Iterable[str]) -> bool:
        """Whether it is about this package, at this version, and names what the finding is.

        An advisory's own id and its aliases are the same vulnerability: one of `ids` is enough. But
        aliases chain weaknesses together, so of several CVEs each must be named; and what is itself
        the attack is accepted by that name alone. All else is compared as it is written, but for
        names that the ecosystem itself holds to be one.
        """
        return (
            ecosystem == self.ecosystem
            and known_as(ecosystem, package) == known_as(ecosystem, self.package)
            and self.version in (None, version)
            and self._names(frozenset(ids))
        )

    def _names(self, ids: frozenset[str]) -> bool:
        attacks = {one for one in ids if one.startswith(MALICIOUS)}
        weaknesses = {cve for one in ids if (cve := cve_of(one))}
        if not attacks and len(weaknesses) < 2:
            return not ids.isdisjoint(self.advisories)
        named = {cve_of(one) or one for one in self.advisories}
        return attacks <= named and (len(weaknesses) < 2 or weaknesses <= named)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "ecosystem": self.ecosystem,
            "package": self.package,
            "version": self.version,
            "advisories": list(self.advisories),
            "reason": self.reason,
            "created": rfc3339(self.created),
            "expires": rfc3339(self.expires),
        }


@dataclass(frozen=True, slots=True)
class SignedWaiver:
    """A waiver, who signed it, and the digest of what was signed."""

    waiver: Waiver
    key_id: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class RefusedWaiver:
    """A line that waives nothing, and why."""

    line: int
    code: str
    cause: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{printable(self.file, 200)}, line" if self.file else "line"
        return f"{where} {self.line}: {self.cause} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Waivers:
    """Those of a file that hold, and those that do not."""

    held: tuple[SignedWaiver, ...] = ()
    refused: tuple[RefusedWaiver, ...] = ()
    # A report may name a million findings: each asks only the waivers of its own package.
    _about: dict[tuple[str, str], list[SignedWaiver]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for one in self.held:
            key = one.waiver.ecosystem, known_as(one.waiver.ecosystem, one.waiver.package)
            self._about.setdefault(key, []).append(one)

    def __add__(self, other: Waivers) -> Waivers:
        return Waivers((*self.held, *other.held), (*self.refused, *other.refused))

    def for_(
        self, ecosystem: str, package: str, version: str, ids: Iterable[str]
    ) -> SignedWaiver | None:
        """The waiver that covers this finding, the longest-lived where there are several."""
        about = self._about.get((ecosystem, known_as(ecosystem, package)), ())
        known = frozenset(ids)
        found = [one for one in about if one.waiver.covers(ecosystem, package, version, known)]
        return max(found, key=lambda one: one.waiver.expires, default=None)


def known_as(ecosystem: str, name: str) -> str:
    """The name by which the ecosystem itself knows a package: two that share it are one.

    PyPI knows names by PEP 503, for the ASCII that PEP 508 allows; lower-casing anything else would
    make a package of a look-alike. Everywhere else a name is what it is.
    """
    return normal_pypi(name) if ecosystem == "PyPI" and name.isascii() else name


def sign_waiver(waiver: Waiver, key: Signatory) -> Envelope:
    """Sign a waiver. Raises InputError as `read_waiver` does for one that nobody would take."""
    document = canonical(waiver.to_dict())
    _parse(document)
    return sign_envelope(PAYLOAD_TYPE, document, key)


def read_waiver(line: bytes, keys: Mapping[str, VerifyingKey], now: int) -> SignedWaiver:
    """Return the waiver in `line` if it holds at `now` (milliseconds).

    (1) DSSE: it is an envelope of this type, signed by one of `keys`.
    (2) The document is whole, of a version known here, and lives at most 366 days.
    (3) It was made by now, allowing for five minutes of clock skew, and has not expired.

    Raises InputError `envelope.malformed`, `json.*`, `waiver.malformed`, `waiver.newer_version`;
    VerificationError `signature.unknown_key`, `signature.invalid`, `waiver.not_yet`,
    `waiver.expired`.
    """
    # (1)
    envelope = Envelope.parse(line, limit=MAX_LINE)
    signers = verify_envelope(envelope, keys)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(MALFORMED, "The envelope holds no waiver.")
    # (2)
    waiver = _parse(envelope.payload)
    # (3)
    if waiver.created > now + MAX_SKEW_MS:
        raise VerificationError(
            "waiver.not_yet", f"The waiver is of {rfc3339(waiver.created)}, which is still to come."
        )
    if now >= waiver.expires:
        raise VerificationError(
            "waiver.expired",
            f"The waiver for {waiver.package} expired at {rfc3339(waiver.expires)}.",
            "Look at the vulnerability again, and sign a new one if it is still accepted.",
        )
    return SignedWaiver(waiver, signers[0], envelope.payload_digest)


def read_waivers(
    data: bytes, keys: Mapping[str, VerifyingKey], now: int, *, file: str = ""
) -> Waivers:
    """Read a file of waivers. A line that does not hold waives nothing and hinders no other.

    Raises InputError `waiver.malformed` for more lines than anybody signs.
    """
    held: dict[Digest, SignedWaiver] = {}
    refused = []
    lines = data.split(b"\n")
    if len(lines) > MAX_WAIVERS:
        raise InputError(MALFORMED, f"The file holds more than {MAX_WAIVERS} waivers.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = read_waiver(line, keys, now)
        except KeepstoneError as error:
            refused.append(RefusedWaiver(number, error.code, error.cause, file))
        else:
            held.setdefault(found.digest, found)
    return Waivers(tuple(held.values()), tuple(refused))


def _parse(document: bytes) -> Waiver:
    fields = Fields(parse_json(document, limit=MAX_LINE), "waiver", MALFORMED)
    schema = fields.line("schema", 64)
    if schema != SCHEMA and _VERSION.match(schema):
        raise InputError(
            "waiver.newer_version",
            f"The waiver is {schema}, and this build reads {SCHEMA}.",
            "Upgrade Keepstone.",
        )
    if schema != SCHEMA:
        raise fields.fault("schema", f"is not {SCHEMA}")
    version = None if fields.raw("version") is None else _word(fields, "version")
    package = fields.line("package", 214)
    if not _PACKAGE.match(package):
        raise fields.fault("package", "is not the plain name of one package")
    waiver = Waiver(
        ecosystem=fields.line("ecosystem", 64),
        package=package,
        version=version,
        advisories=_advisories(fields),
        reason=fields.line("reason"),
        created=fields.time("created"),
        expires=fields.time("expires"),
    )
    fields.done()
    if not 0 < waiver.expires - waiver.created <= MAX_LIFE_MS:
        raise fields.fault("expires", "is not within 366 days after `created`")
    return waiver


def _word(fields: Fields, name: str) -> str:
    value = fields.line(name, 128)
    if not _WORD.match(value) or "*" in value:
        raise fields.fault(name, "is not one plain word")
    return value


def _advisories(fields: Fields) -> tuple[str, ...]:
    items = fields.items("advisories", MAX_ADVISORIES)
    for item in items:
        if not isinstance(item, str) or not _ADVISORY.match(item):
            raise fields.fault(
                "advisories", "holds what is not an advisory's id, such as CVE-2026-1 or GHSA-..."
            )
    if not items or len(set(items)) != len(items):
        raise fields.fault("advisories", "is empty, or names one twice")
    return tuple(items)
