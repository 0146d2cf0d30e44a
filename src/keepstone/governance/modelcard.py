"""The model card of a bill of materials: what the contract and the training statement say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from keepstone.contract.schema import ANY, Bound, TensorSpec
from keepstone.evidence.predicates import Training
from keepstone.evidence.verified import VerifiedStatement
from keepstone.governance.facts import BomFacts
from keepstone.governance.words import plain, without_empty

# By these names a publisher's parameters say what the card has a field for.
_TASK = ("task",)
_ARCHITECTURE = ("architecture", "estimator")
_FAMILY = ("architecture_family",)
_VERSIONED = re.compile(r"(?P<name>\S+?)(?:==|[ /@]v?)(?P<version>[0-9]\S*)\Z")


def trainings(facts: BomFacts) -> list[tuple[VerifiedStatement, Training]]:
    """The training statements that count, oldest first."""
    return [
        (item, item.predicate)
        for item in facts.evidence.of(Training.kind)
        if isinstance(item.predicate, Training)
    ]


def newest_training(facts: BomFacts) -> Training | None:
    found = trainings(facts)
    return found[-1][1] if found else None


def framework(training: Training) -> tuple[str, str | None]:
    """The framework's name, and its version where the publisher wrote one behind it."""
    match = _VERSIONED.match(training.framework)
    return (match["name"], match["version"]) if match else (training.framework, None)


def model_card(facts: BomFacts, datasets: Sequence[str]) -> dict[str, Any]:
    """The card as CycloneDX 1.6 has it. What nobody stated has no field."""
    said = newest_training(facts)
    contract = facts.contract
    parameters: dict[str, Any] = {
        "task": _stated(said, _TASK),
        "architectureFamily": _stated(said, _FAMILY),
        "modelArchitecture": architecture(facts),
        "datasets": [{"ref": ref} for ref in datasets],
        "inputs": [{"format": tensor_text(spec)} for spec in contract.inputs] if contract else [],
        "outputs": [{"format": tensor_text(spec)} for spec in contract.outputs] if contract else [],
    }
    metrics = sorted(said.metrics.items()) if said is not None else []
    return without_empty(
        {
            "modelParameters": without_empty(parameters),
            "quantitativeAnalysis": without_empty(
                {
                    "performanceMetrics": [
                        {"type": plain(name), "value": value} for name, value in metrics
                    ]
                }
            ),
        }
    )


def task(facts: BomFacts) -> str | None:
    return _stated(newest_training(facts), _TASK)


def architecture(facts: BomFacts) -> str | None:
    """The code that the contract binds, else what the publisher's parameters name."""
    if facts.contract is not None and facts.contract.architecture is not None:
        return facts.contract.architecture
    return _stated(newest_training(facts), _ARCHITECTURE)


def _stated(training: Training | None, names: Sequence[str]) -> str | None:
    if training is None:
        return None
    return next((plain(training.parameters[n]) for n in names if n in training.parameters), None)


def tensor_text(spec: TensorSpec) -> str:
    """`input: FP32[*, 64], 0.0 to 16.0`: the name, the type, the shape, and the declared range."""
    lengths = ", ".join("*" if length == ANY else str(length) for length in spec.shape)
    text = f"{plain(spec.name)}: {spec.datatype}[{lengths}]"
    low, high = _bound(spec.low, min), _bound(spec.high, max)
    if low is None and high is None:
        return text
    if low is None:
        return f"{text}, at most {high}"
    return f"{text}, at least {low}" if high is None else f"{text}, {low} to {high}"


def _bound(bound: Bound, widest: Any) -> str | None:
    """One number; of a bound for each feature, the one that lets the most through."""
    if bound is None:
        return None
    return repr(float(widest(bound) if isinstance(bound, tuple) else bound) + 0.0)
