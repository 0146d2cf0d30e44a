"""An artifact on its way between two machines: its list of files, then their contents.

Promise: what arrives is the artifact that was named, byte for byte, or nothing of it. The form is
that of a seal's plaintext, so neither side holds more than a buffer of it:

    length of the head (4) || head, canonical JSON || blocks that the head measures || artifact
    artifact = length of the listing (4) || canonical JSON [{"path", "sha256", "size"}] || contents

Nothing is encrypted or signed here: the connection does the one, a gate's admission the other.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest, FileDigest
from keepstone.errors import InputError, VerificationError
from keepstone.files import make_private_directory, storage_errors
from keepstone.vault.overlap import BUFFER, pour
from keepstone.vault.seal import Body, Checker, plain_bytes
from keepstone.vault.staging import Staged
from keepstone.vault.unpack import Writer, give_name, remove_partial
from keepstone.vault.walk import StagingLimits, too_large

# The forms of the two heads; what is in them is the registry's business.
PUSH, PULL = "keepstone.push/v1", "keepstone.pull/v1"
MAX_HEAD = 64 << 10
MAX_BLOCK = 64 << 20
_LENGTH = 4

# Fills a buffer with what comes next and says with how many bytes; 0 at the end.
Read = Callable[[memoryview], int]


def head_bytes(head: Any) -> bytes:
    """The head as it travels. Raises InputError `carry.malformed` beyond 64 KiB."""
    data = canonical(head)
    if len(data) > MAX_HEAD:
        raise _malformed("its head is too long")
    return len(data).to_bytes(_LENGTH, "big") + data


def read_head(read: Read) -> dict[str, Any]:
    """The head of what arrives. Raises InputError `carry.malformed`."""
    length = int.from_bytes(read_block(read, _LENGTH), "big")
    if not 0 < length <= MAX_HEAD:
        raise _malformed("its head has no length that one can have")
    try:
        head = parse_json(read_block(read, length), limit=MAX_HEAD)
    except InputError as error:
        raise _malformed("its head cannot be read") from error
    if not isinstance(head, dict):
        raise _malformed("its head is not an object")
    return head


def read_block(read: Read, size: int) -> bytes:
    """Exactly `size` bytes of what arrives. Raises InputError `carry.malformed`."""
    if not 0 <= size <= MAX_BLOCK:
        raise _malformed("a part of it is too large")
    block = memoryview(bytearray(size))
    at = 0
    while at < size:
        count = read(block[at:])
        if not count:
            raise _malformed("it ends too early")
        at += count
    return bytes(block)


def artifact_bytes(staged: Staged) -> int:
    """How many bytes `pieces` gives."""
    return plain_bytes(staged.artifact)


def pieces(staged: Staged) -> Iterator[bytes]:
    """The staged copy as it travels. Whoever takes it holds it against the digest."""
    buffer = memoryview(bytearray(BUFFER))
    with Body(staged) as body:
        while count := body.readinto(buffer):
            yield bytes(buffer[:count])


def receive_staged(
    read: Read, digest: Digest, size: int, staging: Path, limits: StagingLimits | None = None
) -> Staged:
    """Take the artifact `digest` into a private folder under `staging`, as `stage` would have.

    The caller discards it. Its list of files says `size` bytes, and nothing is taken beyond what
    it says. Raises InputError `carry.malformed`, `model.too_large`; VerificationError
    `carry.damaged`; OperationalError `disk.full`; and what `read` raises.
    """
    make_private_directory(staging)
    private = staging / secrets.token_hex(8)
    with storage_errors(staging):
        private.mkdir(mode=0o700)
    try:
        writer = _Declared(digest, private / "copy", size, limits or StagingLimits())
        checker = _receive(read, writer, digest)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    files = tuple(sorted(checker.listing))
    return Staged(files, digest, private / "copy", sum(file.size for file in files))


def receive_at(read: Read, digest: Digest, target: Path) -> None:
    """Take the artifact `digest` to `target`, which appears when all of it is verified and durable.

    Raises as `receive_staged`; InputError `target.exists`, `file.missing`.
    """
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    try:
        _receive(read, Writer(digest, temporary), digest)
        give_name(temporary, target)
    finally:
        remove_partial(temporary)


class _Declared(Writer):
    """Writes what its sender declared, within the limits of any copy that is staged."""

    def __init__(self, digest: Digest, root: Path, size: int, limits: StagingLimits) -> None:
        super().__init__(digest, root)
        self._size, self._limits = size, limits
        self._looked = False

    def begin(self, file: FileDigest) -> None:
        if not self._looked:
            self._looked = True
            self._check()
        super().begin(file)

    def _check(self) -> None:
        """Before the first byte of content."""
        limits, files = self._limits, self.listing
        if sum(file.size for file in files) != self._size:
            raise _malformed("its files are not as large as it said")
        if len(files) > limits.max_files or self._size > limits.max_bytes:
            raise too_large(f"more than {limits.max_files} files or {limits.max_bytes} bytes")
        if any(file.path.count("/") > limits.max_depth for file in files):
            raise too_large(f"folders nested deeper than {limits.max_depth}")


def _receive(read: Read, writer: Writer, digest: Digest) -> Checker:
    checker = Checker(digest)
    try:
        with _told_as_carried():
            pour(read, writer.take, checker.take, BUFFER)
            writer.finish()
            checker.finish()
        writer.sync()
    finally:
        writer.close()
    return checker


@contextmanager
def _told_as_carried() -> Iterator[None]:
    """The form is a seal's, and so are its faults; here no vault is to blame."""
    try:
        yield
    except VerificationError as error:
        if not error.code.startswith("seal."):
            raise
        raise VerificationError(
            "carry.damaged",
            "What arrived is not the artifact that was named, or not all of it.",
            "Try again; if it happens again, look who stands between the two machines.",
        ) from error


def _malformed(why: str) -> InputError:
    return InputError("carry.malformed", f"What was sent is no artifact: {why}.")
