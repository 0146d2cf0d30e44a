"""The child that holds one suspect model: loads it with the vault's loaders, and answers rows.

    python -I -m keepstone.lab.targets.child '{"path", "digest", "format", "output"}'

It limits itself before the model is looked at: memory and time, then no file is written, and from
the moment it runs the model no other process is started. Messages (`frames`) go over stdin and
stdout: the first says what the model takes, each other is the answers to rows that came in.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import KeepstoneError
from keepstone.lab.targets.frames import receive, send
from keepstone.lab.targets.reading import Reading
from keepstone.vault.load import Runtime, prepare
from keepstone.vault.load.identify import require_scanned
from keepstone.vault.verified import verify_files

MEMORY = 8 << 30
CPU_S = 600


def limit(kinds: tuple[tuple[int, int], ...]) -> None:
    for kind, most in kinds:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def no_new_rights() -> None:
    """PR_SET_NO_NEW_PRIVS, where the system knows it."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(38, 1, 0, 0, 0)


def load(wanted: dict[str, Any]) -> tuple[Runtime, Reading]:
    """The model, from the bytes that were scanned: the digest says so, whatever lies there now."""
    with verify_files(Path(wanted["path"]), Digest(wanted["digest"])) as files:
        # Not before: the memory that the bytes were verified in counts as a file.
        limit(((resource.RLIMIT_FSIZE, 0),))
        format, prepared = prepare(files)
        require_scanned(wanted["format"], format)
        reading = Reading.of(prepared.contract, wanted["output"])
        limit(((resource.RLIMIT_NPROC, 0),))
        return prepared.start(), reading


def serve(runtime: Runtime, reading: Reading, input: int, output: int) -> None:
    while True:
        rows: Array = np.frombuffer(receive(input), "<f8").reshape(-1, reading.width)
        found = runtime.predict({reading.input.name: reading.question(rows)})
        send(output, json.dumps(reading.answers(found, len(rows))).encode())


def main(arguments: list[str]) -> None:
    limit(
        (
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_CPU, CPU_S),
            (resource.RLIMIT_CORE, 0),
        )
    )
    no_new_rights()
    # Libraries look for a folder of temporary files as they are imported, by writing one.
    tempfile.gettempdir()
    # They print to stdout as they like; the messages get a descriptor of their own.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        runtime, reading = load(json.loads(arguments[0]))
        send(output, json.dumps({"width": reading.width}).encode())
        serve(runtime, reading, 0, output)
    except KeepstoneError as error:
        if error.code != "target.ended":
            said = {"error": [error.family, error.code, error.cause, error.next_step]}
            send(output, json.dumps(said).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
