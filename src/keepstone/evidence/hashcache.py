"""The files in which digests are remembered: outside of every model, private and authentic.

One file per model and one key for all of them, each with mode 0600, under the folder of what is
kept outside of workspaces. Whoever edits a cache without the key is found out; whoever can read
the key has this user's id, and can as well change what runs.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError, OperationalError
from keepstone.evidence.memory import MAX_MEMORY, Memory, open_memory, seal_memory
from keepstone.files import make_private_directory, read_private, write_atomic

_KEY_SIZE = 32


class HashCache:
    """The caches under `folder`, which is made when the first one is kept."""

    def __init__(self, folder: Path, randomness: Randomness | None = None) -> None:
        self.folder = folder
        self._randomness = randomness or SystemRandomness()

    def path(self, model: Path) -> Path:
        """The cache of a model: a name of the hash of its absolute path."""
        return self.folder / f"{sha256(_name(model).encode()).hexdigest()[:32]}.cache"

    def load(self, model: Path) -> Memory:
        """What is remembered of `model`, nothing where there is no cache yet.

        Raises InputError `hashcache.inside_model`, `hashcache.newer_version`; VerificationError
        `hashcache.tampered`; OperationalError `file.not_private`.
        """
        if self.folder.resolve().is_relative_to(model.resolve()):
            raise InputError(
                "hashcache.inside_model",
                f"The cache's folder {self.folder} lies inside of the model.",
                "Set KEEPSTONE_OUTSIDE to a folder elsewhere.",
            )
        data = read_private(self.path(model), MAX_MEMORY)
        if data is None:
            return Memory(_name(model), {})
        return open_memory(data, self._key(), _name(model))

    def keep(self, model: Path, memory: Memory) -> None:
        """Remember `memory` of `model`. Raises OperationalError `disk.full`, `file.*`."""
        make_private_directory(self.folder)
        write_atomic(self.path(model), seal_memory(memory, self._key()))

    def _key(self) -> bytes:
        path = self.folder / "key"
        key = read_private(path, _KEY_SIZE)
        if key is None:
            make_private_directory(self.folder)
            key = self._randomness.token_bytes(_KEY_SIZE)
            write_atomic(path, key)
        if len(key) != _KEY_SIZE:
            raise OperationalError(
                "hashcache.bad_key", f"{path} is not a key.", "Remove it, and the caches beside it."
            )
        return key


def _name(model: Path) -> str:
    return str(model.resolve())
