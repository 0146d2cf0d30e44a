"""A torch module or exported program in the caller's own process: labels, scores, their gradient.

Rows go to torch without a copy where their type allows it. The module is put into evaluation
mode; its parameters get no gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    Linearization,
    are_probabilities,
    as_scores,
    best_class,
)

_PROBES = 16


class TorchTarget:
    """`module` takes a batch of the domain's inputs and gives scores `(n, k)`.

    `batch` is how many rows it is given at once at most. Raises InputError `target.bad_object`;
    OperationalError `runtime.missing`.
    """

    def __init__(self, module: Any, domain: Domain, *, batch: int = 256) -> None:
        self._torch = _torch()
        self.module = _module(self._torch, module)
        self.module.requires_grad_(False)
        self.domain = domain
        self._batch = batch
        self._width: int | None = None
        outputs = self._outputs(domain.draw(_PROBES))
        if outputs.ndim != 2:
            raise InputError(
                "target.bad_object", "The module does not give one row of scores for each input."
            )
        self._width = outputs.shape[1]
        self._probable = are_probabilities(outputs)
        self.classes = max(2, outputs.shape[1])

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL, Capability.SCORES, Capability.GRADIENT})

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `runtime.failed`, `target.broken`."""
        scores = as_scores(self._outputs(rows), probable=self._probable)
        return Answers(best_class(scores), scores)

    def linearize(self, rows: Array) -> Linearization:
        """Raises as `predict`, and so does the way to the gradient."""
        # Whoever asks may have turned gradients off: then they would be zero, and nobody told.
        pieces = self._pieces(rows)
        with self._torch.inference_mode(False), self._torch.enable_grad():
            # What a piece remembers is large: of several none is kept, and each made again.
            kept = [self._forward(pieces[0])] if len(pieces) == 1 else []
        if kept:
            outputs = kept[0][1].detach().numpy()
        else:
            outputs = np.concatenate([self._scores(piece) for piece in pieces])

        def vjp(weights: Array) -> Array:
            done, at = [], 0
            for piece in pieces:
                with self._torch.inference_mode(False), self._torch.enable_grad():
                    given, found = kept.pop() if kept else self._forward(piece)
                cotangent = self._torch.from_numpy(
                    np.ascontiguousarray(weights[at : at + len(piece)], outputs.dtype)
                )
                at += len(piece)
                done.append(self._pulled_back(given, found, cotangent))
            return np.concatenate(done).astype(rows.dtype, copy=False)

        return Linearization(best_class(outputs), outputs, vjp)

    def _scores(self, rows: Array) -> Array:
        """Scores as attacks take them, and nothing that remembers."""
        torch = self._torch
        with torch.inference_mode():
            given = torch.from_numpy(self.domain.as_inputs(rows))
            return np.asarray(self.logits(self._asked(given)).numpy())

    def _forward(self, rows: Array) -> tuple[Any, Any]:
        """Inputs that remember, and their scores as attacks take them."""
        torch = self._torch
        given = torch.from_numpy(self.domain.as_inputs(rows)).requires_grad_()
        return given, self.logits(self._asked(given))

    def logits(self, found: Any) -> Any:
        """What a module like this one says, a tensor `(n, k)`, as the scores of its classes."""
        torch = self._torch
        if found.shape[1] == 1:
            first = 1 - found if self._probable else torch.zeros_like(found)
            found = torch.cat([first, found], dim=1)
        if self._probable:
            found = torch.log(found.clamp_min(torch.finfo(found.dtype).tiny))
        return found

    def _pulled_back(self, given: Any, found: Any, cotangent: Any) -> Array:
        """Zero where the module's scores do not hang together with its inputs, as torch sees it."""
        gradient = None
        if found.requires_grad:
            with its_own():
                (gradient,) = self._torch.autograd.grad(found, given, cotangent, allow_unused=True)
        if gradient is None:
            gradient = self._torch.zeros_like(given)
        return np.asarray(gradient.detach().numpy().reshape(len(given), -1))

    def _outputs(self, rows: Array) -> Array:
        torch = self._torch
        with torch.inference_mode():
            pieces = [
                self._asked(torch.from_numpy(self.domain.as_inputs(piece))).numpy()
                for piece in self._pieces(rows)
            ]
        return np.concatenate(pieces)

    def _asked(self, given: Any) -> Any:
        """What the module says of a batch: a row of scores for each, as many as ever."""
        with its_own():
            found = self.module(given)
        if not isinstance(found, self._torch.Tensor):
            raise InputError("target.bad_object", "The module does not give a tensor of scores.")
        if found.dtype is self._torch.bfloat16:
            # numpy has no such numbers.
            found = found.float()
        narrower = self._width is not None and found.shape[1:] != (self._width,)
        if found.shape[:1] != given.shape[:1] or narrower:
            raise OperationalError(
                "target.broken", "The model does not answer each row that it is asked."
            )
        return found

    def _pieces(self, rows: Array) -> list[Array]:
        return [rows[at : at + self._batch] for at in range(0, len(rows), self._batch)] or [rows]


def _module(torch: Any, given: Any) -> Any:
    """What is called: the module in evaluation mode, or what a program was exported as."""
    if isinstance(given, torch.export.ExportedProgram):
        return given.module()
    if not isinstance(given, torch.nn.Module):
        raise InputError(
            "target.bad_object", "The object is neither a torch module nor an exported program."
        )
    return given.eval()


@contextmanager
def its_own() -> Iterator[None]:
    """The module's code is the caller's: whatever it raises is its failure, none of ours."""
    try:
        yield
    except KeepstoneError:
        raise
    except (Exception, SystemExit) as error:
        raise OperationalError(
            "runtime.failed", "The model failed on this input.", "See the model's contract."
        ) from error


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "torch is not installed, which this target needs.",
            "pip install 'keepstone[torch]'",
        ) from error
    return torch
