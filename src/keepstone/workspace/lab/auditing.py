"""Ask a model file which rows it was trained on, and say under a signature what came of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.measured import Measured
from keepstone.evidence.privacy import AtRate, Privacy
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import Signatory
from keepstone.lab.attacks.privacy.conditional_lira import ConditionalLira
from keepstone.lab.attacks.privacy.lira import Lira
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import (
    Membership,
    MembershipAttack,
    audit_membership,
)
from keepstone.lab.attacks.privacy.rmia import Rmia
from keepstone.lab.attacks.privacy.shadows import kept_shadows, make_shadows
from keepstone.lab.fresh import PATIENCE_S
from keepstone.lab.samples import Samples, require_same_columns
from keepstone.lab.targets.port import Capability
from keepstone.workspace.lab.attacking import Opened, Wanted, open_model, report_digest
from keepstone.workspace.lab.training import Trainer, fresh_function

ATTACKS: Mapping[str, MembershipAttack] = {
    attack.name: attack for attack in (LossThreshold(), Lira(), Rmia(), ConditionalLira())
}


@dataclass(frozen=True, slots=True)
class Audit:
    """What is audited, and how. `limits` are true-positive rates by false-positive rate.

    `train` (`package.module:function`) is the caller's own code that makes shadow models, called
    with rows, classes as numbers from 0 on, and a seed; it returns an estimator or a torch module.
    No training may take longer than `patience_s`.
    """

    model: Path
    members: Samples
    nonmembers: Samples
    wanted: Wanted
    limits: Mapping[float, float]
    attack: str
    train: str | None = None
    shadows: int = 0
    seed: int = 0
    kept: Path | None = None
    patience_s: float = PATIENCE_S


def audit(
    asked: Audit, check: Callable[[Subject], object] | None = None
) -> tuple[Subject, Membership]:
    """Open the model as the vault opens it, make the shadow models, and audit.

    `check` is given what was opened before anything is spent on it, and may raise.
    Raises as `open_model`, `make_shadows` and `audit_membership`; InputError `attack.bad_shadows`,
    `attack.bad_train`, `attack.train_failed`.
    """
    rows = joined(asked.members, asked.nonmembers)
    if asked.train is not None and not ATTACKS[asked.attack].needs:
        raise InputError(
            "attack.bad_shadows", f"{asked.attack} makes no use of shadow models.", "Choose rmia."
        )
    if (asked.train is None) != (asked.shadows == 0):
        raise InputError(
            "attack.bad_shadows",
            "Shadow models are made by a training function, and by nothing else.",
            "Give --train and --shadows, or neither.",
        )
    with open_model(asked.model, rows, asked.wanted) as opened:
        if check is not None:
            check(opened.subject)
        x = opened.target.domain.fit(rows.x, rows.x)
        y = opened.classes.encode(rows.y)
        shadows = None if asked.train is None else _shadows(asked, opened, x, y)
        known = np.arange(len(rows)) < len(asked.members)
        found = audit_membership(
            ATTACKS[asked.attack], opened.target, x, y, known, shadows, limits=asked.limits
        )
        return opened.subject, found


def joined(members: Samples, nonmembers: Samples) -> Samples:
    """Both, members first. Raises InputError `attack.bad_members` where they do not fit, and
    `data.other_columns`."""
    if (
        members.x.shape[1] != nonmembers.x.shape[1]
        or members.y.dtype.kind != nonmembers.y.dtype.kind
    ):
        raise InputError(
            "attack.bad_members",
            "The members and the others are rows of different kinds.",
            "Give rows of one data set, drawn alike.",
        )
    require_same_columns(nonmembers.features, members.features, "the members")
    both = np.concatenate([members.x, nonmembers.x])
    if len(np.unique(both, axis=0)) < len(both):
        raise InputError(
            "attack.bad_members",
            "A row is there twice: a member that is no member, or one that counts twice.",
            "Give each row once, on one side.",
        )
    digest = Digest.of(f"{members.digest}\n{nonmembers.digest}".encode())
    features = members.features or nonmembers.features
    return Samples(both, np.concatenate([members.y, nonmembers.y]), digest, features)


def _shadows(asked: Audit, opened: Opened, x: Array, y: Array) -> Any:
    assert asked.train is not None
    function = fresh_function(asked.train, asked.patience_s)
    train = Trainer(function, opened.target.domain, opened.target.classes)
    given = (train, x, y, asked.shadows, asked.seed)
    alone = Capability.SCORES not in opened.target.capabilities
    if asked.kept is not None:
        return kept_shadows(asked.kept, *given, training=asked.train, labels_only=alone)
    return make_shadows(*given, training=asked.train, labels_only=alone)


def state(
    subject: Subject,
    found: Membership,
    key: Signatory,
    *,
    report: dict[str, Any],
    now: int,
    lifetime_ms: int,
) -> Envelope:
    """Sign, with `key`, what the audit told, as JSON in `report`; valid for `lifetime_ms`."""
    rates = [
        AtRate(
            one.fpr,
            Measured(one.value, min(one.low, one.value), max(one.high, one.value), one.n_members),
            one.n_nonmembers,
            one.sufficient,
        )
        for one in sorted(found.tpr_at, key=lambda one: one.fpr)
    ]
    said = Privacy(
        made=Made(TOOL, now, now + lifetime_ms),
        outcome=found.verdict.value,
        attack=found.attack,
        signal=found.signal,
        shadows=found.shadows,
        rates=tuple(rates),
        queries=found.queries,
        rows=found.rows,
        members=found.members,
        report=report_digest(report),
    )
    return make_statement(subject, said, key)
