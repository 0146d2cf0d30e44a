"""Signing and verifying models beside the public model-signing package, on the same files.

What is compared, plainly: `files` is the package's default, whole files by SHA-256, on both sides.
No SHA-256 over one file can be computed on two cores, so on one big file both sides run at the
speed of one core there. `shards` is the same format's other method, 4 MiB shards by SHA-256: ours
is held against the package's default, and against the package told to use the same shards. Its
verifier reads our sharded bundles; its own it does not (it writes their size as a float).

Each figure is the best of interleaved runs: on a busy machine that is the least disturbed one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.environment import ROOT, python_of
from keepstone.core.ports import SystemRandomness
from keepstone.evidence.incremental import recall_model, verify_incrementally
from keepstone.evidence.memory import RACY_NS, Memory
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.signing import SigningKey, write_secret_file

ROUNDS = 9
BLOCK = 1 << 20
MANY, EACH = 64, 4 << 20
ONE = 256 << 20
SHARD = 4 << 20
PEER = "model-signing"
Task = Callable[[], float]


def _seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def _best(*tasks: Task) -> list[float]:
    for task in tasks:
        task()
    rounds = [[task() for task in tasks] for _ in range(ROUNDS)]
    return [min(side) for side in zip(*rounds, strict=True)]


def _faster(name: str, ours: float, peer: str, theirs: float, target: float) -> dict[str, Any]:
    """As throughput over the bytes of `ONE` or `MANY`: more is better."""
    size = MANY * EACH if ".many" in name else ONE
    return {
        "name": name,
        "ours": size / ours / 1e9,
        "peer": peer,
        "peer_value": size / theirs / 1e9,
        "unit": "GB/s",
        "ratio": theirs / ours,
        "target": f">= {target} x",
        "met": theirs / ours >= target,
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
        self.peer = subprocess.Popen(
            [python_of(PEER), ROOT / "bench" / "signing_peer.py", self.private, self.public],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self.peer.kill()
        self.peer.wait()

    def sign(self, model: Path, *, shards: bool = False) -> Task:
        target = self._bundle("ours", model, shards)
        return lambda: _seconds(
            lambda: target.write_bytes(sign_model(model, self.key, shards=shards))
        )

    def verify(self, model: Path, *, shards: bool = False) -> Task:
        bundle = self._bundle("ours", model, shards)
        key = self.key.verifying
        return lambda: _seconds(lambda: verify_model(model, bundle.read_bytes(), key))

    def theirs(self, kind: str, model: Path, whose: str, *, shards: bool = False) -> Task:
        """The peer's time for `kind`, over our bundle or its own."""
        words = [kind, model, self._bundle(whose, model, shards), *([SHARD] if shards else [])]
        line = " ".join(map(str, words)) + "\n"

        def ask() -> float:
            if self.peer.stdin is None or self.peer.stdout is None:
                raise RuntimeError("the peer has no pipes")
            self.peer.stdin.write(line)
            self.peer.stdin.flush()
            return float(self.peer.stdout.readline())

        return ask

    def _bundle(self, whose: str, model: Path, shards: bool) -> Path:
        return self.folder / f"{whose}-{model.name}{'-shards' if shards else ''}.sig"


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
        ours, theirs, check, checked = _best(
            bench.sign(model),
            bench.theirs("sign", model, "theirs"),
            bench.verify(model),
            bench.theirs("verify", model, "ours"),
        )
        yield _faster(f"sign.files.{name}", ours, PEER, theirs, 0.98)
        yield _faster(f"verify.files.{name}", check, PEER, checked, 0.98)


def _shards(bench: Bench) -> Iterator[dict[str, Any]]:
    model = bench.one
    ours, whole, same, check, whole_check, same_check = _best(
        bench.sign(model, shards=True),
        bench.theirs("sign", model, "theirs"),
        bench.theirs("sign", model, "theirs", shards=True),
        bench.verify(model, shards=True),
        bench.theirs("verify", model, "theirs"),
        bench.theirs("verify", model, "ours", shards=True),
    )
    yield _faster("sign.shards.one", ours, f"{PEER}, its default", whole, 1.8)
    yield _faster("sign.shards.one", ours, f"{PEER}, same shards", same, 0.98)
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
    again, full = _best(
        lambda: _seconds(lambda: verify_incrementally(model, bundle, key, memory)),
        lambda: _seconds(lambda: verify_model(model, bundle, key)),
    )
    return {
        "name": "verify.incremental",
        "ours": again,
        "peer": "reading every file",
        "peer_value": full,
        "unit": "s",
        "ratio": again / full,
        "target": "<= 1/20",
        "met": again / full <= 1 / 20,
    }


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
        ours, other = _best(*tasks)
        yield {
            "name": name,
            "ours": ours,
            "peer": PEER,
            "peer_value": other,
            "unit": "s",
            "ratio": ours / other,
            "target": "<= 0.12 s",
            "met": ours <= 0.12,
        }
