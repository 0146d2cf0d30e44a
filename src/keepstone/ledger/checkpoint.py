"""Checkpoints: C2SP signed-note and tlog-checkpoint with Ed25519.

A checkpoint says "the log called `origin` had `size` entries under `root`". The parsers are
strict: one text has one reading, and anything else is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as BinasciiError
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from keepstone.errors import InputError, VerificationError
from keepstone.identity.signing import SigningKey, VerifyingKey
from keepstone.ledger.tree import HASH_SIZE

MAX_NOTE = 1 << 16
MAX_SIGNATURES = 64
_ED25519 = b"\x01"
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)
_SIGNATURE_PREFIX = "\u2014 "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: its name, its number of entries, the RFC 6962 root over them."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The note text that is signed: three lines, each ending in a newline."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def _malformed(cause: str) -> InputError:
    return InputError("checkpoint.malformed", cause, "Give the checkpoint as it was written.")


def strict_b64(text: str) -> bytes:
    """Read RFC 4648 section 4 base64 in its one canonical spelling, else `base64.malformed`."""
    try:
        data = b64decode(text, validate=True)
    except (BinasciiError, ValueError) as error:
        raise InputError("base64.malformed", f"{text[:24]!r} is not base64.") from error
    # b64decode takes spare bits and padding in some odd places; only one spelling may pass.
    if b64encode(data).decode() != text:
        raise InputError("base64.malformed", f"{text[:24]!r} is not canonical base64.")
    return data


def check_origin(origin: str) -> str:
    """Return `origin` if it may name a log and its key, else raise `checkpoint.bad_origin`."""
    clean = origin.isprintable() and not any(c.isspace() or c == "+" for c in origin)
    if not origin or not clean or len(origin) > 255:
        raise InputError(
            "checkpoint.bad_origin",
            f"{origin[:60]!r} cannot name a log.",
            "Use a name like `example.com/log` without spaces or plus signs.",
        )
    return origin


def _raw_public(key: VerifyingKey) -> bytes:
    if not isinstance(key.public, ed25519.Ed25519PublicKey):
        raise InputError("checkpoint.bad_key", "A checkpoint key must be an Ed25519 key.")
    return key.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def note_key_id(name: str, key: VerifyingKey) -> bytes:
    """signed-note: SHA-256(name || 0x0A || 0x01 || public key), the first four bytes."""
    return sha256(name.encode() + b"\n" + _ED25519 + _raw_public(key)).digest()[:4]


def format_vkey(name: str, key: VerifyingKey) -> str:
    """signed-note verifier key: `<name>+<key id>+<base64 of type and key>`."""
    material = b64encode(_ED25519 + _raw_public(key)).decode()
    return f"{check_origin(name)}+{note_key_id(name, key).hex()}+{material}"


def parse_vkey(text: str) -> tuple[str, VerifyingKey]:
    """Read a verifier key into its name and key. Raises InputError `checkpoint.bad_vkey`."""
    # The base64 of a key may hold plus signs itself, the name and the id may not.
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise InputError("checkpoint.bad_vkey", "A verifier key has three parts.")
    name, key_id, material = parts
    try:
        raw = strict_b64(material)
        if raw[:1] != _ED25519 or len(raw) != 33:
            raise InputError("checkpoint.bad_vkey", "Only Ed25519 verifier keys are known.")
        key = VerifyingKey.of(ed25519.Ed25519PublicKey.from_public_bytes(raw[1:]))
        matches = note_key_id(check_origin(name), key).hex() == key_id
    except (InputError, ValueError) as error:
        raise InputError("checkpoint.bad_vkey", "Not an Ed25519 verifier key.") from error
    if not matches:
        raise InputError("checkpoint.bad_vkey", "The key id is not that of this name and key.")
    return name, key


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """signed-note: `text` (ending in a newline) with one Ed25519 signature line."""
    blob = note_key_id(name, key.verifying) + key.sign(text.encode())
    return f"{text}\n{_SIGNATURE_PREFIX}{name} {b64encode(blob).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The signed note of `checkpoint`; the key's name is the log's origin, as C2SP asks."""
    check_origin(checkpoint.origin)
    return sign_note(checkpoint.to_text(), checkpoint.origin, key)


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """A note into its text and its signatures (key name, key id and signature)."""
    if len(note) > MAX_NOTE:
        raise _malformed("The note is larger than 64 KiB.")
    if any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in note):
        raise _malformed("The note holds a control character, or is not UTF-8.")
    # signed-note: the text ends at the *last* empty line, and keeps its own newline.
    text, separator, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    if not separator or len(lines) < 2 or lines.pop():
        raise _malformed("The note has no signature, or does not end in a newline.")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"The note has more than {MAX_SIGNATURES} signatures.")
    return text + "\n", [_signature_line(line) for line in lines]


def _signature_line(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX):
        raise _malformed("A signature line does not begin with an em dash and a space.")
    try:
        blob = strict_b64(encoded)
        check_origin(name)
    except InputError as error:
        raise _malformed("A signature line is not a key name and base64.") from error
    if len(blob) < 5:
        raise _malformed("A signature line is too short.")
    return name, blob


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")[:-1]
    if len(lines) < 3 or not all(lines):
        raise _malformed("A checkpoint has at least three lines, none of them empty.")
    if not _SIZE.match(lines[1]):
        raise _malformed("The size of the tree is not a plain decimal number.")
    try:
        root = strict_b64(lines[2])
    except InputError as error:
        raise _malformed("The root hash is not base64.") from error
    if len(root) != HASH_SIZE:
        raise _malformed("The root hash is not 32 bytes long.")
    return Checkpoint(lines[0], int(lines[1]), root)


def parse_checkpoint(note: str) -> Checkpoint:
    """Read a signed checkpoint *without* checking who signed it: for display and look-ups.

    Raises InputError `checkpoint.malformed`.
    """
    return _parse_text(_split_note(note)[0])


def verify_checkpoint(note: str, origin: str, keys: Sequence[VerifyingKey]) -> Checkpoint:
    """Return the checkpoint if it is `origin`'s, signed by one of `keys`.

    (1) the note has its form; (2) each signature of a known name and key id verifies; (3) at
    least one does; (4) the text is a checkpoint of this origin. Extension lines are signed but
    mean nothing here. Raises InputError `checkpoint.malformed`, VerificationError
    `checkpoint.invalid`, `checkpoint.unsigned` or `checkpoint.wrong_origin`.
    """
    # (1) signed-note "Format"
    text, signatures = _split_note(note)
    known = {note_key_id(origin, key): key for key in keys}
    verified = 0
    for name, blob in signatures:
        key = known.get(blob[:4]) if name == origin else None
        if key is None:
            continue
        # (2) signed-note "Signatures": a known key that fails rejects the whole note
        try:
            key.verify(blob[4:], text.encode())
        except VerificationError as error:
            raise VerificationError(
                "checkpoint.invalid", "The checkpoint's signature does not verify."
            ) from error
        verified += 1
    # (3) signed-note "Signatures": none from a known key, so the note is refused
    if not verified:
        raise VerificationError(
            "checkpoint.unsigned",
            f"The checkpoint carries no signature of a known key of {origin}.",
            "Give the public key of the ledger that wrote it.",
        )
    # (4) tlog-checkpoint "Note text"
    checkpoint = _parse_text(text)
    if checkpoint.origin != origin:
        raise VerificationError(
            "checkpoint.wrong_origin", f"The checkpoint is of {checkpoint.origin}, not {origin}."
        )
    return checkpoint
