"""What a run has done, kept on the disk, so that one that is cut off does not begin anew.

A folder belongs to one question about one target and one set of samples: its digest is in it,
and with another one nothing in it counts.
"""

from __future__ import annotations

import hashlib
import io
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.files import write_atomic
from keepstone.lab.meter import Tally

_FIELDS = ("rows", "distance", "queries", "gradients", "first", "unanswered")


class Memory:
    """Attacks that are done, by what they were. Each file is whole or not there.

    Raises InputError `attack.other_run` for a folder of another run, OperationalError
    `attack.not_kept`.
    """

    def __init__(self, folder: Path, run: Digest) -> None:
        self._folder = folder
        mark = folder / "run"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh = not mark.exists()
            if fresh:
                write_atomic(mark, str(run).encode())
            known = mark.read_text("utf-8", "replace")
        except OSError as error:
            raise OperationalError(
                "attack.not_kept", f"{folder} cannot be written: {error.strerror}."
            ) from error
        if known != str(run):
            raise InputError(
                "attack.other_run",
                f"{folder} holds another run: of another target, other samples or settings.",
                "Name another folder, or remove this one.",
            )

    def keep(self, key: str, tally: Tally, cpu_s: float) -> None:
        buffer = io.BytesIO()
        arrays = {name: getattr(tally, name) for name in _FIELDS}
        np.savez(buffer, cpu_s=np.float64(cpu_s), **arrays)
        write_atomic(self._place(key), buffer.getvalue())

    def recall(self, key: str, count: int) -> tuple[Tally, float] | None:
        """What was kept for `count` samples, or None: a broken file is as good as none."""
        place = self._place(key)
        if not place.exists():
            return None
        try:
            with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as kept:
                found: dict[str, Array] = {name: kept[name] for name in _FIELDS}
                spent = float(kept["cpu_s"])
        # What a broken file makes numpy raise has no common base.
        except (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zlib.error):
            return None
        except (zipfile.BadZipFile, tokenize.TokenError):
            return None
        if any(len(array) != count for array in found.values()):
            return None
        return Tally(**found), spent

    def _place(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
