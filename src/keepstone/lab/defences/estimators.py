"""Trained scikit-learn estimators as one file, in skops' format, of types that the vault opens.

Promise: a vote answers as the aggregate that it is made of, ties included: the class with most
votes, the first where several have, and models that do not vote left out. What the vault would not
open is not written. The same estimator is the same bytes, in every process and at every time:
whoever trains it again speaks of the same file.

The classes are those of the caller's file: estimators were trained on their places.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence, Set
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.lab.targets.port import Target
from keepstone.vault.load.skops import read_types


def estimator_of(target: Target | int) -> Any:
    """The estimator behind a target, or one that always says its class.

    Raises InputError `defence.unwritable` for what is no estimator of scikit-learn's.
    """
    from sklearn.base import BaseEstimator, is_classifier
    from sklearn.dummy import DummyClassifier

    if isinstance(target, int):
        always = DummyClassifier(strategy="constant", constant=target)
        return always.fit(np.zeros((1, 1)), np.array([target]))
    model = getattr(target, "model", None)
    if not isinstance(model, BaseEstimator) or not is_classifier(model):
        raise InputError(
            "defence.unwritable",
            f"A {type(getattr(target, 'module', model)).__name__} is no classifier of"
            " scikit-learn's, and cannot be written as one.",
            "Leave out -o, or train one with scikit-learn.",
        )
    return model


def vote(models: Sequence[Target | int | None], labels: Array) -> Any:
    """One classifier that is the majority of `models`, with `labels` by their places.

    Raises InputError `defence.unwritable`.
    """
    from sklearn.ensemble import VotingClassifier
    from sklearn.preprocessing import LabelEncoder

    voters = [estimator_of(one) for one in models if one is not None]
    if not voters:
        raise InputError("defence.unwritable", "None of the models votes.")
    # Trained already: `fit` would train each on all rows. The places are the labels' order.
    encoder = LabelEncoder()
    encoder.classes_ = np.asarray(labels)
    named = [(f"partition-{at}", one) for at, one in enumerate(voters)]
    made = VotingClassifier(named, voting="hard")
    made.estimators_, made.le_, made.classes_ = voters, encoder, encoder.classes_
    return made


def dump(estimator: Any) -> bytes:
    """Raises InputError `defence.unwritable` for what the vault would not open; OperationalError
    `runtime.missing`."""
    try:
        import skops.io
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "skops is not installed, in whose format the model is written.",
            "pip install 'keepstone[skops]'",
        ) from error
    try:
        data = _settled(skops.io.dumps(estimator))
    # An estimator holds whatever its author put into it.
    except Exception as error:
        raise InputError(
            "defence.unwritable",
            f"skops does not write the model: {type(error).__name__}.",
            "Leave out -o, or train an estimator of scikit-learn's own.",
        ) from error
    try:
        read_types(memoryview(data))
    except VerificationError as error:
        raise InputError(
            "defence.unwritable", error.cause, "Leave out -o, or leave that step out of the model."
        ) from error
    return data


_SCHEMA = "schema.json"


def _settled(data: bytes) -> bytes:
    """The same archive without what hangs on the moment: skops writes the time of day, and calls
    each object and each of its files by where it lay in memory."""
    with ZipFile(io.BytesIO(data)) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    schema = json.loads(members.pop(_SCHEMA))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, members.keys(), numbers, names)
    settled = io.BytesIO()
    with ZipFile(settled, "w") as archive:
        for name, content in members.items():
            # Without a time of its own an entry is of 1980.
            archive.writestr(ZipInfo(names.get(name, name)), content)
        archive.writestr(ZipInfo(_SCHEMA), json.dumps(schema, indent=2))
    return settled.getvalue()


def _renumber(node: Any, files: Set[str], numbers: dict[int, int], names: dict[str, str]) -> None:
    """Number objects and files as they come, in place. What a dictionary of the estimator's own
    holds by these names is a node itself, and no number or text."""
    if isinstance(node, list):
        for one in node:
            _renumber(one, files, numbers, names)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "__id__" and isinstance(value, int):
            node[key] = numbers.setdefault(value, len(numbers) + 1)
        elif key == "file" and isinstance(value, str) and value in files:
            new = f"{len(names) + 1}{PurePosixPath(value).suffix}"
            node[key] = names.setdefault(value, new)
        else:
            _renumber(value, files, numbers, names)
