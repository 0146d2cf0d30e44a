"""Every defence of the lab: what the documentation lists, and what each is attacked by in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from keepstone.lab.defences.adversarial_training import FastTraining, PgdTraining, Trades
from keepstone.lab.defences.dp_sgd import DpSgd
from keepstone.lab.defences.ensemble import Majority, SoftVote
from keepstone.lab.defences.input_transforms import BitDepth, GaussianNoise, MedianSmoothing
from keepstone.lab.defences.output_hardening import LabelsOnly, RoundedScores, TopScores
from keepstone.lab.defences.partition import Partition
from keepstone.lab.defences.smoothing import Smoothing
from keepstone.lab.defences.trimmed import TrimmedLoss


class Named(Protocol):
    """What all of them have."""

    name: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Family:
    """Defences of one file.

    `against` is what they defend against, `command` how they are run. `attacked_by` says what is
    done to them before a number is told; `mitigation` is ATLAS's for them, None where it has none.
    """

    title: str
    defences: tuple[type[Named], ...]
    against: str
    command: str
    attacked_by: str
    mitigation: str | None


FAMILIES = (
    Family(
        "Adversarial training",
        (PgdTraining, Trades, FastTraining),
        "evasion",
        "keepstone harden train",
        "a suite on both models, on samples that the training never saw, and the signs of masking",
        "AML.M0003",
    ),
    Family(
        "Randomised smoothing",
        (Smoothing,),
        "evasion, certified",
        "keepstone harden smooth",
        "the gradient of the noise's mean within each certified radius; a certificate that falls"
        " makes all of them invalid",
        "AML.M0003",
    ),
    Family(
        "Transforms of the input",
        (BitDepth, MedianSmoothing, GaussianNoise),
        "evasion",
        "keepstone harden inputs",
        "a suite on both models, and one that goes around the transform (BPDA) or through the mean"
        " of its draws (EOT)",
        "AML.M0010",
    ),
    Family(
        "Ensembles",
        (SoftVote, Majority),
        "evasion",
        "keepstone harden ensemble",
        "a suite on each member and on the ensemble by its exact gradient; what transfers from the"
        " members is told, and counts for nothing",
        "AML.M0006",
    ),
    Family(
        "Telling less",
        (RoundedScores, TopScores, LabelsOnly),
        "extraction, membership inference",
        "keepstone harden outputs",
        "every extraction attack with as many queries, membership inference by loss and by label,"
        " and a suite",
        "AML.M0002",
    ),
    Family(
        "Differential privacy",
        (DpSgd,),
        "membership inference, proved",
        "keepstone harden private",
        "membership inference on rows of the training and others; an epsilon that it contradicts is"
        " invalid",
        None,
    ),
    Family(
        "Votes of partitions",
        (Partition,),
        "poisoning, certified",
        "keepstone harden partition",
        "poisoned training sets within what is certified",
        "AML.M0006",
    ),
    Family(
        "Trimmed training",
        (TrimmedLoss,),
        "poisoning",
        "keepstone harden trim",
        "flipped labels by who knows the defence, and at random",
        "AML.M0007",
    ),
)
