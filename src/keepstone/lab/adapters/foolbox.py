"""Foolbox's attacks on our targets, and Foolbox's models as our targets.

Source: Rauber et al. 2020, Foolbox Native, https://doi.org/10.21105/joss.02607. Tried with 3.3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.adapters.autograd import as_module, drawn_alike, torch_library
from keepstone.lab.adapters.metered import Metered, not_installed, run_outside
from keepstone.lab.attacks.evasion.bounds import radius
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Meter
from keepstone.lab.norms import NORMS
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    Linearization,
    are_probabilities,
    as_scores,
)

_PINS = "foolbox==3.3.4 eagerpy==0.30.0"
_PROBES = 16
_NORM_OF = {np.inf: "linf", 2: "l2", 1: "l1", 0: "l0"}
# How attacks by label say that they found nothing to start from: no failure, but no success.
_NO_START = "init_attack failed"


@dataclass(frozen=True, slots=True)
class FoolboxAttack:
    """`attack` is an attack of Foolbox's, such as `LinfPGD(steps=40)`.

    It runs untargeted: at the goal's epsilon, or stopping there if it seeks the smallest
    perturbation. What it `needs` is what it is served; a gradient comes by way of torch, all else
    by NumPy. `together` runs all samples in one batch, which attacks by gradient ask in order.

    Cost: that of the library, up to the budget; one query is kept for what it gives back.

    Raises OperationalError `runtime.missing`, `attack.outside_failed`; InputError
    `attack.unmapped`, `attack.no_eps`.
    """

    source: ClassVar[Source] = Source("https://doi.org/10.21105/joss.02607", "AML.T0043")

    attack: Any
    needs: Capability
    together: bool = False

    @property
    def name(self) -> str:
        return f"foolbox-{type(self.attack).__name__.removesuffix('Attack').lower()}"

    @property
    def norms(self) -> frozenset[str]:
        try:
            return frozenset({_NORM_OF[self.attack.distance.p]})
        except (AttributeError, KeyError, ValueError):
            # It was made without a distance, or with another: the meter measures.
            return frozenset(NORMS)

    @property
    def minimizes(self) -> bool:
        library = _library()
        return isinstance(self.attack, library.attacks.base.MinimizationAttack)

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        _library()
        if not self.minimizes:
            radius(meter)
        outside = self._by_gradient if self.needs is Capability.GRADIENT else self._by_answers
        run_outside(outside, "Foolbox", meter, rng, self.needs, together=self.together)

    def _by_gradient(self, asked: Metered) -> object:
        torch = torch_library()
        module = as_module(asked, gradient=True)
        model = _library().PyTorchModel(module, bounds=asked.ends, device="cpu")
        with drawn_alike():
            found = self._run(
                model, torch.from_numpy(asked.inputs), torch.from_numpy(asked.labels), asked
            )
            return None if found is None else found.detach().numpy()

    def _by_answers(self, asked: Metered) -> object:
        import eagerpy

        model = _library().NumPyModel(
            asked.outputs, bounds=asked.ends, data_format="channels_first"
        )
        tensor = eagerpy.astensor
        found = self._run(model, tensor(asked.inputs), tensor(asked.labels), asked)
        return None if found is None else found.numpy()

    def _run(self, model: Any, inputs: Any, labels: Any, asked: Metered) -> Any:
        eps = asked.goal.eps
        bound = {"early_stop": eps} if self.minimizes else {"epsilon": eps}
        wrong = _library().criteria.Misclassification(labels)
        try:
            return self.attack.run(model, inputs, wrong, **bound)
        except ValueError as error:
            if str(error).startswith(_NO_START):
                return None
            raise


class FoolboxTarget:
    """A model of Foolbox's as a target, with a gradient where its framework has one.

    Foolbox's models do not know the shape of an input: `domain` says it. The gradient is taken
    at a second look at the model. Raises InputError `target.bad_object`; OperationalError
    `runtime.missing`.
    """

    def __init__(self, model: Any, domain: Domain) -> None:
        library = _library()
        if not isinstance(model, library.models.base.Model):
            raise InputError("target.bad_object", "The object is no model of Foolbox.")
        self.model = model
        self.domain = domain
        # NumPy's has none, and cannot be differentiated; the others say what their tensors are.
        self._like = getattr(model, "dummy", None)
        outputs = self._outputs(domain.draw(_PROBES))
        if outputs.ndim != 2:
            raise InputError(
                "target.bad_object", "The model does not give one row of scores for each input."
            )
        self._probable = are_probabilities(outputs)
        self.classes = max(2, outputs.shape[1])

    @property
    def capabilities(self) -> frozenset[Capability]:
        gradient = set() if self._like is None else {Capability.GRADIENT}
        return frozenset({Capability.LABEL, Capability.SCORES} | gradient)

    def predict(self, rows: Array) -> Answers:
        scores = as_scores(self._outputs(rows), probable=self._probable)
        return Answers(scores.argmax(axis=1), scores)

    def linearize(self, rows: Array) -> Linearization:
        found = self.predict(rows)
        scores = found.scores
        assert scores is not None

        def vjp(weights: Array) -> Array:
            return self._pulled_back(rows, scores, weights).astype(rows.dtype)

        return Linearization(found.labels, scores, vjp)

    def _outputs(self, rows: Array) -> Array:
        return np.asarray(self.model(self._tensor(rows)).numpy())

    def _tensor(self, rows: Array) -> Any:
        import eagerpy

        inputs = self.domain.as_inputs(rows)
        if self._like is None:
            return eagerpy.astensor(inputs)
        return eagerpy.from_numpy(self._like, inputs)

    def _pulled_back(self, rows: Array, scores: Array, weights: Array) -> Array:
        import eagerpy

        inputs = self._tensor(rows)
        weights = np.asarray(weights, np.float64)
        if self._probable:
            weights = weights / np.exp(scores.astype(np.float64))
        by_output = weights.astype(np.float32)

        def weighted(given: Any) -> Any:
            outputs = self.model(given)
            # One column is the probability, or the score, of the second class.
            one = by_output[:, 1:] if outputs.shape[1] == 1 else by_output
            if outputs.shape[1] == 1 and self._probable:
                one = by_output[:, 1:] - by_output[:, :1]
            return (outputs * eagerpy.from_numpy(outputs, one)).sum()

        _, gradient = inputs.value_and_grad(weighted)
        return np.asarray(gradient.numpy()).reshape(len(rows), -1)


def _library() -> Any:
    try:
        import foolbox
    except ImportError as error:
        raise not_installed("Foolbox", _PINS) from error
    return foolbox
