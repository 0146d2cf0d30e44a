"""How long `keepstone --help` takes, beside an interpreter that does nothing at all."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 15
TARGET = 0.3


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def rows() -> list[dict[str, Any]]:
    """Medians of interleaved runs, so that a busy moment hits both sides."""
    ours = [str(Path(sys.executable).with_name("keepstone")), "--help"]
    bare = [sys.executable, "-c", "pass"]
    _seconds(ours), _seconds(bare)
    pairs = [(_seconds(ours), _seconds(bare)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [
        {
            "name": "cli.help",
            "ours": mine,
            "peer": "bare-python",
            "peer_value": theirs,
            "unit": "s",
            "ratio": mine / theirs,
            "target": f"< {TARGET} s",
            "met": mine < TARGET,
        }
    ]
