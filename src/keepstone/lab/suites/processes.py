"""Workers that are processes of this machine, each with the model opened in it.

Promise: what a worker writes to the temporary folder lies in one of ours, and is gone when the
worker is, however it ended. None outlives us: one that is told to end, ends; one that does not is
killed; and if we are killed, each cleans up and ends as soon as it gets to run. Ctrl-C is ours
alone: no worker ever gets it.

Blind spots: native code that keeps the interpreter to itself, which ends first; a machine that
fails.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn, cast

from keepstone.errors import InputError, KeepstoneError
from keepstone.lab.one_thread import ONE_THREAD
from keepstone.lab.refused import Refused
from keepstone.lab.suites.spread import (
    PATIENCE_S,
    Answer,
    Done,
    Lost,
    Ready,
    Shard,
    Work,
    attack_shard,
    drive,
    require_same,
)

MAX_WORKERS = 256
# How long one that has nothing left to do may take to end.
_GRACE_S = 5.0


class Processes:
    """`count` of them. Raises InputError `attack.bad_workers`."""

    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        if not 1 <= count <= MAX_WORKERS:
            raise InputError(
                "attack.bad_workers", f"From 1 to {MAX_WORKERS} processes can share the work."
            )
        self._count = count
        self._patience_s = patience_s

    def run(self, work: Work, shards: Sequence[Shard]) -> Iterator[tuple[int, Done | Lost]]:
        with tempfile.TemporaryDirectory(
            prefix="keepstone-workers-", ignore_cleanup_errors=True
        ) as folder:
            yield from drive(_Crew(Path(folder)), work, shards, self._count, self._patience_s)


@dataclass(eq=False)
class _Worker:
    """`folder` is where its temporary files lie; `busy` while an answer is awaited."""

    process: SpawnProcess
    connection: Connection
    folder: Path
    busy: bool = True


class _Crew:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hire(self, work: Work) -> _Worker:
        # Spawned and not forked: a fork would share threads' locks and the parent's model.
        context = multiprocessing.get_context("spawn")
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        ours, theirs = context.Pipe()
        with theirs, _one_thread(), _no_interrupt():
            given = (theirs, pickle.dumps(work), folder)
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
        return _Worker(process, ours, folder)

    def give(self, worker: _Worker, shard: Shard) -> None:
        worker.busy = True
        try:
            worker.connection.send(shard)
        except OSError:
            """Whoever is gone is heard of as gone."""

    def hear(self, workers: Sequence[_Worker], seconds: float) -> list[tuple[_Worker, Answer]]:
        by_connection = {worker.connection: worker for worker in workers}
        ready = [cast(Connection, one) for one in wait(list(by_connection), seconds)]
        for one in ready:
            by_connection[one].busy = False
        return [(by_connection[one], _received(one)) for one in ready]

    def dismiss(self, worker: _Worker) -> None:
        worker.connection.close()
        try:
            # It reads that nothing more will come, if it is not in the middle of something.
            if not worker.busy:
                worker.process.join(_GRACE_S)
        finally:
            worker.process.kill()
            worker.process.join()
            shutil.rmtree(worker.folder, ignore_errors=True)


def _received(connection: Connection) -> Answer:
    try:
        found: Answer = connection.recv()
    except (EOFError, OSError):
        return Lost("its worker died")
    return found


def _serve(connection: Connection, pickled: bytes, folder: Path) -> None:
    """In the worker: open the model once, and attack what comes."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    # What opens a model takes its time to import: by now somebody watches.
    work: Work = pickle.loads(pickled)  # noqa: S301 # whoever began us made it
    try:
        with work.opens() as target:
            require_same(work, target)
            connection.send(Ready())
            while True:
                connection.send(attack_shard(work, target, connection.recv()))
    except KeepstoneError as error:
        connection.send(Refused.of(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        """Nothing more is wanted of us."""


def _end_with_parent(folder: Path) -> NoReturn:
    """In the worker: whoever would have cleaned up was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    # The last one finds it empty.
    with suppress(OSError):
        folder.parent.rmdir()
    os._exit(1)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Whoever is begun meanwhile never gets SIGINT; if we do, it is now put off."""
    # It sets the signals of this thread free when it is begun.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """For each: they share the processors, and sums do not hang on how many there are."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
