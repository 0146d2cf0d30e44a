"""The vault beside doing without it: encryption against a plain copy, a verified load against
reading and hashing, all on the same file in the same folder, interleaved."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

from keepstone.core.ports import SystemRandomness
from keepstone.vault import chunked
from keepstone.vault.files import FileStore
from keepstone.vault.keks.file import FileKek
from keepstone.vault.seal import seal, unseal
from keepstone.vault.staging import stage

SIZE = 128 << 20
ROUNDS = 7
BLOCK = 1 << 20


def _seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def _beside(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Medians in seconds of interleaved runs, so that a busy moment hits both sides."""
    ours(), theirs()
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
    mine, others = (statistics.median(side) for side in zip(*pairs, strict=True))
    return mine, others


def _row(
    name: str, seconds: float, peer: str, peer_seconds: float, target: float
) -> dict[str, Any]:
    """As throughput: more is better, and so is a larger ratio."""
    ratio = peer_seconds / seconds
    return {
        "name": name,
        "ours": SIZE / seconds / 1e9,
        "peer": peer,
        "peer_value": SIZE / peer_seconds / 1e9,
        "unit": "GB/s",
        "ratio": ratio,
        "target": f">= {target} x",
        "met": ratio >= target,
    }


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model"
        source.write_bytes(SystemRandomness().token_bytes(BLOCK) * (SIZE // BLOCK))
        return [_encryption(folder, source), _load(folder, source)]


def _encryption(folder: Path, source: Path) -> dict[str, Any]:
    key, randomness = bytes(range(32)), SystemRandomness()

    def encrypt() -> None:
        with FileIO(source) as data, FileIO(folder / "sealed", "w") as out:
            chunked.encrypt(key, b"bench", data, out.write, randomness)  # type: ignore[arg-type]

    def copy() -> None:
        buffer = memoryview(bytearray(BLOCK))
        with FileIO(source) as data, FileIO(folder / "copied", "w") as out:
            while count := data.readinto(buffer):
                out.write(buffer[:count])

    return _row("vault.encrypt", *_interleave(encrypt, "plain copy", copy), 0.6)


def _load(folder: Path, source: Path) -> dict[str, Any]:
    store, kek = FileStore(folder / "vault"), FileKek.of(bytes(range(32)))
    staged = stage(source, folder / "staging")
    seal(staged, store, kek, "model")

    def verified() -> bytes:
        return unseal(store, kek, staged.digest, "model")["."]

    def hashed() -> bytes:
        data = source.read_bytes()
        if sha256(data).hexdigest() != staged.artifact[0].sha256.hex:
            raise RuntimeError("the file is not the one that was staged")
        return data

    if verified() != hashed():
        raise RuntimeError("the two sides loaded different bytes")
    # It decrypts and authenticates on top of the hash, and a swapped file cannot win.
    return _row("vault.load", *_interleave(verified, "hash, then load", hashed), 0.5)


def _interleave(
    ours: Callable[[], object], peer: str, theirs: Callable[[], object]
) -> tuple[float, str, float]:
    mine, others = _beside(ours, theirs)
    return mine, peer, others
