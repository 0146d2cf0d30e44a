"""Every attack of the lab, by family: what the documentation lists, and what suites choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from keepstone.lab.attacks.availability.latency import Latency
from keepstone.lab.attacks.availability.sponge import Sponge
from keepstone.lab.attacks.evasion.apgd import ApgdCe, ApgdTargeted
from keepstone.lab.attacks.evasion.boundary import Boundary
from keepstone.lab.attacks.evasion.carlini_wagner import CarliniWagner
from keepstone.lab.attacks.evasion.deepfool import DeepFool
from keepstone.lab.attacks.evasion.fgsm import Fgsm
from keepstone.lab.attacks.evasion.hopskipjump import HopSkipJump
from keepstone.lab.attacks.evasion.patch import Patch
from keepstone.lab.attacks.evasion.pgd import Pgd
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.transfer import Transfer
from keepstone.lab.attacks.evasion.trees import TreeAttack
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.attacks.extraction.copycat import Copycat
from keepstone.lab.attacks.extraction.equation_solving import EquationSolving
from keepstone.lab.attacks.extraction.jacobian import JacobianAugmentation
from keepstone.lab.attacks.extraction.knockoff import Knockoff
from keepstone.lab.attacks.extraction.noise_pool import NoisePool
from keepstone.lab.attacks.poisoning.badnets import BadNets
from keepstone.lab.attacks.poisoning.clean_label import CleanLabel
from keepstone.lab.attacks.poisoning.feedback import Feedback
from keepstone.lab.attacks.poisoning.label_flip import LabelFlip
from keepstone.lab.attacks.port import Source
from keepstone.lab.attacks.privacy.attribute_inference import AttributeInference
from keepstone.lab.attacks.privacy.conditional_lira import ConditionalLira
from keepstone.lab.attacks.privacy.lira import Lira
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.model_inversion import ModelInversion
from keepstone.lab.attacks.privacy.rmia import Rmia


class Named(Protocol):
    """What attacks of all families have."""

    name: ClassVar[str]
    source: ClassVar[Source]


ATTACKS: Mapping[str, tuple[type[Named], ...]] = {
    "evasion": (
        *(Fgsm, Pgd, ApgdCe, ApgdTargeted, WhiteBox, DeepFool, CarliniWagner),
        *(Square, RandomSearch, TreeAttack, Transfer, Patch),
        *(HopSkipJump, Boundary),
    ),
    "extraction": (EquationSolving, Knockoff, Copycat, JacobianAugmentation, NoisePool),
    "privacy": (LossThreshold, Lira, Rmia, ConditionalLira, AttributeInference, ModelInversion),
    "poisoning": (BadNets, LabelFlip, CleanLabel, Feedback),
    "availability": (Sponge, Latency),
}
