"""Durable appends a second and the time of a proof, beside pymerkle on SQLite.

Each writer is a thread that appends an entry the size of a prediction's and waits until it is
on the disk before it appends the next. Both sides write to the same disk, in turns.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.environment import ROOT, python_of
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import Kind, Ledger, make_entry

ROUNDS = 3
SECONDS = 2.0
PROOF_ENTRIES = 1_000_000
PROOFS = 2_000
PEER_PROOFS = 200
ORIGIN = "keepstone.bench/ledger"

# As long as the entry of a prediction through the gateway.
BODY = make_entry(Kind.PREDICTION, 1_700_000_000_000, {"model": "digits", "x": "x" * 382})


@contextmanager
def _folder() -> Iterator[Path]:
    # In the repository's build folder: /tmp may be memory, and then nothing is durable.
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-ledger-", dir=build))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _ledger(folder: Path) -> Ledger:
    key = SigningKey.generate(Algorithm.ED25519)
    return Ledger.create(folder / "ledger.db", origin=ORIGIN, key=key)


def appends(writers: int, seconds: float = SECONDS) -> float:
    """Acknowledged entries a second with this many writers, each waiting for its own."""
    counts = [0] * writers
    with _folder() as folder, _ledger(folder) as ledger:
        start = time.perf_counter()

        def write(writer: int) -> None:
            while time.perf_counter() - start < seconds:
                ledger.append(BODY).wait()
                counts[writer] += 1

        threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)


def proofs(entries: int, count: int) -> float:
    """The 99th percentile of a proof's time, in milliseconds, over random entries."""
    pick = random.Random(7)
    taken = []
    with _folder() as folder, _ledger(folder) as ledger:
        for n in range(entries):
            pending = ledger.append(make_entry_fast(n))
            if n % 10_000 == 0:
                pending.wait()
        pending.wait()
        ledger.checkpoint()
        for _ in range(count):
            index = pick.randrange(entries)
            start = time.perf_counter()
            ledger.prove(index)
            taken.append((time.perf_counter() - start) * 1000)
    return sorted(taken)[int(count * 0.99)]


def make_entry_fast(n: int) -> bytes:
    return b'{"kind":"prediction","n":%d,"t":1700000000000}' % n


def _peer(command: str, *numbers: float) -> float:
    script = ROOT / "bench" / "ledger_peer.py"
    with _folder() as folder:
        output = subprocess.run(
            [python_of("pymerkle"), script, command, folder, *map(str, numbers)],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
    return float(output)


def _row(name: str, ours: float, peer: float, unit: str, target: str, met: bool) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": "pymerkle",
        "peer_value": peer,
        "unit": unit,
        "ratio": ours / peer,
        "target": target,
        "met": met,
    }


def rows() -> list[dict[str, Any]]:
    """Medians of interleaved runs, so that a busy moment hits both sides."""
    python_of("pymerkle")
    result = []
    for writers, least in ((64, 10_000), (1, 0)):
        pairs = [(appends(writers), _peer("append", writers, SECONDS)) for _ in range(ROUNDS)]
        ours, peer = (statistics.median(side) for side in zip(*pairs, strict=True))
        target = f">= {least:,}" if least else "> peer"
        name = f"ledger.sqlite.{writers}"
        result.append(_row(name, ours, peer, "appends/s", target, ours >= max(least, peer)))
    ours = proofs(PROOF_ENTRIES, PROOFS)
    peer = _peer("prove", PROOF_ENTRIES, PEER_PROOFS)
    result.append(_row("ledger.proof", ours, peer, "ms p99", "<= 10 ms", ours <= 10))
    return result
