"""Smells: what is odd about a model without being wrong. None of them changes a verdict."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Smell:
    """`meaning` is the sentence that docs/rules.md and SARIF show. The severity is always info."""

    id: str
    meaning: str


TABLE = (
    Smell(
        "smell.branch",
        "A choice in the graph rests on comparing an input with something, as a trigger does.",
    ),
    Smell(
        "smell.class_weights",
        "The weights of one class in the last layer are far larger than those of the others.",
    ),
    Smell(
        "smell.class_bias",
        "The bias of one class in the last layer is far from those of the others.",
    ),
    Smell(
        "smell.dead_class",
        "The weights of some classes in the last layer are all zero, and those of others are not.",
    ),
    Smell(
        "smell.hidden_file",
        "The bytes of a tensor begin as an archive, a program or a pickle does.",
    ),
    Smell(
        "smell.not_finite",
        "Weights of the last layer are infinite or no numbers.",
    ),
    Smell(
        "smell.unreachable",
        "Tensors or nodes of the graph contribute to no output.",
    ),
    Smell(
        "smell.vulnerable",
        "A package has a known vulnerability that is waived, or below the severity asked for.",
    ),
)
