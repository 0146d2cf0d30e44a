"""Signing and verifying models beside the public model-signing package, on the same files.

What is compared, plainly: `files` is the package's default, whole files by SHA-256, on both sides.
No SHA-256 over one file can be computed on two cores, so on one big file both sides run at the
speed of one core there. `shards` is the same format's other method, 4 MiB shards by SHA-256: ours
is held against the package's default, and against the package told to use the same shards. Its
verifier reads our sharded bundles; its own it does not (it writes their size as a float).

Each side works in a process of its own and sleeps while the other one works. Runs are interleaved;
figures are medians, and a ratio is the median of the rounds' own ratios, so that a busy moment hits
both sides of it. On cores that others keep busy the shards show less than they gain; the rows in
seconds of all cores say what the same work costs, and hardly depend on who else is at work.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.environment import ROOT, python_of
from keepstone.core.ports import SystemRandomness
from keepstone.evidence.incremental import recall_model, verify_incrementally
from keepstone.evidence.memory import RACY_NS, Memory
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.signing import SigningKey, write_secret_file

ROUNDS = 9
START_UP = 0.12
BLOCK = 1 << 20
MANY, EACH = 32, 4 << 20
ONE = 128 << 20
SHARD = 4 << 20
PEER = "model-signing"
Task = Callable[[], tuple[float, float]]


def _seconds(task: Callable[[], object]) -> tuple[float, float]:
    begin, used = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - begin, time.process_time() - used


@dataclass(slots=True)
class Taken:
    """What a task took in each round, in seconds: on the wall, and of all cores together."""

    wall: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)


def _measured(*tasks: Task) -> list[Taken]:
    taken = [Taken() for _ in tasks]
    for task in tasks:
        task()
    for _ in range(ROUNDS):
        for mine, task in zip(taken, tasks, strict=True):
            wall, cores = task()
            mine.wall.append(wall)
            mine.cores.append(cores)
    return taken


def _ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _faster(name: str, mine: Taken, peer: str, others: Taken, target: float) -> dict[str, Any]:
    """As throughput over the bytes of `ONE` or `MANY`: more is better."""
    size = MANY * EACH if ".many" in name else ONE
    ours, theirs = mine.wall, others.wall
    ratio = _ratio(theirs, ours)
    return {
        "name": name,
        "ours": size / statistics.median(ours) / 1e9,
        "peer": peer,
        "peer_value": size / statistics.median(theirs) / 1e9,
        "unit": "GB/s",
        "ratio": ratio,
        "target": f">= {target} x",
        "met": ratio >= target,
    }


def _cost(name: str, ours: Taken, peer: str, theirs: Taken) -> dict[str, Any]:
    """As seconds of all cores for the same bytes: less is better."""
    met = _ratio(ours.cores, theirs.cores) <= 1.02
    return _shorter(f"{name}.cores", ours.cores, peer, theirs.cores, "<= 1.02 x", met)


def _shorter(
    name: str, ours: list[float], peer: str, theirs: list[float], target: str, met: bool
) -> dict[str, Any]:
    """As seconds: less is better, and so is a smaller ratio."""
    return {
        "name": name,
        "ours": statistics.median(ours),
        "peer": peer,
        "peer_value": statistics.median(theirs),
        "unit": "s",
        "ratio": _ratio(ours, theirs),
        "target": target,
        "met": met,
    }


class Bench:
    """Two models, a key, and the peer in a process of its own that takes tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey.generate()
        self.private, self.public = folder / "key.pem", folder / "key.pub"
        write_secret_file(self.private, self.key.to_pem())
        self.public.write_bytes(self.key.verifying.pem)
        block = SystemRandomness().token_bytes(BLOCK)
        self.one, self.many = folder / "one", folder / "many"
        for model, count, size in ((self.one, 1, ONE), (self.many, MANY, EACH)):
            model.mkdir()
            for number in range(count):
                (model / f"{number}.bin").write_bytes(block * (size // BLOCK))
        self.sides = {
            "ours": self._side(sys.executable, "-m", "bench.signing_ours"),
            "theirs": self._side(python_of(PEER), ROOT / "bench" / "signing_peer.py"),
        }

    def _side(self, *command: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*map(str, command), str(self.private), str(self.public)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        for side in self.sides.values():
            side.kill()
            side.wait()

    def ours(self, kind: str, model: Path, *, shards: bool = False) -> Task:
        return self._task("ours", kind, model, "ours", shards)

    def theirs(self, kind: str, model: Path, whose: str, *, shards: bool = False) -> Task:
        """The peer's time for `kind`, over our bundle or its own."""
        return self._task("theirs", kind, model, whose, shards)

    def _task(self, side: str, kind: str, model: Path, whose: str, shards: bool) -> Task:
        process = self.sides[side]
        bundle = self.folder / f"{whose}-{model.name}{'-shards' if shards else ''}.sig"
        line = " ".join(map(str, [kind, model, bundle, *([SHARD] if shards else [])])) + "\n"

        def ask() -> tuple[float, float]:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("a side has no pipes")
            process.stdin.write(line)
            process.stdin.flush()
            wall, cores = map(float, process.stdout.readline().split())
            return wall, cores

        return ask


@contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        try:
            yield bench
        finally:
            bench.close()


def rows() -> list[dict[str, Any]]:
    with _bench() as bench:
        return [*_whole_files(bench), *_shards(bench), _incremental(bench), *_start_up(bench)]


def _whole_files(bench: Bench) -> Iterator[dict[str, Any]]:
    for name, model in (("many", bench.many), ("one", bench.one)):
        # The peer verifies what we signed: the two sides did the same.
        ours, theirs, check, checked = _measured(
            bench.ours("sign", model),
            bench.theirs("sign", model, "theirs"),
            bench.ours("verify", model),
            bench.theirs("verify", model, "ours"),
        )
        yield _faster(f"sign.files.{name}", ours, PEER, theirs, 0.98)
        yield _faster(f"verify.files.{name}", check, PEER, checked, 0.98)
        yield _cost(f"sign.files.{name}", ours, PEER, theirs)


def _shards(bench: Bench) -> Iterator[dict[str, Any]]:
    model = bench.one
    ours, whole, same, check, whole_check, same_check = _measured(
        bench.ours("sign", model, shards=True),
        bench.theirs("sign", model, "theirs"),
        bench.theirs("sign", model, "theirs", shards=True),
        bench.ours("verify", model, shards=True),
        bench.theirs("verify", model, "theirs"),
        bench.theirs("verify", model, "ours", shards=True),
    )
    yield _faster("sign.shards.one", ours, f"{PEER}, its default", whole, 1.8)
    yield _faster("sign.shards.one", ours, f"{PEER}, same shards", same, 0.98)
    yield _cost("sign.shards.one", ours, f"{PEER}, same shards", same)
    yield _faster("verify.shards.one", check, f"{PEER}, its default", whole_check, 1.8)
    yield _faster("verify.shards.one", check, f"{PEER}, same shards", same_check, 0.98)


def _incremental(bench: Bench) -> dict[str, Any]:
    """An unchanged folder again, by metadata, beside reading all of it."""
    model, key = bench.many, bench.key.verifying
    bundle = sign_model(model, bench.key)
    # As if some seconds had passed: what was just written is not remembered.
    memory = recall_model(
        model, lambda _: False, Memory(str(model), {}), lambda: time.time_ns() + 2 * RACY_NS
    ).memory
    again, full = _measured(
        lambda: _seconds(lambda: verify_incrementally(model, bundle, key, memory)),
        lambda: _seconds(lambda: verify_model(model, bundle, key)),
    )
    met = _ratio(again.wall, full.wall) <= 1 / 20
    peer = "reading every file"
    return _shorter("verify.incremental", again.wall, peer, full.wall, "<= 1/20", met)


def _start_up(bench: Bench) -> Iterator[dict[str, Any]]:
    """The whole command over a model of one byte: what a caller in a shell waits for."""
    tiny = bench.folder / "tiny"
    tiny.write_bytes(b"x")
    keepstone = str(Path(sys.executable).with_name("keepstone"))
    peer = [str(python_of(PEER)), "-m", "model_signing"]
    sig, theirs = bench.folder / "tiny.sig", bench.folder / "tiny.theirs"
    # Both are measured as they are installed: with their bytecode on the disk.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run(*words: object) -> Task:
        command = list(map(str, words))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return lambda: _seconds(
            lambda: subprocess.run(command, check=True, env=environment, **quiet)  # type: ignore[call-overload]
        )

    sides = {
        "start.sign": (
            run(keepstone, "sign", tiny, "--private-key", bench.private, "--signature", sig),
            run(*peer, "sign", "key", tiny, "--private_key", bench.private, "--signature", theirs),
        ),
        "start.verify": (
            run(keepstone, "verify", tiny, "--public-key", bench.public, "--signature", sig),
            run(*peer, "verify", "key", tiny, "--public_key", bench.public, "--signature", theirs),
        ),
    }
    for name, tasks in sides.items():
        ours, other = _measured(*tasks)
        met = statistics.median(ours.wall) <= START_UP
        yield _shorter(name, ours.wall, PEER, other.wall, f"<= {START_UP} s", met)
