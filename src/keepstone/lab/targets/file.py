"""A model in a file, asked in a limited child: nothing of it runs in this process.

Who opens one has staged and scanned it first; the child loads those very bytes by their digest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.canonical import parse_json
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.one_thread import ONE_THREAD
from keepstone.lab.ownership.crossings import Answer
from keepstone.lab.refused import Refused
from keepstone.lab.targets.frames import MAX_FRAME, receive, send
from keepstone.lab.targets.reading import number

# Formats that are data and bring their own architecture; no loader of these unpickles anything.
FORMATS = frozenset({"onnx", "xgboost", "lightgbm", "skops"})
_START_S = 120.0
_ANSWER_S = 120.0
_CHILD = "keepstone.lab.targets.child"


class FileTarget:
    """A loaded suspect. `ask` raises OperationalError `target.*`, `runtime.*`."""

    def __init__(self, child: subprocess.Popen[bytes], width: int) -> None:
        self._child = child
        self.width = width

    def ask(self, rows: Array) -> list[Answer]:
        """One answer to each row. Raises InputError `fingerprint.other_inputs`."""
        if rows.shape[1:] != (self.width,):
            raise InputError(
                "fingerprint.other_inputs",
                f"The model takes {self.width} numbers a row, not {rows.shape[-1]}.",
                "A fingerprint asks only models that take the inputs of its own.",
            )
        assert self._child.stdin is not None
        send(self._child.stdin.fileno(), np.ascontiguousarray(rows, "<f8").tobytes())
        found = _message(self._child, _ANSWER_S)
        if not isinstance(found, list) or len(found) != len(rows):
            raise _broken()
        return [_answer(value) for value in found]


@contextmanager
def open_file(
    path: Path, digest: Digest, format: str, output: str | None = None
) -> Iterator[FileTarget]:
    """Load the model at `path`, which was judged clean as `format` and has `digest`.

    Raises OperationalError `target.format` for a format that is not asked here, `target.*`, and
    what the vault's loaders raise.
    """
    if format not in FORMATS:
        raise OperationalError(
            "target.format",
            f"A suspect in the format {format[:32]!r} is not loaded: it would bring code along.",
            f"Convert it to one of: {', '.join(sorted(FORMATS))}; or ask it at an endpoint.",
        )
    wanted = {"path": str(path), "digest": digest.hex, "format": format, "output": output}
    child = subprocess.Popen(  # noqa: S603  # our own interpreter and file
        [sys.executable, "-I", "-m", _CHILD, json.dumps(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        # Threads are processes to the limit that the child sets itself.
        env=ONE_THREAD,
    )
    try:
        hello = _message(child, _START_S)
        width = hello.get("width") if isinstance(hello, dict) else None
        if type(width) is not int or width <= 0:
            raise _broken()
        yield FileTarget(child, width)
    finally:
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()


def _message(child: subprocess.Popen[bytes], seconds: float) -> Any:
    """What the child says, read as strictly as if the model itself said it."""
    assert child.stdout is not None
    data = receive(child.stdout.fileno(), seconds)
    try:
        found = parse_json(data, limit=MAX_FRAME)
    except InputError as error:
        raise _broken() from error
    match found:
        case {"error": [str() as family, str() as code, str() as cause, str() as step]}:
            raise Refused(family, code[:100], cause[:1000], step[:1000]).error()
    return found


def _answer(value: object) -> Answer:
    return value[:256] if isinstance(value, str) else number(value)


def _broken() -> OperationalError:
    return OperationalError("target.broken", "The process that held the model answers nonsense.")
