from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import Kind, Ledger, LedgerReader, make_entry, read_head
from keepstone.ledger.sqlite import Batch, SqliteStore, create_file
from keepstone.ledger.tree import leaf_hash

ORIGIN = "keepstone.test/ledger"


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.generate(Algorithm.ED25519)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, key: SigningKey) -> Iterator[Ledger]:
    with Ledger.create(path, origin=ORIGIN, key=key) as opened:
        yield opened


@pytest.fixture(scope="session")
def body() -> Callable[[int], bytes]:
    """Entry `n`: every tenth is an event, every tenth after it a statement."""

    def make(n: int) -> bytes:
        kind = {0: Kind.EVENT, 1: Kind.STATEMENT}.get(n % 10, Kind.PREDICTION)
        return make_entry(kind, 1_000 + n, {"n": n})

    return make


@pytest.fixture(scope="session")
def fill(body: Callable[[int], bytes]) -> Callable[..., None]:
    """Append entries up to `size`, `batch` to a commit at most (the committer may cut finer)."""

    def append(ledger: Ledger, size: int, batch: int = 1_000_000) -> None:
        while (start := ledger.durable_size) < size:
            for n in range(start, min(start + batch, size)):
                pending = ledger.append(body(n))
            pending.wait(20)

    return append


@pytest.fixture(scope="session")
def commit(body: Callable[[int], bytes], key: SigningKey) -> Callable[[Path, int, int], str]:
    """Grow the ledger at `path` to `size` in commits of exactly `batch`; the checkpoint after."""

    def grow(path: Path, size: int, batch: int) -> str:
        if not path.exists():
            create_file(path, ORIGIN)
        store = SqliteStore(path)
        tail = LedgerReader(store.rows).tail()
        while tail.size < size:
            first, stop = tail.size, min(tail.size + batch, size)
            bodies = [body(n) for n in range(first, stop)]
            heads = [(n, read_head(item)) for n, item in enumerate(bodies, first)]
            keys = [(name, n) for n, head in heads for name in head.keys]
            tail, tiles = tail.extended([leaf_hash(item) for item in bodies])
            store.commit(Batch(first, bodies, max(head.t for _, head in heads), tiles, keys))
        store.close()
        with Ledger.open(path, origin=ORIGIN, key=key) as ledger:
            return ledger.checkpoint()

    return grow
