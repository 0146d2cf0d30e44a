"""An acknowledged entry survives kills under load, power cuts, failing disks and torn writes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from keepstone.identity.signing import SigningKey, write_secret_file
from keepstone.ledger import Kind, Ledger, LedgerReader, Status, make_entry, verify_file
from keepstone.ledger.sqlite import Batch, SqliteStore, create_file
from keepstone.ledger.tiles import EMPTY_TAIL
from keepstone.ledger.tree import leaf_hash

ORIGIN = "keepstone.test/ledger"
HERE = Path(__file__).parent
Need = Callable[[str, str], str]
Commit = Callable[[Path, int, int], str]


@pytest.fixture
def key_file(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "ledger.pem"
    write_secret_file(path, key.to_pem())
    return path


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Need], Path]:
    built: list[Path] = []

    def build(need: Need) -> Path:
        if not built:
            library = tmp_path_factory.mktemp("shim") / "disk.so"
            compiler = need("cc", "build the disk that keeps only what was synced")
            source = str(HERE / "disk_shim.c")
            flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
            subprocess.run([compiler, *flags, source, "-ldl", "-lpthread"], check=True)
            built.append(library)
        return built[0]

    return build


class Child:
    """A process under test, and what it acknowledged."""

    def __init__(self, *args: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "crash_child.py"), *args],
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )

    def read(self, count: int) -> dict[int, str]:
        """The next `count` entries that it acknowledges."""
        assert self.process.stdout is not None
        return parsed(self.process.stdout.readline() for _ in range(count))

    def kill_after(self, count: int) -> dict[int, str]:
        """Let it acknowledge `count` more, kill it, and return all since the last look."""
        assert self.process.stdout is not None
        acknowledged = self.read(count)
        self.process.send_signal(signal.SIGKILL)
        acknowledged |= parsed(self.process.stdout.readlines())
        self.process.stdout.close()
        assert self.process.wait(30) == -signal.SIGKILL
        return acknowledged

    def finish(self) -> dict[int, str]:
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return parsed(output.splitlines(keepends=True))


def parsed(lines: Iterable[bytes]) -> dict[int, str]:
    pairs = [line.split() for line in lines if line.endswith(b"\n")]
    return {int(index): leaf.decode() for index, leaf in pairs}


def lost(path: Path, key: SigningKey, acknowledged: dict[int, str]) -> int:
    """How many acknowledged entries the ledger does not have, after it recovered whole."""
    with Ledger.open(path, origin=ORIGIN, key=key) as ledger:
        there = {index: leaf_hash(body).hex() for index, body in ledger.entries()}
    report = verify_file(path, ORIGIN, [key.verifying], None)
    assert report.status is Status.VERIFIED_NO_OUTSIDE, report.errors
    return sum(there.get(index) != leaf for index, leaf in acknowledged.items())


def kill_rounds(path: Path, key: SigningKey, key_file: Path, rounds: int) -> None:
    create_file(path, ORIGIN)
    acknowledged: dict[int, str] = {}
    for number in range(rounds):
        mine = Child("load", str(path), str(key_file)).kill_after(300 + 137 * number)
        assert not mine.keys() & acknowledged.keys(), "an acknowledged index was given out twice"
        acknowledged |= mine
        assert lost(path, key, acknowledged) == 0


def test_nothing_acknowledged_is_lost_when_killed(
    path: Path, key: SigningKey, key_file: Path
) -> None:
    kill_rounds(path, key, key_file, 3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_over_twenty_kills(
    path: Path, key: SigningKey, key_file: Path
) -> None:
    kill_rounds(path, key, key_file, 20)


def disk(path: Path, shim: Path) -> tuple[Path, dict[str, str]]:
    """A new ledger on a disk that keeps only what was synced: what it keeps, and its shim."""
    create_file(path, ORIGIN)
    kept = path.parent / "kept"
    kept.mkdir()
    shutil.copy(path, kept)
    env = {
        "LD_PRELOAD": str(shim),
        "DISK_WATCH": str(path),
        "DISK_KEPT": str(kept),
        "DISK_FAIL": str(path.parent / "order"),
    }
    return kept / path.name, env


def cut_power(
    path: Path, key_file: Path, shim: Path, count: int, *synchronous: str
) -> tuple[Path, dict[int, str]]:
    """Run under load on a disk that keeps only what was synced; returns what is left of it."""
    left, env = disk(path, shim)
    child = Child("load", str(path), str(key_file), *synchronous, env=env)
    return left, child.kill_after(count)


def partly_written(path: Path, kept: Path, target: Path, seed: int) -> Path:
    """What a power cut may also leave: some of the pages that were never synced, in no order."""
    pick = random.Random(seed)
    target.mkdir()
    for suffix in ("", "-wal"):
        now = path.with_name(path.name + suffix).read_bytes()
        page = bytearray(kept.with_name(path.name + suffix).read_bytes())
        for at in range(0, len(now), 4096):
            if now[at : at + 4096] != page[at : at + 4096] and pick.random() < 0.5:
                written = now[at : at + 4096]
                page.extend(bytes(max(0, at + len(written) - len(page))))
                page[at : at + len(written)] = written
        (target / (path.name + suffix)).write_bytes(page)
    return target / path.name


def test_only_what_was_synced_is_ever_acknowledged(
    path: Path, key: SigningKey, key_file: Path, shim: Callable[[Need], Path], need: Need
) -> None:
    left, acknowledged = cut_power(path, key_file, shim(need), 1500)
    assert len(acknowledged) >= 1500
    assert (left.parent / "ledger.db-wal").stat().st_size > 0, "the shim saw no sync at all"
    images = [partly_written(path, left, path.parent / str(n), n) for n in range(5)]
    assert [lost(image, key, acknowledged) for image in (left, *images)] == [0] * 6


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_the_power_cut_is_real(
    path: Path,
    key: SigningKey,
    key_file: Path,
    shim: Callable[[Need], Path],
    need: Need,
    synchronous: str,
) -> None:
    # The same test with syncs switched off must lose entries: else it would show nothing.
    left, acknowledged = cut_power(path, key_file, shim(need), 300, synchronous)
    assert lost(left, key, acknowledged) >= 300 - 64


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_only_what_was_synced_is_acknowledged_across_many_checkpoints_of_the_log(
    path: Path, key: SigningKey, key_file: Path, shim: Callable[[Need], Path], need: Need
) -> None:
    # Long enough for SQLite to move its write-ahead log into the file several times.
    left, acknowledged = cut_power(path, key_file, shim(need), 40_000)
    assert left.stat().st_size > 1 << 20
    assert lost(left, key, acknowledged) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_that_cannot_be_synced_costs_nothing_while_the_log_can(
    path: Path, key: SigningKey, key_file: Path, shim: Callable[[Need], Path], need: Need
) -> None:
    # SQLite says nothing of a failed move into the file: what was acknowledged must then still
    # stand in the log, and what that sync lost must be written again by the next one.
    left, env = disk(path, shim(need))
    child = Child("load", str(path), str(key_file), env=env)
    acknowledged = child.read(100)
    order = Path(env["DISK_FAIL"])
    order.write_text("fsync-file")
    acknowledged |= child.read(20_000)
    assert any(left.with_name(f"{left.name}.lost").read_bytes()), "the file was not synced at all"
    order.unlink()
    acknowledged |= child.kill_after(20_000)
    assert lost(partly_written(path, left, path.parent / "partly", 1), key, acknowledged) == 0
    assert lost(left, key, acknowledged) == 0


@pytest.mark.parametrize(
    ("what", "code"), [("fsync", "ledger.not_durable"), ("write", "ledger.disk_full")]
)
def test_a_failing_disk_stops_the_ledger_and_resuming_loses_nothing(
    path: Path,
    key: SigningKey,
    key_file: Path,
    shim: Callable[[Need], Path],
    need: Need,
    what: str,
    code: str,
) -> None:
    left, env = disk(path, shim(need))
    acknowledged = Child("fail", str(path), str(key_file), what, code, env=env).finish()
    assert len(acknowledged) == 10
    # Neither what is on the disk nor what a power cut would have left lacks any of them.
    assert lost(left, key, acknowledged) == 0
    assert lost(path, key, acknowledged) == 0


def go_on_after_a_failed_sync(
    path: Path, key: SigningKey, key_file: Path, shim: Path, *trusting: str
) -> int:
    """Lose a write to a failed sync, die of it, go on in a new process, lose power."""
    left, env = disk(path, shim)
    died = ("die", str(path), str(key_file), "fsync", "ledger.not_durable")
    acknowledged = Child(*died, env=env).finish()
    Path(env["DISK_FAIL"]).unlink()
    acknowledged |= Child("go-on", str(path), str(key_file), *trusting, env=env).finish()
    assert len(acknowledged) == 10
    return lost(left, key, acknowledged)


def test_nothing_stands_on_what_a_failed_sync_lost(
    path: Path, key: SigningKey, key_file: Path, shim: Callable[[Need], Path], need: Need
) -> None:
    assert go_on_after_a_failed_sync(path, key, key_file, shim(need)) == 0


def test_trusting_the_log_after_a_failed_sync_would_lose_entries(
    path: Path, key: SigningKey, key_file: Path, shim: Callable[[Need], Path], need: Need
) -> None:
    # The entry of the failed sync reads back from memory, and is not on the disk.
    assert go_on_after_a_failed_sync(path, key, key_file, shim(need), "trusting") > 0


# Torn writes


def bodies(first: int, count: int) -> list[bytes]:
    return [make_entry(Kind.EVENT, n, {"n": n, "x": "y" * 30}) for n in range(first, first + count)]


class Torn:
    """A ledger as it lay on the disk before and after one write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "torn.db"
        self.at: dict[str, dict[str, bytes]] = {}
        live = folder / "live.db"
        create_file(live, ORIGIN)
        store = SqliteStore(live)
        store._connection.execute("PRAGMA wal_autocheckpoint=0")
        self.tails = {0: EMPTY_TAIL}
        self.bodies = bodies(0, 270)
        for name, first, stop in (("one", 0, 200), ("two", 200, 250), ("three", 250, 270)):
            items = self.bodies[first:stop]
            keys = [("event", n) for n in range(first, stop)]
            leaves = [leaf_hash(item) for item in items]
            self.tails[stop], tiles = self.tails[first].extended(leaves)
            store.commit(Batch(first, items, stop - 1, tiles, keys))
            self.keep(name, live)
        store._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        self.keep("checkpointed", live)
        store.close()

    def keep(self, name: str, live: Path) -> None:
        wal = live.with_name(live.name + "-wal")
        self.at[name] = {"": live.read_bytes(), "-wal": wal.read_bytes()}

    def size_left(self, database: bytes, wal: bytes) -> int:
        """Lay these files down, recover, check everything that is there; returns its size."""
        for suffix, content in (("", database), ("-wal", wal)):
            self.path.with_name(self.path.name + suffix).write_bytes(content)
        self.path.with_name(self.path.name + "-shm").unlink(missing_ok=True)
        with LedgerReader.open(self.path) as reader:
            size = reader.size()
            assert [body for _, body in reader.entries()] == self.bodies[:size]
            assert reader.tail() == self.tails[size]
            assert reader.root_at(size) == self.tails[size].root()
            assert reader.rows.numbers("event", -1) == list(range(size))
        return size

    def tear_log(self, step: int) -> None:
        """Cut the newest commit's write to the log short at a byte, over old or no content."""
        database = self.at["two"][""]
        before, after = self.at["two"]["-wal"], self.at["three"]["-wal"]
        assert after[: len(before)] == before
        for cut in [*range(len(before), len(after), step), len(after)]:
            missing = len(after) - cut
            # What lies beyond the cut goes round, so that each byte is torn once.
            rest = (b"", bytes(missing), b"\xa5" * missing)[cut % 3]
            # A page may end in zeros: cut there, with zeros behind, nothing is torn.
            want = 270 if after[:cut] + rest == after else 250
            assert self.size_left(database, after[:cut] + rest) == want, f"cut at {cut}"

    def tear_file(self, step: int) -> None:
        """Cut SQLite's copying of the log into the file short at a byte."""
        before, after = self.at["three"][""], self.at["checkpointed"][""]
        wal = self.at["three"]["-wal"]
        assert before != after
        for cut in range(0, len(after) + 1, step):
            # Copying only ever makes the file longer: it can be short beyond its old end.
            short = cut >= len(before) and cut % 2
            left = after[:cut] if short else after[:cut] + before[cut:]
            assert self.size_left(left, wal) == 270, f"cut at {cut}"


@pytest.fixture
def torn(tmp_path: Path) -> Torn:
    return Torn(tmp_path)


def test_a_torn_write_never_costs_an_earlier_entry(torn: Torn) -> None:
    # Steps prime to SQLite's frame size walk through every part of headers and pages.
    torn.tear_log(397)
    torn.tear_file(1409)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_log_torn_at_every_byte_never_costs_an_earlier_entry(torn: Torn) -> None:
    torn.tear_log(1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_file_torn_at_a_small_stride_never_costs_an_entry(torn: Torn) -> None:
    # Each cut recovers the whole ledger: a small prime stride keeps this to minutes.
    torn.tear_file(13)
