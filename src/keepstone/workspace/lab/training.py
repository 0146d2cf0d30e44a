"""The caller's own training function, and the rows that it is tried with.

`package.module:function` is imported, which runs their code, and is called with flat rows, classes
as numbers from 0 on, and a seed; it returns an estimator or a torch module. Each call has a process
of its own (`keepstone.lab.fresh`), and what it raises is its failure, with a code.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keepstone.contract.schema import check_architecture
from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.fresh import PATIENCE_S, Fresh
from keepstone.lab.samples import Samples
from keepstone.lab.targets.classes import Classes
from keepstone.lab.targets.port import Target
from keepstone.lab.targets.trained import as_target
from keepstone.workspace.lab.attacking import Wanted, chosen, require_fit
from keepstone.workspace.lab.hardening import require_apart

Function = Callable[[Array, Array, int], Any]
_PROBES = 64


@dataclass(frozen=True, slots=True)
class Given:
    """What is trained on, what is held out of it, and by whose function.

    `shape` is that of a picture whose rows are flat: a torch module is asked with it. No training
    may take longer than `patience_s`.
    """

    train: str
    data: Samples
    held_out: Samples
    wanted: Wanted
    shape: tuple[int, ...] = ()
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Rows `x` (n, d) of classes `y` (n,), by their places among `classes`, and what `train` makes
    of them. `tested` are held-out rows and their classes, each row once.

    `labels` (k,) are the classes as the file has them, `features` the columns' names, if it has
    any; `bounds` are the range that was given, not one that was seen.
    """

    train: Trainer
    domain: Domain
    classes: Classes
    labels: Array
    x: Array
    y: Array
    tested: tuple[Array, Array]
    data: Digest
    held_out: Digest
    features: tuple[str, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)

    def repeats(self, seed: int, first: Target) -> bool:
        """Whether the same rows and `seed` train the model `first` again, as far as it is seen: of
        held-out rows and of some from all over the domain. Raises what `train` raises."""
        asked = np.concatenate([self.tested[0], self.domain.draw(_PROBES)])
        again = self.train(self.x, self.y, seed)
        return bool((first.predict(asked).labels == again.predict(asked).labels).all())


class Trainer:
    """`function` as the lab calls it; counts how often it was."""

    def __init__(
        self, function: Function, domain: Domain, classes: int, shape: tuple[int, ...] = ()
    ) -> None:
        self._function, self._domain, self._classes = function, domain, classes
        self._shown = replace(domain, shape=shape) if shape else domain
        self.trained = 0

    def __call__(self, x: Array, y: Array, seed: int) -> Target:
        """Raises InputError `target.bad_object`, and what `function` raises."""
        self.trained += 1
        return self.as_target(self._function(x, y, seed))

    def as_target(self, model: Any) -> Target:
        """Raises InputError `target.bad_object`."""
        # A module says what shape it takes; an estimator takes flat rows.
        if not callable(getattr(model, "state_dict", None)):
            return as_target(model, self._domain, self._classes)
        try:
            return as_target(model, self._shown, self._classes)
        except OperationalError as error:
            if error.code != "runtime.failed":
                raise
            raise InputError(
                "target.bad_object",
                f"The module that was trained cannot be asked for rows of the shape"
                f" {list(self._shown.shape)}, {self._shown.dtype}: {error.cause}",
                "Give the shape of one row with --shape, and rows of the module's own type.",
            ) from error


def fresh_function(name: str, patience_s: float = PATIENCE_S) -> Fresh:
    """The caller's own function, `package.module:function`: importing it runs their code.

    Raises InputError `attack.bad_train`.
    """
    try:
        package, _, attribute = check_architecture(name).partition(":")
    except KeepstoneError as error:
        raise _bad_train(name, "") from error
    # Imported there while it is here, where their models are asked.
    fresh = Fresh(name, patience_s)
    try:
        with redirect_stdout(sys.stderr):
            found = getattr(importlib.import_module(package), attribute)
    # A module of the caller's may raise anything while it is imported.
    except (Exception, SystemExit) as error:
        fresh.close()
        raise _bad_train(name, f": {type(error).__name__}") from error
    if not callable(found):
        fresh.close()
        raise _bad_train(name, ": it cannot be called")
    return fresh


def open_training(given: Given, seed: int) -> Training:
    """Find the function, and hold the two files against each other.

    The range of the inputs is the one that is wanted; else that of both files: a feature's own,
    or of a picture that of all its pixels. Raises InputError `attack.bad_train`,
    `attack.other_inputs`, `attack.bad_domain`, `target.bad_labels`, `defence.trained_on`.
    """
    function = fresh_function(given.train, given.patience_s)
    data, held_out = given.data, given.held_out
    if data.x.shape[1] != held_out.x.shape[1]:
        raise InputError(
            "attack.other_inputs",
            f"A row that is trained on has {data.x.shape[1]} numbers, and a held-out one"
            f" {held_out.x.shape[1]}.",
            "Give two parts of one data set.",
        )
    domain = _domain(given)
    for one in (data, held_out):
        require_fit(one, domain)
    require_apart(data, held_out, domain)
    classes = Classes.of(data.y, None, given.wanted.classes)
    held_out = chosen(held_out, len(held_out), seed)
    tested = domain.fit(held_out.x, held_out.x), classes.encode(held_out.y)
    return Training(
        Trainer(function, domain, len(classes), given.shape),
        domain,
        classes,
        _labels(classes, data.y),
        domain.fit(data.x, data.x),
        classes.encode(data.y),
        tested,
        data.digest,
        held_out.digest,
        data.features,
        (given.wanted.low, given.wanted.high),
    )


def _domain(given: Given) -> Domain:
    width = given.data.x.shape[1]
    if given.shape and int(np.prod(given.shape)) != width:
        raise InputError(
            "attack.bad_domain",
            f"A row has {width} numbers, and a picture of the shape {list(given.shape)} others.",
            "Give the shape of one row with --shape.",
        )
    both = np.concatenate([given.data.x, given.held_out.x]).astype(np.float64)
    axis = None if given.shape else 0
    wanted = given.wanted
    low = both.min(axis=axis) if wanted.low is None else wanted.low
    high = both.max(axis=axis) if wanted.high is None else wanted.high
    return Domain.of((width,), low, high, given.data.x.dtype.name, wanted.constraints)


def _labels(classes: Classes, y: Array) -> Array:
    """By their places, of the type that the file has."""
    return np.array(classes.names).astype(np.int64 if y.dtype.kind in "iu" else str)


def _bad_train(name: str, why: str) -> InputError:
    return InputError(
        "attack.bad_train",
        f"{name[:100]!r} is no function that can be imported here{why}.",
        "Write package.module:function; it is called with x, y and a seed.",
    )
