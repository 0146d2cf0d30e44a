"""A site's own list: names beyond those that ship, signed, dated, and never below the floor.

A JSON document in a DSSE envelope:

    {"schema": "keepstone.allowlist/v1", "name": "acme", "expires": "2027-01-01T00:00:00Z",
     "names": {"acme.models": {"Scorer": "new build"}}}

The words are those of `allowlist`. Whoever signs it says that loading objects of these names
runs nothing that a file could choose; what a file leaned on is named in its report.

Source: DSSE v1 (`evidence.dsse`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.dsse import Envelope, sign_envelope, verify_envelope
from keepstone.evidence.fields import Fields
from keepstone.identity.signing import SigningKey, VerifyingKey
from keepstone.scan.pickle.allowlist import Added, Entry
from keepstone.scan.pickle.danger import why_dangerous

PAYLOAD_TYPE = "application/vnd.keepstone.allowlist+json"
SCHEMA = "keepstone.allowlist/v1"
MAX_NAMES = 10_000
_MALFORMED = "allowlist.malformed"
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", re.ASCII)
_WORDS = frozenset({"value", "new", "call", "build", "list", "dict", "set", "attributes"})


def sign_extension(document: bytes, key: SigningKey) -> Envelope:
    """Sign a list. Raises InputError as `read_extension` does for one that nobody would take."""
    _parse(document)
    return sign_envelope(PAYLOAD_TYPE, document, key)


def read_extension(data: bytes, keys: Mapping[str, VerifyingKey], now: int) -> Added:
    """Return the names that the signed list in `data` adds at `now` (milliseconds).

    (1) DSSE: it is an envelope of this type, signed by one of `keys`.
    (2) The document is whole, and of a version known here.
    (3) It has not expired.
    (4) No name is of the standard library or of the floor (`danger`).

    Raises InputError `envelope.malformed`, `allowlist.malformed`, `allowlist.dangerous`;
    VerificationError `signature.unknown_key`, `signature.invalid`, `allowlist.expired`.
    """
    # (1)
    envelope = Envelope.parse(data)
    signers = verify_envelope(envelope, keys)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(_MALFORMED, "The envelope holds no list of names.")
    # (2) and (4)
    name, expires, entries = _parse(envelope.payload)
    # (3)
    if now >= expires:
        raise VerificationError(
            "allowlist.expired",
            f"The list {name} expired at {rfc3339(expires)}.",
            "Have it reviewed and signed again.",
        )
    return Added(name, signers[0], str(envelope.payload_digest), rfc3339(expires), entries)


def _parse(document: bytes) -> tuple[str, int, dict[tuple[str, str], Entry]]:
    fields = Fields(parse_json(document), "allow-list", _MALFORMED)
    fields.one_of("schema", frozenset({SCHEMA}))
    name, expires = fields.line("name", 100), fields.time("expires")
    names = fields.raw("names")
    fields.done()
    if not isinstance(names, Mapping):
        raise fields.fault("names", "is not an object")
    entries = {}
    for module, members in names.items():
        if not isinstance(members, Mapping):
            raise fields.fault("names", "holds a module that is not an object")
        for member, words in members.items():
            entries[module, member] = _entry(module, member, words)
    if len(entries) > MAX_NAMES:
        raise fields.fault("names", f"holds more than {MAX_NAMES} names")
    return name, expires, entries


def _entry(module: str, member: str, words: Any) -> Entry:
    if not _DOTTED.match(module) or not _DOTTED.match(member):
        raise InputError(_MALFORMED, f"{module[:100]!r}, {member[:100]!r} is not a name.")
    if not isinstance(words, str) or not words or not set(words.split()) <= _WORDS:
        raise InputError(
            _MALFORMED,
            f"What {module}.{member} may do is not said in known words.",
            f"Known are {', '.join(sorted(_WORDS))}.",
        )
    # (4)
    why = why_dangerous(module, member)
    if why is None and module.partition(".")[0] in sys.stdlib_module_names:
        why = "it is of the standard library, whose list is not a site's to change"
    if why is not None:
        raise InputError("allowlist.dangerous", f"{module}.{member} cannot be allowed: {why}.")
    entry = Entry.parse(words)
    return Entry(entry.new, entry.call, entry.build, entry.shape, added=True)
