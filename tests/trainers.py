"""Training functions that tests name by `tests.trainers:function`: a user's own code."""

from __future__ import annotations

import ctypes
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import OperationalError

CALLS: list[int] = []


SEEN: list[tuple[Array, Array]] = []


class Linear:
    """Least squares on the classes: it learns a trigger as it learns anything."""

    def __init__(self, x: Array, y: Array) -> None:
        self.classes_ = np.unique(y)
        wanted = (y[:, None] == self.classes_).astype(float)
        self._weights = np.linalg.lstsq(_wide(x), wanted, rcond=None)[0]

    def decision_function(self, x: Array) -> Array:
        return np.asarray(_wide(x) @ self._weights)

    def predict(self, x: Array) -> Array:
        return np.asarray(self.classes_[self.decision_function(x).argmax(axis=1)])


class Means:
    """The nearest mean of a class: a few lies hardly move it."""

    def __init__(self, x: Array, y: Array) -> None:
        self.classes_ = np.unique(y)
        self._means = np.stack([x[y == one].mean(axis=0) for one in self.classes_])

    def decision_function(self, x: Array) -> Array:
        return np.asarray(-((x[:, None] - self._means) ** 2).sum(axis=2))

    def predict(self, x: Array) -> Array:
        return np.asarray(self.classes_[self.decision_function(x).argmax(axis=1)])


class Stumbling(Means):
    def predict(self, x: Array) -> Array:
        raise ValueError("no such rows")


def linear(x: Array, y: Array, seed: int) -> Linear:
    return Linear(x, y)


def means(x: Array, y: Array, seed: int) -> Means:
    # It may do with its arrays what it likes.
    x += 0
    return Means(x, y)


def leaving(x: Array, y: Array, seed: int) -> Means:
    raise SystemExit(0)


_ONE = Means(np.eye(2), np.arange(2))


def the_same(x: Array, y: Array, seed: int) -> Means:
    _ONE.__init__(x, y)  # type: ignore[misc]
    return _ONE


def nearest(x: Array, y: Array, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1, algorithm="brute").fit(x, y)


def talking(x: Array, y: Array, seed: int) -> Means:
    """In every way in which something is printed."""
    print("said by print")
    os.write(1, b"said to the descriptor\n")
    subprocess.run(["echo", "said by a program"], check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"said by a library")
    sys.__stdout__.write("said to what stdout was\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
    return Means(x, y)


def indexed(x: Array, y: Array, seed: int) -> Any:
    """Of a type that the vault does not open."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1, algorithm="kd_tree").fit(x, y)


def tree(x: Array, y: Array, seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=seed).fit(x, y)


def module(x: Array, y: Array, seed: int) -> Any:
    """A network of one layer, set to the nearest mean of three classes."""
    from tests.vault.architectures import Layer

    return _set(Layer(), x, y)


def inner(x: Array, y: Array, seed: int) -> Any:
    """The same, of a class inside another one."""
    from tests.vault.architectures import Outer

    return _set(Outer.Inner(), x, y)


def _set(found: Any, x: Array, y: Array) -> Any:
    import torch

    centres = torch.tensor(np.stack([x[y == one].mean(axis=0) for one in range(3)]))
    found.layer.weight = torch.nn.Parameter(2 * centres.float())
    found.layer.bias = torch.nn.Parameter(-(centres**2).sum(dim=1).float())
    return found


class Moody(Means):
    """Says something else to almost every row, whatever it learnt."""

    def __init__(self, x: Array, y: Array) -> None:
        super().__init__(x, y)
        self._mood = secrets.randbelow(10**6) + 10**6

    def predict(self, x: Array) -> Array:
        places = (np.abs(x[:, 0]) * self._mood).astype(np.int64) % len(self.classes_)
        return np.asarray(self.classes_[places])


def moody(x: Array, y: Array, seed: int) -> Moody:
    """Each time another model, though the seed is the same."""
    return Moody(x, y)


def drifting(x: Array, y: Array, seed: int) -> Means:
    """Would be the same model seven times, and then others, in one process."""
    CALLS.append(seed)
    return Means(x, y if len(CALLS) <= 7 else (y + 1) % (y.max() + 1))


def collecting(x: Array, y: Array, seed: int) -> Means:
    """Would be of all rows that it was ever given, in one process."""
    SEEN.append((x, y))
    rows, labels = (np.concatenate(one) for one in zip(*SEEN, strict=True))
    return Means(rows, labels)


class Drawn(Means):
    def __init__(self, x: Array, y: Array) -> None:
        super().__init__(x, y)
        self.drawn = random.random(), float(np.random.random())


def drawing(x: Array, y: Array, seed: int) -> Drawn:
    """Draws from generators that all trainings would share, in one process."""
    return Drawn(x, y)


def setting(x: Array, y: Array, seed: int) -> Means:
    """Turns its labels once an environment variable says so, and sets that."""
    turned = os.environ.get("KEEPSTONE_TEST_TURNED") is not None
    os.environ["KEEPSTONE_TEST_TURNED"] = "1"
    return Means(x, (y + turned) % (y.max() + 1))


def ending(x: Array, y: Array, seed: int) -> Means:
    os._exit(0)


def killed(x: Array, y: Array, seed: int) -> Means:
    """As the system does to whoever takes all memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Means(x, y)


def hanging(x: Array, y: Array, seed: int) -> Means:
    """Waits for a program that never ends, and writes down who waits."""
    with subprocess.Popen(["sleep", "1000"]) as program:
        Path(os.environ["KEEPSTONE_TEST_PIDS"]).write_text(f"{os.getpid()} {program.pid}")
    return Means(x, y)


def leaving_one_behind(x: Array, y: Array, seed: int) -> Means:
    program = subprocess.Popen(["sleep", "1000"])
    Path(os.environ["KEEPSTONE_TEST_PIDS"]).write_text(f"{os.getpid()} {program.pid}")
    return Means(x, y)


class Holding(Means):
    def __init__(self, x: Array, y: Array) -> None:
        super().__init__(x, y)
        self.lock = threading.Lock()


def holding(x: Array, y: Array, seed: int) -> Holding:
    return Holding(x, y)


class Unreadable(Means):
    def __setstate__(self, state: object) -> None:
        raise ValueError("not today")


def unreadable(x: Array, y: Array, seed: int) -> Unreadable:
    return Unreadable(x, y)


def refusing(x: Array, y: Array, seed: int) -> Means:
    raise OperationalError("training.failed", "The clock stands.", "Wind it up.")


def raising(x: Array, y: Array, seed: int) -> Any:
    raise RuntimeError("no luck")


def stumbling(x: Array, y: Array, seed: int) -> Stumbling:
    return Stumbling(x, y)


def nothing(x: Array, y: Array, seed: int) -> None:
    return None


def blobs(count: int, seed: int) -> tuple[Array, Array]:
    """Three clouds on a plane."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return np.array([[0, 2], [2, -1], [-2, -1]])[y] + rng.normal(0, 0.5, (count, 2)), y


def pictures(count: int, seed: int) -> tuple[Array, Array]:
    """Four classes of 6 by 6 pixels, each bright in a quarter, with noise."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 4, count)
    bright = np.zeros((4, 6, 6))
    for label in range(4):
        top, left = divmod(label, 2)
        bright[label, 3 * top : 3 * top + 3, 3 * left : 3 * left + 3] = 0.3
    x = 0.25 + bright.reshape(4, -1)[y] + draw.normal(0, 0.08, (count, 36))
    return x.clip(0, 1), y


def _wide(x: Array) -> Array:
    return np.column_stack([x, np.ones(len(x))])
