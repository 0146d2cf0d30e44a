"""pymerkle on SQLite under the same load as the ledger; runs in the peer's own environment.

`ledger_peer.py append FOLDER WRITERS SECONDS` or `ledger_peer.py prove FOLDER ENTRIES PROOFS`
prints one number: durable appends a second, or the 99th percentile of a proof in milliseconds.
pymerkle commits each entry by itself, in SQLite's default mode, which is durable.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

from pymerkle import SqliteTree  # type: ignore[import-not-found]

BODY = b"x" * 440


def append(folder: Path, writers: int, seconds: float) -> float:
    tree = SqliteTree(str(folder / "peer.db"))
    counts = [0] * writers
    start = time.perf_counter()

    def write(writer: int) -> None:
        while time.perf_counter() - start < seconds:
            tree.append_entry(BODY)
            counts[writer] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def prove(folder: Path, entries: int, proofs: int) -> float:
    tree = SqliteTree(str(folder / "peer.db"))
    tree.append_entries(b"%d" % n for n in range(entries))
    pick = random.Random(7)
    taken = []
    for _ in range(proofs):
        start = time.perf_counter()
        tree.prove_inclusion(pick.randrange(entries) + 1)
        taken.append((time.perf_counter() - start) * 1000)
    return sorted(taken)[int(proofs * 0.99)]


if __name__ == "__main__":
    command, where, first, second = sys.argv[1:]
    if command == "append":
        print(append(Path(where), int(first), float(second)))
    else:
        print(prove(Path(where), int(first), int(second)))
