"""A model that one of the vault's runtimes computes: ONNX, and every other format it loads.

Who makes one has loaded the runtime the vault's way: from verified, scanned bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keepstone.contract.schema import ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.ownership.space import Space, the_input
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    are_probabilities,
    as_scores,
)
from keepstone.vault.load.prepared import Runtime

_PROBES = 256
_BATCH = 4096


def domain_of(
    contract: ModelContract,
    low: float | None = None,
    high: float | None = None,
    constraints: Constraints | None = None,
) -> Domain:
    """What the model's one input holds; `low` and `high` stand in for a range not declared.

    Raises InputError `fingerprint.unsupported`, `fingerprint.no_range`, `attack.bad_domain`.
    """
    space = Space.of(contract, low, high)
    kind = NUMPY[space.spec.datatype].newbyteorder("=")
    return Domain.of(space.spec.shape[1:], space.low, space.high, kind.name, constraints)


class RuntimeTarget:
    """The label that `runtime` serves, and its scores where its `contract` has any.

    The label is the output of whole numbers or texts with one element a row; without one it is the
    best score. Scores are the output of floats with a column for each class, or one for the second
    of two. `output` names the only one to read. `labels` names the classes in the scores' order;
    without it labels are whole numbers from 0. Whether scores are probabilities is told once, from
    many rows. A row whose scores are not finite, and that has no other label, is not answered.

    Raises InputError `target.bad_object`, `target.bad_labels`; OperationalError `target.broken`,
    `runtime.*`.
    """

    def __init__(
        self,
        runtime: Runtime,
        contract: ModelContract,
        domain: Domain,
        *,
        labels: Sequence[object] | None = None,
        output: str | None = None,
    ) -> None:
        self._runtime, self._input = runtime, the_input(contract)
        self.domain = domain
        able = [spec for spec in contract.outputs if output in (None, spec.name)]
        self._label = next((spec for spec in able if _is_label(spec)), None)
        self._scores = next((spec for spec in able if _is_scores(spec)), None)
        if self._label is None and self._scores is None:
            raise InputError(
                "target.bad_object",
                "The model has no output with one label or one row of scores for each input.",
                f"Its outputs: {', '.join(spec.name for spec in contract.outputs)[:200]}.",
            )
        self._probable, self._columns = False, 0
        if self._scores is not None:
            drawn = np.random.default_rng(0).uniform(0, 1, (_PROBES, domain.width))
            rows = domain.low + drawn * (domain.high - domain.low)
            found = self._found(domain.fit(rows, rows))[self._scores.name]
            outputs = found.reshape(_PROBES, -1)
            self._probable = are_probabilities(outputs)
            self._columns = max(2, outputs.shape[1])
        self.labels = self._named(labels)
        self._order = np.argsort(self.labels, kind="stable")

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def capabilities(self) -> frozenset[Capability]:
        scores = {Capability.SCORES} if self._scores is not None else set()
        return frozenset({Capability.LABEL} | scores)

    def encode(self, labels: Array) -> Array:
        """Classes by their places. Raises InputError `target.bad_labels` for an unknown one."""
        found = _texts(labels) if self.labels.dtype.kind == "U" else np.asarray(labels)
        if found.dtype.kind not in self.labels.dtype.kind + "iub":
            raise _unknown()
        place = np.searchsorted(self.labels, found, sorter=self._order).clip(0, self.classes - 1)
        encoded = self._order[place]
        if not np.array_equal(self.labels[encoded], found):
            raise _unknown()
        return np.asarray(encoded, np.int64)

    def predict(self, rows: Array) -> Answers:
        found = self._found(rows)
        scores = None
        if self._scores is not None:
            outputs = found[self._scores.name].reshape(len(rows), -1)
            scores = as_scores(outputs, probable=self._probable)
        if self._label is not None:
            labels = self.encode(found[self._label.name].reshape(len(rows), -1)[:, 0])
            return Answers(labels, scores)
        assert scores is not None
        known: Array = np.asarray(np.isfinite(scores).all(axis=1))
        best = np.where(known[:, None], scores, 0).argmax(axis=1)
        return Answers(np.where(known, best, UNANSWERED), scores)

    def _found(self, rows: Array) -> dict[str, Array]:
        """The outputs that are read, each with as many rows as were asked."""
        wanted = [spec.name for spec in (self._label, self._scores) if spec is not None]
        parts: dict[str, list[Array]] = {name: [] for name in wanted}
        for at in range(0, max(len(rows), 1), _BATCH):
            piece = self.domain.as_inputs(rows[at : at + _BATCH])
            said = self._runtime.predict({self._input.name: piece})
            for name, into in parts.items():
                into.append(said[name])
                if said[name].shape[:1] != (len(piece),):
                    raise OperationalError(
                        "target.broken", "The model does not answer each row that it is asked."
                    )
        return {name: np.concatenate(found) for name, found in parts.items()}

    def _named(self, labels: Sequence[object] | None) -> Array:
        count = self._columns
        if labels is None:
            text = self._label is not None and not self._label.datatype.is_number
            if not count or text:
                raise InputError(
                    "target.bad_labels",
                    "The model's labels do not say which classes there are.",
                    "Name all classes, in the order of the model's scores if it has any.",
                )
            return np.arange(count)
        named = np.asarray(labels)
        if named.dtype.kind in "OS":
            named = _texts(named)
        if named.ndim != 1 or len(set(named.tolist())) != len(named) or len(named) < 2:
            raise InputError(
                "target.bad_labels", "The classes' names are not two or more, each once."
            )
        if count and len(named) != count:
            raise InputError(
                "target.bad_labels",
                f"The model scores {count} classes, and {len(named)} are named.",
            )
        return named


def _is_label(spec: TensorSpec) -> bool:
    alone = len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1)
    return not spec.datatype.is_float and alone


def _is_scores(spec: TensorSpec) -> bool:
    return spec.datatype.is_float and len(spec.shape) in (1, 2)


def _texts(labels: Array) -> Array:
    return np.array(
        [
            one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
            for one in labels.tolist()
        ]
    )


def _unknown() -> InputError:
    return InputError("target.bad_labels", "There are labels that the model does not know.")
