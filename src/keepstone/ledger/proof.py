"""C2SP tlog-proof: one text that proves, offline, that a body is an entry of a log."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass

from keepstone.errors import InputError
from keepstone.identity.signing import VerifyingKey
from keepstone.ledger.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    parse_checkpoint,
    strict_b64,
    verify_checkpoint,
)
from keepstone.ledger.tree import HASH_SIZE, MAX_PATH, leaf_hash, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF = MAX_NOTE + (1 << 17)
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})\Z", re.ASCII)


def _malformed(cause: str) -> InputError:
    return InputError("proof.malformed", cause, "Give the proof file as it was written.")


@dataclass(frozen=True, slots=True)
class EntryProof:
    """An entry's index, its audit path (leaf first) and a signed checkpoint over it.

    `extra` is carried, never authenticated.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: str
    extra: bytes | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint the proof claims; nothing is verified by reading it."""
        return parse_checkpoint(self.checkpoint_note)

    def to_text(self) -> str:
        """The tlog-proof text."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(b64encode(item).decode() for item in self.path)
        return "\n".join(lines) + "\n\n" + self.checkpoint_note

    @classmethod
    def parse(cls, text: str) -> EntryProof:
        """Read a tlog-proof strictly. Raises InputError `proof.malformed`."""
        if len(text) > MAX_PROOF:
            raise _malformed("The proof is too large.")
        # The first empty line ends the path; a checkpoint's own lines come after it.
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        if not separator or lines.pop(0) != HEADER:
            raise _malformed(f"A proof begins with {HEADER} and carries a checkpoint.")
        extra: bytes | None = None
        try:
            if lines and lines[0].startswith("extra "):
                extra = strict_b64(lines.pop(0).removeprefix("extra "))
            index = _INDEX.match(lines.pop(0) if lines else "")
            path = tuple(strict_b64(line) for line in lines)
            parse_checkpoint(note)
        except InputError as error:
            raise _malformed(f"The proof cannot be read: {error.cause}") from error
        if index is None:
            raise _malformed("The proof names no index.")
        if len(path) > MAX_PATH or any(len(item) != HASH_SIZE for item in path):
            raise _malformed("The path is not a list of at most 64 SHA-256 hashes.")
        return cls(int(index[1]), path, note, extra)


def verify_proof(text: str, body: bytes, origin: str, key: VerifyingKey) -> Checkpoint:
    """Return the checkpoint under which `body` is proven to be an entry of `origin`.

    tlog-proof "Verifying a tlog proof": (1) the leaf hash; (2) the checkpoint is this origin's
    and signed by `key`; (3) witnesses' cosignatures: none is asked for here; (4) the inclusion
    path binds (1) to (2). Raises InputError `proof.malformed`, VerificationError `proof.invalid`
    or `checkpoint.*`.
    """
    proof = EntryProof.parse(text)
    # (1) RFC 6962 2.1: the leaf hash
    leaf = leaf_hash(body)
    # (2) tlog-checkpoint: origin and signature
    checkpoint = verify_checkpoint(proof.checkpoint_note, origin, [key])
    # (4) RFC 6962 2.1.1: the leaf is under this root
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
    return checkpoint
