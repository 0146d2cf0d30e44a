"""Every rule, one file of them per family of formats. docs/rules.md is this table.

A rule's outcome is fixed here and nowhere else: a limit, an error or a format that no check
knows is *not evaluated*, never clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from keepstone.core.finding import Finding, Location, Outcome, Severity, worst
from keepstone.scan.rules import (
    archive,
    common,
    deps,
    folders,
    image,
    keras,
    markup,
    onnx,
    pickle,
    secret,
    sevenzip,
    skops,
    tar,
    template,
    tensorflow,
    tensors,
    text,
    torch,
    trees,
)
from keepstone.scan.rules import smell as _smell
from keepstone.scan.rules.rule import Rule
from keepstone.scan.rules.smell import Smell

# Stated in every scan's evidence; changes whenever a verdict could.
RULES_VERSION = "2"
MAX_FINDINGS = 1000

_FAMILIES = (
    archive,
    common,
    deps,
    folders,
    image,
    keras,
    markup,
    onnx,
    pickle,
    secret,
    sevenzip,
    skops,
    tar,
    template,
    tensorflow,
    tensors,
    text,
    torch,
    trees,
)
SMELLS = {smell.id: smell for smell in sorted(_smell.TABLE, key=lambda smell: smell.id)}
_RULES = chain.from_iterable(family.TABLE for family in _FAMILIES)
RULES: dict[str, Rule] = {rule.id: rule for rule in sorted(_RULES, key=lambda rule: rule.id)}


def finding(
    rule: str, message: str, path: str, offset: int | None = None, member: str | None = None
) -> Finding:
    """What `rule` saw. `message` is one sentence."""
    shown = None if member is None else printable(member, 200)
    return Finding(rule, RULES[rule].severity, message, Location(path, offset, shown))


def smell(rule: str, message: str, path: str, member: str | None = None) -> Finding:
    """What is odd about a file. It belongs into a report's smells, never into its findings."""
    shown = None if member is None else printable(member, 200)
    return Finding(SMELLS[rule].id, Severity.INFO, message, Location(path, None, shown))


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The worst that any finding's rule makes of the file; clean where there is none.

    Only a scanner that looked at everything may leave it at none.
    """
    found = [RULES[item.rule].outcome for item in findings]
    return worst(found) if found else Outcome.CLEAN


def printable(text: str, limit: int = 100) -> str:
    """`text` fit for a terminal: an attacker chose it. Nothing that could move a cursor."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return shown + "..." if len(text) > limit else shown


__all__ = [
    "MAX_FINDINGS",
    "RULES",
    "RULES_VERSION",
    "SMELLS",
    "Rule",
    "Smell",
    "finding",
    "printable",
    "smell",
    "verdict",
]
