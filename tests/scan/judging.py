"""What tests of scanners share: judge bytes as the scanner does, and say what came of it."""

from __future__ import annotations

import os

from keepstone.core.finding import Finding, Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.rules import RULES, verdict
from keepstone.scan.scanner import judge
from keepstone.scan.view import View


def judged(data: bytes, name: str = "file") -> list[Finding]:
    """Every finding on `data`, which goes by `name`."""
    return list(judge(View(name, memoryview(data), Allowance(), judge)))


def rules_of(data: bytes, name: str = "file") -> set[str]:
    return {item.rule for item in judged(data, name)}


def outcome_of(data: bytes, name: str = "file") -> Outcome:
    found = judged(data, name)
    assert not any("scanner failed" in item.message for item in found)
    return verdict(found)


def reasons_of(data: bytes, name: str = "file") -> str:
    return " ".join(item.message for item in judged(data, name))


def flags_pickle(data: bytes, name: str = "file") -> bool:
    """True where a pickle somewhere in `data` is flagged."""
    flagged = (rule for rule in rules_of(data, name) if RULES[rule].outcome is Outcome.FLAGGED)
    return any(rule.startswith("pickle.") for rule in flagged)


class Payload:
    """Loads as a call of the system's shell."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)
