"""What tests of scanners share: judge bytes as the scanner does, and say what came of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.finding import Finding, Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.rules import RULES, verdict
from keepstone.scan.scanner import judge
from keepstone.scan.view import View

ROOT = Path(__file__).parents[2]


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


def sarif_schema() -> Any:
    """SARIF's own schema, from the shared data or from where KEEPSTONE_TEST_DATA says."""
    for shared in (os.environ.get("KEEPSTONE_TEST_DATA"), ROOT.parent / "shared" / "data"):
        for name in ("sarif-2.1.0.schema.json", "sarif-2.1.0.json"):
            schema = Path(shared) / "schemas" / name if shared else None
            if schema and schema.exists():
                return json.loads(schema.read_text())
    reason = "the SARIF schema is not here; set KEEPSTONE_TEST_DATA"
    # What a lane is there to check must not pass by being left out.
    return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
