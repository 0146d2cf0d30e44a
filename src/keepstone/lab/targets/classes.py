"""Classes by their names: what a model, a file of samples and a server call the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError

MAX_CLASSES = 65_536
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Classes:
    """The names of the classes, in the order of the model's scores; each once."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= MAX_CLASSES or len(set(self.names)) != len(self.names):
            raise InputError(
                "target.bad_labels",
                "A classifier has at least two classes, each with a name of its own.",
                "Name them in the order of the model's scores with --classes.",
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, labels: Array, scores: int | None, named: Sequence[str] = ()) -> Classes:
        """Those that are `named`; else those that the samples' `labels` are.

        Numbers from 0 below the number of `scores` are the places of the scores. Anything else is
        taken in order, and has to be as many as the scores. Raises InputError `target.bad_labels`.
        """
        if named:
            return cls(tuple(named))
        # Said by the model, or by who serves it: held against the limit before it is believed.
        if scores is not None and scores > MAX_CLASSES:
            raise InputError(
                "target.bad_labels",
                f"The model says that it has {scores} classes, more than {MAX_CLASSES}.",
            )
        found = np.unique(labels)
        numbers = found.dtype.kind in "iu"
        if scores is not None and numbers and found[0] >= 0 and found[-1] < scores:
            return cls(tuple(map(str, range(scores))))
        if scores is not None and len(found) != scores:
            raise InputError(
                "target.bad_labels",
                f"The samples have {len(found)} labels, and the model {scores} classes.",
                "Name its classes in the order of its scores with --classes.",
            )
        return cls(tuple(name_of(value) for value in found.tolist()))

    def encode(self, labels: Array) -> Array:
        """The places of these labels. Raises InputError `target.bad_labels` for an unknown one."""
        flat = np.asarray(labels).ravel()
        if flat.dtype == object:
            # Values of several types cannot be put in order.
            flat = np.array([name_of(value) for value in flat.tolist()])
        # Text is compared with text: 3 and "3" are the same class.
        known, back = np.unique(flat, return_inverse=True)
        places = {name: place for place, name in enumerate(self.names)}
        texts = [name_of(value) for value in known.tolist()]
        odd = [text for text in texts if text not in places]
        if odd:
            raise InputError(
                "target.bad_labels",
                f"There is a label {odd[0][:64]!r} that is none of the model's classes.",
                "Name its classes in the order of its scores with --classes.",
            )
        return np.array([places[text] for text in texts], np.int64)[back]


def require_count(classes: Classes, scores: int) -> None:
    """Raises InputError `target.bad_labels` where a model scores another number of classes."""
    if len(classes) != scores:
        raise InputError(
            "target.bad_labels",
            f"The model has scores of {scores} classes, and {len(classes)} are named.",
            "Name its classes in the order of its scores with --classes.",
        )


def name_of(value: object) -> str:
    """What a label is called: whole numbers alike, whatever type they were written in."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:_MAX_NAME]
