"""The gradient of what an ONNX file computes, out of the same file.

Who has the file has the network in it: attacks by score alone would leave out what such an
attacker does first. Its nodes are computed once more in torch (`onnx_ops`), which knows the
gradient; no code is made of the file or run. What is *served* stays what the ONNX runtime says:
it answers, and it judges. The twin only tells where to look, and is believed only where its
scores are the served ones, on rows from all over the domain and on the samples.

Where the scores are probabilities the twin computes their logarithms as such, from before the
last step: a softmax that is sure of itself has none left in 32 bits, and an attacker with the
file would not go through it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstone.contract.onnx_graph import Computed, Node, read_computed
from keepstone.contract.validate import Array
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.onnx_ops import OPERATORS, Unknown, linear_scores
from keepstone.lab.targets.port import Capability, Linearization
from keepstone.lab.targets.runtime import RuntimeTarget
from keepstone.lab.targets.torch import TorchTarget, its_own

_PROBES = 64
# How far scores may differ that two runtimes compute in 32 bits, in parts of their size from 1 on.
_ALIKE = 2e-3
# Chances below this are alike where none is above it.
_CHANCES = 1e-4
# What all nodes make of one row, and of as many as are asked at once, in bytes: a gradient needs
# them all together.
_MAX_ROW = 256 << 20
_MAX_HELD = 512 << 20
_BATCH = 256
# Through these `_logarithm` goes back.
_LAST = frozenset(
    {"Identity", "Reshape", "Flatten", "Softmax", "Sigmoid"}
    | {"ai.onnx.ml.LinearClassifier", "ai.onnx.ml.Normalizer"}
)


class TwinTarget(Around):
    """`served` with the gradient of `twin`. The answers, of `linearize` too, are the served ones;
    its scores are the twin's."""

    gives = frozenset({Capability.GRADIENT})

    def __init__(self, served: RuntimeTarget, twin: TorchTarget) -> None:
        super().__init__(served)
        self._twin = twin

    def linearize(self, rows: Array) -> Linearization:
        found = self._twin.linearize(rows)
        return Linearization(self._served.predict(rows).labels, found.scores, found.vjp)


def with_twin(served: RuntimeTarget, data: memoryview, rows: Array) -> TwinTarget:
    """`served`, which was opened from the ONNX file `data`, with its gradient; `rows` are samples.

    Raises InputError `target.no_gradient` where it is not to be had, or not to be believed;
    OperationalError `runtime.missing` without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "The gradient of the file is not known: torch is not installed (keepstone[torch]).",
        ) from error
    names = served.scored
    if names is None:
        raise no_gradient("the model serves labels alone")
    try:
        computed = read_computed(data, names[1])
        with its_own():
            module = _module(torch, computed, names[0], probable=served.probable)
            with torch.inference_mode():
                module(torch.from_numpy(served.domain.as_inputs(rows[:1])))
        batch = max(1, min(_BATCH, _MAX_HELD // max(1, module.spent)))
        twin = TorchTarget(module, served.domain, batch=batch)
        _require_alike(served, twin, rows)
    except Unknown as error:
        raise no_gradient(f"{error} is not computed here") from error
    except KeepstoneError as error:
        if error.code == "target.no_gradient":
            raise
        # What the module's code raises comes as a failure of the model.
        cause = error.__cause__
        known = f"{cause} is not computed here" if isinstance(cause, Unknown) else error.cause
        raise no_gradient(known.rstrip(".")) from error
    return TwinTarget(served, twin)


def no_gradient(why: str) -> InputError:
    return InputError("target.no_gradient", f"The gradient of the file is not known: {why}.")


def _require_alike(served: RuntimeTarget, twin: TorchTarget, rows: Array) -> None:
    asked = np.concatenate([served.domain.draw(_PROBES), rows[:_PROBES].astype(np.float64)])
    asked = served.domain.fit(asked, asked)
    wanted, found = served.predict(asked).scores, twin.predict(asked).scores
    if wanted is None or found is None or wanted.shape != found.shape:
        raise no_gradient("what is computed from it has other scores than are served")
    # NaN is alike to nothing.
    if not apart(wanted, found, probable=served.probable) <= _ALIKE:
        raise no_gradient("what is computed from it differs from what is served")


def apart(wanted: Array, found: Array, *, probable: bool) -> float:
    """The most that any score is apart from the one that is served, in parts of its size."""
    apart = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    if probable:
        # Of a chance near nothing the runtime tells its rounding, and no more.
        chances = np.exp(wanted)
        near = np.abs(np.exp(found) - chances) / _CHANCES * _ALIKE
        apart = np.where(chances > _CHANCES, apart, near)
    return float(apart.max())


def _module(torch: Any, computed: Computed, given: str, *, probable: bool) -> Any:
    """The nodes as one torch module, from the input called `given` to the scores."""
    for node in computed.nodes:
        if node.operator not in OPERATORS:
            raise Unknown(f"the operator {node.operator[:64]}")
    makers = {name: node for node in computed.nodes for name in node.outputs}
    constants = {name: torch.from_numpy(value) for name, value in computed.constants.items()}

    kept = _before_the_end(computed.output, makers)
    unused = _last_uses(computed, kept)

    class Twin(torch.nn.Module):  # type: ignore[misc]
        # The bytes that nodes made when it was last asked.
        spent = 0

        def forward(self, rows: Any) -> Any:
            values = {given: rows, **constants}
            self.spent = 0
            for node, ended in zip(computed.nodes, unused, strict=True):
                made = _run(torch, node, values)
                self.spent += _size(made, values, node)
                if self.spent > _MAX_ROW * max(1, len(rows)):
                    raise Unknown("so much out of one row")
                values.update(made)
                for name in ended:
                    values.pop(name, None)
                del made
            if not probable:
                return values[computed.output].reshape(len(rows), -1)
            return _logarithms(torch, computed.output, makers, values, len(rows))

    return Twin()


def _before_the_end(output: str, makers: dict[str, Node]) -> set[str]:
    """What `_logarithm` may ask for once all nodes have run."""
    kept, name = {output}, output
    while name in makers and makers[name].operator in _LAST:
        node = makers[name]
        # A file can name a value as made of itself.
        if kept.issuperset(node.inputs):
            break
        kept.update(node.inputs)
        name = node.inputs[0]
    return kept


def _last_uses(computed: Computed, kept: set[str]) -> list[list[str]]:
    """For each node the values that nobody asks for after it."""
    seen, found = set(kept), []
    for node in reversed(computed.nodes):
        names = {*node.inputs, *node.outputs} - seen
        found.append(sorted(names))
        seen |= names
    return found[::-1]


def _size(made: dict[str, Any], values: dict[str, Any], node: Node) -> int:
    """The bytes of what a node made, without what is a view of what it was given."""
    given = {_place(values.get(name)) for name in node.inputs}
    new = [one for one in made.values() if one is not None and _place(one) not in given]
    return sum(one.numel() * one.element_size() for one in new)


def _place(value: Any) -> int | None:
    return None if value is None else int(value.untyped_storage().data_ptr())


def _run(torch: Any, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    args = _args(node, values)
    found = OPERATORS[node.operator](torch, node, args)
    several = found if isinstance(found, tuple) else (found,)
    return dict(zip(node.outputs, several, strict=False))


def _args(node: Node, values: dict[str, Any]) -> list[Any]:
    missing = [name for name in node.inputs if name and values.get(name) is None]
    if missing:
        raise Unknown(f"what {node.operator[:64]} is given")
    return [values[name] if name else None for name in node.inputs]


def _logarithms(
    torch: Any, name: str, makers: dict[str, Node], values: dict[str, Any], count: int
) -> Any:
    """The logarithms of the probabilities `name`, of two classes where there is one column."""
    found = _logarithm(torch, name, makers, values)
    if found is None:
        chances = values[name].reshape(count, -1)
        if chances.shape[1] == 1:
            chances = torch.cat([1 - chances, chances], dim=1)
        return torch.log(chances.clamp_min(torch.finfo(chances.dtype).tiny))
    return found.reshape(count, -1)


def _logarithm(torch: Any, name: str, makers: dict[str, Node], values: dict[str, Any]) -> Any:
    """From before the step that made `name`; None where that is none which is known here."""
    node = makers.get(name)
    if node is None:
        return None
    sigmoid = torch.nn.functional.logsigmoid
    args = _args(node, values)
    match node.operator:
        case "Identity" | "Reshape" | "Flatten":
            return _logarithm(torch, node.inputs[0], makers, values)
        case "Softmax" if args[0].ndim == 2:
            return torch.log_softmax(args[0], 1)
        case "Sigmoid":
            flat = args[0].reshape(len(args[0]), -1)
            one = flat.shape[1] == 1
            return torch.cat([sigmoid(-flat), sigmoid(flat)], dim=1) if one else sigmoid(flat)
        case "ai.onnx.ml.LinearClassifier":
            raw, how = linear_scores(torch, node, args)
            known = {"SOFTMAX": lambda: torch.log_softmax(raw, 1), "LOGISTIC": lambda: sigmoid(raw)}
            return known[how]() if how in known else None
        case "ai.onnx.ml.Normalizer" if node.attributes.get("norm") == b"L1":
            inner = _logarithm(torch, node.inputs[0], makers, values)
            return None if inner is None else torch.log_softmax(inner, 1)
    return None
