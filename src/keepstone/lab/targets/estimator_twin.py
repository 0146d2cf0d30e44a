"""The gradient of what a scikit-learn classifier computes, out of the object that was loaded.

Who has the file has its weights in it. They are computed with once more (`estimator_scores`,
`support_vectors`), in NumPy and with their slope. What is *served* stays what the estimator says:
its label judges. The twin only tells where to look, and is believed only where its labels and its
decision function are the estimator's own, on rows from all over the domain and on the samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import KeepstoneError
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.estimator_scores import Scored, log_chances, scored
from keepstone.lab.targets.estimator_steps import Unknown
from keepstone.lab.targets.onnx_twin import apart, no_gradient
from keepstone.lab.targets.port import Answers, Capability, Linearization, in_pieces
from keepstone.lab.targets.runtime import RuntimeTarget
from keepstone.lab.targets.slopes import Slope

_PROBES = 64
# How far what is computed may differ, in parts of its size: some steps keep 32 bits.
_ALIKE = 2e-3
# A label may fall to either side where two scores are as near as that, in parts of their spread.
_TIE = 1e-4
# Votes of pairs may go in a circle, and the highest probability be another's: few samples'.
_AGREE = 0.9
_BATCH = 1024


class EstimatorTwin(Around):
    """`served` with the gradient of `scores` (n, k). The answers are the served ones.

    Its scores are those of the twin, but where the served ones are probabilities of another kind.
    """

    gives = frozenset({Capability.SCORES, Capability.GRADIENT})

    def __init__(self, served: RuntimeTarget, scores: Slope, *, own_scores: bool) -> None:
        super().__init__(served)
        self._scores = scores
        self._own = own_scores

    def predict(self, rows: Array) -> Answers:
        """Raises as `served`."""
        found = self._served.predict(rows)
        if not self._own:
            return found
        return Answers(found.labels, in_pieces(rows, _BATCH, self._said).scores)

    def linearize(self, rows: Array) -> Linearization:
        """Raises as `served`."""
        pieces = [rows[at : at + _BATCH] for at in range(0, len(rows), _BATCH)] or [rows]
        found = [self._scores(self._inputs(piece)) for piece in pieces]
        ends = np.cumsum([len(piece) for piece in pieces])[:-1]

        def vjp(weights: Array) -> Array:
            parts = zip(found, np.split(weights.astype(np.float64), ends), strict=True)
            with np.errstate(over="ignore"):
                return np.concatenate([pull(part) for (_, pull), part in parts]).astype(rows.dtype)

        scores = np.concatenate([said for said, _ in found])
        return Linearization(self._served.predict(rows).labels, scores, vjp)

    def _said(self, rows: Array) -> Answers:
        said = self._scores(self._inputs(rows))[0]
        return Answers(np.zeros(len(rows), np.int64), said)

    def _inputs(self, rows: Array) -> Array:
        return as_rows(self._served.domain.as_inputs(rows))


def with_slope(served: RuntimeTarget, estimator: Any, rows: Array) -> EstimatorTwin:
    """`served`, of which the vault's loader made `estimator`, with its gradient; `rows` are
    samples.

    Raises InputError `target.no_gradient` where it is not to be had, or not to be believed.
    """
    try:
        with np.errstate(all="ignore"):
            return _believed(served, estimator, scored(estimator), rows)
    except Unknown as error:
        raise no_gradient(f"{error} is not computed here") from error
    except KeepstoneError as error:
        if error.code == "target.no_gradient":
            raise
        raise no_gradient(error.cause.rstrip(".")) from error
    # An estimator whose state lies raises whatever it stumbles over.
    except Exception as error:
        raise no_gradient("the estimator has not what its kind has") from error


def _believed(served: RuntimeTarget, estimator: Any, found: Scored, rows: Array) -> EstimatorTwin:
    """(1) It has the classes that are served, in their order. (2) It says what the estimator's own
    methods say, of all rows. (3) Of samples its highest score is the label that is served.
    """
    domain = served.domain
    asked = np.concatenate([domain.draw(_PROBES), rows[:_PROBES].astype(np.float64)])
    asked = domain.fit(asked, asked)
    inputs = domain.as_inputs(asked)
    scores = found.scores(as_rows(inputs))[0]
    # (1)
    classes = np.asarray(estimator.classes_)
    if scores.shape != (len(asked), len(classes)) or len(classes) != served.classes:
        raise no_gradient("what is computed from it has other scores than are served")
    if served.labelled and (served.names.encode(classes) != np.arange(len(classes))).any():
        raise no_gradient("its classes are in another order than they are named")
    # (2)
    _require_alike(estimator, found, inputs)
    _require_labels(estimator, found, inputs, scores)
    # (3)
    answers = served.predict(asked)
    if not (scores.argmax(axis=1) == answers.labels)[_PROBES:].mean() >= _AGREE:
        raise no_gradient("what is computed from it has other labels than are served")
    own = True
    if answers.scores is not None and served.probable:
        far = apart(log_chances(answers.scores), log_chances(scores), probable=True)
        own = bool(far <= _ALIKE)
    return EstimatorTwin(served, found.scores, own_scores=own)


def _require_alike(estimator: Any, found: Scored, inputs: Array) -> None:
    wanted = np.asarray(getattr(estimator, found.method)(inputs), np.float64)
    said = found.said(as_rows(inputs))
    said, wanted = (one.reshape(len(inputs), -1) for one in (said, wanted))
    if said.shape != wanted.shape:
        raise no_gradient("what is computed from it has other scores than are served")
    if found.logarithms:
        # Where a probability is nothing its logarithm is none.
        wanted = np.maximum(wanted, np.log(np.finfo(np.float64).tiny))
        far = apart(wanted, said, probable=True)
    else:
        # However small the numbers are that decide.
        far = float(np.abs(said - wanted).max() / np.abs(wanted).max())
    # NaN is alike to nothing.
    if not far <= _ALIKE:
        raise no_gradient("what is computed from it differs from what is served")


def _require_labels(estimator: Any, found: Scored, inputs: Array, scores: Array) -> None:
    """All are the estimator's, but where rounding may decide."""
    best = scores.argmax(axis=1) if found.labels is None else found.labels(as_rows(inputs))
    wanted = np.asarray(estimator.predict(inputs))
    order = np.sort(scores, axis=1)
    clear = order[:, -1] - order[:, -2] > _TIE * np.median(order[:, -1] - order[:, 0])
    if (np.asarray(estimator.classes_)[best] != wanted)[clear].any():
        raise no_gradient("what is computed from it has other labels than are served")


def as_rows(inputs: Array) -> Array:
    return inputs.reshape(len(inputs), -1).astype(np.float64)
