"""A model that the vault's loaders opened, as a target: labels, and scores where it has some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from keepstone.contract.validate import Array
from keepstone.errors import OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.classes import Classes, require_count
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    are_probabilities,
    as_scores,
    best_class,
    in_pieces,
)

_BATCH = 4096
_PROBES = 16


class Predicts(Protocol):
    """What every loader starts."""

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]: ...


class RuntimeTarget:
    """The label is what the model serves as one, else the class of its highest score.

    Raises InputError `target.bad_labels` where it has scores of another number of classes.
    """

    def __init__(
        self, runtime: Predicts, tensors: Tensors, domain: Domain, classes: Classes
    ) -> None:
        self._runtime = runtime
        self._tensors = tensors
        self.domain = domain
        self.names = classes
        self._probable = False
        # Why there is no gradient, where one might have been had.
        self.without_gradient = ""
        # Whether that is because of the file.
        self.hides_gradient = False
        if tensors.scores is not None:
            outputs = self._outputs(domain.draw(_PROBES))[tensors.scores.name]
            self._probable = are_probabilities(outputs)
            require_count(classes, as_scores(outputs, probable=self._probable).shape[1])

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def scored(self) -> tuple[str, str] | None:
        """What the input and the output of scores are called; None without scores."""
        scores = self._tensors.scores
        return None if scores is None else (self._tensors.input.name, scores.name)

    @property
    def labelled(self) -> bool:
        """Whether it serves labels by their names."""
        return self._tensors.label is not None

    @property
    def probable(self) -> bool:
        """Whether its scores are probabilities."""
        return self._probable

    @property
    def capabilities(self) -> frozenset[Capability]:
        scores = {Capability.SCORES} if self._tensors.scores is not None else set()
        return frozenset({Capability.LABEL} | scores)

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `runtime.failed`; InputError `target.bad_labels`."""
        return in_pieces(rows, _BATCH, self._answers)

    def _answers(self, rows: Array) -> Answers:
        found = self._outputs(rows)
        label, score = self._tensors.label, self._tensors.scores
        scores = None
        if score is not None:
            scores = as_scores(found[score.name], probable=self._probable)
        if label is not None:
            return Answers(self.names.encode(found[label.name]), scores)
        assert scores is not None
        return Answers(best_class(scores), scores)

    def _outputs(self, rows: Array) -> Mapping[str, Array]:
        found = self._runtime.predict({self._tensors.input.name: self.domain.as_inputs(rows)})
        if any(found[name].shape[:1] != (len(rows),) for name in self._tensors.names):
            raise OperationalError(
                "target.broken", "The model does not answer each row that it is asked."
            )
        return found
