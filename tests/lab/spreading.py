"""What workers of a spread run open and attack in tests: importable wherever they are."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keepstone.errors import InputError
from keepstone.lab.meter import Meter
from keepstone.lab.norms import LINF
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.shards import Shards
from keepstone.lab.suites.spread import Spread
from keepstone.lab.targets.port import Capability
from tests.lab.fakes import Linear, Towards, halves

PART = 50
X = np.random.default_rng(3).uniform(0, 1, (220, 2))
Y = (X[:, 0] > X[:, 1]).astype(int)
ASKED = Question(LINF, (0.05, 0.1), 220)
ABLE = frozenset({Capability.LABEL, Capability.SCORES})
# What no worker but the one that is to die or to hang is given.
POISON = float(X[120, 0])


@dataclass(frozen=True, slots=True)
class Draws(Towards):
    """Where each sample is taken to is drawn: what it finds hangs on the seed."""

    name: ClassVar[str] = "draws"

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        for _ in range(self.steps):
            places = meter.standing()
            if not len(places):
                return
            step = rng.uniform(-1, 1, (len(places), 2)) * (meter.goal.eps or 1)
            meter.ask(places, meter.x[places] + step)


@dataclass(frozen=True, slots=True)
class Dies(Towards):
    """Ends its process as the kernel would, at one of the samples."""

    name: ClassVar[str] = "dies"

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        if (meter.x[:, 0] == POISON).any():
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Hangs(Towards):
    name: ClassVar[str] = "hangs"

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        if (meter.x[:, 0] == POISON).any():
            time.sleep(600)


def suite(*attacks: Towards) -> Suite:
    chosen = attacks or (Draws(), Towards((0.0, 1.0)), Towards((1.0, 0.0)))
    steps = tuple(Step(one, 30, 10) for one in chosen)
    return Suite("some", 220, lambda able: steps)


def shown() -> Linear:
    return halves(capabilities=ABLE)


@contextmanager
def opens() -> Iterator[Linear]:
    yield shown()


@contextmanager
def opens_another() -> Iterator[Linear]:
    yield halves()


@contextmanager
def refuses() -> Iterator[Linear]:
    raise InputError("attack.other_file", "The file is another one.")
    yield shown()


@contextmanager
def dies_at_once() -> Iterator[Linear]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield shown()


@contextmanager
def by_environment(name: str) -> Iterator[Linear]:
    """Refuses where the environment of the worker says so."""
    if os.environ.get(name):
        raise InputError("attack.other_file", "The file is another one.")
    yield shown()


def parts(spread: Spread, opened: object = opens) -> Shards:
    return Shards(spread, opened, PART)  # type: ignore[arg-type]


@contextmanager
def with_files(ended: Path) -> Iterator[Linear]:
    """As a model that is staged: it lies in a temporary folder. `ended` gets a file for each that
    was cleaned up by the worker itself."""
    try:
        with tempfile.TemporaryDirectory(prefix="staged-") as folder:
            (Path(folder) / "model").write_text("plain")
            yield shown()
    finally:
        (ended / Path(folder).name).touch()


@contextmanager
def shielded() -> Iterator[Linear]:
    """Refuses where Ctrl-C would be heard."""
    if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
        raise InputError("attack.other_file", "SIGINT is not blocked.")
    yield shown()


by_name = partial(by_environment, "KEEPSTONE_TEST_OTHER_FILE")


def main(address: str, kind: str) -> None:
    """Attack on the cluster at `address`, and print what came of it as JSON."""
    import json

    from keepstone.errors import KeepstoneError
    from keepstone.lab.suites.ray import RayCluster
    from keepstone.lab.suites.run import run_suite

    attacks = {"dies": (Dies(), Towards()), "hangs": (Hangs(), Towards())}.get(kind, ())
    opened = by_name if kind == "other" else opens
    try:
        cluster = RayCluster(address, 25.0 if kind == "hangs" else 120.0)
        found = run_suite(shown(), X, Y, suite(*attacks), ASKED, shards=parts(cluster, opened))
        told = found.to_dict()
        for one in told["attacks"]:
            del one["cpu_s"]
    except KeepstoneError as error:
        told = {"error": error.code}
    print("\n" + json.dumps(told))


def by_processes(kind: str, folder: str) -> None:
    """Attack by two processes, with what `kind` says; print OK."""
    from keepstone.lab.suites.processes import Processes
    from keepstone.lab.suites.run import run_suite

    opened = shielded if kind == "shielded" else partial(with_files, Path(folder))
    attacks = (Hangs(),) if kind == "hangs" else ()
    run_suite(shown(), X, Y, suite(*attacks), ASKED, shards=parts(Processes(2), opened))
    print("OK")


if __name__ == "__main__":
    import sys

    (by_processes if sys.argv[1] in ("shielded", "hangs") else main)(*sys.argv[1:])
