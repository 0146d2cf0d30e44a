"""A classifier behind HTTPS as a target of attacks: labels, and scores where it serves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import OperationalError
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.targets.classes import Classes, require_count
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    are_probabilities,
    as_scores,
    best_class,
    in_pieces,
)
from keepstone.lab.targets.remote import Address, NotNowError, Remote, Tensor

# Rows in one request: more gain little and may pass the limit of what a request may hold.
_BATCH = 64
_PROBES = 16
# Numbers in one request: how wide a row is, the other side says.
_VALUES = 1 << 24


class RemoteClassifier:
    """One model at one endpoint. Rows that it does not answer are `UNANSWERED`.

    The label is what it serves as one, else the class of the highest score.
    """

    def __init__(
        self,
        address: Address,
        labels: Array,
        named: Sequence[str] = (),
        *,
        low: float | None = None,
        high: float | None = None,
        constraints: Constraints | None = None,
        batch: int = _BATCH,
        **limits: Any,
    ) -> None:
        """Read what the model takes and serves; `labels` are those of the samples.

        `low` and `high` are the range of its inputs, which the protocol does not tell; `limits`
        are those of `Remote`. Raises InputError `target.*`, `attack.bad_domain`; OperationalError
        as `Remote.metadata`.
        """
        self.remote = Remote(address, keep_alive=True, **limits)
        try:
            self._tensors = Tensors.of(self.remote.metadata())
            self.domain = Domain.of_spec(self._tensors.input, low, high, constraints)
            self.names = Classes.of(labels, self._tensors.score_count, named)
            self._batch = max(1, min(batch, _VALUES // self.domain.width))
            self._probable = self._tensors.scores is not None and self._are_probabilities()
        except BaseException:
            self.remote.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remote.close()

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def capabilities(self) -> frozenset[Capability]:
        scores = {Capability.SCORES} if self._tensors.scores is not None else set()
        return frozenset({Capability.LABEL} | scores)

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `target.*`; InputError `target.bad_labels`."""
        return in_pieces(rows, self._batch, self._ask)

    def _ask(self, rows: Array) -> Answers:
        label, score = self._tensors.label, self._tensors.scores
        inputs = self.domain.as_inputs(rows)
        found = self.remote.infer(self._tensors.input, inputs, self._tensors.names)
        if found is None:
            silent = np.full(len(rows), UNANSWERED, np.int64)
            unknown = np.full((len(rows), self.classes), np.nan)
            return Answers(silent, unknown if score else None)
        scores = self._scores(found[score.name]) if score else None
        if label is not None:
            return Answers(self.names.encode(_labels(found[label.name], len(rows))), scores)
        assert scores is not None
        return Answers(best_class(scores), scores)

    def _scores(self, found: Tensor) -> Array:
        scores = as_scores(_numbers(found), probable=self._probable)
        require_count(self.names, scores.shape[1])
        return scores

    def _are_probabilities(self) -> bool:
        """Told once, from rows all over the domain. Raises OperationalError `target.throttled`."""
        score = self._tensors.scores
        assert score is not None
        inputs = self.domain.as_inputs(self.domain.draw(min(_PROBES, self._batch)))
        found = self.remote.infer(self._tensors.input, inputs, [score.name])
        if found is None:
            raise NotNowError(0.0)
        return are_probabilities(_numbers(found[score.name]))


def _labels(found: Tensor, count: int) -> Array:
    if len(found.data) != count:
        raise OperationalError(
            "target.bad_answer", "The target does not serve one label for each row."
        )
    return np.array(found.data, object)


def _numbers(found: Tensor) -> Array:
    try:
        values = np.array(found.data, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise OperationalError(
            "target.bad_answer", "The target's scores are no numbers."
        ) from error
    return values.reshape(found.shape[0], -1)
