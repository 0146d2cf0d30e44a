"""Every attack is listed, says what it is, and names a technique that ATLAS knows."""

from __future__ import annotations

import dataclasses
from itertools import chain

import pytest

from keepstone.cli.harden import DEFENCES
from keepstone.lab.attacks.listed import ATTACKS
from keepstone.lab.defences.listed import FAMILIES, Family
from keepstone.lab.norms import NORMS
from keepstone.lab.suites.catalogue import SUITES, suite_called
from keepstone.lab.targets.port import Capability
from tools.docs_attacks import SAID, describe
from tools.docs_defences import page

EVERY = list(chain.from_iterable(ATTACKS.values()))
# MITRE ATLAS: craft adversarial data, exfiltrate by inference, create a proxy model.
TECHNIQUES = {
    *("AML.T0043.000", "AML.T0043.001", "AML.T0043.002", "AML.T0043.003", "AML.T0043.004"),
    *("AML.T0024.000", "AML.T0024.001", "AML.T0024.002", "AML.T0005.001"),
    *("AML.T0018.000", "AML.T0020", "AML.T0029", "AML.T0034.001"),
}
# And what it knows against them.
MITIGATIONS = {"AML.M0002", "AML.M0003", "AML.M0006", "AML.M0007", "AML.M0010"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_a_defence_says_what_it_is_and_what_it_is_attacked_by(family: Family) -> None:
    assert family.mitigation is None or family.mitigation in MITIGATIONS
    assert family.attacked_by
    assert family.against
    # A file of defences says what it promises, costs and is blind to, else there is no page.
    text = page()
    assert f"Attacked by: {family.attacked_by}." in text
    assert all(f"[{one.name}](#" in text for one in family.defences)


def test_every_defence_on_the_command_line_is_listed() -> None:
    listed = {family.command.removeprefix("keepstone harden ") for family in FAMILIES}
    assert set(DEFENCES) <= listed


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_an_attack_says_what_it_is(attack: type) -> None:
    text = describe(attack).casefold()
    assert all(word in text for word in SAID)
    assert attack.source.atlas in TECHNIQUES  # type: ignore[attr-defined]
    assert attack.source.paper  # type: ignore[attr-defined]
    assert dataclasses.is_dataclass(attack)
    # Its repr is what a report states: every parameter, and nothing that differs between runs.
    frozen = attack.__dataclass_params__  # type: ignore[attr-defined]
    assert frozen.frozen


def test_names_are_unique() -> None:
    names = [attack.name for attack in EVERY]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("attack", ATTACKS["evasion"], ids=lambda attack: attack.name)
def test_an_evasion_attack_declares_what_it_can(attack: type) -> None:
    assert attack.norms <= set(NORMS)  # type: ignore[attr-defined]
    assert isinstance(attack.needs, Capability)  # type: ignore[attr-defined]
    assert isinstance(attack.minimizes, bool)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("able", [{Capability.LABEL}, set(Capability)], ids=["label", "all"])
def test_suites_run_listed_attacks_with_budgets(name: str, able: set[Capability]) -> None:
    steps = suite_called(name).steps(frozenset(able))
    assert {type(step.attack) for step in steps} <= set(ATTACKS["evasion"])
    assert all(step.budget >= step.least > 0 for step in steps)
    # Whatever a target declares, something of every suite can attack it.
    assert any(step.attack.needs in able for step in steps)
    assert any(step.attack.needs is Capability.GRADIENT for step in steps)
