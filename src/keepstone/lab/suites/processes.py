"""Workers that are processes of this machine, each with the model opened in it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from keepstone.errors import InputError, KeepstoneError
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
# One thread each: they share the processors, and sums do not hang on how many there are.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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
        return drive(_Crew(), work, shards, self._count, self._patience_s)


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection


class _Crew:
    def hire(self, work: Work) -> _Worker:
        # Spawned and not forked: a fork would share threads' locks and the parent's model.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with _one_thread():
            process = context.Process(target=_serve, args=(theirs, work), daemon=True)
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def give(self, worker: _Worker, shard: Shard) -> None:
        try:
            worker.connection.send(shard)
        except OSError:
            """Whoever is gone is heard of as gone."""

    def hear(self, workers: Sequence[_Worker], seconds: float) -> list[tuple[_Worker, Answer]]:
        by_connection = {worker.connection: worker for worker in workers}
        ready = [cast(Connection, one) for one in wait(list(by_connection), seconds)]
        return [(by_connection[one], _received(one)) for one in ready]

    def dismiss(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _received(connection: Connection) -> Answer:
    try:
        found: Answer = connection.recv()
    except (EOFError, OSError):
        return Lost("its worker died")
    return found


def _serve(connection: Connection, work: Work) -> None:
    """In the worker: open the model once, and attack what comes."""
    try:
        with work.opens() as target:
            require_same(work, target)
            connection.send(Ready())
            while True:
                connection.send(attack_shard(work, target, connection.recv()))
    except KeepstoneError as error:
        connection.send(Refused.of(error))
    except EOFError:
        """Whoever began the run has gone."""


@contextmanager
def _one_thread() -> Iterator[None]:
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
