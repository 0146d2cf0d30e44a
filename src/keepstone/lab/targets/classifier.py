"""A classifier behind HTTPS as a target of attacks: labels, and scores where it serves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from keepstone.contract.schema import ModelContract, TensorSpec
from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    are_probabilities,
    as_scores,
)
from keepstone.lab.targets.remote import Address, Remote, Tensor

# Rows in one request: more gain little and may pass the limit of what a request may hold.
_BATCH = 64
_PROBES = 16
_MAX_LABEL = 256


class RemoteClassifier:
    """One model at one endpoint. Rows that it does not answer are `UNANSWERED`.

    The label is what it serves as one, else the class of the highest score. `labels` are the
    names of its classes in the order of its scores.
    """

    def __init__(
        self,
        address: Address,
        labels: Sequence[str],
        *,
        low: float | None = None,
        high: float | None = None,
        batch: int = _BATCH,
        **limits: Any,
    ) -> None:
        """Read what the model takes and serves.

        `low` and `high` are the range of its inputs, which the protocol does not tell; `limits`
        are those of `Remote`. Raises InputError `target.*`, `attack.bad_domain`; OperationalError
        as `Remote.metadata`.
        """
        self.remote = Remote(address, keep_alive=True, **limits)
        try:
            contract = self.remote.metadata()
            self._spec, self._label, self._score = outputs_of(contract)
            self.domain = Domain.of_spec(self._spec, low, high)
            self.labels = tuple(labels)
            self._places = {label: place for place, label in enumerate(self.labels)}
            self._batch = batch
            self._probable = self._are_probabilities() if self._score else False
        except BaseException:
            self.remote.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remote.close()

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def capabilities(self) -> frozenset[Capability]:
        scores = {Capability.SCORES} if self._score else set()
        return frozenset({Capability.LABEL} | scores)

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `target.*`; `target.bad_answer` for a class without a name."""
        parts = [self._ask(rows[at : at + self._batch]) for at in range(0, len(rows), self._batch)]
        labels = np.concatenate([part.labels for part in parts]) if parts else np.zeros(0, int)
        if self._score is None:
            return Answers(labels)
        none = np.zeros((0, self.classes))
        scores = [part.scores for part in parts if part.scores is not None]
        return Answers(labels, np.concatenate([none, *scores]))

    def _ask(self, rows: Array) -> Answers:
        wanted = [spec.name for spec in (self._label, self._score) if spec is not None]
        found = self.remote.infer(self._spec, self.domain.as_inputs(rows), wanted)
        if found is None:
            silent = np.full(len(rows), UNANSWERED, np.int64)
            unknown = np.full((len(rows), self.classes), np.nan)
            return Answers(silent, unknown if self._score else None)
        scores = None
        if self._score is not None:
            scores = as_scores(_numbers(found[self._score.name]), probable=self._probable)
            if scores.shape[1] != self.classes:
                raise InputError(
                    "target.bad_labels",
                    f"The target serves scores of {scores.shape[1]} classes, and"
                    f" {self.classes} are named.",
                    "Name its classes in the order of its scores with --classes.",
                )
        if self._label is None:
            assert scores is not None
            return Answers(scores.argmax(axis=1), scores)
        texts = [str(value)[:_MAX_LABEL] for value in found[self._label.name].data]
        try:
            return Answers(np.array([self._places[text] for text in texts], np.int64), scores)
        except KeyError as error:
            raise InputError(
                "target.bad_labels",
                f"The target serves a label {str(error.args[0])[:64]!r} that is not named.",
                "Name all of its classes with --classes.",
            ) from error

    def _are_probabilities(self) -> bool:
        """Told once, from rows drawn over the domain."""
        assert self._score is not None
        drawn = np.random.default_rng(0).uniform(0, 1, (_PROBES, self.domain.width))
        rows = self.domain.low + drawn * (self.domain.high - self.domain.low)
        fitted = self.domain.as_inputs(self.domain.fit(rows, rows))
        found = self.remote.infer(self._spec, fitted, [self._score.name])
        if found is None:
            raise OperationalError(
                "target.throttled", "The target does not answer now.", "Try again later."
            )
        return are_probabilities(_numbers(found[self._score.name]))


def outputs_of(
    contract: ModelContract,
) -> tuple[TensorSpec, TensorSpec | None, TensorSpec | None]:
    """The one input, the output of labels and that of scores; one of the two may be missing.

    Raises InputError `target.unsupported`.
    """
    spec = contract.inputs[0]
    if len(contract.inputs) != 1 or not spec.datatype.is_number or len(spec.shape) < 2:
        raise InputError(
            "target.unsupported",
            "Only models with one input of numbers, many rows at a time, are attacked.",
        )
    flat = [one for one in contract.outputs if len(one.shape) in (1, 2)]
    labels = [
        one
        for one in flat
        if not one.datatype.is_float and (len(one.shape) == 1 or one.shape[1] == 1)
    ]
    scores = [one for one in flat if one.datatype.is_float]
    if not labels and not scores:
        raise InputError(
            "target.unsupported",
            "The model has no output of one label, or one row of scores, for each input.",
        )
    first = spec if spec.shape[0] < 0 else replace(spec, shape=(-1, *spec.shape[1:]))
    return first, labels[0] if labels else None, scores[0] if scores else None


def _numbers(found: Tensor) -> Array:
    try:
        values = np.array(found.data, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise OperationalError(
            "target.bad_answer", "The target's scores are no numbers."
        ) from error
    return values.reshape(found.shape[0], -1)
