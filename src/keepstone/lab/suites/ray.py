"""Workers that are actors of a Ray cluster: one for each processor, on whichever machines it has.

Promise: each opens the model file that lies on its own machine, by its digest; nothing of the
model travels. What a worker writes to its temporary folder is gone when we end it, in the middle of
a part too; not where somebody else kills it. Ray is asked for no dashboard and tells nobody that it
is used. Who can reach the ports of a Ray cluster can run code on it: that is Ray's own rule, and
none that we could mend.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from keepstone.errors import InputError, KeepstoneError, OperationalError
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
from keepstone.lab.targets.port import Target

EXTRA = "ray"
MAX_WORKERS = 4096
_CONNECT_S = 10.0
# How long a worker may take to clean up.
_GRACE_S = 2.0
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")


class RayCluster:
    """The cluster at `address` (HOST:PORT, or `auto` for the one of this machine).

    Raises InputError `attack.bad_cluster`; OperationalError `runtime.missing`,
    `attack.no_cluster`.
    """

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        # Of anything else Ray makes a cluster of its own, or another protocol.
        if address != "auto" and not _ADDRESS.fullmatch(address):
            raise InputError(
                "attack.bad_cluster",
                f"{address[:100]!r} is no address of a Ray cluster.",
                "Give HOST:PORT, or auto for the cluster of this machine.",
            )
        # Before it is imported: Ray reads it once.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray = _ray()
        self._address = address
        self._patience_s = patience_s

    def run(self, work: Work, shards: Sequence[Shard]) -> Iterator[tuple[int, Done | Lost]]:
        ray = self._ray
        self._require_somebody()
        try:
            ray.init(
                address=self._address,
                namespace="keepstone",
                log_to_driver=False,
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise self._nobody() from error
        try:
            count = min(MAX_WORKERS, int(ray.cluster_resources().get("CPU", 0)) or 1)
            yield from drive(_Crew(ray), work, shards, count, self._patience_s)
        finally:
            ray.shutdown()

    def _require_somebody(self) -> None:
        """Ray itself would ask an address where nobody listens for minutes."""
        if self._address == "auto":
            return
        host, _, port = self._address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
                """Somebody listens."""
        except (OSError, OverflowError) as error:
            raise self._nobody() from error

    def _nobody(self) -> OperationalError:
        return OperationalError(
            "attack.no_cluster",
            f"No Ray cluster answers at {self._address[:100]!r}.",
            "Start one (`ray start --head --include-dashboard=false`), and give HOST:PORT.",
        )


@dataclass(eq=False)
class _Actor:
    """What is waited for is the answer to the last thing that it was asked."""

    handle: Any
    answer: Any


class _Crew:
    def __init__(self, ray: Any) -> None:
        self._ray = ray
        # Whoever dies is lost, and begun anew by nobody but `drive`.
        self._kind = ray.remote(
            num_cpus=1,
            max_restarts=0,
            max_task_retries=0,
            # It attacks, and is told to clean up meanwhile.
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )(Worker)

    def hire(self, work: Work) -> _Actor:
        handle = self._kind.remote(work)
        return _Actor(handle, handle.ready.remote())

    def give(self, worker: _Actor, shard: Shard) -> None:
        worker.answer = worker.handle.attack.remote(shard)

    def hear(self, workers: Sequence[_Actor], seconds: float) -> list[tuple[_Actor, Answer]]:
        by_answer = {worker.answer: worker for worker in workers}
        ready, _ = self._ray.wait(list(by_answer), num_returns=1, timeout=seconds)
        return [(by_answer[one], self._received(one)) for one in ready]

    def dismiss(self, worker: _Actor) -> None:
        try:
            # Of one that died there is nothing to wait for.
            self._ray.wait([worker.handle.end.remote()], timeout=_GRACE_S)
        finally:
            self._ray.kill(worker.handle, no_restart=True)

    def _received(self, answer: Any) -> Answer:
        try:
            found: Answer = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return Lost(f"its worker died ({type(error).__name__})")
        return found


class Worker:
    """On a machine of the cluster: the model, opened once."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._folder = tempfile.TemporaryDirectory(
            prefix="keepstone-workers-", ignore_cleanup_errors=True
        )
        os.environ["TMPDIR"] = tempfile.tempdir = self._folder.name
        self._stack = ExitStack()
        self._target: Target | None = None

    def ready(self) -> Ready | Refused:
        try:
            target = self._stack.enter_context(self._work.opens())
            require_same(self._work, target)
        except KeepstoneError as error:
            return Refused.of(error)
        self._target = target
        return Ready()

    def attack(self, shard: Shard) -> Done | Refused:
        assert self._target is not None
        try:
            return attack_shard(self._work, self._target, shard)
        except KeepstoneError as error:
            return Refused.of(error)

    def end(self) -> None:
        """Leave nothing behind, whatever it is doing."""
        self._folder.cleanup()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "Ray is not installed, which attacks on several machines need.",
            f"pip install 'keepstone[{EXTRA}]'",
        ) from error
    return ray
