"""The registry: 10,000 versions listed under grants, and 2 GB in and out beside a durable copy."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.vault.registry.records import Author, Pushed, record_body
from keepstone.workspace.create import create_workspace
from keepstone.workspace.intake import Submission
from keepstone.workspace.layout import Layout
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.registry.callers import local_principal
from keepstone.workspace.registry.registry import Push, Registry
from keepstone.workspace.site import Site

MODELS, VERSIONS = 100, 100
LIST_S = 0.2
SIZE = 2_000_000_000
RATIO = 0.6
ROUNDS = 3
_TEAMS = ("risk", "sales", "fraud", "lab")
_BLOCK = 4 << 20


class _Silent:
    def begin(self, step: str) -> None: ...

    def copied(self, done: int, expected: int) -> None: ...

    def end(self, detail: str) -> None: ...

    def warn(self, message: str) -> None: ...


def rows(size: int = SIZE) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        listing = _listing(Path(name))
    with tempfile.TemporaryDirectory() as name:
        return [listing, *_transfers(Path(name), size)]


def _site(folder: Path) -> Site:
    site = Site(Layout(folder / "ws"), folder / "outside")
    create_workspace(site, profile="local")
    return site


def _listing(folder: Path) -> dict[str, Any]:
    """Every fourth version is shown, by a grant on an attribute; the first page and a warm one."""
    site = _site(folder)
    with open_workspace(site) as workspace:
        _fill(workspace)
        registry = Registry(workspace)
        some = Grant("puller", where=(("team", ("risk",)),))
        who = Principal("user:r", PrincipalKind.API_KEY, frozenset({some}), "api_key", "k")
        # The catalogue is read once after a start; that is told apart.
        begin = time.perf_counter()
        workspace.book.catalogue()
        reading = time.perf_counter() - begin
        seconds = []
        for _ in range(2 * ROUNDS + 1):
            begin = time.perf_counter()
            page = registry.list(who, limit=MODELS * VERSIONS)
            seconds.append(time.perf_counter() - begin)
            assert len(page.versions) == MODELS * VERSIONS // len(_TEAMS)
        everything = Principal("local:b", PrincipalKind.LOCAL, frozenset(), "local", "uid-0")
        begin = time.perf_counter()
        assert len(registry.list(everything, limit=10_000).versions) == MODELS * VERSIONS
        whole = time.perf_counter() - begin
    worst = max(seconds[0], statistics.median(seconds), whole)
    return {
        "name": "registry.list",
        "ours": worst,
        "peer": f"a limit (reading the catalogue after a start: {reading:.2f} s)",
        "peer_value": LIST_S,
        "unit": f"s for {MODELS * VERSIONS:,} versions under grants",
        "ratio": LIST_S / worst,
        "target": f"<= {LIST_S} s",
        "met": worst <= LIST_S,
    }


def _fill(workspace: Workspace) -> None:
    by, now = Author("user:bench", "api_key", "k"), workspace.clock.now_ms()
    pending = None
    for model in range(MODELS):
        for number in range(1, VERSIONS + 1):
            record = Pushed(
                by=by,
                model=f"model-{model:03d}",
                number=number,
                digest=Digest(f"{model * VERSIONS + number:064x}"),
                size=1,
                sealed=1,
                files=1,
                format="onnx",
                outcome=Outcome.CLEAN,
                attributes=(("team", _TEAMS[number % len(_TEAMS)]),),
                contract=None,
                note="",
            )
            pending = workspace.ledger.append(record_body(record, now))
    assert pending is not None
    pending.wait(120)


def _transfers(folder: Path, size: int) -> list[dict[str, Any]]:
    source = folder / "model.safetensors"
    _write(source, size)
    site, who = _site(folder), local_principal(os.geteuid())
    pushes, pulls, copies = [], [], []
    with open_workspace(site) as workspace:
        registry = Registry(workspace)
        for number in range(ROUNDS):
            # Another artifact each time: the same one would be known.
            with source.open("r+b") as file:
                file.seek(size // 2)
                file.write(struct.pack("<f", float(number)))
            os.sync()
            copies.append(_seconds(lambda: _copy(source, folder / "copy")))
            (folder / "copy").unlink()
            os.sync()
            begin = time.perf_counter()
            asked = Push(Submission.of(source, name="large"))
            version = registry.push(who, asked, _Silent()).version
            pushes.append(time.perf_counter() - begin)
            os.sync()
            begin = time.perf_counter()
            registry.write_out(registry.pull(who, version.exact).release, folder / "pulled")
            pulls.append(time.perf_counter() - begin)
            (folder / "pulled").unlink()
            workspace.store.delete(version.digest, "large")
            os.sync()
    return [
        _row("registry.push", pushes, copies, size),
        _row("registry.pull", pulls, copies, size),
    ]


def _row(name: str, ours: list[float], copies: list[float], size: int) -> dict[str, Any]:
    mine, theirs = statistics.median(ours), statistics.median(copies)
    return {
        "name": name,
        "ours": size / mine / 1e9,
        "peer": "copy and fsync of the same file",
        "peer_value": size / theirs / 1e9,
        "unit": "GB/s",
        "ratio": theirs / mine,
        "target": f">= {RATIO} x",
        "met": theirs / mine >= RATIO,
    }


def _seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, size: int) -> None:
    """A safetensors file with one large tensor of plausible numbers."""
    import numpy as np

    count = size // 4
    head = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}})
    head += " " * (-len(head) % 8)
    block = np.random.default_rng(0).standard_normal(_BLOCK // 4).astype("<f4").tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head.encode())
        left = 4 * count
        while left:
            left -= file.write(block[: min(left, len(block))])
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    for each in rows(int(float(sys.argv[1]) * 1e9) if len(sys.argv) > 1 else SIZE):
        print(json.dumps(each))
