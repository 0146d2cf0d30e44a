"""What the crash tests run and kill: `crash_child.py COMMAND LEDGER KEY [...]`.

Each prints `index leaf` once an entry is acknowledged. `load [SYNCHRONOUS]` appends from 64
threads until killed. `fail WHAT CODE` drives one failure of the disk from start to end, and
`die WHAT CODE` ends in the middle of it. `go-on [trusting]` appends a few and ends as if killed,
`trusting` whatever is in the write-ahead log.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from keepstone.errors import OperationalError
from keepstone.identity.signing import load_private_key
from keepstone.ledger import Kind, Ledger, make_entry, rows
from keepstone.ledger.sqlite import SqliteStore

ORIGIN = "keepstone.test/ledger"


def opened(path: str, key: str) -> Ledger:
    return Ledger.open(Path(path), origin=ORIGIN, key=load_private_key(Path(key)))


def load(ledger: Ledger) -> None:
    def write(writer: int) -> None:
        n = 0
        while True:
            body = make_entry(Kind.PREDICTION, n, {"writer": writer, "x": "x" * (n % 300)})
            pending = ledger.append(body)
            pending.wait()
            # One write of less than PIPE_BUF is whole or not there, and never cut into another.
            os.write(1, f"{pending.index} {pending.leaf.hex()}\n".encode())
            n += 1

    for writer in range(64):
        threading.Thread(target=write, args=(writer,)).start()


def acknowledge(ledger: Ledger, count: int) -> None:
    for n in range(count):
        pending = ledger.append(make_entry(Kind.EVENT, n, {"n": n}))
        pending.wait(20)
        os.write(1, f"{pending.index} {pending.leaf.hex()}\n".encode())


def refused(ledger: Ledger) -> str:
    try:
        ledger.append(make_entry(Kind.EVENT, 1, {"lost": True})).wait(20)
    except OperationalError as error:
        return error.code
    raise AssertionError("the entry was acknowledged")


def fail(ledger: Ledger, what: str, code: str) -> None:
    order = Path(os.environ["DISK_FAIL"])
    acknowledge(ledger, 5)
    order.write_text(what)
    assert refused(ledger) == code
    assert refused(ledger) == "ledger.stopped"
    assert ledger.durable_size == 5
    assert len(list(ledger.entries())) == 5
    order.unlink()
    assert refused(ledger) == "ledger.stopped", "it starts again only when told to"
    ledger.resume()
    # The failed entry may have reached the disk after all; it was never acknowledged.
    assert ledger.durable_size in (5, 6)
    acknowledge(ledger, 5)


def die(ledger: Ledger, what: str, code: str) -> None:
    acknowledge(ledger, 5)
    Path(os.environ["DISK_FAIL"]).write_text(what)
    assert refused(ledger) == code


def main() -> None:
    command, path, key, *rest = sys.argv[1:]
    if command == "load":
        rows.SYNCHRONOUS = rest[0] if rest else rows.SYNCHRONOUS
        load(opened(path, key))
        return
    if command == "go-on":
        if rest == ["trusting"]:
            SqliteStore._empty_log = lambda store: None  # type: ignore[method-assign]
        acknowledge(opened(path, key), 5)
    else:
        {"fail": fail, "die": die}[command](opened(path, key), *rest)
    # No orderly end: what is on the disk is what was acknowledged.
    os._exit(0)


if __name__ == "__main__":
    main()
